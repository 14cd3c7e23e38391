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
  /** The lockfile does not say which platform it is for. */
  readonly anyPlatform?: true
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

/** @param lockfiles paths of pnpm-lock.yaml (9), package-lock.json (2, 3) and yarn.lock (1) files, relative to `root` */
export function readOriginalLocks(root: string, lockfiles: readonly string[]): OriginalLocks {
  const collected: Collected = { services: [], lookups: new Map(), versions: new Map() }
  for (const path of lockfiles) {
    const text = readFileSync(join(root, path), 'utf8')
    if (path.endsWith('.yaml')) collectPnpm(parse(text, { maxAliasCount: -1 }) as PnpmLock, collected)
    else if (path.endsWith('yarn.lock')) collectYarn(text, root, posix.dirname(path), collected)
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

interface YarnEntry {
  readonly version: string
  readonly dependencies: ReadonlyMap<string, string>
}

interface YarnManifest {
  readonly workspaces?: readonly string[]
  readonly resolutions?: Readonly<Record<string, string>>
  readonly [group: string]: unknown
}

/** `yarn.lock` 1: patterns and what they are. Of peers it says nothing: where a name has one version, that was found. */
function collectYarn(text: string, root: string, directory: string, { services, lookups, versions }: Collected): void {
  const manifestAt = (path: string): YarnManifest =>
    JSON.parse(readFileSync(join(root, path, 'package.json'), 'utf8')) as YarnManifest
  const own = manifestAt(directory)
  const entries = parseYarn(text)
  const byName = new Map<string, Set<string>>()
  for (const [pattern, { version }] of entries) {
    const name = pattern.slice(0, pattern.indexOf('@', 1))
    byName.set(name, (byName.get(name) ?? new Set()).add(version))
  }
  const resolve = (name: string, range: string | undefined): string | null => {
    const resolution = own.resolutions?.[name]
    const patterns = [resolution, range].flatMap((one) => (one === undefined ? [] : [`${name}@${one}`]))
    const found = patterns.map((pattern) => entries.get(pattern)).find((entry) => entry !== undefined)
    const all = [...(byName.get(name) ?? [])]
    return found?.version ?? (all.length === 1 ? (all[0] ?? null) : null)
  }
  for (const [name, all] of byName) for (const version of all) add(versions, name, { version, anyPlatform: true })
  for (const path of ['.', ...(own.workspaces ?? [])].map((one) => posix.join(directory, one))) {
    const manifest = manifestAt(path)
    const groups = [manifest['dependencies'], manifest['devDependencies'], manifest['optionalDependencies']]
    const declared = Object.assign({}, ...groups) as Record<string, string>
    services.push(path)
    add(lookups, path, (name) => resolve(name, declared[name]))
  }
  for (const [pattern, { version, dependencies }] of entries) {
    const owner = `${pattern.slice(0, pattern.indexOf('@', 1))}@${version}`
    add(lookups, owner, (name) => resolve(name, dependencies.get(name)))
  }
}

function parseYarn(text: string): ReadonlyMap<string, YarnEntry> {
  const entries = new Map<string, YarnEntry>()
  for (const block of text.split(/\n(?=\S)/)) {
    const [head = '', ...lines] = block.split('\n')
    const version = /^ {2}version "?([^"]+)"?$/m.exec(block)?.[1]
    if (!head.endsWith(':') || version === undefined) continue
    const dependencies = new Map(
      lines.flatMap((line) => {
        const [, name, range] = /^ {4}"?([^"\s]+)"? "?([^"]*)"?$/.exec(line) ?? []
        return name === undefined || range === undefined ? [] : [[name, range] as const]
      }),
    )
    for (const pattern of head.slice(0, -1).split(', '))
      entries.set(pattern.replaceAll('"', ''), { version, dependencies })
  }
  return entries
}
