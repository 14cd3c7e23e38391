import { existsSync, readdirSync, readFileSync, realpathSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join, sep } from 'node:path'

import { satisfies, validRange } from 'semver'

import type { LockedVersion, OriginalLocks } from './original-locks.ts'

/** An edge that is not satisfied where Node looks. */
export interface Violation {
  /** `name@version`, or the path of a service. */
  readonly owner: string
  readonly kind: Kind
  readonly name: string
  readonly range: string
  /** The version that is there, null for none. */
  readonly found: string | null
}

type Kind = 'dependency' | 'optional' | 'peer' | 'optional peer'

export interface Walked {
  readonly packages: number
  readonly edges: number
  /** What flattening broke. */
  readonly violations: readonly Violation[]
  /** What the lockfiles of the repository have violated or absent already (overrides, legacy peers). */
  readonly baseline: readonly Violation[]
}

interface Options {
  readonly root: string
  /** Real directories that packages may stand in. */
  readonly inside: readonly string[]
  readonly original: OriginalLocks
  /** Catalog → name → range. */
  readonly catalogs?: Readonly<Record<string, Readonly<Record<string, string>>>>
}

interface Manifest {
  readonly name?: string
  readonly version?: string
  readonly dependencies?: Readonly<Record<string, string>>
  readonly devDependencies?: Readonly<Record<string, string>>
  readonly optionalDependencies?: Readonly<Record<string, string>>
  readonly peerDependencies?: Readonly<Record<string, string>>
  readonly peerDependenciesMeta?: Readonly<Record<string, { readonly optional?: boolean }>>
}

/**
 * Walks every service and every package installed for it, from its real path and by its real package.json, and looks
 * up each edge as Node does: `node_modules` of the directory and of each one above. Uses none of polder's code.
 */
export function walkEdges({ root, inside, original, catalogs = {} }: Options): Walked {
  const violations: Violation[] = []
  const baseline: Violation[] = []
  const services = new Map(original.services.map((path) => [realpathSync(join(root, path)), path]))
  const queue = [...services.keys()]
  for (const path of new Set(['.', ...original.services])) queue.push(...installedIn(join(root, path, 'node_modules')))
  const seen = new Set<string>()
  let edges = 0
  for (let directory = queue.pop(); directory !== undefined; directory = queue.pop()) {
    if (seen.has(directory)) continue
    seen.add(directory)
    const manifest = readManifest(directory)
    const service = services.get(directory)
    const owner = service ?? `${manifest.name}@${manifest.version}`
    for (const { kind, name, spec } of edgesOf(manifest, service !== undefined)) {
      edges += 1
      const target = lookUp(name, directory)
      if (target !== undefined) queue.push(target)
      if (target !== undefined && !inside.some((allowed) => target.startsWith(allowed + sep))) {
        violations.push({ owner, kind, name, range: spec, found: target })
        continue
      }
      const wanted = wantedOf(name, spec, catalogs)
      const found = target === undefined ? null : readManifest(target)
      if (found === null ? mayBeAbsent(kind, wanted.name, original) : wanted.accepts(found)) continue
      const violation: Violation = { owner, kind, name, range: spec, found: found?.version ?? null }
      // That an optional peer was absent is no excuse for showing a wrong one.
      const before = original.found(owner, name).filter((version) => kind !== 'optional peer' || version !== null)
      const excused = before.some((version) => version === null || !wanted.accepts({ name: wanted.name, version }))
      ;(excused ? baseline : violations).push(violation)
    }
  }
  return {
    packages: seen.size - services.size,
    edges,
    violations: violations.sort(byText),
    baseline: baseline.sort(byText),
  }
}

/** One line, for the list that a test prints. */
export function describeViolation({ owner, kind, name, range, found }: Violation): string {
  return `${owner}: ${kind} ${name} ${range}, found ${found ?? 'nothing'}`
}

function byText(a: Violation, b: Violation): number {
  return describeViolation(a) < describeViolation(b) ? -1 : 1
}

/** The real directories of all packages in a `node_modules`. */
function installedIn(directory: string): string[] {
  if (!existsSync(directory)) return []
  return readdirSync(directory)
    .filter((name) => !name.startsWith('.'))
    .flatMap((name) =>
      name.startsWith('@') ? readdirSync(join(directory, name)).map((base) => `${name}/${base}`) : [name],
    )
    .map((name) => realpathSync(join(directory, name)))
}

function readManifest(directory: string): Manifest {
  return JSON.parse(readFileSync(join(directory, 'package.json'), 'utf8').replace(/^\uFEFF/, '')) as Manifest
}

function edgesOf(manifest: Manifest, isService: boolean): { kind: Kind; name: string; spec: string }[] {
  const optional = manifest.optionalDependencies ?? {}
  const prod = { ...(isService ? manifest.devDependencies : {}), ...manifest.dependencies }
  const edge =
    (kind: Kind) =>
    ([name, spec]: [string, string]) => ({ kind, name, spec })
  const declared = { ...prod, ...optional }
  const peers = Object.entries(manifest.peerDependencies ?? {}).filter(([name]) => declared[name] === undefined)
  const isOptional = ([name]: [string, string]): boolean => manifest.peerDependenciesMeta?.[name]?.optional === true
  return [
    ...Object.entries(prod)
      .filter(([name]) => optional[name] === undefined)
      .map(edge('dependency')),
    ...Object.entries(optional).map(edge('optional')),
    ...peers.filter((entry) => !isOptional(entry)).map(edge('peer')),
    ...peers.filter(isOptional).map(edge('optional peer')),
  ]
}

/** The real directory of what Node finds. The slash keeps names of Node's own modules (`buffer/`) from being those. */
function lookUp(name: string, directory: string): string | undefined {
  // Only the directories above: not those that NODE_PATH and the home directory of whoever runs this add.
  const above = (place: string): boolean => `${directory}/`.startsWith(place.slice(0, -'node_modules'.length))
  const places = (createRequire(join(directory, 'x')).resolve.paths(`${name}/`) ?? []).filter(above)
  const found = places.map((place) => join(place, name)).find((path) => existsSync(join(path, 'package.json')))
  return found === undefined ? undefined : realpathSync(found)
}

interface Wanted {
  /** Of the package, which an alias doesn't have as its install name. */
  readonly name: string
  accepts(found: { readonly name?: string; readonly version?: string }): boolean
}

function wantedOf(name: string, spec: string, catalogs: NonNullable<Options['catalogs']>): Wanted {
  if (spec.startsWith('catalog:'))
    return wantedOf(name, catalogs[spec.slice('catalog:'.length) || 'default']?.[name] ?? 'missing', {})
  const alias = /^npm:((?:@[^/]+\/)?[^@]+)(?:@(.*))?$/.exec(spec)
  const [target, range] = alias === null ? [name, spec] : [alias[1] ?? '', alias[2] ?? '*']
  if (alias === null && validRange(range, { loose: true }) !== null) {
    // Under any name: an override or a peer may be an alias somewhere else.
    return { name: target, accepts: ({ version }) => satisfies(version ?? '', range, { loose: true }) }
  }
  // Links, tags, tarballs and repositories say nothing about the version; what is there must have the name.
  const ranged = validRange(range, { loose: true }) !== null
  return {
    name: target,
    accepts: (found) => found.name === target && (!ranged || satisfies(found.version ?? '', range, { loose: true })),
  }
}

/** An optional package may be missing if no locked version of it is for this platform, as far as lockfiles say. */
function mayBeAbsent(kind: Kind, name: string, original: OriginalLocks): boolean {
  if (kind === 'optional peer') return true
  // package-lock.json has no `libc`, so for musl the name is all there is.
  const locked = original.locked(name)
  const isUnknown = locked.some(({ anyPlatform }) => anyPlatform === true)
  return kind === 'optional' && (name.includes('musl') || isUnknown || !locked.some(fitsHere))
}

function fitsHere({ os, cpu, libc }: LockedVersion): boolean {
  const fits = (list: readonly string[] | undefined, here: string): boolean => {
    if (list === undefined || list.length === 0 || list.includes('any')) return true
    if (list.includes(`!${here}`)) return false
    return list.includes(here) || list.every((value) => value.startsWith('!'))
  }
  return fits(os, process.platform) && fits(cpu, process.arch) && fits(libc, 'glibc')
}
