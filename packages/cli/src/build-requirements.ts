import type { Gathered } from '@polder/gather'
import { type PinRequest, readPinned, syncPins, type WantedRelease } from '@polder/index'
import type { BuildingPackage, RequiredPackage } from '@polder/index/build-requirements'
import { type Lock, type LockedPackage, parseLock } from '@polder/lock'
import {
  type AddedPackage,
  type Additions,
  type Integrity,
  type PackageId,
  parsePlatform,
  PolderError,
  splitPackageId,
} from '@polder/spec'
import { RangeCache } from '@polder/spec/semver-ranges'
import type { Store } from '@polder/store'

import { requiredByBuilds } from './added-pins.ts'
import { LOCK_FILE, readLockText } from './lock-file.ts'
import type { Output } from './output.ts'
import { npmConfigOf } from './upstream-config.ts'

export interface BuildRequirements {
  /** For `index.packages` of the lock. */
  readonly packages: Additions['packages']
  /** What is in the store of them, for what registries say of it. */
  readonly pins: readonly WantedRelease[]
  /** An upstream was asked. */
  readonly fetched: boolean
  /** What builds will lack. */
  readonly warnings: readonly string[]
}

interface Circumstances {
  readonly store: Store
  /** The text of the lock that is there: what it pins stays what it is. */
  readonly existing: string | null
  readonly offline: boolean
}

/**
 * Pins what the allowed install scripts are known to install while they run, and warns of files that they will fetch
 * and that are not pinned. What no lockfile has a hash of is trusted as the registry has it, once.
 */
export async function pinBuildRequirements(
  gathered: Gathered,
  lock: Lock,
  { store, existing, offline }: Circumstances,
): Promise<BuildRequirements> {
  const building = buildingPackages(lock)
  if (building.length === 0) return { packages: {}, pins: [], fetched: false, warnings: [] }
  const { lackingFiles, requiredPackages } = await import('@polder/index/build-requirements')
  const platforms = gathered.config.platforms.map((name) => parsePlatform(name)).filter((one) => one !== undefined)
  const { files = {}, packages: byHand = {} } = gathered.additions ?? {}
  const wanted = requiredPackages(building, platforms).filter(
    ({ id }) => !Object.hasOwn(lock.npm.packages, id) && !Object.hasOwn(byHand, id),
  )
  const before = existing === null ? {} : tryRequired(existing)
  const { pins, fetched, failed } = await bring(gathered, store, wanted, before, offline)
  const warnings = lackingFiles(building, files).map(
    ({ id, name }) =>
      `${id} fetches a file when it is built, and none is pinned that it would ask for: \`polder builds ${name} --learn\` finds out which, \`polder index add URL --sha512 …\` pins it`,
  )
  const packages: Record<PackageId, AddedPackage> = {}
  for (const { id, neededBy } of wanted) {
    const integrity = pins.find((pin) => pin.id === id)?.integrity ?? before[id]?.integrity
    if (integrity !== undefined) packages[id] = { integrity, neededBy }
  }
  return { packages, pins, fetched, warnings: [...warnings, ...failed] }
}

/** Brings what the lock that is there pins for its builds. */
export async function bringBuildRequirements(
  gathered: Gathered,
  store: Store,
  output: Output,
): Promise<readonly WantedRelease[]> {
  const text = readLockText(gathered.root)
  const before = text === null ? {} : tryRequired(text)
  const wanted = Object.entries(before).map(([key, { neededBy }]): RequiredPackage => {
    const id = key as PackageId
    const { name, reference: version } = splitPackageId(id)
    return { id, name, version, neededBy: neededBy ?? id }
  })
  const { pins, failed } = await bring(gathered, store, wanted, before, false)
  for (const warning of failed) output.note(`warning: ${warning}`)
  return pins
}

async function bring(
  gathered: Gathered,
  store: Store,
  wanted: readonly RequiredPackage[],
  before: Additions['packages'],
  offline: boolean,
): Promise<Pick<BuildRequirements, 'pins' | 'fetched'> & { readonly failed: readonly string[] }> {
  const requests = wanted.map(({ id, name, version, neededBy }): PinRequest => {
    const integrity: Integrity | null = before[id]?.integrity ?? null
    const source = { kind: 'registry' } as const
    return {
      id,
      name,
      reference: version,
      integrity,
      hashFromRegistry: true,
      source,
      optional: true,
      neededBy: [neededBy],
    }
  })
  const { pinned: known, missing } = readPinned(store, requests)
  let pinned = known
  let failed: readonly string[] = []
  if (missing.length > 0 && !offline) {
    const report = await syncPins(store, requests, { root: gathered.root, npm: npmConfigOf(gathered) })
    pinned = report.pinned
    failed = report.failures.map(({ message }) => `what a build will ask for is not pinned: ${message}`)
  }
  const pins = requests.flatMap((request) => {
    const integrity = pinned.get(request.id)?.integrity
    return integrity === undefined ? [] : [{ ...request, integrity }]
  })
  return { pins, fetched: missing.length > 0 && !offline, failed }
}

/** Those whose scripts are allowed. */
function buildingPackages(lock: Lock): readonly BuildingPackage[] {
  const { allow = {} } = lock.policy.builds ?? {}
  const ranges = new RangeCache()
  return (Object.entries(lock.npm.packages) as [PackageId, LockedPackage][]).flatMap(([id, pkg]) => {
    const { name, reference } = splitPackageId(id)
    const version = pkg.version ?? reference
    const range = Object.hasOwn(allow, name) ? allow[name] : undefined
    if (pkg.needsBuild !== true || range === undefined) return []
    if (range !== '*' && !ranges.satisfies(version, range)) return []
    return [{ id, name, version, optionalDependencies: pkg.optionalDependencies ?? {} }]
  })
}

/** A lock that cannot be read pins nothing; most need not be read for this. */
function tryRequired(text: string): Additions['packages'] {
  if (!text.includes('neededBy: ')) return {}
  try {
    return requiredByBuilds(parseLock(text, LOCK_FILE))
  } catch (error) {
    if (error instanceof PolderError && error.code === 'LOCK_INVALID') return {}
    throw error
  }
}
