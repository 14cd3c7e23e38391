import {
  compareText,
  isPackageName,
  packageId,
  strongestIntegrity,
  type Integrity,
  type PackageId,
  type PackageSource,
  type PlatformCondition,
  PolderError,
} from '@polder/spec'
import type { RangeCache } from '@polder/spec/semver-ranges'

import type { Pin, Requirement, Target } from '../gathered.ts'
import type { Manifests } from '../manifests.ts'
import { resolveInRepository } from '../repository-path.ts'

/** A lockfile to read: where it is, what it holds, and what a reader may look at beside it. */
export interface LockfileInput {
  /** Absolute. */
  readonly root: string
  /** Relative to the repository, as is `directory`, where it lies. */
  readonly path: string
  readonly directory: string
  readonly text: string
  readonly manifests: Manifests
  readonly ranges: RangeCache
}

/** A reader: one function a format. It throws what is wrong with the file and returns what is stale in it. */
export type LockfileReader = (input: LockfileInput) => ReadLockfile | Promise<ReadLockfile>

/** What a lockfile says, in terms that are the same for all of them. Nothing needs to be sorted or merged. */
export interface ReadLockfile {
  readonly services: readonly ReadService[]
  /** A candidate may come several times, once for each place or peer context. */
  readonly pins: readonly ReadPin[]
  readonly stale: readonly Stale[]
  readonly warnings: readonly string[]
  /** Further files whose content the result depends on. */
  readonly inputs: readonly string[]
}

export interface ReadService {
  readonly path: string
  /** True if it is no member of the workspace, but a directory that a dependency links to. */
  readonly linked: boolean
  readonly requirements: readonly Requirement[]
}

export interface ReadPin extends PlatformCondition {
  readonly id: PackageId
  readonly name: string
  readonly reference: string
  readonly integrity: Integrity | null
  /** As {@link Pin.hashFromRegistry}. */
  readonly hashFromRegistry?: Pin['hashFromRegistry']
  /** As {@link Pin.patch}; its hash is part of the id. */
  readonly patch?: Pin['patch']
  /** As {@link Pin.extension}. */
  readonly extension?: Pin['extension'] | undefined
  readonly source: PackageSource
  readonly edges: readonly ReadEdge[]
  /** What it requires but the lockfile lacks. Merges leave such gaps, often in candidates that nobody reaches. */
  readonly absent: readonly string[]
  readonly deprecated?: string
}

export interface ReadEdge {
  readonly name: string
  readonly target: Target
  /** True for optional dependencies and optional peers: they alone need nobody to be there. */
  readonly optional: boolean
}

/** A dependency whose manifest says something else than its lockfile. Null where one of them has nothing. */
export interface Stale {
  readonly service: string
  readonly name: string
  readonly manifest: string | null
  readonly lock: string | null
}

/** Refuses a lockfile that a merge left half done; every reader asks this first. */
export function refuseConflictMarkers({ path, text }: LockfileInput, mend: string): void {
  const marker = /^(?:<{7}|>{7})(?: |\r?$)/m.exec(text)
  if (marker === null) return
  const line = text.slice(0, marker.index).split('\n').length
  throw new PolderError('LOCKFILE_CONFLICT_MARKERS', `${path}:${line} has the conflict markers of a git merge`, {
    path,
    hint: `resolve the conflict with \`${mend}\``,
  })
}

export function invalidLockfile(path: string, what: string, cause?: unknown): PolderError {
  return new PolderError('LOCKFILE_INVALID', `${path}: ${what}`, {
    path,
    hint: 'make it again with the client that wrote it',
    ...(cause === undefined ? {} : { cause }),
  })
}

/** The name, if it is one that may stand in paths and records. */
export function checkedName(name: string, path: string): string {
  if (isPackageName(name)) return name
  throw new PolderError('LOCKFILE_INVALID', `${path}: ${JSON.stringify(name)} is no package name`, { path, spec: name })
}

/** The reference becomes part of ids and messages: one line of visible characters. */
export function checkedId(name: string, reference: string, path: string): PackageId {
  // What ends as a patched id does would be taken for one.
  if (/^[^\s\p{C}][^\p{C}]*$/u.test(reference) && reference.length < 2048 && !reference.includes('(patch='))
    return packageId(checkedName(name, path), reference)
  throw new PolderError(
    'LOCKFILE_INVALID',
    `${path}: ${JSON.stringify(reference.slice(0, 100))} is no version of ${name}`,
    { path, spec: name },
  )
}

/** The strongest hash of an SRI text; null for none. */
export function lockedIntegrity(text: string | undefined, id: string, path: string): Integrity | null {
  if (text === undefined || text === '') return null
  try {
    return strongestIntegrity(text)
  } catch (cause) {
    throw new PolderError('LOCKFILE_INVALID', `${path}: the integrity "${text}" of ${id} is no hash`, {
      path,
      spec: id,
      found: text,
      cause,
    })
  }
}

/** The source of a URL that is not the registry's: a tarball, one in the repository, or a git commit. */
export function sourceOfUrl(url: string, id: string, input: LockfileInput): PackageSource {
  if (url.startsWith('file:')) {
    const link = url.slice('file:'.length)
    return { kind: 'file', path: resolveInRepository(input.directory, link, `${id} in ${input.path}`) }
  }
  const [address = '', fragment = ''] = url.split('#')
  if (isGitUrl(url)) {
    if (!/^[0-9a-f]{40}(?:[0-9a-f]{24})?$/.test(fragment))
      throw invalidLockfile(input.path, `${id} is pinned to ${url}, which names no commit`)
    return { kind: 'git', url: address, commit: fragment }
  }
  if (/^https?:\/\/[^/]/.test(url)) return { kind: 'tarball', url: address }
  throw new PolderError(
    'SOURCE_UNSUPPORTED',
    `${input.path} takes ${id} from ${url}, which is no source that polder knows`,
    {
      path: input.path,
      spec: id,
      found: url,
      hint: 'registry packages, http(s) tarballs, files in the repository and git commits are',
    },
  )
}

/** `git+https:`, `git:` and `ssh:` URLs, and what ends in `.git` with a commit as its fragment. */
export function isGitUrl(url: string): boolean {
  return /^(?:git(?:\+[a-z]+)?|ssh):/.test(url) || /^https?:.*\.git#[0-9a-f]{40}/.test(url)
}

/**
 * True if the URL is where some registry keeps `name@version`: `…/name/-/base-version.tgz`, with or without the scope
 * in the file name, or GitHub's `…/download/name/version/…`. The host may have been taken out of it.
 */
export function isRegistryTarball(url: string, name: string, version: string): boolean {
  let pathname: string
  try {
    const { protocol, pathname: encoded } = new URL(url, 'http://host.invalid/')
    if (protocol !== 'http:' && protocol !== 'https:') return false
    pathname = decodeURIComponent(encoded)
  } catch {
    return false
  }
  const base = name.replace(/^@[^/]+\//, '')
  return (
    pathname.endsWith(`/${name}/-/${base}-${version}.tgz`) ||
    pathname.endsWith(`/${name}/-/${name}-${version}.tgz`) ||
    pathname.includes(`/download/${name}/${version}/`)
  )
}

/** Sorted by install name, as `GatheredService.requirements` is. */
export function byName<T extends { readonly name: string }>(list: readonly T[]): T[] {
  return [...list].sort((a, b) => compareText(a.name, b.name))
}
