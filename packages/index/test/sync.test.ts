import { execFileSync, spawn } from 'node:child_process'
import {
  existsSync,
  globSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import { type Integrity, integrityFromHex, packageId, PolderError } from '@polder/spec'
import { hasArtifact, hasTree, openStore, readArtifact, readTree, treeId, type Store } from '@polder/store'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'

import {
  startRegistry,
  type Registry,
  type RegistryOptions,
  type ServedVersion,
} from '../../../test/support/registry.ts'
import { packTarball, sri } from '../../../test/support/tarball.ts'
import type { NpmConfig } from '../src/upstream/npm-config.ts'
import { readNpmConfig } from '../src/upstream/npmrc.ts'
import type { PinRequest } from '../src/pins/pin.ts'
import { readPinned } from '../src/pins/pinned.ts'
import { syncPins, type SyncOptions, type SyncProgress } from '../src/pins/sync.ts'
import { npmConfig } from './npm-config.ts'

let directory: string
let store: Store
let registry: Registry
let cleanups: (() => Promise<void>)[]

beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), 'polder-sync-'))
  cleanups = []
  store = openStore(join(directory, 'store'))
  registry = await start()
})

afterEach(async () => {
  for (const cleanup of cleanups.reverse()) await cleanup()
  rmSync(directory, { recursive: true, force: true })
})

async function start(options?: RegistryOptions): Promise<Registry> {
  const started = await startRegistry(options)
  cleanups.push(() => started.close())
  return started
}

function pin(
  served: Pick<ServedVersion, 'name' | 'version' | 'integrity'>,
  changes: Partial<PinRequest> = {},
): PinRequest {
  const { name, version, integrity } = served
  const id = packageId(name, version)
  return {
    id,
    name,
    reference: version,
    integrity: integrity as Integrity,
    source: { kind: 'registry' },
    neededBy: ['services/web'],
    optional: false,
    ...changes,
  }
}

function options(changes: Partial<NpmConfig> = {}): SyncOptions {
  const config = npmConfig(registry.url, changes)
  return {
    root: directory,
    npm: async () => config,
    clock: { now: Date.now, random: () => 0, sleep: async () => undefined },
  }
}

const offline: Pick<SyncOptions, 'npm'> = {
  npm: async () => {
    throw new Error('the network was asked for')
  },
}

function messages({ failures }: { readonly failures: readonly PolderError[] }): readonly string[] {
  return failures.map(({ code, message }) => `${code}: ${message}`)
}

/** Every artifact file of the store, temporary ones too. */
function stored(): readonly string[] {
  return [...globSync('artifacts/sha512/*/*', { cwd: store.home }), ...readdirSync(join(store.home, 'tmp'))].sort()
}

test('a pin comes from the canonical path, with its manifest, and is then there without any network', async () => {
  const served = registry.serve('@scope/foo', '1.2.3', {
    dependencies: { bar: '^1.0.0', constructor: '1' },
    scripts: { postinstall: 'node-gyp' },
    bin: { foo: './cli.js' },
  })
  const pins = [pin(served)]
  const report = await syncPins(store, pins, options())

  expect(report).toMatchObject({ fetched: 1, reused: 0, bytes: served.bytes.length, failures: [], warnings: [] })
  expect(registry.requests.map(({ rawUrl }) => rawUrl)).toEqual(['/@scope/foo/-/foo-1.2.3.tgz'])
  expect(readArtifact(store, served.integrity as Integrity, 'foo')).toEqual(served.bytes)

  const { pinned, missing } = readPinned(store, pins)
  expect(missing).toEqual([])
  expect(pinned).toEqual(report.pinned)
  const found = pinned.get(packageId('@scope/foo', '1.2.3'))
  expect(found).toMatchObject({ integrity: served.integrity, needsBuild: true })
  expect(found?.manifest.dependencies).toEqual({ bar: '^1.0.0', constructor: '1' })
  expect(found?.manifest.dependencies['toString']).toBeUndefined()

  const again = await syncPins(store, pins, { ...options(), ...offline })
  expect(again).toMatchObject({ fetched: 0, reused: 1, bytes: 0, failures: [] })
})

test('looking up what is there loads neither the HTTP client nor the npm configuration', async () => {
  const pins = [pin(registry.serve('foo', '1.0.0'))]
  await syncPins(store, pins, options())
  const program = `
    import { registerHooks } from 'node:module'
    const loaded = []
    registerHooks({ load: (url, context, next) => (loaded.push(url), next(url, context)) })
    const { readPinned } = await import(${JSON.stringify(new URL('../src/index.ts', import.meta.url).href)})
    const { pinned } = readPinned({ home: ${JSON.stringify(store.home)} }, ${JSON.stringify(pins)})
    console.log(JSON.stringify({ found: pinned.size, loaded }))`
  const output = execFileSync(process.execPath, ['--input-type=module', '-e', program], { encoding: 'utf8' })
  const { found, loaded } = JSON.parse(output) as { found: number; loaded: readonly string[] }
  expect(found).toBe(1)
  expect(loaded.some((url) => url.endsWith('/src/pins/sync.ts'))).toBe(true)
  expect(loaded.filter((url) => /node_modules\/(?:undici|@npmcli)\//.test(url))).toEqual([])
})

test('of many pins, which threads read, each that is not sound fails for itself', async () => {
  const pins = Array.from({ length: 80 }, (_, at) =>
    pin(registry.serve(`foo-${at}`, '1.0.0', { files: { 'lib/index.js': `${at}` } })),
  )
  const evil = registry.serveArtifact(
    'evil',
    '1.0.0',
    packTarball({ 'package.json': '{"name":"evil"}', '../../x': '' }),
  )
  const other = registry.serveArtifact('other', '1.0.0', packTarball({ 'package.json': '{"name":"another"}' }))
  registry.fault('foo-7@1.0.0', { kind: 'wrong-bytes' })
  const report = await syncPins(store, [pin(evil), pin(other), ...pins], { ...options(), unpack: () => true })
  expect(report.failures.map(({ code, details: { spec } }) => `${code} ${spec}`)).toEqual([
    'ARCHIVE_REFUSED evil@1.0.0',
    'INTEGRITY_MISMATCH foo-7@1.0.0',
    'INTEGRITY_MISMATCH other@1.0.0',
  ])
  expect(report.fetched).toBe(81)
  const sound = pins.filter(({ name }) => name !== 'foo-7')
  expect(readPinned(store, sound).missing).toEqual([])
  for (const { name, integrity } of sound) {
    const { path } = readTree(store, treeId(integrity as Integrity))
    expect(readFileSync(join(path, 'lib/index.js'), 'utf8')).toBe(name.slice('foo-'.length))
  }
  expect(hasTree(store, treeId(other.integrity as Integrity))).toBe(false)
  expect(readdirSync(join(store.home, 'tmp'))).toEqual([])
})

test('nothing has its name before what is to be done first is done, and nothing stays if that fails', async () => {
  const served = pin(registry.serve('foo', '1.0.0'))
  const seen: boolean[] = []
  const first = async (): Promise<void> => {
    await expect.poll(() => registry.count('/foo/-/foo-1.0.0.tgz')).toBe(1)
    seen.push(hasArtifact(store, served.integrity as Integrity))
    throw new PolderError('STORE_UNWRITABLE', 'the keys cannot be kept')
  }
  await expect(syncPins(store, [served], { ...options(), first })).rejects.toMatchObject({ code: 'STORE_UNWRITABLE' })
  expect([...seen, hasArtifact(store, served.integrity as Integrity)]).toEqual([false, false])
  expect(readdirSync(join(store.home, 'tmp'))).toEqual([])
})

test('each pin counts towards the progress once', async () => {
  const pins = ['a', 'b', 'c'].map((name) => pin(registry.serve(name, '1.0.0')))
  await syncPins(store, pins.slice(0, 1), options())
  const seen: SyncProgress[] = []
  await syncPins(store, pins, { ...options(), onProgress: (progress) => seen.push(progress) })
  expect(seen.at(-1)).toMatchObject({ done: 3, total: 3 })
  expect(seen.map(({ done }) => done)).toEqual(seen.map(({ done }) => done).sort((a, b) => a - b))
})

test('one failing pin does not hide the others, and each says who needs it', async () => {
  const good = registry.serve('good', '1.0.0')
  const gone = registry.serve('gone', '1.0.0')
  const broken = registry.serve('broken', '2.0.0')
  const other = registry.serve('other', '3.0.0')
  registry.unpublish('gone')
  registry.fault('broken', { kind: 'status', status: 503 })
  registry.fault('other', { kind: 'wrong-bytes' })
  const many = ['services/a', 'services/b', 'services/c', 'services/d', 'services/e']

  const report = await syncPins(
    store,
    [pin(other, { neededBy: many }), pin(gone, { optional: true }), pin(broken, { neededBy: ['a', 'b'] }), pin(good)],
    options(),
  )

  expect([...report.pinned.keys()]).toEqual(['good@1.0.0'])
  const [brokenText, goneText, otherText] = messages(report)
  expect(report.failures).toHaveLength(3)
  expect(brokenText).toBe(
    `FETCH_FAILED: broken@2.0.0 cannot be fetched: ${broken.url} answered 503 (3 attempts), needed by a and b`,
  )
  expect(goneText).toBe(
    `FETCH_FAILED: gone@1.0.0 cannot be fetched: ${registry.url}gone answered 404, needed by services/web (optional)`,
  )
  expect(otherText).toMatch(
    /^INTEGRITY_MISMATCH: other@3\.0\.0 is not what was locked: its hash is sha512-.+, locked is sha512-.+, from http.+other-3\.0\.0\.tgz, needed by services\/a, services\/b, services\/c and 2 others$/,
  )
  expect(report.failures.map(({ details }) => details.spec)).toEqual(['broken@2.0.0', 'gone@1.0.0', 'other@3.0.0'])
})

describe('nothing is kept of', () => {
  test.each([
    ['other bytes', { kind: 'wrong-bytes' }, 'INTEGRITY_MISMATCH'],
    ['a body shorter than it should be', { kind: 'short' }, 'INTEGRITY_MISMATCH'],
    ['a body that is cut off', { kind: 'truncate' }, 'FETCH_FAILED'],
    ['an endless body', { kind: 'endless' }, 'FETCH_FAILED'],
    ['an empty body', { kind: 'status', status: 200, body: '' }, 'FETCH_FAILED'],
  ] as const)('%s', async (_, fault, code) => {
    const served = registry.serve('foo', '1.0.0')
    registry.fault('foo', fault)
    const report = await syncPins(store, [pin(served)], { ...options(), maxBytes: 1_000_000 })
    expect(report.failures.map((failure) => failure.code)).toEqual([code])
    expect(stored()).toEqual([])
    expect(readPinned(store, [pin(served)]).missing).toHaveLength(1)
  })
})

describe('where the canonical path is not the place', () => {
  test('the document says where, and is asked once for all versions', async () => {
    const tarballs = ['1.0.0', '2.0.0'].map((version) =>
      packTarball({ 'package.json': JSON.stringify({ name: 'foo', version }) }),
    )
    const served = tarballs.map((bytes, index) => {
      const url = registry.serveFile(`/download/foo/${index + 1}.tgz`, bytes)
      registry.serve('foo', `${index + 1}.0.0`, { dist: { tarball: url } })
      registry.fault(`foo@${index + 1}.0.0`, { kind: 'status', status: 404 })
      return { name: 'foo', version: `${index + 1}.0.0`, integrity: sri(bytes) }
    })
    const report = await syncPins(
      store,
      served.map((version) => pin(version)),
      options(),
    )
    expect(messages(report)).toEqual([])
    expect(registry.count('/foo')).toBe(1)
  })

  test('another host is followed without credentials, and only for what has a hash', async () => {
    const other = await start()
    registry = await start({ token: 'secret' })
    const bytes = packTarball({ 'package.json': '{"name":"foo","version":"1.0.0"}' })
    const url = other.serveFile('/cdn/foo.tgz', bytes)
    registry.serve('foo', '1.0.0', { dist: { tarball: url } })
    registry.fault('foo@1.0.0', { kind: 'status', status: 404 })
    const credentials = new Map([[`//${new URL(registry.url).host}/`, { authorization: 'Bearer secret' }]])
    const wanted = pin({ name: 'foo', version: '1.0.0', integrity: sri(bytes) })

    const unverified = await syncPins(store, [{ ...wanted, integrity: null }], {
      ...options({ credentials }),
      allowWeakIntegrity: ['foo'],
    })
    expect(messages(unverified)).toEqual([
      `FETCH_FAILED: foo@1.0.0 cannot be fetched: its registry has it on another host (${url}), and there is no hash to check it by, needed by services/web`,
    ])
    expect(other.requests).toEqual([])

    expect(messages(await syncPins(store, [wanted], options({ credentials })))).toEqual([])
    expect(other.requests.map(({ headers }) => headers.authorization)).toEqual([undefined])
    expect(registry.requests.map(({ headers }) => headers.authorization)).toContain('Bearer secret')
  })

  test.each(['__proto__', 'constructor', '9.9.9'])(
    'a document without the version %s is a failure',
    async (reference) => {
      const served = registry.serve('foo', '1.0.0')
      const report = await syncPins(store, [pin(served, { id: packageId('foo', reference), reference })], options())
      expect(messages(report)).toEqual([
        `FETCH_FAILED: foo@${reference} cannot be fetched: ${registry.url} has no version ${reference} of it, needed by services/web`,
      ])
    },
  )

  test('a document that is not JSON is a failure', async () => {
    registry.fault('/foo/-/foo-1.0.0.tgz', { kind: 'status', status: 404 })
    registry.fault('/foo', { kind: 'status', status: 200, body: '<html>' })
    const report = await syncPins(
      store,
      [pin({ name: 'foo', version: '1.0.0', integrity: sri(Buffer.from('x')) })],
      options(),
    )
    expect(messages(report)[0]).toMatch(/^FETCH_FAILED: foo@1\.0\.0 cannot be fetched: http.+\/foo is not JSON/)
  })
})

test('a scope goes to its own registry with its own token, and nothing of it goes to the other', async () => {
  const team = await start({ token: 'team-token' })
  const dart = (of: Registry): string => `//${new URL(of.url).host}/`
  mkdirSync(join(directory, 'home'))
  writeFileSync(join(directory, 'home/.npmrc'), `@team:registry=${team.url}\n${dart(team)}:_authToken=\${TEAM_TOKEN}\n`)
  writeFileSync(join(directory, '.npmrc'), `registry=${registry.url}\n`)
  const pins = [
    pin(team.serve('@team/lib', '1.0.0')),
    pin(registry.serve('lib', '1.0.0')),
    pin(registry.serve('@other/lib', '1.0.0')),
  ]
  const npm = (): Promise<NpmConfig> =>
    readNpmConfig({ cwd: directory, home: join(directory, 'home'), env: { PATH: '', TEAM_TOKEN: 'team-token' } })

  expect(messages(await syncPins(store, pins, { ...options(), npm }))).toEqual([])
  expect(team.requests.map(({ path }) => path)).toEqual(['/@team/lib/-/lib-1.0.0.tgz'])
  expect(registry.requests.map(({ headers }) => headers.authorization)).toEqual([undefined, undefined])
})

describe('pins whose lockfile cannot have a hash', () => {
  const trusted = (served: ServedVersion): PinRequest => pin(served, { integrity: null, hashFromRegistry: true })

  test("get that of the registry's document, once: it is recorded, with one warning for all", async () => {
    const [foo, bar] = [trusted(registry.serve('foo', '1.0.0')), trusted(registry.serve('@s/bar', '2.0.0'))]
    const report = await syncPins(store, [foo, bar], options())
    expect(messages(report)).toEqual([])
    expect(report.warnings).toEqual([
      '2 pins have no hash in any lockfile (yarn 2 and newer only hash archives of their own): what the registry says now was trusted, and is recorded so that it has to stay the same',
    ])
    expect([...report.pinned.keys()].sort()).toEqual([bar.id, foo.id].sort())
    const again = await syncPins(store, [foo, bar], { ...options(), ...offline })
    expect(again).toMatchObject({ reused: 2, failures: [], warnings: [] })
  })

  test('are refused if the bytes are not those of the document, and later if they are not those of the record', async () => {
    const served = registry.serve('foo', '1.0.0')
    registry.fault('foo@1.0.0', { kind: 'wrong-bytes' })
    expect((await syncPins(store, [trusted(served)], options())).failures.map(({ code }) => code)).toEqual([
      'INTEGRITY_MISMATCH',
    ])
    registry.clearFaults()
    expect(messages(await syncPins(store, [trusted(served)], options()))).toEqual([])
    // Published anew under the same version, when the artifact is gone from the store but the record is not.
    registry.serve('foo', '1.0.0', { description: 'other' })
    rmSync(join(store.home, 'artifacts'), { recursive: true })
    expect(
      (await syncPins(openStore(store.home), [trusted(served)], options())).failures.map(({ code }) => code),
    ).toEqual(['INTEGRITY_MISMATCH'])
  })

  test('take a shasum where the document has nothing better, and are refused where it has nothing, or no hash', async () => {
    const old = registry.serve('old', '1.0.0', { dist: { integrity: undefined } })
    const none = registry.serve('none', '1.0.0', { dist: { integrity: undefined, shasum: undefined } })
    const bad = registry.serve('bad', '1.0.0', { dist: { integrity: 'sha512-short' } })
    const report = await syncPins(store, [old, none, bad].map(trusted), options())
    expect(report.pinned.get(trusted(old).id)?.integrity).toBe(old.integrity)
    expect(report.failures.map(({ code, details }) => [code, details.spec])).toEqual([
      ['INTEGRITY_MISSING', 'bad@1.0.0'],
      ['INTEGRITY_MISSING', 'none@1.0.0'],
    ])
    expect(report.warnings[0]).toMatch(/^1 pin has no hash/)
  })

  test('of a version that the registry does not know are reported', async () => {
    const served = registry.serve('foo', '1.0.0')
    registry.unpublish('foo', '1.0.0')
    registry.serve('foo', '2.0.0')
    const [failure] = (await syncPins(store, [trusted(served)], options())).failures
    expect(failure?.code).toBe('FETCH_FAILED')
    expect(failure?.message).toContain('has no version 1.0.0 of it')
  })
})

describe('hashes weaker than sha512', () => {
  test('sha1 is verified, and our own sha512 recorded: the next sync needs no network', async () => {
    const served = registry.serve('foo', '1.0.0')
    const weak = pin(served, { integrity: integrityFromHex('sha1', served.shasum) })
    const report = await syncPins(store, [weak], options())
    expect(report.pinned.get(weak.id)?.integrity).toBe(served.integrity)
    expect(readPinned(store, [weak]).pinned.get(weak.id)?.integrity).toBe(served.integrity)
    expect(await syncPins(store, [weak], { ...options(), ...offline })).toMatchObject({ reused: 1, failures: [] })
  })

  test('sha1 that does not match is a mismatch', async () => {
    const served = registry.serve('foo', '1.0.0')
    const weak = pin(served, { integrity: integrityFromHex('sha1', 'a'.repeat(40)) })
    expect((await syncPins(store, [weak], options())).failures.map(({ code }) => code)).toEqual(['INTEGRITY_MISMATCH'])
  })

  test('without a hash a pin is refused, until it is allowed by name; what came then is what it means from then on', async () => {
    const served = registry.serve('foo', '1.0.0')
    const unhashed = pin(served, { integrity: null })
    const refused = await syncPins(store, [unhashed], options())
    expect(messages(refused)).toEqual([
      'INTEGRITY_MISSING: foo@1.0.0 has no hash in its lockfile, so what comes cannot be verified, needed by services/web',
    ])
    expect(refused.failures[0]?.details.hint).toContain('index.allowWeakIntegrity in polder.yaml')
    expect(registry.requests).toEqual([])

    expect(messages(await syncPins(store, [unhashed], { ...options(), allowWeakIntegrity: ['foo'] }))).toEqual([])
    rmSync(join(store.home, 'artifacts/sha512'), { recursive: true })
    registry.serve('foo', '1.0.0', { description: 'republished with other bytes' })
    const republished = await syncPins(store, [unhashed], options())
    expect(republished.failures[0]).toMatchObject({ code: 'INTEGRITY_MISMATCH', details: { wanted: served.integrity } })
  })

  test('a damaged record of a hash is a failure of that pin, with what to delete', async () => {
    const [foo, bar] = [registry.serve('foo', '1.0.0'), registry.serve('bar', '1.0.0')]
    const weak = pin(foo, { integrity: integrityFromHex('sha1', foo.shasum) })
    await syncPins(store, [weak], options())
    const [record = ''] = globSync('pins/*.json', { cwd: store.home })
    writeFileSync(join(store.home, record), '{}')
    const report = await syncPins(store, [weak, pin(bar)], options())
    expect(report.pinned.has(packageId('bar', '1.0.0'))).toBe(true)
    expect(report.failures[0]).toMatchObject({ code: 'INTEGRITY_MISSING', details: { path: join(store.home, record) } })
  })
})

describe('other sources', () => {
  test('a tarball by URL, and one in the repository', async () => {
    const bytes = packTarball({ 'package.json': '{"name":"lib","version":"1.0.0"}' })
    const url = registry.serveFile('/own/lib.tgz', bytes)
    mkdirSync(join(directory, 'vendor'))
    writeFileSync(join(directory, 'vendor/lib.tgz'), bytes)
    const base = { name: 'lib', version: '1.0.0', integrity: sri(bytes) }
    const remote = pin(base, { id: packageId('lib', url), reference: url, source: { kind: 'tarball', url } })
    const local = pin(base, {
      id: packageId('lib', 'file:vendor/lib.tgz'),
      reference: 'file:vendor/lib.tgz',
      integrity: null,
      source: { kind: 'file', path: 'vendor/lib.tgz' },
    })
    const report = await syncPins(store, [remote, local], options())
    expect(messages(report)).toEqual([])
    expect([...report.pinned.values()].map(({ integrity }) => integrity)).toEqual([sri(bytes), sri(bytes)])
    expect(registry.requests.map(({ path }) => path)).toEqual(['/own/lib.tgz'])
  })

  test('a tarball in the repository without a hash is what the repository has now', async () => {
    const path = join(directory, 'lib.tgz')
    const local = pin(
      { name: 'lib', version: '1.0.0', integrity: '' },
      { integrity: null, source: { kind: 'file', path: 'lib.tgz' } },
    )
    for (const description of ['one', 'two']) {
      const bytes = packTarball({ 'package.json': JSON.stringify({ name: 'lib', version: '1.0.0', description }) })
      writeFileSync(path, bytes)
      const report = await syncPins(store, [local], { ...options(), ...offline })
      expect(report.pinned.get(local.id)?.integrity).toBe(sri(bytes))
    }
  })

  test('a tarball outside of the repository, one that is not there and a git repository over a bare connection are refused', async () => {
    writeFileSync(join(directory, 'outside.tgz'), packTarball({ 'package.json': '{}' }))
    mkdirSync(join(directory, 'repository'))
    symlinkSync('../outside.tgz', join(directory, 'repository/link.tgz'))
    const local = (name: string, path: string): PinRequest =>
      pin({ name, version: '1.0.0', integrity: sri(Buffer.from('')) }, { source: { kind: 'file', path } })
    const git = pin(
      { name: 'd', version: '1.0.0', integrity: sri(Buffer.from('')) },
      { integrity: null, source: { kind: 'git', url: 'git://host.example/d.git', commit: 'abc' } },
    )
    const report = await syncPins(
      store,
      [local('a', '../outside.tgz'), local('b', 'link.tgz'), local('c', 'missing.tgz'), git],
      {
        ...options(),
        ...offline,
        root: join(directory, 'repository'),
      },
    )
    expect(messages(report)).toEqual([
      'SOURCE_UNSUPPORTED: a@1.0.0 cannot be fetched: ../outside.tgz is outside of the repository, needed by services/web',
      'SOURCE_UNSUPPORTED: b@1.0.0 cannot be fetched: link.tgz is outside of the repository, needed by services/web',
      expect.stringMatching(/^FETCH_FAILED: c@1\.0\.0 cannot be fetched: missing\.tgz cannot be read: ENOENT/),
      'SOURCE_UNSUPPORTED: d@1.0.0 cannot be fetched: git is not asked for git://host.example/d.git, needed by services/web',
    ])
  })
})

test('a tarball that is another package is refused, another version of it is a warning', async () => {
  const bytes = packTarball({ 'package.json': '{"name":"evil","version":"1.0.0"}' })
  const evil = registry.serveArtifact('good', '1.0.0', bytes)
  const odd = registry.serveArtifact(
    'odd',
    '2.0.0',
    packTarball({ 'package.json': '{"name":"odd","version":"2.0.1"}' }),
  )
  const built = registry.serveArtifact(
    'built',
    '1.0.0',
    packTarball({ 'package.json': '{"name":"built","version":"v1.0.0+linux"}' }),
  )
  const report = await syncPins(store, [pin(evil), pin(odd), pin(built)], options())
  expect(messages(report)).toEqual([
    'INTEGRITY_MISMATCH: the tarball of good@1.0.0 is another package: its package.json says evil@1.0.0, needed by services/web',
  ])
  expect(report.warnings).toEqual(['the package.json of odd@2.0.0 has the version 2.0.1'])
  expect(report.pinned.size).toBe(2)
})

test('a lost, damaged or outdated manifest is read again from the artifact, without network', async () => {
  const pins = ['a', 'b', 'c', 'd'].map((name) => pin(registry.serve(name, '1.0.0', { dependencies: { x: '1' } })))
  const before = await syncPins(store, pins, options())
  const [a = '', b = '', c = '', d = ''] = globSync('manifests/sha512/*/*.json', { cwd: store.home }).map((path) =>
    join(store.home, path),
  )
  rmSync(a)
  writeFileSync(b, '')
  writeFileSync(c, readFileSync(c, 'utf8').replace('"format":1', '"format":0'))
  writeFileSync(d, '{"format":1,"needsBuild":false,"manifest":{"dependencies":[]}}')
  expect(readPinned(store, pins).missing).toHaveLength(4)
  const report = await syncPins(store, pins, { ...options(), ...offline })
  expect(report).toMatchObject({ fetched: 0, reused: 4, failures: [] })
  expect(Object.fromEntries(report.pinned)).toEqual(Object.fromEntries(before.pinned))
})

test('a damaged artifact without manifest is fetched again', async () => {
  const served = registry.serve('foo', '1.0.0')
  await syncPins(store, [pin(served)], options())
  const [artifact = '', manifest = ''] = globSync(['artifacts/sha512/*/*', 'manifests/sha512/*/*'], { cwd: store.home })
    .sort()
    .map((path) => join(store.home, path))
  rmSync(artifact)
  writeFileSync(artifact, 'rotten')
  rmSync(manifest)
  expect(await syncPins(store, [pin(served)], options())).toMatchObject({ fetched: 1, failures: [] })
  expect(readArtifact(store, served.integrity as Integrity, 'foo')).toEqual(served.bytes)
})

test('a full disk ends the sync for all of its connections, with nothing half-written', async () => {
  const pins = Array.from({ length: 60 }, (_, index) => pin(registry.serve(`p${index}`, '1.0.0')))
  const full = new PolderError('DISK_FULL', 'the disk is full')
  let last = 0
  const onProgress = ({ done }: SyncProgress): void => {
    // Stands in for the store, which would throw it once, between two chunks of an artifact.
    const ends = done >= 10 && last < 10
    last = done
    if (ends) throw full
  }
  await expect(syncPins(store, pins, { ...options(), onProgress })).rejects.toBe(full)
  expect(last).toBeLessThan(60)
  expect(readdirSync(join(store.home, 'tmp'))).toEqual([])
  expect(messages(await syncPins(store, pins, options()))).toEqual([])
})

test('an unusable npm configuration ends the sync', async () => {
  const npm = async (): Promise<NpmConfig> => {
    throw new PolderError('NPMRC_INVALID', 'no')
  }
  const pins = [pin(registry.serve('a', '1.0.0')), pin(registry.serve('b', '1.0.0'))]
  await expect(syncPins(store, pins, { ...options(), npm })).rejects.toMatchObject({ code: 'NPMRC_INVALID' })
})

test('two syncs of the same pins at once both succeed', async () => {
  const pins = Array.from({ length: 20 }, (_, index) => pin(registry.serve(`p${index}`, '1.0.0')))
  const reports = await Promise.all([
    syncPins(store, pins, options()),
    syncPins(openStore(store.home), pins, options()),
  ])
  expect(reports.map(({ pinned, failures }) => [pinned.size, failures])).toEqual([
    [20, []],
    [20, []],
  ])
})

test('killed in the middle, the next sync fetches only what is missing', async () => {
  // Slow enough that what came first is durable and visible before the rest has come.
  registry = await start({ delayMs: 250 })
  const pins = Array.from({ length: 120 }, (_, index) =>
    pin(registry.serve(`p${index}`, '1.0.0', { files: { 'index.js': `// ${index}\n`.repeat(500) } })),
  )
  writeFileSync(join(directory, 'pins.json'), JSON.stringify(pins))
  const child = spawn(
    process.execPath,
    [join(import.meta.dirname, 'sync-process.ts'), store.home, registry.url, join(directory, 'pins.json')],
    {
      stdio: ['ignore', 'pipe', 'inherit'],
    },
  )
  const visible = (): PinRequest[] => pins.filter((each) => hasArtifact(store, each.integrity as Integrity))
  // The child tells whenever it is further; 9 does not let it tidy up.
  await new Promise<void>((resolve, reject) => {
    child.stdout.on('data', () => {
      if (visible().length > 0) child.kill('SIGKILL')
    })
    child.on('exit', (code, signal) =>
      signal === 'SIGKILL' ? resolve() : reject(new Error(`it ended by itself: ${code}`)),
    )
  })
  const there = visible()
  expect(there.length).toBeGreaterThan(0)
  expect(there.length).toBeLessThan(120)
  // What is under its name is complete.
  for (const each of there) readArtifact(store, each.integrity as Integrity, each.id)

  const before = registry.requests.length
  const report = await syncPins(store, pins, options())
  expect(messages(report)).toEqual([])
  expect(report).toMatchObject({ fetched: 120 - there.length, reused: there.length })
  expect(registry.requests.length - before).toBe(120 - there.length)
  expect(existsSync(join(store.home, 'pins'))).toBe(false)
})
