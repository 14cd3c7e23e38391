import type { InstanceId, Lock, LockedPackage, Target } from '@polder/lock'
import {
  compareText,
  type Integrity,
  matchesEngines,
  matchesPlatform,
  type PackageId,
  type Platform,
  PolderError,
  sortKeys,
  splitPackageId,
} from '@polder/spec'
import { RangeCache } from '@polder/spec/semver-ranges'
import { builtTreeId, patchedTreeId, treeId, type TreeId } from '@polder/store'

import { type Toolchain, toolchainIdentity } from './toolchain.ts'

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

/** Builds of one lock with one toolchain, planned as they are asked for. */
export interface BuildPlan {
  /** The tree that an instance is built to; undefined if it is not built: it has no scripts, or they are not allowed. */
  readonly builtTree: (instance: InstanceId) => TreeId | undefined
  /**
   * What the id of its tree is the hash of, as a JSON array: the format's number, the instance, all else, and, last,
   * `"unenforced"` for what nothing kept in.
   */
  readonly recipe: (instance: InstanceId) => string | undefined
  /** Those whose trees were asked for, and what these need, by instance. */
  readonly builds: () => readonly PlannedBuild[]
}

/** Another number where the same package is built in another way. */
const FORMAT = 1

interface PlanOptions {
  /**
   * What nothing keeps in is not what a sandbox gives: its trees have ids of their own, so that whoever requires a
   * sandbox neither takes them nor any environment made of them.
   */
  readonly unenforced?: boolean
  /** The instances that are built in an environment of their own, each with the lock of that, which has the instance too. */
  readonly environments?: ReadonlyMap<InstanceId, Lock>
}

/**
 * Which packages of a lock are built, and as what. The id of a built tree covers what it starts from, its scripts (which
 * that has), the toolchain, the declared environment and everything it can load while it is built. So it is known
 * before anything runs, and is the same on every machine with the same toolchain.
 * @param platform what is for another one is not there while something is built
 */
export function planBuilds(
  lock: Lock,
  toolchain: Toolchain,
  platform: Platform,
  scriptsOf: ScriptsOf,
  { unenforced = false, environments = new Map() }: PlanOptions = {},
): BuildPlan {
  const packages = new AllowedPackages(lock, platform, scriptsOf)
  const planned = new Map<InstanceId, PlannedBuild>()
  const recipes = new Map<InstanceId, string>()
  const elsewhere: PlannedBuild[] = []

  const planElsewhere = (instance: InstanceId, environment: Lock): PlannedBuild | undefined => {
    const inner = planBuilds(environment, toolchain, platform, scriptsOf, { unenforced })
    const recipe = inner.recipe(instance)
    const builds = inner.builds()
    const own = builds.find((build) => build.instance === instance)
    if (recipe === undefined || own === undefined) return undefined
    recipes.set(instance, recipe)
    elsewhere.push(...builds.filter((build) => build !== own))
    return { ...own, ownEnvironment: true }
  }
  const plan = (instance: InstanceId): PlannedBuild => {
    const before = planned.get(instance)
    if (before !== undefined) return before
    const environment = environments.get(instance)
    const ready = environment === undefined ? undefined : planElsewhere(instance, environment)
    if (ready !== undefined) {
      planned.set(instance, ready)
      return ready
    }
    const { scripts = [] } = packages.scripts(instance) ?? {}
    const reached = [...packages.reachedFrom(instance)].sort(compareText)
    const closure = reached.map((other): ClosureEntry => {
      const tree = packages.isBuiltBefore(other, instance) ? plan(other).id : packages.source(other).tree
      const links = packages.links(other)
      return {
        instance: other,
        package: packages.idOf(other),
        name: nameOf(other),
        tree,
        source: packages.source(other),
        links,
      }
    })
    const compiles = reached.some((other) => packages.scripts(other)?.compiles === true)
    const env = packages.env(instance)
    const recipe = JSON.stringify([
      FORMAT,
      instance,
      scripts.map(({ event, command }) => [event, command]),
      toolchainIdentity(toolchain, compiles),
      env,
      closure.map(({ instance: other, tree, links }) => [other, tree, links]),
      ...(unenforced ? ['unenforced'] : []),
    ])
    recipes.set(instance, recipe)
    const build: PlannedBuild = {
      id: builtTreeId(recipe),
      package: packages.idOf(instance),
      instance,
      name: nameOf(instance),
      source: packages.source(instance),
      scripts,
      ...(packages.isOptional(instance) ? { optional: true as const } : {}),
      ...(unenforced ? { unenforced: true as const } : {}),
      env,
      closure,
      after: reached.filter((other) => packages.isBuiltBefore(other, instance)).map((other) => plan(other).id),
    }
    planned.set(instance, build)
    return build
  }
  return {
    builtTree: (instance) => (packages.scripts(instance) === undefined ? undefined : plan(instance).id),
    recipe: (instance) => {
      if (packages.scripts(instance) !== undefined) plan(instance)
      return recipes.get(instance)
    },
    builds: () =>
      [...new Map([...elsewhere, ...planned.values()].map((build) => [build.id, build])).values()].sort(
        (a, b) => compareText(a.instance, b.instance) || compareText(a.id, b.id),
      ),
  }
}

/** What a lock says of its instances, and which of them its policy lets run their scripts. */
class AllowedPackages {
  readonly #lock: Lock
  readonly #platform: Platform
  readonly #scriptsOf: ScriptsOf
  readonly #ranges = new RangeCache()
  readonly #scripts = new Map<InstanceId, PackageScripts | undefined>()
  readonly #reached = new Map<InstanceId, ReadonlySet<InstanceId>>()

  constructor(lock: Lock, platform: Platform, scriptsOf: ScriptsOf) {
    this.#lock = lock
    this.#platform = platform
    this.#scriptsOf = scriptsOf
  }

  idOf(instance: InstanceId): PackageId {
    const id = this.#lock.npm.instances[instance]?.package
    if (id === undefined || this.#lock.npm.packages[id] === undefined) {
      throw new PolderError('LOCK_INVALID', `the lock does not hold ${instance}`, { spec: instance })
    }
    return id
  }

  isOptional(instance: InstanceId): boolean {
    return this.#lock.npm.instances[instance]?.optional === true
  }

  source(instance: InstanceId): BuildSource {
    const { integrity, bin = {}, patch: path, patchHash: hash } = this.#package(instance)
    if (path === undefined || hash === undefined) return { tree: treeId(integrity), integrity, bin }
    return { tree: patchedTreeId(integrity, hash), integrity, bin, patch: { path, hash } }
  }

  /** Sorted by variable. */
  env(instance: InstanceId): Readonly<Record<string, string>> {
    const { env = {} } = this.#lock.policy.builds ?? {}
    const { name } = splitPackageId(this.idOf(instance))
    return sortKeys(Object.hasOwn(env, name) ? (env[name] ?? {}) : {})
  }

  /**
   * Without workspace packages: they stand in the checkout, and nothing that is shared can be built with them. And
   * without what is optional and for another platform or Node.
   */
  links(instance: InstanceId): Readonly<Record<string, InstanceId>> {
    const links: Record<string, InstanceId> = {}
    for (const [name, target] of Object.entries(this.#lock.npm.instances[instance]?.links ?? {})) {
      if (!isWorkspace(target) && this.#isHere(target)) links[name] = target
    }
    return sortKeys(links)
  }

  /** Undefined if nothing of it runs: it has no scripts, they are not allowed, or it stands in the checkout. */
  scripts(instance: InstanceId): PackageScripts | undefined {
    if (!this.#scripts.has(instance)) this.#scripts.set(instance, this.#allowedScripts(instance))
    return this.#scripts.get(instance)
  }

  /** Itself among them. */
  reachedFrom(instance: InstanceId): ReadonlySet<InstanceId> {
    let reached = this.#reached.get(instance) as Set<InstanceId> | undefined
    if (reached === undefined) {
      this.#reached.set(instance, (reached = new Set([instance])))
      for (const each of reached) for (const target of Object.values(this.links(each))) reached.add(target)
    }
    return reached
  }

  /** Of two that lead to each other only the later one, by name, finds the other built. */
  isBuiltBefore(other: InstanceId, instance: InstanceId): boolean {
    if (other === instance || this.scripts(other) === undefined) return false
    return compareText(other, instance) < 0 || !this.reachedFrom(other).has(instance)
  }

  #isHere(instance: InstanceId): boolean {
    const pkg = this.#package(instance)
    if (!matchesPlatform(pkg, this.#platform)) return false
    return !this.isOptional(instance) || matchesEngines(pkg, this.#platform)
  }

  #package(instance: InstanceId): LockedPackage {
    return this.#lock.npm.packages[this.idOf(instance)] as LockedPackage // idOf has seen it
  }

  #allowedScripts(instance: InstanceId): PackageScripts | undefined {
    const { allow = {} } = this.#lock.policy.builds ?? {}
    const pkg = this.#package(instance)
    const { name, reference } = splitPackageId(this.idOf(instance))
    const range = Object.hasOwn(allow, name) ? allow[name] : undefined
    if (pkg.needsBuild !== true || range === undefined || this.#lock.npm.instances[instance]?.inCheckout === true)
      return undefined
    if (range !== '*' && !this.#ranges.satisfies(pkg.version ?? reference, range)) return undefined
    const found = this.#scriptsOf(this.idOf(instance))
    return found === undefined || found.scripts.length === 0 ? undefined : found
  }
}

function isWorkspace(target: Target): target is Exclude<Target, InstanceId> {
  return target.startsWith('link:')
}

function nameOf(instance: InstanceId): string {
  return splitPackageId(instance).name
}
