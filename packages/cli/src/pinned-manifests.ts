import { homedir } from 'node:os'

import type { PinnedManifest } from '@polder/flatten'
import type { Gathered } from '@polder/gather'
import { readNpmConfig, readPinned, syncPins, type PinRequest, type SyncReport } from '@polder/index'
import { matchesPlatform, parsePlatform, PolderError, type PackageId, type Platform } from '@polder/spec'
import { openStore, storeHome } from '@polder/store'

import { bytes, count, type Output } from './output.ts'
import { startProgress } from './progress.ts'

/** The manifest of every pin that some locked platform needs, fetched where the index lacks it. */
export async function pinnedManifests(
  gathered: Gathered,
  output: Output,
  offline: boolean,
): Promise<{ manifests: ReadonlyMap<PackageId, PinnedManifest>; sync: SyncReport | null }> {
  const store = openStore(storeHome(process.env))
  const platforms = gathered.config.platforms
    .map((name) => parsePlatform(name))
    .filter((platform) => platform !== undefined)
  const wanted = pinRequests(gathered, platforms)
  const known = readPinned(store, wanted)
  let pinned: ReadonlyMap<PackageId, PinnedManifest> = known.pinned
  let sync: SyncReport | null = null
  if (known.missing.length > 0) {
    if (offline) throw missingPins(known.missing)
    const progress = startProgress(output, 'Fetching')
    try {
      sync = await syncPins(store, wanted, {
        root: gathered.root,
        npm: () => readNpmConfig({ cwd: gathered.root, env: process.env, home: homedir() }),
        allowWeakIntegrity: gathered.config.index.allowWeakIntegrity,
        onProgress: ({ done, total, bytes: received }) => {
          progress.update(done, total, bytes(received))
        },
      })
    } finally {
      progress.end()
    }
    for (const warning of sync.warnings) output.note(`warning: ${warning}`)
    if (sync.failures.length > 0) throw syncFailure(sync.failures)
    pinned = sync.pinned
  }
  // Lockfiles of yarn 1 don't say which platform a package is for: its manifest does.
  const fits = ([id, { manifest }]: readonly [PackageId, PinnedManifest]): boolean =>
    gathered.pins.get(id)?.optional !== true || platforms.some((platform) => matchesPlatform(manifest, platform))
  return { manifests: new Map([...pinned].filter(fits)), sync }
}

/** Every pin but the optional ones that no locked platform can use. */
function pinRequests(gathered: Gathered, platforms: readonly Platform[]): PinRequest[] {
  const neededBy = usersOfPins(gathered)
  return [...gathered.pins.values()]
    .filter((pin) => !pin.optional || platforms.some((platform) => matchesPlatform(pin, platform)))
    .map(({ id, name, reference, integrity, hashFromRegistry = false, source, optional }) => ({
      id,
      name,
      reference,
      integrity,
      hashFromRegistry,
      source,
      optional,
      neededBy: neededBy(id),
    }))
}

/** Who asks for a pin, for the report of one that cannot be had: services first, then other pins. Made when asked. */
function usersOfPins(gathered: Gathered): (id: PackageId) => readonly string[] {
  const users = new Map<PackageId, string[]>()
  const add = (id: PackageId, user: string): void => {
    users.set(id, [...(users.get(id) ?? []), user])
  }
  for (const { path, requirements } of gathered.services) {
    for (const { locked } of requirements) if (locked !== null && 'package' in locked) add(locked.package, path)
  }
  for (const { id, edges } of gathered.pins.values()) {
    for (const { targets } of edges) for (const target of targets) if ('package' in target) add(target.package, id)
  }
  return (id) => users.get(id) ?? []
}

function missingPins(missing: readonly PinRequest[]): PolderError {
  const others = missing.map(
    ({ id, neededBy }) =>
      new PolderError('ARTIFACT_MISSING', `${id}, needed by ${neededBy[0] ?? 'nobody'}`, { spec: id }),
  )
  return new PolderError('ARTIFACT_MISSING', `the index lacks ${count(missing.length, 'pin')}`, {
    others,
    hint: 'run `polder index sync` where there is a network',
  })
}

function syncFailure(failures: readonly PolderError[]): PolderError {
  const [first, ...more] = failures
  if (first !== undefined && more.length === 0) return first
  return new PolderError(first?.code ?? 'FETCH_FAILED', `${count(failures.length, 'pin')} could not be fetched`, {
    others: failures,
    hint: 'what was fetched is kept: mend the cause and run the same command again',
  })
}
