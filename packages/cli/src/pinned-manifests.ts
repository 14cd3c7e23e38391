import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

import type { PinnedManifest } from '@polder/flatten'
import type { Gathered, Pin } from '@polder/gather'
import { adoptHashes, fetchPins, isWeak, readPinned, type PinRequest, type SyncReport } from '@polder/index'
import type { Lock } from '@polder/lock'
import {
  currentPlatform,
  type Integrity,
  matchesPlatform,
  parsePlatform,
  PolderError,
  type PackageId,
  type Platform,
  unpatchedId,
} from '@polder/spec'
import { openStore, readArtifact, storeHome, type Store } from '@polder/store'

import { LOCK_FILE, readLockText } from './lock-file.ts'
import { bytes, count, type Output } from './output.ts'
import { startProgress } from './progress.ts'
import { npmConfigOf } from './upstream-config.ts'

export interface PinnedManifests {
  readonly store: Store
  readonly manifests: ReadonlyMap<PackageId, PinnedManifest>
  /** What was asked for, each with the sha512 that the store knows it by. */
  readonly pins: readonly (PinRequest & { readonly integrity: Integrity })[]
  /** Null if nothing was missing, so that nobody was asked. */
  readonly sync: SyncReport | null
  /** Resolves when what was fetched is on the disk: has to be waited for, and until then no artifact can be read. */
  readonly durable: Promise<void>
}

/** The manifest of every pin that some locked platform needs, fetched where the index lacks it. */
export async function pinnedManifests(
  gathered: Gathered,
  output: Output,
  offline: boolean,
  whileFetching?: (store: Store, pins: readonly PinRequest[]) => Promise<void>,
): Promise<PinnedManifests> {
  const store = openStore(storeHome(process.env))
  const platforms = platformsOf(gathered)
  const wanted = pinRequests(gathered, platforms)
  let known = readPinned(store, wanted)
  if (known.missing.some(isWeak) && (await adoptLockedHashes(store, gathered, wanted)))
    known = readPinned(store, wanted)
  let pinned: ReadonlyMap<PackageId, PinnedManifest> = known.pinned
  let sync: SyncReport | null = null
  let durable = Promise.resolve()
  if (known.missing.length > 0) {
    if (offline) throw missingPins(known.missing)
    const progress = startProgress(output, 'Fetching')
    const platform = currentPlatform()
    try {
      const { missing } = known
      const fetched = await fetchPins(store, wanted, {
        root: gathered.root,
        npm: npmConfigOf(gathered, output),
        allowWeakIntegrity: gathered.config.index.allowWeakIntegrity,
        ...(whileFetching === undefined ? {} : { first: () => whileFetching(store, missing) }),
        unpack: (manifest) => matchesPlatform(manifest, platform),
        onProgress: ({ done, total, bytes: received }) => {
          progress.update(done, total, bytes(received))
        },
      })
      sync = fetched.report
      durable = fetched.durable
    } finally {
      progress.end()
    }
    for (const warning of sync.warnings) output.note(`warning: ${warning}`)
    if (sync.failures.length > 0) {
      await durable
      throw syncFailure(sync.failures)
    }
    pinned = sync.pinned
  }
  // Lockfiles of yarn 1 don't say which platform a package is for: its manifest does.
  const fits = ([id, { manifest }]: readonly [PackageId, PinnedManifest]): boolean =>
    gathered.pins.get(id)?.optional !== true || platforms.some((platform) => matchesPlatform(manifest, platform))
  if ([...gathered.pins.values()].some(({ patch }) => patch !== undefined)) await durable
  const manifests = await withPatches(store, gathered, pinned)
  const pins = wanted.flatMap((pin) => {
    const integrity = pinned.get(pin.id)?.integrity
    return integrity === undefined ? [] : [{ ...pin, integrity }]
  })
  return { store, manifests: new Map([...manifests].filter(fits)), pins, sync, durable }
}

/**
 * What `polder.lock` says of pins of which a lockfile says too little, as long as that lockfile is the one it was made of.
 * @returns true if the store knows more now
 */
async function adoptLockedHashes(store: Store, gathered: Gathered, pins: readonly PinRequest[]): Promise<boolean> {
  const text = readLockText(gathered.root)
  if (text === null) return false
  const { parseLock } = await import('@polder/lock')
  let lock: Lock
  try {
    lock = parseLock(text, LOCK_FILE)
  } catch (error) {
    // Whoever locks writes it anew.
    if (error instanceof PolderError && error.code === 'LOCK_INVALID') return false
    throw error
  }
  const unchanged = new Set(
    gathered.inputs.filter(({ path, digest }) => lock.inputs[path] === digest).map(({ path }) => path),
  )
  const adopted = await adoptHashes(store, pins, (id) => {
    const isSame = gathered.pins.get(id)?.lockfiles.every((path) => unchanged.has(path)) === true
    return isSame && Object.hasOwn(lock.npm.packages, id) ? lock.npm.packages[id]?.integrity : undefined
  })
  return adopted > 0
}

/** Every pin of which a hash is known, by the store or by its lockfile; nothing is fetched. */
export function knownPins(gathered: Gathered): Pick<PinnedManifests, 'store' | 'pins'> {
  const store = openStore(storeHome(process.env))
  const wanted = pinRequests(gathered, platformsOf(gathered))
  const { pinned } = readPinned(store, wanted)
  const pins = wanted.flatMap((pin) => {
    const integrity = pinned.get(pin.id)?.integrity ?? pin.integrity
    return integrity === null ? [] : [{ ...pin, integrity }]
  })
  return { store, pins }
}

function platformsOf({ config }: Gathered): readonly Platform[] {
  return config.platforms.map((name) => parsePlatform(name)).filter((platform) => platform !== undefined)
}

/**
 * The manifests of patched pins as their patches leave them. So a patch that does not apply is found when the lock is
 * made, and not on every machine that installs it. Of a patch file that is missing only the hash is known.
 * @throws PolderError `PATCH_FAILED` with all of them
 */
async function withPatches(
  store: Store,
  { root, pins }: Gathered,
  manifests: ReadonlyMap<PackageId, PinnedManifest>,
): Promise<ReadonlyMap<PackageId, PinnedManifest>> {
  const all = new Map<PackageId, PinnedManifest>()
  const failures: PolderError[] = []
  for (const { id, patch } of pins.values()) {
    const pinned = manifests.get(unpatchedId(id))
    if (pinned === undefined) continue
    all.set(id, pinned)
    if (patch === undefined || !existsSync(join(root, patch.path))) continue
    const [{ archiveManifest, openArchive }, { applyPackagePatch }, { installScripts }] = await Promise.all([
      import('@polder/store/archive'),
      import('@polder/store/patch'),
      import('@polder/spec/manifest'),
    ])
    const read = { path: patch.path, bytes: readFileSync(join(root, patch.path)) }
    try {
      const label = unpatchedId(id)
      const archive = await openArchive(readArtifact(store, pinned.integrity, id), label)
      const { manifest, hasBindingGyp } = archiveManifest(applyPackagePatch(archive, read, label), label)
      all.set(id, { ...pinned, manifest, needsBuild: installScripts(manifest, hasBindingGyp).length > 0 })
    } catch (error) {
      if (!(error instanceof PolderError && error.code === 'PATCH_FAILED')) throw error
      failures.push(error)
    }
  }
  const [first, ...others] = failures
  if (first !== undefined)
    throw others.length === 0 ? first : new PolderError(first.code, first.message, { ...first.details, others })
  return all
}

/** Every pin but the optional ones that no locked platform can use. */
function pinRequests(gathered: Gathered, platforms: readonly Platform[]): PinRequest[] {
  const neededBy = usersOfPins(gathered)
  // A patched pin is the artifact of the one that it was made from.
  const artifacts = new Map<PackageId, Pin>()
  for (const pin of gathered.pins.values()) {
    const id = unpatchedId(pin.id)
    const optional = pin.optional && artifacts.get(id)?.optional !== false
    artifacts.set(id, { ...pin, id, optional })
  }
  return [...artifacts.values()]
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
  const add = (pin: PackageId, user: string): void => {
    const id = unpatchedId(pin)
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
