import { execFileSync, spawnSync } from 'node:child_process'
import { existsSync, lstatSync, readlinkSync, realpathSync, renameSync, statSync } from 'node:fs'
import { basename, isAbsolute, join } from 'node:path'

import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'

import { walkFiles } from './files.ts'
import { ABSENT_ON_LINUX, HARBOUR } from './harbour.ts'
import { LAYOUTS, walkInstalled, World, type InstanceSpec, type LockSpec } from './world.ts'

let world: World
beforeAll(() => {
  world = new World()
})
afterAll(() => world.dispose())

describe.each(LAYOUTS)('in the %s layout', (layout) => {
  test('every edge of every service and instance leads where the lock says, and each instance is at one place', async () => {
    const { lock, checkout } = await installHarbour(layout)
    // packer's own edge to pigment is answered by what it bundles, which the walk would call wrong.
    const links = { ...lock.npm.instances['packer@1.0.0' as never]?.links } as Record<string, string>
    delete links['pigment']
    const walked = {
      ...lock,
      npm: {
        ...lock.npm,
        instances: { ...lock.npm.instances, ['packer@1.0.0' as never]: { package: 'packer@1.0.0', links } },
      },
    }
    const places = walkInstalled(walked, checkout, ABSENT_ON_LINUX)
    expect([...places.keys()].sort()).toEqual(
      // Nobody leads to hook@2 (a root that no service uses any more) on this path.
      [
        ...Object.keys(HARBOUR.instances).filter((id) => !ABSENT_ON_LINUX.has(id) && id !== '@port/hook@2.0.0'),
        'link:packages/tide',
      ].sort(),
    )
  })

  test('Node itself requires and imports a variant, a chain of variants, a peer context, an alias and a scoped package', async () => {
    const { checkout } = await installHarbour(layout)
    const office = join(checkout, 'services/office')
    const quay = join(checkout, 'services/quay')
    expect(requireChain(office, ['ink'])).toBe('ink@1.0.0')
    expect(requireChain(office, ['ink', 'pigment'])).toBe('pigment@1.0.0')
    expect(requireChain(office, ['ink', 'pigment', 'binder'])).toBe('binder@1.0.0')
    expect(requireChain(office, ['ink', 'pigment', 'binder', 'paper'])).toBe('paper@1.0.0')
    expect(requireChain(office, ['dialog', 'ink'])).toBe('ink@1.0.0')
    expect(requireChain(quay, ['dialog', 'ink'])).toBe('ink@2.0.0')
    expect(requireChain(quay, ['old-ink', 'pigment'])).toBe('pigment@1.0.0')
    expect(requireChain(quay, ['@port/crane', '@port/hook', '@port/crane'])).toBe('@port/crane@1.0.0')
    expect(requireChain(quay, ['loop', 'loop', 'loop'])).toBe('loop@1.0.0')
    expect(requireChain(join(checkout, 'services/office/desk'), ['ink'])).toBe('ink@2.0.0')
    expect(requireChain(join(checkout, 'services/office/desk'), ['dialog', 'ink'])).toBe('ink@1.0.0')
    const imported = run(['--input-type=module', '-e', "import ink from 'ink'; console.log(ink)"], quay)
    expect(imported).toBe('ink@2.0.0')
  })

  test('a package finds what it bundles, and its other links beside that', async () => {
    const { checkout } = await installHarbour(layout)
    const packer = realpathSync(join(checkout, 'node_modules/packer'))
    expect(run(['-p', "require('pigment/package.json').version"], packer)).toBe('9.9.9')
    expect(lstatSync(join(packer, 'node_modules/pigment')).isSymbolicLink()).toBe(false)
    expect(run(['-p', "require('binder')"], packer)).toBe('binder@1.0.0')
  })

  test('a third-party package finds the workspace package that is its peer', async () => {
    const { checkout } = await installHarbour(layout)
    const tide = realpathSync(join(checkout, 'packages/tide'))
    expect(requireChain(join(checkout, 'services/office'), ['gauge', '@harbour/tide'])).toBe(tide)
    expect(requireChain(join(checkout, 'services/office'), ['gauge', 'scale', 'gauge', '@harbour/tide'])).toBe(tide)
    expect(requireChain(join(checkout, 'services/quay'), ['gauge', 'scale', 'gauge'])).toBe('gauge@2.0.0')
  })

  test('an optional package of another platform is left out with what only it needs', async () => {
    const { checkout } = await installHarbour(layout)
    expect(existsSync(join(checkout, 'node_modules/watch-darwin'))).toBe(false)
    expect(existsSync(join(checkout, 'node_modules/fs-events'))).toBe(false)
  })

  test('the command that two packages offer belongs, in each service, to the package that the service declares', async () => {
    const { checkout } = await installHarbour(layout)
    const output = (path: string): string =>
      execFileSync(join(checkout, path), { encoding: 'utf8', env: { PATH: nodePath() } }).trim()
    expect(output('node_modules/.bin/tool')).toBe('a')
    expect(output('services/office/node_modules/.bin/tool')).toBe('b')
    expect(output('node_modules/.bin/other')).toBe('b')
    expect(existsSync(join(checkout, 'services/quay/node_modules/.bin'))).toBe(false)
    expect(readlinkSync(join(checkout, 'node_modules/.bin/tide'))).toBe('../@harbour/tide/cli.js')
  })

  test('a random lock resolves as it says', async () => {
    await fc.assert(
      fc.asyncProperty(randomLock, async (spec) => {
        const lock = await world.lock(spec)
        const checkout = world.checkout(lock)
        await world.install(lock, checkout, layout)
        walkInstalled(lock, checkout)
      }),
      { numRuns: 60 },
    )
  })
})

test('a linked checkout holds nothing but links where nothing reaches a workspace package', async () => {
  const lock = await world.lock(withoutWorkspace())
  const checkout = world.checkout(lock)
  await world.install(lock, checkout, 'linked')
  expect(regularFiles(join(checkout, 'node_modules'))).toEqual(['.polder.json'])
  const second = world.checkout(lock)
  const { report } = await world.install(lock, second, 'linked')
  expect(report.files).toEqual({ linked: 0, copied: 0 })
  expect(regularFiles(join(second, 'services/office/node_modules'))).toEqual(['.polder.json'])
  expect(realpathSync(join(second, 'node_modules/ink'))).toBe(realpathSync(join(checkout, 'node_modules/ink')))
})

test('a self-contained checkout works after it was moved and the store is gone', async () => {
  const other = new World()
  try {
    const lock = await other.lock(HARBOUR)
    const checkout = other.checkout(lock)
    await other.install(lock, checkout, 'self-contained')
    const moved = join(other.directory, 'moved')
    renameSync(checkout, moved)
    renameSync(other.store.home, `${other.store.home}-gone`)
    expect(requireChain(join(moved, 'services/office'), ['ink', 'pigment', 'binder'])).toBe('binder@1.0.0')
    for (const link of symbolicLinks(moved)) expect(isAbsolute(readlinkSync(link)), link).toBe(false)
  } finally {
    other.dispose()
  }
})

test("a package's files are the store's own, read-only", async () => {
  const { checkout } = await installHarbour('linked')
  const file = statSync(join(checkout, 'node_modules/ink/lib/index.js'))
  expect(file.nlink).toBeGreaterThan(1)
  expect(file.mode & 0o777).toBe(0o444)
})

async function installHarbour(
  layout: (typeof LAYOUTS)[number],
): Promise<{ lock: Awaited<ReturnType<World['lock']>>; checkout: string }> {
  const lock = await world.lock(HARBOUR)
  const checkout = world.checkout(lock)
  await world.install(lock, checkout, layout)
  return { lock, checkout }
}

function withoutWorkspace(): LockSpec {
  const { instances, services, root } = HARBOUR
  const local = new Set(['gauge@1.0.0', 'scale@1.0.0'])
  return {
    services: Object.fromEntries(
      Object.entries(services).map(([path, { uses = {} }]) => [
        path,
        {
          uses: Object.fromEntries(
            Object.entries(uses).filter(([, use]) => !local.has(use) && !use.startsWith('link:')),
          ),
        },
      ]),
    ),
    instances: Object.fromEntries(Object.entries(instances).filter(([id]) => !local.has(id))),
    root: root.filter((id) => !local.has(id)),
  }
}

/** Requires the first from a directory, the next from where that one really is, and so on; prints the last. */
function requireChain(from: string, names: readonly string[]): string {
  const script = `
    const { createRequire } = require('node:module')
    let file = ${JSON.stringify(join(from, 'index.js'))}
    for (const name of ${JSON.stringify(names)}) file = createRequire(file).resolve(name)
    console.log(require(file))`
  return run(['-e', script], from)
}

function run(args: readonly string[], cwd: string): string {
  const { stdout, stderr, status } = spawnSync(process.execPath, args, {
    cwd,
    encoding: 'utf8',
    env: { PATH: nodePath() },
  })
  if (status !== 0) throw new Error(stderr)
  return stdout.trim()
}

function nodePath(): string {
  return `${join(process.execPath, '..')}:/usr/bin:/bin`
}

function regularFiles(directory: string): string[] {
  return walkFiles(directory).flatMap(({ path, kind }) => (kind === 'file' ? [basename(path)] : []))
}

function symbolicLinks(directory: string): string[] {
  return walkFiles(directory).flatMap(({ path, kind }) => (kind === 'link' ? [path] : []))
}

const NAMES = ['ash', 'birch', '@wood/cedar', '@wood/elm']
const IDS = NAMES.flatMap((name) => [`${name}@1.0.0`, `${name}@2.0.0`, `${name}@2.0.0(x@1.0.0)`])
const SERVICES = ['.', 'packages/lib', 'services/a', 'services/a/sub', 'services/b']
const WORKSPACE = { '@wood/lib': 'link:packages/lib' }

/** Names, each at several versions and contexts, linked at random, cycles and links to their own name included. */
const randomLock: fc.Arbitrary<LockSpec> = fc
  .record({
    edges: fc.array(fc.tuple(fc.nat(), fc.nat()), { maxLength: 24 }),
    uses: fc.array(fc.tuple(fc.nat(), fc.nat()), { minLength: 1, maxLength: 12 }),
    local: fc.array(fc.nat(), { maxLength: 2 }),
    roots: fc.array(fc.nat(), { minLength: NAMES.length, maxLength: NAMES.length }),
  })
  .map(({ edges, uses, local, roots }) => {
    const pick = (list: readonly string[], number: number): string => list[number % list.length] ?? ''
    const nameOf = (id: string): string => id.slice(0, id.indexOf('@', 1))
    const links = new Map<string, Record<string, string>>(IDS.map((id) => [id, {}]))
    for (const [from, to] of edges) (links.get(pick(IDS, from)) ?? {})[nameOf(pick(IDS, to))] = pick(IDS, to)
    for (const from of local) (links.get(pick(IDS, from)) ?? {})['@wood/lib'] = 'link:packages/lib'
    const inCheckout = new Set<string>()
    for (let size = -1; size !== inCheckout.size;) {
      size = inCheckout.size
      for (const [id, targets] of links)
        if (Object.values(targets).some((to) => to.startsWith('link:') || inCheckout.has(to))) inCheckout.add(id)
    }
    const root = NAMES.map((name, index) =>
      pick(
        IDS.filter((id) => nameOf(id) === name),
        roots[index] ?? 0,
      ),
    )
    const services: Record<string, { uses: Record<string, string> }> = Object.fromEntries(
      SERVICES.map((path) => [path, { uses: {} }]),
    )
    for (const [service, to] of uses) {
      const [path, id] = [pick(SERVICES, service), pick(IDS, to)]
      // The root is chosen so that a service at the top finds there what it needs.
      const use = path === '.' ? (root.find((other) => nameOf(other) === nameOf(id)) ?? id) : id
      ;(services[path] ?? { uses: {} }).uses[nameOf(id)] = use
    }
    const instances: Record<string, InstanceSpec> = Object.fromEntries(
      [...links].map(([id, targets]) => [
        id,
        { links: targets, ...(inCheckout.has(id) ? { inCheckout: true as const } : {}) },
      ]),
    )
    return { services, instances, root, workspace: WORKSPACE }
  })
