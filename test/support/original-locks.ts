import { readFileSync } from 'node:fs'
import { join, posix } from 'node:path'

import { parse } from 'yaml'

/**
 * What the repository's own lockfiles say, read as simply as can be and with none of polder's code: the baseline that
 * a flattened environment is compared with.
 */
export interface OriginalLocks {
  /** Directories with a package.json of their own, by path. */
  readonly services: readonly string[]
  /**
   * What an owner (`name@version`, or the path of a service) found under a name, once for each of its instances;
   * null where it found nothing. Empty if the owner is locked nowhere.
   */
  found(owner: string, name: string): readonly (string | null)[]
  /** Every locked version of a name, with its platform condition. */
  locked(name: string): readonly LockedVersion[]
}

export interface LockedVersion {
  readonly version: string
  readonly os?: readonly string[]
  readonly cpu?: readonly string[]
  readonly libc?: readonly string[]
}

type Lookup = (name: string) => string | null

interface Collected {
  readonly services: string[]
  readonly lookups: Map<string, Lookup[]>
  readonly versions: Map<string, LockedVersion[]>
}

/** @param lockfiles paths of pnpm-lock.yaml (9) and package-lock.json (2, 3) files, relative to `root` */
export function readOriginalLocks(root: string, lockfiles: readonly string[]): OriginalLocks {
  const collected: Collected = { services: [], lookups: new Map(), versions: new Map() }
  for (const path of lockfiles) {
    const text = readFileSync(join(root, path), 'utf8')
    if (path.endsWith('.yaml')) collectPnpm(parse(text, { maxAliasCount: -1 }) as PnpmLock, collected)
    else collectNpm(JSON.parse(text) as NpmLock, posix.dirname(path), collected)
  }
  return {
    services: collected.services,
    found: (owner, name) => (collected.lookups.get(owner) ?? []).map((lookup) => lookup(name)),
    locked: (name) => collected.versions.get(name) ?? [],
  }
}

function add<K, V>(map: Map<K, V[]>, key: K, value: V): void {
  map.set(key, [...(map.get(key) ?? []), value])
}

interface NpmEntry extends LockedVersion {
  readonly name?: string
  readonly link?: true
  readonly resolved?: string
}

interface NpmLock {
  readonly packages: Readonly<Record<string, NpmEntry>>
}

function collectNpm({ packages }: NpmLock, directory: string, { services, lookups, versions }: Collected): void {
  for (const [place, entry] of Object.entries(packages)) {
    if (entry.link === true) continue
    const installed = place.includes('node_modules/')
    const name = entry.name ?? place.slice(place.lastIndexOf('node_modules/') + 'node_modules/'.length)
    if (installed) add(versions, name, entry)
    else services.push(posix.join(directory, place))
    add(lookups, installed ? `${name}@${entry.version}` : posix.join(directory, place), (wanted) => {
      for (let from = place; ; from = parentPlace(from)) {
        const found = packages[from === '' ? `node_modules/${wanted}` : `${from}/node_modules/${wanted}`]
        if (found !== undefined)
          return (found.link === true ? packages[found.resolved ?? ''] : found)?.version ?? '0.0.0'
        if (from === '') return null
      }
    })
  }
}

/** `node_modules/a/node_modules/b` → `node_modules/a` → ``, and `apps/x/node_modules/a` → `apps/x` → ``. */
function parentPlace(place: string): string {
  const at = place.lastIndexOf('/node_modules/')
  return at < 0 ? '' : place.slice(0, at)
}

interface PnpmLock {
  readonly importers: Readonly<Record<string, Readonly<Record<string, Readonly<Record<string, { version: string }>>>>>>
  readonly packages: Readonly<Record<string, Omit<LockedVersion, 'version'>>>
  readonly snapshots: Readonly<
    Record<string, Readonly<Record<'dependencies' | 'optionalDependencies', Readonly<Record<string, string>>>>>
  >
}

function collectPnpm({ importers, packages, snapshots }: PnpmLock, { services, lookups, versions }: Collected): void {
  for (const [path, groups] of Object.entries(importers)) {
    services.push(path)
    const all = Object.assign({}, ...Object.values(groups)) as Record<string, { version: string }>
    add(lookups, path, (name) => (all[name] === undefined ? null : versionOfReference(all[name].version)))
  }
  for (const [id, entry] of Object.entries(packages)) {
    const at = id.lastIndexOf('@')
    add(versions, id.slice(0, at), { ...entry, version: id.slice(at + 1) })
  }
  for (const [key, { dependencies, optionalDependencies }] of Object.entries(snapshots)) {
    const all = { ...dependencies, ...optionalDependencies }
    add(lookups, key.replace(/\(.*$/, ''), (name) => (all[name] === undefined ? null : versionOfReference(all[name])))
  }
}

/** `1.2.3(peer@1.0.0)` and `other@1.2.3` → `1.2.3`; `link:…` has no version. */
function versionOfReference(reference: string): string {
  const plain = reference.replace(/\(.*$/, '')
  return plain.startsWith('link:') ? '0.0.0' : plain.slice(plain.lastIndexOf('@') + 1)
}
