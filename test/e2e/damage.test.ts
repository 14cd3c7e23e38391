import {
  appendFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'

import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'

import { polder, polderDone, temporaryDirectory, type Invocation } from '../support/cli.ts'
import { copyStore, writeMonorepo } from '../support/monorepo.ts'
import { startRegistry, type Fault, type Registry, type ServedVersion } from '../support/registry.ts'

let registry: Registry
let root: string
let home: string
let victim: ServedVersion

beforeAll(async () => {
  registry = await startRegistry()
  root = join(temporaryDirectory('damage'), 'repository')
  home = join(temporaryDirectory('damage'), 'store')
  victim = registry.serve('victim', '1.2.3', { files: { 'index.js': 'module.exports = "whole"\n'.repeat(500) } })
  const wrapper = registry.serve('wrapper', '2.0.0', { dependencies: { victim: '^1.0.0' } })
  const other = registry.serve('other', '3.0.0')
  writeMonorepo(root, registry, {
    'services/api': { manifest: { dependencies: { wrapper: '^2.0.0' } }, locked: { wrapper, victim } },
    'services/web': { manifest: { dependencies: { victim: '^1.2.0', other: '3.0.0' } }, locked: { victim, other } },
  })
  await polderDone(['lock'], { cwd: root, home })
})

afterEach(() => registry.clearFaults())
afterAll(() => registry.close())

function world(without: readonly string[] = []): Invocation {
  const cwd = join(temporaryDirectory('checkout'), 'repository')
  cpSync(root, cwd, { recursive: true })
  const own = join(temporaryDirectory('store'), 'store')
  copyStore(home, own, without)
  return { cwd, home: own }
}

function artifactPath(store: string, { integrity }: ServedVersion): string {
  const hex = Buffer.from(integrity.slice('sha512-'.length), 'base64').toString('hex')
  return join(store, 'artifacts', 'sha512', hex.slice(0, 2), hex.slice(2))
}

describe('an artifact in the store', () => {
  const damages: readonly {
    readonly what: string
    readonly damage: (bytes: Buffer) => Buffer
    readonly found: RegExp
    readonly code: number
  }[] = [
    {
      what: 'with one bit flipped',
      damage: (bytes) => Buffer.from(bytes.map((byte, index) => (index === 100 ? byte ^ 1 : byte))),
      found:
        /^polder: the stored artifact of victim@1\.2\.3 is damaged: it has the hash sha512-\S+ \(\d+ bytes\) instead of sha512-\S+ \[ARTIFACT_CORRUPT\]\n  wanted .*\n  found .*\n  hint: it was moved to quarantine; run `polder index sync` to fetch it again\n$/,
      code: 5,
    },
    {
      what: 'that was cut short',
      damage: (bytes) => bytes.subarray(0, bytes.length / 2),
      found: /^polder: the stored artifact of victim@1\.2\.3 is damaged: .* \[ARTIFACT_CORRUPT\]/,
      code: 5,
    },
    {
      what: 'of zero length',
      damage: () => Buffer.alloc(0),
      found:
        /^polder: the artifact of victim@1\.2\.3 is not in the store \[ARTIFACT_MISSING\]\n  hint: run `polder index sync` to fetch it\n$/,
      code: 4,
    },
  ]
  test.each(damages)('$what is named by install, and index sync heals it', async ({ damage, found, code }) => {
    const damaged = world(['trees', 'envs', 'roots'])
    const path = artifactPath(damaged.home, victim)
    const bytes = readFileSync(path)
    // Its name is shared with the other stores: a new file, not other bytes in the old one.
    rmSync(path)
    writeFileSync(path, damage(bytes))

    const failed = await polder(['install'], damaged)
    expect(failed.code, failed.stderr).toBe(code)
    expect(failed.stderr).toMatch(found)
    expect(existsSync(join(damaged.cwd, 'node_modules'))).toBe(false)

    expect(await polderDone(['index', 'sync'], damaged)).toMatch(/^3 pins in the index, 1 \(1 kB\) fetched\n/)
    await polderDone(['install'], damaged)
    await polderDone(['verify'], damaged)
  })

  test('that is missing is named together with all the others that are', async () => {
    const empty = world(['trees', 'envs', 'roots'])
    for (const served of [victim, registry.serve('other', '3.0.0')]) rmSync(artifactPath(empty.home, served))
    const { code, stderr } = await polder(['install'], empty)
    expect(code).toBe(4)
    expect(stderr).toContain('other@3.0.0')
    expect(stderr).toContain('victim@1.2.3')
    expect(stderr).toContain('hint: run `polder index sync` to fetch them')
    const offline = await polder(['lock', '--offline'], empty)
    expect(offline.code).toBe(4)
    expect(offline.stderr).toBe(
      'polder: the index lacks 2 pins [ARTIFACT_MISSING]\n  other@3.0.0, needed by services/web\n  victim@1.2.3, needed by services/web\n' +
        '  hint: run `polder index sync` where there is a network\n',
    )
  })
})

describe('an upstream', () => {
  const faults: readonly {
    readonly what: string
    readonly fault: Fault
    readonly code: number
    readonly message: RegExp
  }[] = [
    {
      what: 'that sends other bytes',
      fault: { kind: 'wrong-bytes' },
      code: 5,
      message:
        /^polder: victim@1\.2\.3 is not what was locked: its hash is sha512-\S+ \(\d+ bytes\), locked is sha512-\S+, from \S+, needed by .* \[INTEGRITY_MISMATCH\]/,
    },
    {
      what: 'that ends too early',
      fault: { kind: 'truncate' },
      code: 1,
      message: /^polder: victim@1\.2\.3 cannot be fetched: .*\(2 attempts\), needed by .* \[FETCH_FAILED\]/,
    },
    {
      what: 'that says a half is all',
      fault: { kind: 'short' },
      code: 5,
      message: /^polder: victim@1\.2\.3 is not what was locked/,
    },
    {
      what: 'that never ends',
      fault: { kind: 'endless' },
      code: 1,
      message: /^polder: victim@1\.2\.3 cannot be fetched: .*, needed by .* \[FETCH_FAILED\]/,
    },
    {
      what: 'that never answers',
      fault: { kind: 'hang' },
      code: 1,
      message: /^polder: victim@1\.2\.3 cannot be fetched: .*, needed by .* \[FETCH_FAILED\]/,
    },
    {
      what: 'that is out of order',
      fault: { kind: 'status', status: 503 },
      code: 1,
      message:
        /^polder: victim@1\.2\.3 cannot be fetched: .* answered 503 \(2 attempts\), needed by .* \[FETCH_FAILED\]/,
    },
    {
      what: 'that does not have it',
      fault: { kind: 'status', status: 404 },
      code: 1,
      message: /^polder: victim@1\.2\.3 cannot be fetched: .* answered 404, needed by .* \[FETCH_FAILED\]/,
    },
    {
      what: 'that sends in circles',
      fault: { kind: 'redirect', to: '/victim/-/victim-1.2.3.tgz' },
      code: 1,
      message:
        /^polder: victim@1\.2\.3 cannot be fetched: .* redirects more than 10 times, needed by .* \[FETCH_FAILED\]/,
    },
  ]
  test.each(faults)(
    '$what: the package and who needs it are named, nothing of it is kept, the others are',
    async ({ fault, code, message }) => {
      const fresh = world(['artifacts', 'manifests', 'trees', 'envs', 'roots'])
      for (const name of ['artifacts', 'manifests']) mkdirSync(join(fresh.home, name, 'sha512'))
      // Six of these are the time that one attempt may take.
      appendFileSync(join(fresh.cwd, '.npmrc'), 'fetch-timeout=100\n')
      registry.fault('victim', fault)
      const failed = await polder(['index', 'sync'], fresh)
      expect(failed.stderr).toMatch(message)
      expect(failed.stderr).toContain('services/web')
      expect(failed.stderr).toContain('wrapper@2.0.0')
      expect(failed).toMatchObject({ code, stdout: '' })
      expect(existsSync(artifactPath(fresh.home, victim))).toBe(false)
      expect(readdirSync(join(fresh.home, 'tmp'))).toEqual([])
      expect(readdirSync(join(fresh.home, 'artifacts', 'sha512'))).toHaveLength(2)

      registry.clearFaults()
      expect(await polderDone(['index', 'sync'], fresh)).toMatch(/^3 pins in the index, 1 \(1 kB\) fetched\n/)
    },
  )

  test('that is not there at all: every pin is named, and the lock stays as it is', async () => {
    const fresh = world(['artifacts', 'manifests', 'trees', 'envs', 'roots'])
    for (const name of ['artifacts', 'manifests']) mkdirSync(join(fresh.home, name, 'sha512'))
    const before = readFileSync(join(fresh.cwd, 'polder.lock'), 'utf8')
    registry.fault('victim', { kind: 'reset' })
    registry.fault('wrapper', { kind: 'status', status: 500 })
    registry.fault('other', { kind: 'wrong-bytes' })
    const { code, stderr } = await polder(['lock'], fresh)
    expect(code).not.toBe(0)
    expect(stderr).toMatch(/^polder: 3 pins could not be fetched \[(FETCH_FAILED|INTEGRITY_MISMATCH)\]\n/)
    for (const pin of ['victim@1.2.3', 'wrapper@2.0.0', 'other@3.0.0']) expect(stderr).toContain(`  ${pin} `)
    expect(readFileSync(join(fresh.cwd, 'polder.lock'), 'utf8')).toBe(before)
  })
})
