import type { InstanceId } from '@polder/lock'
import type { Integrity, PackageId } from '@polder/spec'
import type { TreeId } from '@polder/store'

/**
 * `linked`: packages stand in the store's shared environment and the checkout holds links to them.
 * `self-contained`: everything stands inside the checkout, which then needs nothing outside of it.
 */
export type Layout = 'linked' | 'self-contained'

/** 40 hex digits over everything that shapes what is installed. */
export type EnvironmentId = string & { readonly __brand: 'EnvironmentId' }

/** Which of the two directories a planned path is relative to. */
export type Place = 'environment' | 'checkout'

/** What stands where on one platform; a plain value, everything sorted, all paths POSIX and relative to their place. */
export interface Plan {
  readonly layout: Layout
  readonly platform: string
  /** The shared environment's; in the self-contained layout a hash of the same facts about the checkout. */
  readonly id: EnvironmentId
  /** The packages of the shared environment; none in the self-contained layout. */
  readonly environment: readonly PlannedPackage[]
  readonly checkout: CheckoutPlan
  /** The packages with install scripts, which are not run. */
  readonly notBuilt: readonly PackageId[]
  /** By package; empty where no Node was given to plan for. */
  readonly unsupported: readonly Unsupported[]
}

/** A required package that is, by its `engines`, for another Node than the one that runs. */
export interface Unsupported {
  readonly package: PackageId
  /** The range of its `engines.node`. */
  readonly node: string
  /** A service's path, or an instance. */
  readonly neededBy: string
}

/** All of a plan that is needed where its environment is there: a fifth. */
export type LinkPlan = Omit<Plan, 'environment'>

export interface CheckoutPlan {
  /** Packages that stand in the checkout as real directories. */
  readonly packages: readonly PlannedPackage[]
  /** `node_modules/<name>`, `<service>/node_modules/<name>` and every `.bin/<command>`. */
  readonly links: readonly LinkedDirectory[]
  /** The services that get a `node_modules` of their own. `.` is not among them. */
  readonly services: readonly string[]
}

/**
 * The links of one directory of the checkout, ready to be made: a further checkout does nothing else. A text that begins
 * with `/` is a path in the environment, all others are what the link says.
 */
export interface LinkedDirectory {
  readonly path: string
  /** Most lead to their own name in one other directory. */
  readonly to: string
  readonly names: readonly string[]
  readonly others: readonly (readonly [name: string, text: string])[]
}

/** An instance as a directory of files. */
export interface PlannedPackage {
  readonly instance: InstanceId
  readonly package: PackageId
  readonly integrity: Integrity
  /** What its files are linked from: the artifact's tree, unless something was done to it. */
  readonly tree: TreeId
  /** A file of the repository, with the hash that it has to have, by which the artifact is changed. */
  /** Its tree is what its install scripts made, which no artifact can be unpacked to. */
  readonly built?: true
  readonly patch?: { readonly path: string; readonly hash: string }
  readonly bin: Readonly<Record<string, string>>
  readonly directory: string
  /** What Node would otherwise resolve to something else. Where the package bundles the name, its own copy stays. */
  readonly links: readonly PlannedLink[]
}

/** A symbolic link: relative within one place, absolute from the checkout into the environment. */
export interface PlannedLink {
  readonly path: string
  readonly target: { readonly place: Place; readonly path: string }
}
