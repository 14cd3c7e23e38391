import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

import { afterEach, beforeEach, describe, expect, test } from 'vitest'

import { polderCommand, polderDone, temporaryDirectory, type Invocation } from '../support/cli.ts'
import { writeMonorepo } from '../support/monorepo.ts'
import { startRegistry, type Registry, type ServedVersion } from '../support/registry.ts'
import { json, run } from '../support/sample.ts'
import { makeSigningKey } from '../support/signing-key.ts'

let registry: Registry
let where: Invocation

beforeEach(async () => {
  registry = await startRegistry({ delayMs: 5 })
  registry.signWith(makeSigningKey())
  where = { cwd: join(temporaryDirectory('sync'), 'repository'), home: join(temporaryDirectory('sync'), 'store') }
})
afterEach(() => registry.close())

function repository(...served: readonly ServedVersion[]): void {
  const dependencies = Object.fromEntries(served.map(({ name, version }) => [name, version]))
  const locked = Object.fromEntries(served.map((one) => [one.name, one]))
  writeMonorepo(where.cwd, registry, { 'services/web': { manifest: { dependencies }, locked } })
}

const many = (number: number): ServedVersion[] =>
  Array.from({ length: number }, (_, index) => registry.serve(`tide-${index}`, '1.0.0'))

/** Every file of the store but what depends on the time. */
function everything(): readonly string[] {
  return readdirSync(where.home, { recursive: true, encoding: 'utf8' })
    .filter((path) => !path.startsWith('locks'))
    .sort()
}

const releases = (): readonly string[] => everything().filter((path) => /^releases\/.*\.json$/.test(path))

describe('a pin of which its lockfile has only a sha1', () => {
  const weak = (served: ServedVersion): ServedVersion => ({
    ...served,
    integrity: `sha1-${Buffer.from(served.shasum, 'hex').toString('base64')}`,
  })

  test('means on a fresh machine what polder.lock says, also if other bytes have the sha1 now', async () => {
    const tide = registry.serve('tide', '1.0.0')
    repository(weak(tide))
    await polderDone(['lock'], where)
    const fresh = { ...where, home: join(temporaryDirectory('fresh'), 'store') }
    await polderDone(['index', 'sync'], fresh)
    const records = (): string[] => readdirSync(join(fresh.home, 'pins'))
    expect(records()).toHaveLength(1)
    // Nobody can make other bytes of the same sha1 for a test; a lock of other bytes stands for them.
    const lock = join(where.cwd, 'polder.lock')
    const [other, text] = [registry.serve('gull', '1.0.0'), readFileSync(lock, 'utf8')]
    writeFileSync(lock, text.replaceAll(tide.integrity, other.integrity))
    const third = { ...where, home: join(temporaryDirectory('third'), 'store') }
    expect(await run('index sync', third)).toMatchObject({
      code: 5,
      stderr: expect.stringContaining('tide@1.0.0') as string,
    })
    // With another lockfile than the one that was locked, its hash is all that is known.
    writeFileSync(
      lock,
      text
        .replace(/(package-lock\.json: sha256-).*/, `$1${'0'.repeat(64)}`)
        .replaceAll(tide.integrity, other.integrity),
    )
    rmSync(join(third.home, 'pins'), { recursive: true })
    await polderDone(['index', 'sync'], third)
  })
})

test('a registry that has to be waited for is named, once', async () => {
  const [tide, gull] = [registry.serve('tide', '1.0.0'), registry.serve('gull', '1.0.0')]
  repository(tide, gull)
  const npmrc = join(where.cwd, '.npmrc')
  writeFileSync(npmrc, readFileSync(npmrc, 'utf8').replace(/(fetch-retry-maxtimeout\s*=\s*)\d+/, '$11000'))
  for (const name of ['tide@1.0.0', 'gull@1.0.0'])
    registry.fault(name, { kind: 'status', status: 503, times: 1, headers: { 'retry-after': '1' } })
  const { code, stderr } = await run('lock', where)
  expect(code, stderr).toBe(0)
  const { host } = new URL(registry.url)
  expect(stderr.split('\n').filter((line) => line.includes('trying again'))).toEqual([
    `polder: ${host} answered 503; trying again in 1.0 s (fetch-retries of npm: 1 left)`,
  ])
})

describe('index sync --check', () => {
  test('compares, writes nothing, and fails with each thing that upstreams say otherwise', async () => {
    const [tide, gull, crane] = [
      registry.serve('tide', '1.0.0'),
      registry.serve('gull', '1.0.0'),
      registry.serve('crane', '1.0.0'),
    ]
    repository(tide, gull, crane)
    await polderDone(['lock'], where)
    await polderDone(['index', 'sync'], where)
    const before = everything()
    expect(await run('index sync --check', where)).toEqual({
      code: 0,
      stdout: '3 pins compared with their upstreams: nothing changed\n',
      stderr: '',
    })
    const other = registry.serve('tide', '1.0.0', { files: { 'index.js': 'evil' } })
    registry.unpublish('gull')
    registry.serve('crane', '2.0.0')
    const { code, stdout, stderr } = await run('index sync --check', where)
    expect({ code, stdout }).toEqual({ code: 3, stdout: '' })
    expect(stderr.replaceAll(other.integrity, '<other>').replaceAll(tide.integrity, '<pinned>')).toBe(
      'polder: upstreams say something else of 2 facts [INDEX_DRIFT]\n' +
        '  gull@1.0.0: its registry has no such name\n' +
        '  tide@1.0.0: its registry has other bytes, <other> instead of <pinned>\n' +
        '  hint: what is pinned stays what it is; find out why before you lock again\n',
    )
    expect(await json('index sync --check', where, 3)).toMatchObject({
      checked: 3,
      drift: [
        { kind: 'tag', subject: 'crane', expected: true },
        { kind: 'unpublished', subject: 'gull@1.0.0' },
        { kind: 'bytes', subject: 'tide@1.0.0' },
      ],
    })
    expect(everything()).toEqual(before)
    // What is pinned is installed, whatever became of it.
    await polderDone(['install'], where)
    expect(readdirSync(join(where.cwd, 'node_modules/tide'))).toEqual(['package.json'])
  })

  test('without any record compares bytes and existence all the same', async () => {
    const tide = registry.serve('tide', '1.0.0')
    repository(tide)
    registry.unpublish('tide', '1.0.0')
    registry.serve('tide', '1.1.0')
    expect((await run('index sync --check', where)).stderr).toContain('  tide@1.0.0: its registry no longer lists it\n')
  })
})

describe('several syncs', () => {
  test('at the same time bring everything once to the same store, whole', async () => {
    repository(...many(40))
    const all = await Promise.all([run('index sync', where), run('index sync', where), run('index sync', where)])
    expect(all.map(({ code }) => code)).toEqual([0, 0, 0])
    expect(releases()).toHaveLength(40)
    expect(everything().filter((path) => path.endsWith('.tmp'))).toEqual([])
    await polderDone(['lock'], where)
    expect((await run('index verify', where)).code).toBe(0)
  })

  test('beside a collection of garbage lose nothing', async () => {
    repository(...many(40))
    const syncing = run('index sync', where)
    let done = false
    void syncing.finally(() => (done = true))
    const collected: (number | null)[] = []
    while (!done) collected.push((await run('store gc', where)).code)
    expect((await syncing).code).toBe(0)
    expect(collected.filter((code) => code !== 0)).toEqual([])
    await polderDone(['lock'], where)
    expect((await run('index verify', where)).code).toBe(0)
    expect(releases()).toHaveLength(40)
  })

  test.each([30, 70])('killed after %i requests leaves what the next one goes on from', async (number) => {
    repository(...many(40))
    const { program, args, env } = polderCommand(['index', 'sync'], where)
    const child = spawn(program, args, { cwd: where.cwd, env, stdio: 'ignore' })
    const exited = once(child, 'exit')
    while (registry.requests.length < number) await new Promise((resolve) => setTimeout(resolve, 2))
    child.kill('SIGKILL')
    await exited
    const recorded = releases().length
    const documents = (): number => registry.requests.filter(({ path }) => /^\/tide-\d+$/.test(path)).length
    const before = documents()
    expect((await run('index sync', where)).code).toBe(0)
    expect(documents() - before).toBe(40 - recorded)
    expect(releases()).toHaveLength(40)
    const requests = registry.requests.length
    await polderDone(['index', 'sync'], where)
    expect(registry.requests.length).toBe(requests)
  })
})
