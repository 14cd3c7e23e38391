import { PolderError, type Integrity } from '@polder/spec'
import { readRoots } from '@polder/store'
import {
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join, posix } from 'node:path'

import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'

import { readState, verifyCheckout } from '../src/index.ts'
import { linkText } from '../src/package-files.ts'
import { HARBOUR } from './harbour.ts'
import { LAYOUTS, walkInstalled, World, type LockSpec } from './world.ts'

let world: World
beforeAll(() => {
  world = new World()
})
afterAll(() => world.dispose())

const SMALL: LockSpec = {
  services: { 'services/a': { uses: { b: 'b@1.0.0', c: 'c@1.0.0' } }, 'services/z': { uses: { c: 'c@2.0.0' } } },
  instances: { 'b@1.0.0': { links: { c: 'c@2.0.0' } }, 'c@1.0.0': {}, 'c@2.0.0': {} },
  root: ['b@1.0.0', 'c@1.0.0'],
}

describe.each(LAYOUTS)('in the %s layout', (layout) => {
  test('a node_modules that somebody else made is left alone, in services too, and all of them are named', async () => {
    const lock = await world.lock(SMALL)
    const checkout = world.checkout(lock)
    for (const path of ['node_modules/left', 'services/z/node_modules/left'])
      mkdirSync(join(checkout, path), { recursive: true })
    const error = await world.install(lock, checkout, layout).catch((caught: unknown) => caught)
    expect(error).toBeInstanceOf(PolderError)
    const { code, message, details } = error as PolderError
    expect([code, message, details.others?.map((other) => other.message)]).toEqual([
      'NODE_MODULES_FOREIGN',
      'node_modules was not made by polder',
      ['services/z/node_modules was not made by polder'],
    ])
    expect(existsSync(join(checkout, 'node_modules/left'))).toBe(true)
    expect(existsSync(join(checkout, 'services/z/node_modules/left'))).toBe(true)
    expect(readState(checkout)).toBeUndefined()
  })

  test('with force it is replaced, and reported', async () => {
    const lock = await world.lock(SMALL)
    const checkout = world.checkout(lock)
    mkdirSync(join(checkout, 'elsewhere'))
    writeFileSync(join(checkout, 'elsewhere/kept'), '')
    symlinkSync('elsewhere', join(checkout, 'node_modules'))
    mkdirSync(join(checkout, 'services/z/node_modules/left'), { recursive: true })
    const { report } = await world.install(lock, checkout, layout, { force: true })
    expect(report.replaced).toEqual(['node_modules', 'services/z/node_modules'])
    expect(existsSync(join(checkout, 'services/z/node_modules/left'))).toBe(false)
    expect(existsSync(join(checkout, 'elsewhere/kept'))).toBe(true)
    walkInstalled(lock, checkout)
  })

  test("tools' caches in node_modules are kept, also those that were there first", async () => {
    const lock = await world.lock(SMALL)
    const checkout = world.checkout(lock)
    mkdirSync(join(checkout, 'node_modules/.vite'), { recursive: true })
    writeFileSync(join(checkout, 'node_modules/.vite/early'), '')
    await world.install(lock, checkout, layout)
    mkdirSync(join(checkout, 'services/z/node_modules/.cache'))
    writeFileSync(join(checkout, 'services/z/node_modules/.cache/late'), '')
    await world.install(lock, checkout, layout)
    expect(existsSync(join(checkout, 'node_modules/.vite/early'))).toBe(true)
    expect(existsSync(join(checkout, 'services/z/node_modules/.cache/late'))).toBe(true)
  })

  test('what a changed lock does not need any more goes', async () => {
    const lock = await world.lock(SMALL)
    const checkout = world.checkout(lock)
    await world.install(lock, checkout, layout)
    expect(existsSync(join(checkout, 'services/z/node_modules/c'))).toBe(true)
    const smaller = await world.lock({
      services: { 'services/a': { uses: { c: 'c@1.0.0' } } },
      instances: { 'c@1.0.0': {} },
      root: ['c@1.0.0'],
    })
    await world.install(smaller, checkout, layout)
    expect(existsSync(join(checkout, 'services/z/node_modules'))).toBe(false)
    expect(existsSync(join(checkout, 'node_modules/b'))).toBe(false)
    expect(readState(checkout)?.services).toEqual([])
  })

  test("a stale service's node_modules that somebody else has made since is left alone", async () => {
    const lock = await world.lock(SMALL)
    const checkout = world.checkout(lock)
    await world.install(lock, checkout, layout)
    rmSync(join(checkout, 'services/z/node_modules'), { recursive: true })
    mkdirSync(join(checkout, 'services/z/node_modules/theirs'), { recursive: true })
    const smaller = await world.lock({
      services: { 'services/a': { uses: { c: 'c@1.0.0' } } },
      instances: { 'c@1.0.0': {} },
      root: ['c@1.0.0'],
    })
    await world.install(smaller, checkout, layout)
    expect(existsSync(join(checkout, 'services/z/node_modules/theirs'))).toBe(true)
  })

  test('the state says what stands there, and nothing is left beside it', async () => {
    const lock = await world.lock(HARBOUR)
    const checkout = world.checkout(lock)
    const { plan, environmentPath } = await world.install(lock, checkout, layout)
    expect(readState(checkout)).toEqual({
      format: 1,
      storeHome: world.store.home,
      platform: `${process.platform}-${process.arch}-${process.version}`,
      environment: plan.id,
      environmentPath,
      layout,
      lock: 'a'.repeat(64),
      inputs: { 'polder.lock': { mtimeMs: 1, size: 2, digest: 'sha256-00' } },
      services: plan.checkout.services,
      notBuilt: ['packer@1.0.0'],
      polder: '0.1.0',
    })
    expect(environmentPath === null).toBe(layout === 'self-contained')
    expect(readFileSync(join(checkout, '.polder/.gitignore'), 'utf8')).toBe('*\n')
    expect(readdirSync(join(checkout, '.polder')).sort()).toEqual(['.gitignore', 'lock', 'state.json'])
    expect(readRoots(world.store).some((root) => root.checkout === checkout)).toBe(layout === 'linked')
  })

  test('artifacts that are missing are all named, and nothing is changed', async () => {
    const lock = await world.lock(SMALL)
    const packages = Object.fromEntries(
      Object.entries(lock.npm.packages).map(([id, pkg]) => [
        id,
        id.startsWith('c@') ? { ...pkg, integrity: absentIntegrity(id) } : pkg,
      ]),
    )
    const broken = { ...lock, npm: { ...lock.npm, packages } }
    const checkout = world.checkout(lock)
    const error = (await world.install(broken, checkout, layout).catch((caught: unknown) => caught)) as PolderError
    expect(error.code).toBe('ARTIFACT_MISSING')
    expect((error.details.others ?? []).map(({ details }) => details.spec ?? '').sort()).toEqual(['c@1.0.0', 'c@2.0.0'])
    expect(error.details.hint).toContain('polder index sync')
    expect(existsSync(join(checkout, 'node_modules'))).toBe(false)
  })
})

test('a checkout changes from one layout to the other and back', async () => {
  const lock = await world.lock(HARBOUR)
  const checkout = world.checkout(lock)
  for (const layout of [...LAYOUTS, ...LAYOUTS]) {
    await world.install(lock, checkout, layout)
    expect(readState(checkout)?.layout).toBe(layout)
    expect(readlinkSync(join(checkout, 'services/office/node_modules/ink')).startsWith('/')).toBe(layout === 'linked')
  }
})

test('the links of two checkouts to the flat root are the same, and lead there through one link of each', async () => {
  const lock = await world.lock(SMALL)
  const [one, other] = [world.checkout(lock), world.checkout(lock)]
  const { environmentPath } = await world.install(lock, one, 'linked')
  await world.install(lock, other, 'linked')
  for (const checkout of [one, other]) {
    expect(readlinkSync(join(checkout, 'node_modules/.polder/env'))).toBe(`${environmentPath ?? ''}/node_modules`)
    expect(readlinkSync(join(checkout, 'node_modules/b'))).toBe('.polder/env/b')
  }
  expect(lstatSync(join(one, 'node_modules/b')).ino).toBe(lstatSync(join(other, 'node_modules/b')).ino)
})

test('a checkout that gets another lock leaves the links of the other checkouts as they are', async () => {
  const lock = await world.lock(SMALL)
  const [one, other] = [world.checkout(lock), world.checkout(lock)]
  for (const checkout of [one, other]) await world.install(lock, checkout, 'linked')
  const newer = await world.lock({ ...SMALL, instances: { ...SMALL.instances, 'b@1.0.0': { files: { new: '' } } } })
  await world.install(newer, one, 'linked')
  expect(existsSync(join(one, 'node_modules/b/new'))).toBe(true)
  expect(existsSync(join(other, 'node_modules/b/new'))).toBe(false)
  walkInstalled(lock, other)
  walkInstalled(newer, one)
})

test.each([1, 2, 3])('the text of a link is the way from its directory (%i)', (depth) => {
  const names = fc.constantFrom('a', 'ab', 'b', '@a')
  const paths = fc.array(names, { minLength: depth, maxLength: depth + 2 }).map((parts) => parts.join('/'))
  fc.assert(
    fc.property(paths, fc.oneof(paths, fc.constant('.')), (path, target) => {
      fc.pre(posix.dirname(path) !== target)
      const text = linkText({ path, target: { place: 'checkout', path: target } }, '/environment')
      expect(text).toBe(posix.relative(posix.dirname(path), target))
    }),
  )
})

test('a service that is gone is an error', async () => {
  const lock = await world.lock(SMALL)
  const checkout = world.checkout(lock)
  rmSync(join(checkout, 'services/z'), { recursive: true })
  const error = (await world.install(lock, checkout, 'linked').catch((caught: unknown) => caught)) as PolderError
  expect([error.code, error.message]).toEqual([
    'LOCK_OUT_OF_DATE',
    `the lock has the service services/z, which is not in ${checkout}`,
  ])
})

test('a service that is a link out of the checkout is refused, as is a .polder that is one', async () => {
  const lock = await world.lock(SMALL)
  const checkout = world.checkout(lock)
  rmSync(join(checkout, 'services/z'), { recursive: true })
  symlinkSync(world.directory, join(checkout, 'services/z'))
  const error = (await world.install(lock, checkout, 'linked').catch((caught: unknown) => caught)) as PolderError
  expect(error.code).toBe('LOCK_INVALID')
  expect(error.message).toContain('which is outside of')

  const other = world.checkout(lock)
  symlinkSync(world.directory, join(other, '.polder'))
  const refused = (await world.install(lock, other, 'linked').catch((caught: unknown) => caught)) as PolderError
  expect([refused.code, refused.message]).toEqual([
    'NODE_MODULES_FOREIGN',
    `${join(other, '.polder')} is not a directory`,
  ])
})

test('a package with a file where its dependency must be is refused by name', async () => {
  const lock = await world.lock({
    services: { a: { uses: { b: 'b@1.0.0' } } },
    instances: {
      'b@1.0.0': { links: { c: 'c@2.0.0' }, files: { node_modules: 'a file' } },
      'c@1.0.0': {},
      'c@2.0.0': {},
    },
    root: ['b@1.0.0', 'c@1.0.0'],
  })
  const error = (await world
    .install(lock, world.checkout(lock), 'linked')
    .catch((caught: unknown) => caught)) as PolderError
  expect([error.code, error.message]).toEqual(['ARCHIVE_REFUSED', 'b@1.0.0 has a file where its dependency c must be'])
})

test('an installation that fails leaves the one before it complete', async () => {
  const lock = await world.lock(SMALL)
  const checkout = world.checkout(lock)
  await world.install(lock, checkout, 'self-contained')
  const before = readState(checkout)
  const broken = await world.lock({
    ...SMALL,
    instances: { ...SMALL.instances, 'b@1.0.0': { links: { c: 'c@2.0.0' }, files: { node_modules: 'a file' } } },
  })
  await expect(world.install(broken, checkout, 'self-contained')).rejects.toMatchObject({ code: 'ARCHIVE_REFUSED' })
  expect(before).toBeDefined()
  expect(readState(checkout)).toEqual(before)
  walkInstalled(lock, checkout)
  expect(readdirSync(join(checkout, '.polder')).sort()).toEqual(['.gitignore', 'lock', 'state.json'])
})

const OTHER_DEVICE = '/dev/shm'
const hasOtherDevice = existsSync(OTHER_DEVICE) && statSync(OTHER_DEVICE).dev !== statSync(tmpdir()).dev

test.skipIf(!hasOtherDevice)(
  `onto another file system files are copied, with their modes and times${hasOtherDevice ? '' : ` (skipped: ${OTHER_DEVICE} is not another one)`}`,
  async () => {
    const lock = await world.lock(HARBOUR)
    const checkout = mkdtempSync(join(OTHER_DEVICE, 'polder-realise-'))
    try {
      for (const path of Object.keys(lock.npm.services)) mkdirSync(join(checkout, path), { recursive: true })
      writeFileSync(join(checkout, 'packages/tide/package.json'), '{}')
      const { plan, environmentPath, report } = await world.install(lock, checkout, 'self-contained')
      expect(report.files.linked).toBe(0)
      expect(report.files.copied).toBeGreaterThan(20)
      const copy = statSync(join(checkout, 'node_modules/tool-a/bin/tool.js'))
      expect([copy.mode & 0o777, copy.mtimeMs]).toEqual([0o555, Date.UTC(1985, 9, 26, 8, 15)])
      expect(await verifyCheckout({ store: world.store, checkout, plan, environmentPath })).toEqual([])
    } finally {
      rmSync(checkout, { recursive: true })
    }
  },
)

function absentIntegrity(id: string): Integrity {
  return `sha512-${Buffer.alloc(64, id).toString('base64')}` as Integrity
}
