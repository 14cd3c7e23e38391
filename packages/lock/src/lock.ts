import type { Additions, Integrity, PackageId, PlatformCondition } from '@polder/spec'

/**
 * The locked environment: a plain value, everything sorted, that says what goes where without looking at anything
 * else. `polder.lock` is this, as YAML. Paths are relative to the repository, POSIX.
 */
export interface Lock {
  readonly lockfileVersion: 1
  readonly policy: LockedPolicy
  /** Path → digest of the files it was made from; another digest means that the lock is out of date. */
  readonly inputs: Readonly<Record<string, string>>
  readonly npm: NpmLock
  /** What the index needs that no lockfile says. Absent if that is nothing. */
  readonly index?: LockedIndex
}

export interface LockedIndex extends Partial<Additions> {
  /** The keys that registries sign releases with, as they were first seen or accepted, by key id. */
  readonly keys?: Readonly<Record<string, LockedKey>>
}

/** As registries list it under `/-/npm/v1/keys`. */
export interface LockedKey {
  readonly keytype: string
  readonly scheme: string
  /** SPKI, DER, base64. */
  readonly key: string
  /** ISO 8601. What was published later is not signed with it. */
  readonly expires?: string
}

export interface LockedPolicy {
  readonly versions: 'fewest' | 'highest'
  /** Absent for `hard`. */
  readonly pins?: 'soft'
  /** Absent for `warn`. */
  readonly engines?: 'strict'
  /** Names that must not be split, sorted. */
  readonly single?: readonly string[]
  /** Names kept apart on purpose, with the reason. */
  readonly split?: Readonly<Record<string, string>>
  /** Absent where no scripts are allowed. */
  readonly builds?: BuildPolicy
  /** As `platformName` writes them, sorted. */
  readonly platforms: readonly string[]
}

/** Which packages may run their install scripts, in a sandbox. */
export interface BuildPolicy {
  /** Name → range of versions. */
  readonly allow: Readonly<Record<string, string>>
  /** Name → variables for its scripts. */
  readonly env?: Readonly<Record<string, Readonly<Record<string, string>>>>
  /** Path of a workspace package that may run its own → what else of the repository they read. */
  readonly workspaces?: Readonly<Record<string, readonly string[]>>
}

export interface NpmLock {
  /** By path. */
  readonly services: Readonly<Record<string, LockedService>>
  readonly packages: Readonly<Record<PackageId, LockedPackage>>
  readonly instances: Readonly<Record<InstanceId, LockedInstance>>
  /** The flat root: install name → what stands there. Workspace packages stand in every checkout's root. */
  readonly root: Readonly<Record<string, Target>>
  /** The names kept at more than one version, with the demands that force it. */
  readonly splits: Readonly<Record<string, Split>>
}

/**
 * An installed package: `<install name>@<reference>`, an alias as `<alias>@npm:<name>@<reference>`, and behind it,
 * where the same package is there more than once, what its peers resolve to: `react-dom@18.3.1(react@18.3.1)`.
 */
export type InstanceId = string & { readonly __brand: 'InstanceId' }

/** An instance, or `link:<path>` for a workspace package (`link:packages/tide`, `link:.`). */
export type Target = InstanceId | `link:${string}`

export interface LockedService {
  readonly name?: string
  readonly version?: string
  /** The lockfile it was gathered from. */
  readonly lockfile: string
  readonly bin?: Readonly<Record<string, string>>
  readonly dependencies?: Readonly<Record<string, LockedRequirement>>
  readonly devDependencies?: Readonly<Record<string, LockedRequirement>>
  readonly optionalDependencies?: Readonly<Record<string, LockedRequirement>>
  readonly peerDependencies?: Readonly<Record<string, LockedRequirement>>
}

export interface LockedRequirement {
  /** As the manifest has it. */
  readonly specifier: string
  /** Absent if nothing satisfies it on any platform: a skipped optional package, a missing peer. */
  readonly use?: Target
  /** The package that the service's own lockfile had, where that differs from `use`. */
  readonly was?: string
}

export interface LockedPackage extends PlatformCondition {
  /** sha512, our own where the lockfile had a weaker one. */
  readonly integrity: Integrity
  /** The version in its manifest, where the id holds a source instead. */
  readonly version?: string
  /** Absent for the registry's own. */
  readonly tarball?: string
  readonly file?: string
  /** `url#commit`, with `&path:directory` behind it for a package that is a directory of the commit. */
  readonly git?: string
  /** The file that its artifact is patched with, and the sha256 of that file in hexadecimal. */
  readonly patch?: string
  readonly patchHash?: string
  readonly dependencies?: Readonly<Record<string, string>>
  readonly optionalDependencies?: Readonly<Record<string, string>>
  readonly peerDependencies?: Readonly<Record<string, string>>
  readonly optionalPeers?: readonly string[]
  readonly bundled?: readonly string[]
  readonly engines?: Readonly<Record<string, string>>
  readonly bin?: Readonly<Record<string, string>>
  /** It has install scripts. */
  readonly needsBuild?: true
  readonly deprecated?: string
}

export interface LockedInstance {
  readonly package: PackageId
  /** Install name → what it resolves to, for every edge that resolves to something, peers included. */
  readonly links?: Readonly<Record<string, Target>>
  /** Reached through optional edges only: left out where its platform condition does not hold. */
  readonly optional?: true
  /** It reaches a workspace package, so it has to stand inside the checkout and not in the shared environment. */
  readonly inCheckout?: true
}

/** Why a name is kept at several versions. */
export interface Split {
  /** By reference, ascending: who needs just this one. */
  readonly versions: Readonly<Record<string, SplitDemand>>
  /** True if the demands are pairwise disjoint: no locked version satisfies any two of them. */
  readonly proven: boolean
  /** The first-hand splits that it is there because of, sorted; absent for one that is first-hand itself. */
  readonly follows?: readonly string[]
}

export interface SplitDemand {
  /** The range of `owner`, the first of those that ask for it. */
  readonly range: string
  readonly owner: string
  /** How many owners ask for just this version. */
  readonly owners: number
}
