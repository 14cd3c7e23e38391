import type { Lock, LockedKey, LockedPackage } from '@polder/lock'
import {
  type AddedPackage,
  compareText,
  type Integrity,
  type PackageId,
  type PlatformCondition,
  PolderError,
  splitPackageId,
  unpatchedId,
} from '@polder/spec'

import { filePath } from '../pins/files.ts'

/**
 * What an index has to know of a lock, a tenth of it. Plain, so that it can be kept as JSON: parsing the lock itself would
 * take longer than everything else that happens until a server answers.
 */
export interface LockedPins {
  /** The registry's come first: of two with the same name and version the first is served. */
  readonly pins: readonly PinnedVersion[]
  /** Files that are on no registry. */
  readonly files: readonly PinnedUrl[]
  /** The keys that registries sign with, by key id. */
  readonly keys: Readonly<Record<string, LockedKey>>
  /** What the lockfiles of its repository have and the lock has not, where that is known. */
  readonly unpinned?: readonly UnpinnedVersion[]
}

/** A version that a lockfile has and polder.lock has not, for who installs from the lockfile all the same. */
export interface UnpinnedVersion {
  readonly name: string
  readonly version: string
  readonly lockfile: string
  readonly integrity: Integrity | null
  /** It is optional, and for none of the platforms of the lock. Otherwise it was flattened away. */
  readonly elsewhere?: PlatformCondition
}

/** A pin as the index serves it: under its name and its version, wherever it came from. */
export interface PinnedVersion {
  /** The pin's, by which its release record is found. */
  readonly id: PackageId
  readonly name: string
  readonly version: string
  readonly integrity: Integrity
  /** Why nobody should use it. */
  readonly deprecated?: string
  /** It was packed of a commit. */
  readonly commit?: true
}

/** A file that is on no registry, and the URL that it has elsewhere. */
export interface PinnedUrl {
  readonly url: string
  readonly integrity: Integrity
}

/** @throws PolderError `LOCK_INVALID` for a version that cannot stand in a path */
export function lockedPins(lock: Lock): LockedPins {
  const { npm, index = {} } = lock
  const fromRegistry: PinnedVersion[] = []
  const fromElsewhere: PinnedVersion[] = []
  for (const [id, entry] of Object.entries(npm.packages) as [PackageId, LockedPackage][]) {
    const { name, reference } = splitPackageId(id)
    const isRegistrys = (entry.tarball ?? entry.file ?? entry.git) === undefined
    const version = isRegistrys ? reference : entry.version
    // Without a version in its manifest nobody can ask for it.
    if (version === undefined) continue
    const { integrity, deprecated } = entry
    const pin = {
      id: unpatchedId(id),
      name,
      version,
      integrity,
      ...(deprecated === undefined ? {} : { deprecated }),
      ...(entry.git === undefined ? {} : { commit: true as const }),
    }
    ;(isRegistrys ? fromRegistry : fromElsewhere).push(checked(pin))
  }
  for (const [id, { integrity }] of Object.entries(index.packages ?? {}) as [PackageId, AddedPackage][]) {
    const { name, reference: version } = splitPackageId(id)
    fromElsewhere.push(checked({ id, name, version, integrity }))
  }
  return {
    pins: [...fromRegistry, ...fromElsewhere.sort((a, b) => compareText(a.id, b.id))],
    files: Object.entries(index.files ?? {}).map(([url, { integrity }]) => ({ url, integrity })),
    keys: index.keys ?? {},
    unpinned: flattenedAway(lock),
  }
}

/** What services had locked themselves. Of what that needs only their lockfiles know. */
function flattenedAway({ npm }: Lock): readonly UnpinnedVersion[] {
  const unpinned = new Map<string, UnpinnedVersion>()
  for (const service of Object.values(npm.services)) {
    const { lockfile, dependencies, devDependencies, optionalDependencies, peerDependencies } = service
    const groups = [dependencies, devDependencies, optionalDependencies, peerDependencies]
    for (const { was } of groups.flatMap((group = {}) => Object.values(group))) {
      if (was === undefined) continue
      const { name, reference: version } = splitPackageId(was)
      if (VERSION.test(version)) unpinned.set(was, { name, version, lockfile, integrity: null })
    }
  }
  return [...unpinned].sort(([a], [b]) => compareText(a, b)).map(([, one]) => one)
}

// What registries accept, and nothing that means something in a path, a URL or a terminal.
const VERSION = /^\d[0-9A-Za-z.+-]{0,255}$/

function checked(pin: PinnedVersion): PinnedVersion {
  if (VERSION.test(pin.version)) return pin
  throw new PolderError(
    'LOCK_INVALID',
    `${pin.id} has the version ${JSON.stringify(pin.version)}, which no registry serves`,
    {
      spec: pin.id,
      hint: 'run `polder lock` to make it anew',
    },
  )
}

/** Name → version → pin. Maps, since names come from outside. */
export type PinnedVersions = ReadonlyMap<string, ReadonlyMap<string, PinnedVersion>>

/**
 * The pins of several locks together.
 * @throws PolderError `PIN_CONFLICT` if two of them mean different bytes by one version
 */
export function unionOfPins(locks: readonly LockedPins[]): PinnedVersions {
  const names = new Map<string, Map<string, PinnedVersion>>()
  const owners = new Map<PinnedVersion, LockedPins>()
  for (const lock of locks) {
    for (const pin of lock.pins) {
      const versions = names.get(pin.name) ?? new Map<string, PinnedVersion>()
      names.set(pin.name, versions)
      const other = versions.get(pin.version)
      if (other === undefined) {
        versions.set(pin.version, pin)
        owners.set(pin, lock)
      } else if (other.integrity !== pin.integrity && owners.get(other) !== lock)
        throw conflict(`${pin.name}@${pin.version}`, other, pin)
    }
  }
  return names
}

/** By name, what none of several locks pins. */
export function unionOfUnpinned(
  locks: readonly LockedPins[],
  pinned: PinnedVersions,
): ReadonlyMap<string, readonly UnpinnedVersion[]> {
  const names = new Map<string, UnpinnedVersion[]>()
  for (const one of locks.flatMap(({ unpinned = [] }) => unpinned)) {
    if (pinned.get(one.name)?.has(one.version) === true) continue
    const known = names.get(one.name) ?? []
    if (!known.some(({ version }) => version === one.version)) known.push(one)
    names.set(one.name, known)
  }
  return names
}

/**
 * The files of several locks together, by their path on an index.
 * @throws PolderError `PIN_CONFLICT` if two of them mean different bytes by one URL
 */
export function unionOfFiles(locks: readonly LockedPins[]): ReadonlyMap<string, PinnedUrl> {
  const files = new Map<string, PinnedUrl>()
  for (const file of locks.flatMap((lock) => lock.files)) {
    const path = filePath(file.url)
    const other = files.get(path)
    if (other !== undefined && other.integrity !== file.integrity) throw conflict(file.url, other, file)
    files.set(path, file)
  }
  return files
}

function conflict(
  what: string,
  one: { readonly integrity: Integrity },
  other: { readonly integrity: Integrity },
): PolderError {
  return new PolderError('PIN_CONFLICT', `two of the locks mean different bytes by ${what}`, {
    spec: what,
    found: other.integrity,
    wanted: one.integrity,
    hint: 'serve them from two servers',
  })
}
