import type { InstanceId, Lock, LockedPackage, Target } from '@polder/lock'
import { mayRunScripts } from '@polder/lock/allowed-scripts'
import {
  compareText,
  matchesEngines,
  matchesPlatform,
  type PackageId,
  type Platform,
  PolderError,
  sortKeys,
  splitPackageId,
} from '@polder/spec'
import { RangeCache } from '@polder/spec/semver-ranges'
import { patchedTreeId, treeId } from '@polder/store'

import type { BuildSource, PackageScripts, ScriptsOf } from './planned-build.ts'

/** What a lock says of its instances, and which of them its policy lets run their scripts. */
export class AllowedPackages {
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
    const id = this.idOf(instance)
    if (this.#lock.npm.instances[instance]?.inCheckout === true || !mayRunScripts(this.#lock, id, this.#ranges))
      return undefined
    const found = this.#scriptsOf(id)
    return found === undefined || found.scripts.length === 0 ? undefined : found
  }
}

function isWorkspace(target: Target): target is Exclude<Target, InstanceId> {
  return target.startsWith('link:')
}
