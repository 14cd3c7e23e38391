import type { Gathered } from '@polder/gather'
import { type PinnedPackage, type PinRequest, readPinned, syncPins, type WantedRelease } from '@polder/index'
import type { BuildingPackage, PublishedVersions } from '@polder/index/build-requirements'
import { type Lock, parseLock } from '@polder/lock'
import {
  type AddedPackage,
  type Additions,
  compareText,
  type PackageId,
  parsePlatform,
  PolderError,
  splitPackageId,
} from '@polder/spec'
import type { Store } from '@polder/store'

import { requiredByBuilds } from './added-pins.ts'
import { buildingPackages } from './building-packages.ts'
import { commitPins, preparedCommit, registryPin } from './commit-requirements.ts'
import { lackingLine } from './lacking-files.ts'
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
 * Pins what the allowed install scripts are known to install while they run, and what commits are prepared with; and
 * warns of files that scripts will fetch and that are not pinned. What no lockfile has a hash of is trusted as the
 * registry has it, once.
 */
export async function pinBuildRequirements(
  gathered: Gathered,
  lock: Lock,
  { store, existing, offline }: Circumstances,
): Promise<BuildRequirements> {
  const building = await buildingPackages(store, lock)
  if (building.length === 0) return { packages: {}, pins: [], fetched: false, warnings: [] }
  const earlier = existing === null ? undefined : tryRequired(existing)
  const bringing = new Bringing(gathered, store, offline)
  try {
    const { wanted, warnings } = await wantedByBuilds(gathered, lock, { store, building, earlier, bringing })
    const requests = [...wanted.values()].map(({ request }) => request)
    const brought = await bringing.bring(requests)
    const packages: Record<PackageId, AddedPackage> = {}
    for (const [id, { neededBy, preparing }] of wanted) {
      const integrity = brought.get(id)?.integrity ?? earlier?.packages[id]?.integrity
      if (integrity === undefined) continue
      packages[id] = {
        integrity,
        ...(neededBy === undefined ? {} : { neededBy }),
        ...(preparing.length === 0 ? {} : { preparing: preparing.toSorted(compareText) }),
      }
    }
    const { fetched, failures } = bringing
    return { packages, pins: withIntegrity(requests, brought), fetched, warnings: [...warnings, ...failures] }
  } finally {
    await bringing.close()
  }
}

/** What is to be pinned for the scripts of these packages, and what they will lack all the same. */
async function wantedByBuilds(
  gathered: Gathered,
  lock: Lock,
  {
    store,
    building,
    earlier,
    bringing,
  }: {
    readonly store: Store
    readonly building: readonly BuildingPackage[]
    readonly earlier: Earlier | undefined
    readonly bringing: Bringing
  },
): Promise<{ readonly wanted: ReadonlyMap<PackageId, Wanted>; readonly warnings: readonly string[] }> {
  const { lackingFiles, requiredPackages } = await import('@polder/index/build-requirements')
  const platforms = gathered.config.platforms.map((name) => parsePlatform(name)).filter((one) => one !== undefined)
  const { files = {}, packages: byHand = {} } = gathered.additions ?? {}
  const before = earlier?.packages ?? {}
  const wanted = new Map<PackageId, Wanted>()
  for (const { id, neededBy } of requiredPackages(building, platforms)) {
    if (Object.hasOwn(lock.npm.packages, id) || Object.hasOwn(byHand, id)) continue
    wanted.set(id, { request: registryPin(id, before[id]?.integrity ?? null, neededBy), neededBy, preparing: [] })
  }
  const locked = new Set(Object.keys(lock.npm.packages).map((id) => splitPackageId(id).name))
  const { modules, napi = '1' } = process.versions
  const node = { modules, napi: Number(napi) }
  const warnings = lackingFiles(building, { files, platforms, node, locked }).map(lackingLine)
  for (const commit of building.flatMap(({ id }) => preparedCommit(store, id, lock) ?? [])) {
    const found = await commitPins(commit, {
      store,
      lock,
      before,
      samePlatforms: earlier?.platforms.join() === lock.policy.platforms.join(),
      platforms,
      published: bringing.published(),
      bring: (requests) => bringing.bring(requests),
    })
    warnings.push(...found.warnings)
    for (const request of found.requests) {
      const { preparing = [], ...rest } = wanted.get(request.id) ?? { request }
      wanted.set(request.id, { ...rest, preparing: [...preparing, commit.id] })
    }
  }
  return { wanted, warnings }
}

/** Something to pin for builds, and for whom. */
interface Wanted {
  readonly request: PinRequest
  readonly neededBy?: PackageId
  readonly preparing: readonly PackageId[]
}

/** Brings what the lock that is there pins for its builds. */
export async function bringBuildRequirements(
  gathered: Gathered,
  store: Store,
  output: Output,
): Promise<readonly WantedRelease[]> {
  const text = readLockText(gathered.root)
  const before = (text === null ? undefined : tryRequired(text)?.packages) ?? {}
  const requests = Object.entries(before).map(([key, { integrity, neededBy, preparing }]) => {
    const id = key as PackageId
    return registryPin(id, integrity, neededBy ?? preparing?.[0] ?? id)
  })
  const bringing = new Bringing(gathered, store, false)
  let brought: ReadonlyMap<PackageId, PinnedPackage>
  try {
    brought = await bringing.bring(requests)
  } finally {
    await bringing.close()
  }
  for (const warning of bringing.failures) output.note(`warning: ${warning}`)
  return withIntegrity(requests, brought)
}

/** Asks upstreams, if that is allowed, when there is something to ask them for. */
class Bringing {
  readonly failures: string[] = []
  fetched = false
  readonly #gathered: Gathered
  readonly #store: Store
  readonly #offline: boolean
  #published: Promise<PublishedVersions> | undefined

  constructor(gathered: Gathered, store: Store, offline: boolean) {
    this.#gathered = gathered
    this.#store = store
    this.#offline = offline
  }

  /** Undefined offline. */
  published(): PublishedVersions | undefined {
    if (this.#offline) return undefined
    return {
      newest: async (name, range) => {
        this.fetched = true
        this.#published ??= (async () => {
          const { openPublishedVersions } = await import('@polder/index/build-requirements')
          return openPublishedVersions(await npmConfigOf(this.#gathered)())
        })()
        return (await this.#published).newest(name, range)
      },
      close: () => this.close(),
    }
  }

  /** What is in the store then. */
  async bring(requests: readonly PinRequest[]): Promise<ReadonlyMap<PackageId, PinnedPackage>> {
    const { pinned, missing } = readPinned(this.#store, requests)
    if (missing.length === 0 || this.#offline) return pinned
    const { root } = this.#gathered
    const report = await syncPins(this.#store, requests, { root, npm: npmConfigOf(this.#gathered) })
    this.fetched = true
    for (const { message } of report.failures) {
      const warning = `what a build will ask for is not pinned: ${message}`
      if (!this.failures.includes(warning)) this.failures.push(warning)
    }
    return report.pinned
  }

  async close(): Promise<void> {
    // Whoever asked has seen why it could not be opened.
    await (await this.#published?.catch(() => undefined))?.close()
  }
}

function withIntegrity(
  requests: readonly PinRequest[],
  brought: ReadonlyMap<PackageId, PinnedPackage>,
): readonly WantedRelease[] {
  return requests.flatMap((request) => {
    const integrity = brought.get(request.id)?.integrity
    return integrity === undefined ? [] : [{ ...request, integrity }]
  })
}

/** Of the lock that is there. */
interface Earlier {
  readonly packages: Additions['packages']
  readonly platforms: readonly string[]
}

/** A lock that cannot be read pins nothing; most need not be read for this. */
function tryRequired(text: string): Earlier | undefined {
  if (!/ (?:neededBy|preparing):/.test(text)) return undefined
  try {
    const lock = parseLock(text, LOCK_FILE)
    return { packages: requiredByBuilds(lock), platforms: lock.policy.platforms }
  } catch (error) {
    if (error instanceof PolderError && error.code === 'LOCK_INVALID') return undefined
    throw error
  }
}
