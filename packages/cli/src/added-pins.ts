import { join } from 'node:path'

import type { Gathered, GatheredService } from '@polder/gather'
import type { Lock } from '@polder/lock'
import { type AddedPackage, type Additions, type PackageId, packageId, PolderError } from '@polder/spec'
import type { Store } from '@polder/store'

import { count, type Output } from './output.ts'
import { npmConfigOf } from './upstream-config.ts'

/**
 * The lock with the pins that no lockfile has.
 * @param required what install scripts want; what the lock has of that if not given
 */
export function withAdditions(
  lock: Lock,
  { packages, files }: Additions = { packages: {}, files: {} },
  required: Additions['packages'] = requiredByBuilds(lock),
): Lock {
  const { packages: _, files: __, ...rest } = lock.index ?? {}
  const all: Record<PackageId, AddedPackage> = { ...required, ...packages }
  // A pin by hand takes the place of another, for all who want it.
  for (const id of Object.keys(packages) as PackageId[]) {
    const { preparing } = required[id] ?? {}
    if (preparing !== undefined) all[id] = { ...packages[id], preparing } as AddedPackage
  }
  const index = {
    ...rest,
    ...(Object.keys(all).length === 0 ? {} : { packages: all }),
    ...(Object.keys(files).length === 0 ? {} : { files }),
  }
  const { index: ___, ...without } = lock
  return Object.keys(index).length === 0 ? without : { ...without, index }
}

/** The pins that are there because an install script asks for them, or is to find them beside it. */
export function requiredByBuilds({ index }: Lock): Additions['packages'] {
  return Object.fromEntries(
    Object.entries(index?.packages ?? {}).filter(
      ([, { neededBy, preparing }]) => neededBy !== undefined || preparing !== undefined,
    ),
  )
}

/**
 * Brings what was pinned by hand and the store lacks.
 * @returns how many came, and their bytes
 * @throws PolderError what could not be had: all of it
 */
export async function bringAdditions(
  gathered: Gathered,
  store: Store,
  output: Output,
  offline: boolean,
): Promise<{ readonly fetched: number; readonly bytes: number }> {
  const { additions } = gathered
  if (additions === undefined) return { fetched: 0, bytes: 0 }
  const { syncAdditions } = await import('@polder/index/sync-additions')
  const { fetched, bytes, failures } = await syncAdditions(store, additions, {
    root: gathered.root,
    npm: offline ? null : npmConfigOf(gathered, output),
    pack: async (id) => {
      const service = gathered.services.find((candidate) => idOf(candidate) === id)
      return service === undefined ? undefined : packService(gathered, service)
    },
  })
  const [first, ...others] = failures
  if (first !== undefined && others.length === 0) throw first
  if (first !== undefined) {
    throw new PolderError(first.code, `${count(failures.length, 'pin')} of polder.pins.yaml could not be had`, {
      others: failures,
      hint: 'what came is kept: mend the cause and run the same command again',
    })
  }
  if (fetched > 0) output.note(`polder: ${count(fetched, 'pin')} of polder.pins.yaml brought`)
  return { fetched, bytes }
}

/** `name@version` of a workspace package; undefined if it lacks either. */
export function idOf({ manifest: { name, version } }: GatheredService): PackageId | undefined {
  return name === undefined || version === undefined ? undefined : packageId(name, version)
}

/** The tarball of a workspace package, with the versions that its dependencies stand for. */
export async function packService(gathered: Gathered, service: GatheredService): Promise<Buffer> {
  const { packWorkspace } = await import('@polder/index/pack')
  const byPath = new Map(gathered.services.map((one) => [one.path, one]))
  const requirements = new Map(service.requirements.map((requirement) => [requirement.name, requirement]))
  return packWorkspace({
    directory: join(gathered.root, service.path),
    path: service.path === '.' ? 'package.json' : `${service.path}/package.json`,
    resolve: (name) => {
      const requirement = requirements.get(name)
      if (requirement === undefined || requirement.locked === null) return undefined
      const { locked, range } = requirement
      if ('package' in locked) {
        const pin = gathered.pins.get(locked.package)
        return pin === undefined ? undefined : { name: pin.name, version: pin.reference, range }
      }
      const target = byPath.get(locked.workspace)?.manifest
      return { name: target?.name ?? name, version: target?.version, range }
    },
  })
}
