import type { Gathered, Pin, Target } from '@polder/gather'
import { type PackageId, patchedId, unpatchedId } from '@polder/spec'
import { describe, expect, test } from 'vitest'

import { explainSplit } from '../src/explain.ts'
import { flatten } from '../src/flatten.ts'
import { monorepo, type Monorepo, type PackageSpec, type ServiceSpec } from './support/monorepo.ts'

const HASHES = { a: 'a'.repeat(64), b: 'b'.repeat(64) }
const PATCHED = patchedId('tide@1.0.0' as PackageId, HASHES.a)
const OTHERWISE = patchedId('tide@1.0.0' as PackageId, HASHES.b)

/**
 * Services whose own lockfiles patch tide@1.0.0, each with one of the patches; `shared` are packages that several of
 * the lockfiles have.
 */
function patchedMonorepo(
  services: Readonly<Record<string, ServiceSpec>>,
  packages: Readonly<Record<string, PackageSpec>>,
  patches: Readonly<Record<string, 'a' | 'b'>>,
  shared: Readonly<Record<string, readonly string[]>> = {},
): Monorepo {
  const { gathered, manifests } = monorepo(services, packages)
  const lockfileOf = (service: string): string => `${service}/package-lock.json`
  const pins = new Map<PackageId, Pin>()
  const all = new Map(manifests)
  for (const [id, pin] of gathered.pins) {
    const users = shared[id] ?? Object.keys(services)
    pins.set(id, { ...pin, lockfiles: users.map(lockfileOf) })
  }
  const tide = pins.get('tide@1.0.0' as PackageId)
  if (tide === undefined) throw new Error('there is no tide@1.0.0')
  const patching = Object.keys(patches)
  pins.set(tide.id, {
    ...tide,
    lockfiles: tide.lockfiles.filter((lockfile) => !patching.map(lockfileOf).includes(lockfile)),
  })
  for (const letter of ['a', 'b'] as const) {
    const lockfiles = patching.filter((service) => patches[service] === letter).map(lockfileOf)
    if (lockfiles.length === 0) continue
    const id = patchedId(tide.id, HASHES[letter])
    pins.set(id, { ...tide, id, lockfiles, patch: { path: `patches/${letter}.patch`, hash: HASHES[letter] } })
    all.set(id, manifests.get(tide.id) as never)
  }
  /** What a lockfile has for a target: its own patched one. */
  const inLockfiles = (target: { package: PackageId }, lockfiles: readonly string[]): { package: PackageId }[] =>
    target.package !== tide.id
      ? [target]
      : [...pins.values()]
          .filter((pin) => unpatchedId(pin.id) === tide.id && pin.lockfiles.some((one) => lockfiles.includes(one)))
          .map(({ id }) => ({ package: id }))
  for (const [id, pin] of pins) {
    const edges = pin.edges.map(({ name, targets }) => ({
      name,
      targets: targets.flatMap((target): Target[] =>
        'package' in target ? inLockfiles(target, pin.lockfiles) : [target],
      ),
    }))
    pins.set(id, { ...pin, edges })
  }
  const locked: Gathered = {
    ...gathered,
    pins,
    services: gathered.services.map((service) => ({
      ...service,
      requirements: service.requirements.map((requirement) => ({
        ...requirement,
        locked:
          requirement.locked !== null && 'package' in requirement.locked
            ? (inLockfiles(requirement.locked, [service.lockfile])[0] ?? null)
            : requirement.locked,
      })),
    })),
  }
  return { gathered: locked, manifests: all }
}

const uses = (result: ReturnType<typeof flatten>, service: string): Record<string, string | undefined> =>
  Object.fromEntries(
    Object.entries(result.lock.npm.services[service]?.dependencies ?? {}).map(([name, { use }]) => [name, use]),
  )

const run = ({ gathered, manifests }: Monorepo): ReturnType<typeof flatten> => flatten(gathered, manifests)

describe('a patched package', () => {
  test('is kept by those who patch it, and is for nobody else', () => {
    const result = run(
      patchedMonorepo(
        { web: { dependencies: { tide: '^1.0.0' } }, tools: { dependencies: { tide: '^1.0.0' } } },
        { 'tide@1.0.0': {} },
        { web: 'a' },
      ),
    )
    expect([uses(result, 'web'), uses(result, 'tools')]).toEqual([{ tide: PATCHED }, { tide: 'tide@1.0.0' }])
    expect(result.lock.npm.splits).toEqual({
      tide: {
        proven: true,
        versions: {
          '1.0.0': { owner: 'tools', owners: 1, range: '^1.0.0' },
          '1.0.0(patch=aaaaaaaaaaaa)': { owner: 'web', owners: 1, range: '^1.0.0, patched' },
        },
      },
    })
    expect(explainSplit(result.lock.npm, 'tide')?.remedies).toEqual([
      'patch tide 1.0.0 for tools as the others do, and 1.0.0 goes',
      'patch tide 1.0.0 for web as the others do, and 1.0.0(patch=aaaaaaaaaaaa) goes',
    ])
    expect(result.lock.npm.packages[PATCHED]).toMatchObject({ patch: 'patches/a.patch', patchHash: HASHES.a })
    expect(result.lock.npm.instances[PATCHED as never]).toMatchObject({ package: PATCHED })
    expect(result.report.sharedPatches).toEqual([])
  })

  test('is one package for all who patch it in the same way, and two for two patches', () => {
    const services = { one: { dependencies: { tide: '^1.0.0' } }, two: { dependencies: { tide: '^1.0.0' } } }
    const same = run(patchedMonorepo(services, { 'tide@1.0.0': {} }, { one: 'a', two: 'a' }))
    expect(Object.keys(same.lock.npm.packages)).toEqual([PATCHED])
    const differently = run(patchedMonorepo(services, { 'tide@1.0.0': {} }, { one: 'a', two: 'b' }))
    expect(Object.keys(differently.lock.npm.packages)).toEqual([PATCHED, OTHERWISE])
    expect(differently.lock.npm.splits['tide']).toMatchObject({ proven: true })
  })

  test('is not given up for a newer version, nor is another version given up for it', () => {
    const result = run(
      patchedMonorepo(
        {
          web: { dependencies: { tide: '^1.0.0' }, locked: { tide: '1.0.0' } },
          tools: { dependencies: { tide: '^1.0.0' } },
        },
        { 'tide@1.0.0': {}, 'tide@1.1.0': {} },
        { web: 'a' },
      ),
    )
    expect([uses(result, 'web'), uses(result, 'tools')]).toEqual([{ tide: PATCHED }, { tide: 'tide@1.1.0' }])
  })

  test('may take the place of another version in the workspace that patches it', () => {
    const result = run(
      patchedMonorepo(
        { web: { dependencies: { tide: '1.0.0', user: '^1.0.0' }, locked: { tide: '1.0.0' } } },
        {
          'tide@1.0.0': {},
          'tide@1.1.0': {},
          'user@1.0.0': { dependencies: { tide: '^1.0.0' }, locked: { tide: '1.1.0' } },
        },
        { web: 'a' },
      ),
    )
    expect(Object.keys(result.lock.npm.packages)).toEqual([PATCHED, 'user@1.0.0'])
  })

  test('is what a package shared by two lockfiles gets, and that is reported', () => {
    const result = run(
      patchedMonorepo(
        { web: { dependencies: { user: '^1.0.0' } }, tools: { dependencies: { user: '^1.0.0' } } },
        { 'tide@1.0.0': {}, 'user@1.0.0': { dependencies: { tide: '^1.0.0' } } },
        { web: 'a' },
      ),
    )
    expect(Object.keys(result.lock.npm.packages)).toEqual([PATCHED, 'user@1.0.0'])
    expect(result.report.sharedPatches).toEqual([
      { owner: 'user@1.0.0', uses: PATCHED, unpatchedIn: ['tools/package-lock.json'] },
    ])
  })

  test('is refused where two patches meet in one package', () => {
    const repository = patchedMonorepo(
      { web: { dependencies: { user: '^1.0.0' } }, tools: { dependencies: { user: '^1.0.0' } } },
      { 'tide@1.0.0': {}, 'user@1.0.0': { dependencies: { tide: '^1.0.0' } } },
      { web: 'a', tools: 'b' },
    )
    expect(() => run(repository)).toThrow(
      expect.objectContaining({
        code: 'PIN_CONFLICT',
        message:
          'user@1.0.0 uses tide@1.0.0, which is patched in two ways: patches/a.patch (web/package-lock.json) and patches/b.patch (tools/package-lock.json)',
      }),
    )
  })

  test('as a peer is seen by each user as that user has it', () => {
    const result = run(
      patchedMonorepo(
        {
          web: { dependencies: { tide: '^1.0.0', view: '^1.0.0' } },
          tools: { dependencies: { tide: '^1.0.0', view: '^1.0.0' } },
        },
        { 'tide@1.0.0': {}, 'view@1.0.0': { peerDependencies: { tide: '^1.0.0' } } },
        { web: 'a' },
      ),
    )
    const sees = (service: string): string | undefined => {
      const instance = uses(result, service)['view']
      return result.lock.npm.instances[instance as never]?.links?.['tide']
    }
    expect([sees('web'), sees('tools')]).toEqual([PATCHED, 'tide@1.0.0'])
    expect(uses(result, 'web')['view']).toBe(`view@1.0.0(${PATCHED})`)
    expect(result.report.sharedPatches).toEqual([])
  })
})
