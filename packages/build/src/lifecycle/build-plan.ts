import type { InstanceId, Lock } from '@polder/lock'
import { compareText, type Platform, splitPackageId } from '@polder/spec'
import { builtTreeId, type TreeId } from '@polder/store'

import { AllowedPackages } from './allowed-packages.ts'
import type { ClosureEntry, PlannedBuild, ScriptsOf } from './planned-build.ts'
import { type Toolchain, toolchainIdentity } from './toolchain.ts'

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

function nameOf(instance: InstanceId): string {
  return splitPackageId(instance).name
}
