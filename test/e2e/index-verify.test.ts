import { appendFileSync, chmodSync, globSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

import { afterEach, beforeEach, describe, expect, test } from 'vitest'

import { polderDone, temporaryDirectory, type Invocation } from '../support/cli.ts'
import { writeMonorepo } from '../support/monorepo.ts'
import { startRegistry, type Registry, type ServedVersion } from '../support/registry.ts'
import { json, normalised, run } from '../support/sample.ts'
import { makeSigningKey } from '../support/signing-key.ts'

let registry: Registry
let where: Invocation
let tide: ServedVersion
let gull: ServedVersion

beforeEach(async () => {
  registry = await startRegistry()
  registry.signWith(makeSigningKey())
  where = { cwd: join(temporaryDirectory('verify'), 'repository'), home: join(temporaryDirectory('verify'), 'store') }
  tide = registry.serve('tide', '1.0.0', { dependencies: { gull: '^1.0.0' } })
  gull = registry.serve('gull', '1.0.0')
  const locked = { tide, gull }
  writeMonorepo(where.cwd, registry, { 'services/web': { manifest: { dependencies: { tide: '1.0.0' } }, locked } })
  for (const line of ['lock', 'index sync', 'install']) await polderDone(line.split(' '), where)
  registry.clearFaults()
})
afterEach(() => registry.close())

/** Changes a byte in the middle of a file, whatever its permissions. */
function damage(path: string): void {
  chmodSync(path, 0o644)
  const bytes = readFileSync(path)
  const middle = Math.floor(bytes.length / 2)
  bytes[middle] = (bytes[middle] ?? 0) ^ 1
  writeFileSync(path, bytes)
}

function artifactOf({ integrity }: ServedVersion): string {
  const hex = Buffer.from(integrity.slice('sha512-'.length), 'base64').toString('hex')
  return join(where.home, 'artifacts/sha512', hex.slice(0, 2), hex.slice(2))
}

async function damaged(line = 'index verify'): Promise<string> {
  const { code, stdout, stderr } = await run(line, where)
  expect({ code, stdout }).toEqual({ code: 5, stdout: '' })
  return normalised(stderr, where)
}

const sound = '2 artifacts, 2 manifests, 2 release records and 2 trees verified\n'

test('a sound index is verified without network, and counted', async () => {
  await registry.close()
  expect(await run('index verify', where)).toEqual({ code: 0, stdout: sound, stderr: '' })
  expect(await json('index verify --all', where)).toEqual({
    clean: true,
    artifacts: 2,
    manifests: 2,
    releases: 2,
    trees: 2,
    damage: [],
    healed: [],
  })
})

describe('a damaged artifact', () => {
  test('is named with who needs it and put into quarantine, and the next sync brings it again', async () => {
    damage(artifactOf(gull))
    expect(await damaged()).toMatch(
      /^polder: 1 part of the index is damaged \[INDEX_DAMAGED\]\n +gull@1\.0\.0 was damaged, and is in quarantine: <store>\/quarantine\/\S+; needed by tide@1\.0\.0\n +hint: /,
    )
    expect(readdirSync(join(where.home, 'quarantine'))).toHaveLength(1)
    expect(await damaged()).toContain('gull@1.0.0 is not in the store; needed by tide@1.0.0')
    await polderDone(['index', 'sync'], where)
    expect((await run('index verify', where)).stdout).toBe(sound)
  })

  test('is healed from the upstream', async () => {
    damage(artifactOf(gull))
    const { code, stdout, stderr } = await run('index verify --heal', where)
    expect({ code, stdout }).toEqual({ code: 0, stdout: `healed: gull@1.0.0 (artifact)\n${sound}` })
    expect(stderr).toContain('damaged: gull@1.0.0 was damaged')
    expect(registry.count('/gull/-/gull-1.0.0.tgz')).toBe(2)
    expect(registry.count('/tide/-/tide-1.0.0.tgz')).toBe(1)
  })

  test('stays missing if the upstream has other bytes by now', async () => {
    damage(artifactOf(gull))
    registry.serve('gull', '1.0.0', { files: { 'index.js': 'evil' } })
    const { code, stderr } = await run('index verify --heal', where)
    expect(code).toBe(5)
    expect(stderr).toContain('[INTEGRITY_MISMATCH]')
    expect(await damaged()).toContain('gull@1.0.0 is not in the store')
  })

  test('is healed from a bundle, without network', async () => {
    const bundle = join(where.cwd, 'harbour.bundle')
    await polderDone(['index', 'export', bundle], where)
    await registry.close()
    damage(artifactOf(gull))
    writeFileSync(artifactOf(tide), '', { flag: 'w' })
    const { code, stdout } = await run(`index verify --from ${bundle}`, where)
    expect({ code, stdout }).toEqual({
      code: 0,
      stdout: `healed: gull@1.0.0 (artifact)\nhealed: tide@1.0.0 (artifact)\n${sound}`,
    })
  })
})

test('a wrong manifest, a wrong record and a changed tree are found, and healed', async () => {
  const [manifest = ''] = globSync(join(where.home, 'manifests/sha512/*/*.json')).filter((path) =>
    readFileSync(path, 'utf8').includes('"name":"tide"'),
  )
  writeFileSync(manifest, readFileSync(manifest, 'utf8').replace('^1.0.0', '^9.0.0'))
  const records = globSync(join(where.home, 'releases/*/*.json'))
  const record = records.find((path) => readFileSync(path, 'utf8').includes('"id":"gull@1.0.0"')) ?? ''
  writeFileSync(record, readFileSync(record, 'utf8').replace(/"sig":"[^"]*"/, '"sig":"MEUC"'))
  const broken = records.find((path) => readFileSync(path, 'utf8').includes('"id":"tide@1.0.0"')) ?? ''
  writeFileSync(broken, readFileSync(broken, 'utf8').slice(0, 40))
  const [file = ''] = globSync(join(where.home, 'trees/*/package/package.json'))
  const { mtime } = statSync(file)
  damage(file)
  expect(mtime).not.toEqual(statSync(file).mtime)

  const error = await damaged()
  expect(error).toContain('polder: 4 parts of the index are damaged')
  expect(error).toContain(
    'tide@1.0.0 its recorded manifest was not the one in its archive, and was removed; needed by services/web',
  )
  expect(error).toContain('tide@1.0.0 what its registry said of it cannot be read any more; needed by services/web')
  expect(error).toContain('gull@1.0.0 the signature of gull@1.0.0 by ')
  expect(error).toMatch(/its unpacked files are not as they were: package\.json differs; needed by /)
  const document = (await json('index verify --heal', where)) as { clean: boolean; healed: { kind: string }[] }
  expect(document).toMatchObject({ clean: true, damage: [] })
  expect(document.healed.map(({ kind }) => kind).sort()).toEqual(['release', 'release', 'tree'])
  await polderDone(['install'], where)
})

test('--all finds what no lock names as well', async () => {
  const other = registry.serve('crane', '1.0.0')
  const elsewhere = { ...where, cwd: join(temporaryDirectory('verify'), 'other') }
  const manifest = { dependencies: { crane: '1.0.0' } }
  writeMonorepo(elsewhere.cwd, registry, { 'services/api': { manifest, locked: { crane: other } } })
  appendFileSync(join(elsewhere.cwd, 'polder.yaml'), 'index: { signatures: "off" }\n')
  await polderDone(['lock'], elsewhere)
  damage(artifactOf(other))
  expect((await run('index verify', where)).code).toBe(0)
  expect(await damaged('index verify --all')).toMatch(
    / {2}\S+ was damaged, and is in quarantine: .*; needed by nobody in this repository/,
  )
})
