import type { InstanceId, LockedInstance, NpmLock } from '@polder/lock'
import { requirementsOf } from '@polder/lock/requirements'
import { compareText, type PackageId, splitPackageId } from '@polder/spec'
import { RangeCache } from '@polder/spec/semver-ranges'

/** Why something is in the environment: an owner, what it asks for, and the shortest way to it. */
export interface Reason {
  /** A service's path, or a package's instance. */
  readonly owner: string
  /** As its manifest has it. */
  readonly range: string
  /** From a service to the owner, the service first. */
  readonly path: readonly string[]
}

/** A name kept at several versions, with everything that stands behind each. */
export interface SplitExplanation {
  readonly name: string
  /** As in the lock: no candidate satisfies any two of the demands. */
  readonly proven: boolean
  /** The first-hand splits that it is there because of, sorted; empty if it is first-hand itself. */
  readonly follows: readonly string[]
  /** The splits that are there because of it, among others maybe; sorted. */
  readonly followers: readonly string[]
  /** By reference, in the lock's order. */
  readonly versions: readonly ExplainedVersion[]
  /** What a person could change, one sentence each; empty if no service alone can do anything. */
  readonly remedies: readonly string[]
}

export interface ExplainedVersion {
  readonly version: string
  /** The owners that accept no other of the kept versions, nearest to a service first. */
  readonly demands: readonly Reason[]
}

/**
 * Who leads to each target of an install name, nearest to a service first.
 * @param service only over what this service reaches
 */
export function reasonsFor(npm: NpmLock, name: string, service?: string): ReadonlyMap<string, readonly Reason[]> {
  const instances = npm.instances as Readonly<Record<string, LockedInstance>>
  const found = new Map<string, Reason[]>()
  const note = (target: string, reason: Reason): void => {
    const known = found.get(target)
    if (known === undefined) found.set(target, [reason])
    else known.push(reason)
  }
  const paths = new Map<string, readonly string[]>()
  const queue: InstanceId[] = []
  const visit = (target: string, path: readonly string[]): void => {
    if (paths.has(target) || instances[target] === undefined) return
    paths.set(target, path)
    queue.push(target as InstanceId)
  }
  for (const [path, locked] of Object.entries(npm.services)) {
    if (service !== undefined && path !== service) continue
    for (const [dependency, { specifier, use }] of Object.entries(requirementsOf(locked))) {
      if (use === undefined) continue
      if (dependency === name) note(use, { owner: path, range: specifier, path: [path] })
      visit(use, [path])
    }
  }
  for (let index = 0; index < queue.length; index++) {
    const id = queue[index] as InstanceId
    const instance = instances[id]
    if (instance === undefined) continue
    const path = [...(paths.get(id) ?? []), id]
    for (const [dependency, target] of Object.entries(instance.links ?? {})) {
      if (dependency === name)
        note(target, { owner: id, range: declaredRange(npm, instance.package, dependency), path })
      visit(target, path)
    }
  }
  return new Map([...found].sort(([a], [b]) => compareText(a, b)))
}

/** The certificate of a split, with the chains behind it; undefined if the name is not split. */
export function explainSplit(npm: NpmLock, name: string): SplitExplanation | undefined {
  const split = npm.splits[name]
  if (split === undefined) return undefined
  const ranges = new RangeCache()
  const kept = Object.keys(split.versions)
  const reasons = [...reasonsFor(npm, name)]
  const versions = kept.map((version): ExplainedVersion => {
    const leading = reasons.filter(([target]) => referenceOf(npm, target) === version).flatMap(([, all]) => all)
    const onlyThis = leading.filter(
      ({ range }) => !kept.some((other) => other !== version && ranges.satisfies(other, npmRange(range))),
    )
    const demands = onlyThis.length > 0 ? onlyThis : leading
    return {
      version,
      demands: demands.toSorted((a, b) => a.path.length - b.path.length || compareText(a.owner, b.owner)),
    }
  })
  const { proven, follows = [] } = split
  return { name, proven, follows, followers: followersOf(npm, name), versions, remedies: remedies(name, versions) }
}

/** The names of all splits: first-hand ones, those first from which most others follow, and then the others. */
export function splitNames(npm: NpmLock): string[] {
  const followers = new Map<string, number>()
  for (const { follows = [] } of Object.values(npm.splits))
    for (const cause of follows) followers.set(cause, (followers.get(cause) ?? 0) + 1)
  const rank = (name: string): number => (npm.splits[name]?.follows === undefined ? (followers.get(name) ?? 0) : -1)
  return Object.keys(npm.splits).sort((a, b) => rank(b) - rank(a) || compareText(a, b))
}

/** The splits that are there because of one. */
export function followersOf({ splits }: NpmLock, name: string): string[] {
  return Object.keys(splits).filter((other) => splits[other]?.follows?.includes(name) === true)
}

/** A version that only services ask for directly goes when they ask for what the others ask for, with its patch. */
function remedies(name: string, versions: readonly ExplainedVersion[]): string[] {
  return versions.flatMap(({ version, demands }) => {
    const services = [...new Set(demands.map(({ owner, path }) => (path.length === 1 ? owner : null)))]
    const others = versions.filter((candidate) => candidate.version !== version)
    const other = others[0]?.demands[0]
    if (services.length === 0 || services.length > 3 || services.includes(null) || other === undefined) return []
    if (others.some((candidate) => unpatched(candidate.version) === unpatched(version)))
      return [`patch ${name} ${unpatched(version)} for ${services.join(' and ')} as the others do, and ${version} goes`]
    return [`bump ${name} in ${services.join(' and ')} to ${other.range}, and ${version} goes`]
  })
}

/** `1.0.0(patch=…)` is 1.0.0. */
function unpatched(version: string): string {
  return splitPackageId(`-@${version}`).reference
}

function declaredRange(npm: NpmLock, id: PackageId, dependency: string): string {
  const { dependencies, optionalDependencies, peerDependencies } = npm.packages[id] ?? {}
  const peer = peerDependencies?.[dependency]
  return (
    dependencies?.[dependency] ??
    optionalDependencies?.[dependency] ??
    (peer === undefined ? 'what its lockfile has' : `${peer} (peer)`)
  )
}

/** The reference of the package that a target stands for, `5.6.2`; of a workspace package none. */
function referenceOf(npm: NpmLock, target: string): string | undefined {
  const id = npm.instances[target as InstanceId]?.package
  return id?.slice(id.indexOf('@', 1) + 1)
}

/** What is shown to people, as a range again. */
function npmRange(range: string): string {
  return range.replace(/ \(peer\)$/, '').replace(/^npm:(?:@[^/]+\/)?[^@]+@/, '')
}
