import type { Lock, LockedPackage } from '@polder/lock'
import {
  type AddedPackage,
  compareText,
  type Integrity,
  type PackageId,
  PolderError,
  splitPackageId,
} from '@polder/spec'

import { filePath } from './files.ts'

/** A lock, and the short digest of its text by which its view is asked for. */
export interface NamedLock {
  readonly id: string
  readonly lock: Lock
}

/** A pin as the index serves it: under its name and its version, wherever it came from. */
export interface PinnedVersion {
  /** The pin's, by which its release record is found. */
  readonly id: PackageId
  readonly name: string
  readonly version: string
  readonly integrity: Integrity
  /** What the lock says of it. */
  readonly locked?: LockedPackage
}

/** Name → version → pin. A Map, since names come from outside. */
export type PinnedVersions = ReadonlyMap<string, ReadonlyMap<string, PinnedVersion>>

/**
 * Everything that the locks pin. Of two pins of one lock that have the same name and version, the registry's is served,
 * else the first in order of their ids.
 * @throws PolderError `PIN_CONFLICT` if two locks mean different bytes by one version; `LOCK_INVALID` for a version
 *   that cannot stand in a path
 */
export function pinnedVersions(locks: readonly NamedLock[]): PinnedVersions {
  const names = new Map<string, Map<string, PinnedVersion>>()
  const owners = new Map<PinnedVersion, string>()
  for (const { id: lockId, lock } of locks) {
    for (const pin of pinsOf(lock)) {
      const versions = names.get(pin.name) ?? new Map<string, PinnedVersion>()
      names.set(pin.name, versions)
      const other = versions.get(pin.version)
      if (other === undefined) {
        versions.set(pin.version, pin)
        owners.set(pin, lockId)
      } else if (other.integrity !== pin.integrity && owners.get(other) !== lockId)
        throw conflict(`${pin.name}@${pin.version}`, other.integrity, pin.integrity)
    }
  }
  return names
}

// What registries accept, and nothing that means something in a path, a URL or a terminal.
const VERSION = /^\d[0-9A-Za-z.+-]{0,255}$/

function pinsOf(lock: Lock): PinnedVersion[] {
  const locked = Object.entries(lock.npm.packages) as [PackageId, LockedPackage][]
  const fromRegistry: PinnedVersion[] = []
  const fromElsewhere: PinnedVersion[] = []
  for (const [id, entry] of locked) {
    const { name, reference } = splitPackageId(id)
    const isRegistrys = (entry.tarball ?? entry.file ?? entry.git) === undefined
    const version = isRegistrys ? reference : entry.version
    // Without a version in its manifest nobody can ask for it.
    if (version === undefined) continue
    if (!VERSION.test(version)) throw unservable(id, version)
    const pin = { id, name, version, integrity: entry.integrity, locked: entry }
    ;(isRegistrys ? fromRegistry : fromElsewhere).push(pin)
  }
  for (const [id, { integrity }] of Object.entries(lock.index?.packages ?? {}) as [PackageId, AddedPackage][]) {
    const { name, reference: version } = splitPackageId(id)
    if (!VERSION.test(version)) throw unservable(id, version)
    fromElsewhere.push({ id, name, version, integrity })
  }
  return [...fromRegistry, ...fromElsewhere.sort((a, b) => compareText(a.id, b.id))]
}

/** A file that is on no registry, and the URL that it has elsewhere. */
export interface PinnedUrl {
  readonly url: string
  readonly integrity: Integrity
}

/**
 * The files of the locks by their path on an index.
 * @throws PolderError `PIN_CONFLICT` if two locks mean different bytes by one URL
 */
export function pinnedFiles(locks: readonly NamedLock[]): ReadonlyMap<string, PinnedUrl> {
  const files = new Map<string, PinnedUrl>()
  for (const { lock } of locks) {
    for (const [url, { integrity }] of Object.entries(lock.index?.files ?? {})) {
      const path = filePath(url)
      const other = files.get(path)
      if (other !== undefined && other.integrity !== integrity) throw conflict(url, other.integrity, integrity)
      files.set(path, { url, integrity })
    }
  }
  return files
}

function conflict(what: string, one: Integrity, other: Integrity): PolderError {
  return new PolderError('PIN_CONFLICT', `two of the locks mean different bytes by ${what}`, {
    spec: what,
    found: other,
    wanted: one,
    hint: 'serve them from two servers',
  })
}

function unservable(id: string, version: string): PolderError {
  return new PolderError('LOCK_INVALID', `${id} has the version ${JSON.stringify(version)}, which no registry serves`, {
    spec: id,
    hint: 'run `polder lock` to make it anew',
  })
}
