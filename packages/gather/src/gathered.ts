import type { Additions, Integrity, Manifest, PackageId, PackageSource, PlatformCondition } from '@polder/spec'

import type { Config } from './config.ts'

/** What a repository locks today: every service's path environment, over all of its lockfiles. */
export interface Gathered {
  /** Absolute. All other paths are relative to it, POSIX, `.` for itself. */
  readonly root: string
  readonly config: Config
  /** Services and workspace packages alike, sorted by path. */
  readonly services: readonly GatheredService[]
  /** Every candidate that some service reaches, sorted by id. Packages inside a bundle are not pins, nor are orphans of a lockfile. */
  readonly pins: ReadonlyMap<PackageId, Pin>
  /** The pins that no lockfile has; absent if there is no `polder.pins.yaml`. */
  readonly additions?: Additions
  /** The files that the result depends on and a digest of what matters in each, sorted by path. */
  readonly inputs: readonly Input[]
  /** Sentences for the user, sorted. */
  readonly warnings: readonly string[]
}

/** A directory with its own dependency declarations: an importer of a workspace lock, or the directory of a lock. */
export interface GatheredService {
  readonly path: string
  readonly manifest: Manifest
  /** The lockfile that locks it, relative to the repository. */
  readonly lockfile: string
  /** Sorted by install name, one each. */
  readonly requirements: readonly Requirement[]
}

export type RequirementKind = 'prod' | 'dev' | 'optional' | 'peer' | 'optionalPeer'

/** One line of a service's manifest, with what its lockfile chose for it. */
export interface Requirement {
  /** The install name: the key in `package.json`. An alias (`"a": "npm:b@1"`) is its own name, `a`. */
  readonly name: string
  readonly kind: RequirementKind
  /** As the manifest has it: `^1.0.0`, `workspace:*`, `catalog:`, `npm:b@^1`. */
  readonly specifier: string
  /** The npm range, with alias, catalog and workspace protocol resolved; null where only the locked source itself will do. */
  readonly range: string | null
  /** Null if the lock left it out: an optional package that was skipped, a peer that nobody provides. */
  readonly locked: Target | null
}

/** What an edge leads to: a candidate, or a workspace package (its path). */
export type Target = { readonly package: PackageId } | { readonly workspace: string }

/** What a lockfile does to a package: a file of the repository, and its sha256 in hexadecimal. */
export interface PackagePatch {
  readonly path: string
  readonly hash: string
}

/** As in a manifest, name → range. */
export interface ManifestExtension {
  readonly dependencies: Readonly<Record<string, string>>
  readonly peerDependencies: Readonly<Record<string, string>>
  /** Sorted. */
  readonly optionalPeers: readonly string[]
}

/** A candidate as the lockfiles know it. */
export interface Pin extends PlatformCondition {
  readonly id: PackageId
  /** The real name, never an alias. */
  readonly name: string
  /** As in the id after the name, without its patch: a version for registry packages, the source otherwise. */
  readonly reference: string
  /** The strongest hash that any lockfile gives. */
  readonly integrity: Integrity | null
  /**
   * True if there is no hash because no lockfile that pins it can have one: yarn 2 and newer record the hashes of
   * archives that they make themselves. What the registry's document says is trusted when the artifact first comes.
   */
  readonly hashFromRegistry?: true
  readonly source: PackageSource
  /** The candidate is the artifact with this applied. The id has the beginning of its hash, `reference` has not. */
  readonly patch?: PackagePatch
  /** What the client adds to its manifest where that has nothing for a name (`packageExtensions`). */
  readonly extension?: ManifestExtension
  /** What the lockfiles resolved, by install name, sorted; the union where several lockfiles or places differ. */
  readonly edges: readonly LockedEdge[]
  /** The lockfiles that pin it, sorted. */
  readonly lockfiles: readonly string[]
  /** True if every path from every service to it passes an optional edge. */
  readonly optional: boolean
  readonly deprecated?: string
}

export interface LockedEdge {
  /** The install name. */
  readonly name: string
  /** Sorted; at least one. */
  readonly targets: readonly Target[]
}

export interface Input {
  readonly path: string
  /** `sha256-<hex>` of the file, or of the dependency fields of a `package.json`. */
  readonly digest: string
}
