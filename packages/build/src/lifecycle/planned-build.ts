import type { InstanceId } from '@polder/lock'
import type { Integrity, PackageId } from '@polder/spec'
import type { TreeId } from '@polder/store'

/** A package to build: from what, with what beside it, and under which id the result is kept. */
export interface PlannedBuild {
  readonly id: TreeId
  readonly package: PackageId
  readonly instance: InstanceId
  /** The directory in `node_modules`: an alias, perhaps. */
  readonly name: string
  /** The tree that it starts from. */
  readonly source: BuildSource
  /** In order. */
  readonly scripts: readonly BuildScript[]
  /** Who wants it can do without it. */
  readonly optional?: true
  /** It is of a plan for a machine that can confine nothing. */
  readonly unenforced?: true
  /** It is prepared in an environment of its own: what is beside it is also in a `node_modules` inside of it. */
  readonly ownEnvironment?: true
  /** Declared in polder.yaml, on top of what every build gets. */
  readonly env: Readonly<Record<string, string>>
  /** What it can load, itself among it: every instance that it leads to. Sorted by instance. */
  readonly closure: readonly ClosureEntry[]
  /** The builds whose results are in the closure. */
  readonly after: readonly TreeId[]
}

export interface BuildSource {
  readonly tree: TreeId
  readonly integrity: Integrity
  readonly patch?: { readonly path: string; readonly hash: string }
  readonly bin: Readonly<Record<string, string>>
}

/** `node-gyp rebuild` as `install` where there is a binding.gyp and neither a preinstall nor an install script, as npm does. */
export interface BuildScript {
  readonly event:
    | 'preinstall'
    | 'install'
    | 'postinstall'
    | 'prepublish'
    | 'preprepare'
    | 'prepare'
    | 'postprepare'
    | 'prepack'
  readonly command: string
}

export interface ClosureEntry {
  readonly instance: InstanceId
  readonly package: PackageId
  readonly name: string
  /** The built one where it is built. */
  readonly tree: TreeId
  readonly source: BuildSource
  /** Install name → instance, of what it leads to inside the closure. */
  readonly links: Readonly<Record<string, InstanceId>>
}

/** Which scripts a package has, in order, and whether they compile something. Absent if that is not known. */
export type ScriptsOf = (id: PackageId) => PackageScripts | undefined

export interface PackageScripts {
  readonly scripts: readonly BuildScript[]
  readonly compiles: boolean
}
