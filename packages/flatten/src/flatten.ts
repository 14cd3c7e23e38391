import type { Gathered, Policy, Requirement } from '@polder/gather'
import type {
  InstanceId,
  Lock,
  LockedInstance,
  LockedPackage,
  LockedRequirement,
  LockedService,
  Target,
} from '@polder/lock'
import { requirementsOf } from '@polder/lock/requirements'
import { compareText, sortKeys, type PackageId } from '@polder/spec'

import { compile, isExact, type Candidate, type PinnedManifest, type ServiceOwner, type Universe } from './compile.ts'
import { formInstances, type Instances } from './instances.ts'
import { withLockedPeers } from './locked-peers.ts'
import type { SharedPatch } from './patch-rule.ts'
import { resolvePeers, type Resolution, type UnmetPeer } from './resolve.ts'
import { select, type DerivedDemand, type Selection } from './select.ts'
import { refuseSplits } from './singles.ts'
import { explainSplits } from './splits.ts'

export interface Flattened {
  readonly lock: Lock
  readonly report: FlattenReport
}

/** What flattening did, for people. */
export interface FlattenReport {
  readonly services: number
  /** Install names, workspace packages not counted. */
  readonly names: number
  /** Candidates locked today that this lock could install, and what it does install. */
  readonly before: number
  readonly after: number
  /** True if the number of copies is proven to be the least; else the bound of what it could be. */
  readonly optimal: boolean
  readonly lowerBound: number
  /** Packages under other policies, for what this one costs or saves; only those that would differ. */
  readonly otherPolicies: Readonly<Partial<Record<'pins: soft' | 'versions: fewest', number>>>
  /** Requirements of services that get another version than their own lockfile's. */
  readonly moved: readonly Move[]
  /** Peers that see nothing, or something outside their range. As in the lockfiles, mostly: a warning, not a failure. */
  readonly unmetPeers: readonly UnmetPeer[]
  /** Packages that get something patched for services that have it unpatched. */
  readonly sharedPatches: readonly SharedPatch[]
}

export interface Move {
  readonly service: string
  readonly name: string
  readonly from: string
  readonly to: string
}

/** Each round adds at least one demand of some owner and slot; real repositories need one or two. */
const MAX_ROUNDS = 20

/**
 * Flattens what was gathered into one environment: one version of each package wherever the declared ranges allow.
 * Steps: compile to slots and candidates → select the fewest candidates → resolve peers per context (which may find
 * further demands: select again) → merge equal instances → choose the flat root → write it all down.
 * Deterministic, whatever the order of services and lockfiles.
 * @param manifests of every pin that belongs to a locked platform
 * @throws PolderError `ARTIFACT_MISSING` if a manifest is missing; `SINGLE_SPLIT` if a name that must not be split has to
 */
export function flatten(locked: Gathered, manifests: ReadonlyMap<PackageId, PinnedManifest>): Flattened {
  const gathered = withLockedPeers(locked, manifests)
  const { policy } = gathered.config
  const universe = compile(gathered, manifests, policy)
  const derived: DerivedDemand[] = []
  let selection: Selection
  let resolution: Resolution
  let preferred: (number | undefined)[]
  for (let round = 1; ; round++) {
    selection = select(universe, derived, policy.single)
    preferred = preferredRoots(universe, selection.solution.selected)
    resolution = resolvePeers(universe, selection.solution.selected, preferred)
    const fresh = resolution.derived.filter((demand) => !derived.some((known) => sameDemand(known, demand)))
    if (fresh.length === 0 || round === MAX_ROUNDS) break
    derived.push(...fresh)
  }
  const formed = formInstances(universe, resolution)
  const kept = keptCandidates(universe, formed)
  const lock: Lock = {
    lockfileVersion: 1,
    policy: {
      versions: policy.versions,
      platforms: gathered.config.platforms.toSorted(compareText),
      ...(policy.pins === 'soft' ? { pins: policy.pins } : {}),
      ...(policy.engines === 'strict' ? { engines: policy.engines } : {}),
      ...(policy.single.length === 0 ? {} : { single: policy.single }),
      ...(Object.keys(policy.split).length === 0 ? {} : { split: policy.split }),
      ...lockedBuilds(gathered.config.builds),
    },
    inputs: Object.fromEntries(gathered.inputs.map(({ path, digest }) => [path, digest])),
    npm: {
      services: services(universe, formed),
      packages: packages(formed),
      instances: instances(formed),
      root: flatRoot(universe, formed, preferred, resolution),
      splits: explainSplits(universe, kept, derived),
    },
  }
  refuseSplits(lock.npm, policy.single, selection)
  return {
    lock,
    report: {
      ...report(universe, selection, kept, lock, resolution),
      otherPolicies: otherPolicies(gathered, manifests, universe, kept, derived.length === 0 ? selection : undefined),
    },
  }
}

function lockedBuilds({ allow, env }: Gathered['config']['builds']): Pick<Lock['policy'], 'builds'> {
  if (Object.keys(allow).length === 0) return {}
  return { builds: { allow, ...(Object.keys(env).length === 0 ? {} : { env }) } }
}

/**
 * What should stand at the root of each slot: what the service at the root of the repository asks for, since its
 * `node_modules` is the root; then the candidate that most services ask for directly, then most packages, then the
 * highest. Nothing for a slot that a workspace package takes.
 */
function preferredRoots(universe: Universe, selected: readonly (readonly number[])[]): (number | undefined)[] {
  const votes = universe.slots.map((slot) => slot.candidates.map(() => 0))
  const vote = (edges: ServiceOwner['edges'], weight: number): void => {
    for (const { slot, allowed } of edges) {
      const ballot = votes[slot]
      if (ballot !== undefined) for (const position of allowed) ballot[position] = (ballot[position] ?? 0) + weight
    }
  }
  for (const { service, edges } of universe.services) vote(edges, service.path === '.' ? 1e12 : 1e6)
  for (const { index, candidates } of universe.slots)
    for (const position of selected[index] ?? []) vote(candidates[position]?.edges ?? [], 1)
  return universe.slots.map(({ index, workspace }) => {
    if (workspace !== null) return undefined
    const ballot = votes[index] ?? []
    return (selected[index] ?? []).toSorted((a, b) => (ballot[b] ?? 0) - (ballot[a] ?? 0) || b - a)[0]
  })
}

function flatRoot(
  universe: Universe,
  { instances: all, services: used, uses }: Instances,
  preferred: readonly (number | undefined)[],
  { hidden }: Resolution,
): Record<string, Target> {
  const standing = new Map<number, InstanceId[]>()
  for (const { id, node } of all.values())
    standing.set(node.candidate.slot, [...(standing.get(node.candidate.slot) ?? []), id])
  const linked = new Set([...used.values()].flatMap((links) => [...links.values()]))
  for (const { links } of all.values()) for (const { target } of links.values()) linked.add(target)
  const ownOfRoot = [...used].find(([owner]) => owner.service.path === '.')?.[1]
  const root: Record<string, Target> = {}
  for (const { index, name, workspace } of universe.slots) {
    const own = ownOfRoot?.get(name)
    if (own !== undefined) {
      root[name] = own
      continue
    }
    if (hidden.has(index)) continue
    if (workspace !== null && linked.has(`link:${workspace}`)) {
      root[name] = `link:${workspace}`
      continue
    }
    const rank = (id: InstanceId): readonly [boolean, number] => [
      all.get(id)?.node.candidate.index === preferred[index],
      uses.get(id) ?? 0,
    ]
    const best = (standing.get(index) ?? []).sort((a, b) => {
      const [left, right] = [rank(a), rank(b)]
      return Number(right[0]) - Number(left[0]) || right[1] - left[1] || compareText(a, b)
    })[0]
    if (best !== undefined) root[name] = best
  }
  return sortKeys(root)
}

function services(universe: Universe, formed: Instances): Record<string, LockedService> {
  const written: Record<string, LockedService> = {}
  for (const owner of universe.services) {
    const { path, manifest, lockfile, requirements } = owner.service
    const targets = formed.services.get(owner) ?? new Map<string, Target>()
    const group = (...kinds: readonly Requirement['kind'][]): Record<string, LockedRequirement> =>
      Object.fromEntries(
        requirements
          .filter(({ kind }) => kinds.includes(kind))
          .map((requirement) => [requirement.name, lockedRequirement(requirement, targets, formed)]),
      )
    written[path] = {
      ...(manifest.name === undefined ? {} : { name: manifest.name }),
      ...(manifest.version === undefined ? {} : { version: manifest.version }),
      lockfile,
      bin: manifest.bin,
      dependencies: group('prod'),
      devDependencies: group('dev'),
      optionalDependencies: group('optional'),
      peerDependencies: group('peer', 'optionalPeer'),
    }
  }
  return sortKeys(written)
}

function lockedRequirement(
  { name, specifier, locked }: Requirement,
  targets: ReadonlyMap<string, Target>,
  formed: Instances,
): LockedRequirement {
  const use = targets.get(name)
  if (use === undefined) return { specifier }
  const is = formed.instances.get(use as InstanceId)?.node.candidate.id
  const was = locked !== null && 'package' in locked && locked.package !== is ? locked.package : undefined
  return { specifier, use, ...(was === undefined ? {} : { was }) }
}

function packages(formed: Instances): Record<PackageId, LockedPackage> {
  const written: Record<PackageId, LockedPackage> = {}
  for (const { node } of formed.instances.values()) {
    const { pin, pinned } = node.candidate
    const { manifest } = pinned
    const own = new Set(manifest.bundled)
    const unbundled = (record: Readonly<Record<string, string>>): Record<string, string> =>
      Object.fromEntries(Object.entries(record).filter(([name]) => !own.has(name)))
    const { source } = pin
    written[pin.id] = {
      integrity: pinned.integrity,
      ...(source.kind === 'registry' ? {} : { version: manifest.version ?? '0.0.0' }),
      ...(source.kind === 'tarball' ? { tarball: source.url } : {}),
      ...(source.kind === 'file' ? { file: source.path } : {}),
      ...(source.kind === 'git' ? { git: `${source.url}#${source.commit}` } : {}),
      ...(pin.patch === undefined ? {} : { patch: pin.patch.path, patchHash: pin.patch.hash }),
      dependencies: unbundled(manifest.dependencies),
      optionalDependencies: unbundled(manifest.optionalDependencies),
      peerDependencies: manifest.peerDependencies,
      optionalPeers: manifest.optionalPeers,
      bundled: manifest.bundled,
      engines: manifest.engines,
      bin: manifest.bin,
      ...(manifest.os === undefined ? {} : { os: manifest.os }),
      ...(manifest.cpu === undefined ? {} : { cpu: manifest.cpu }),
      ...(manifest.libc === undefined ? {} : { libc: manifest.libc }),
      ...(pinned.needsBuild ? { needsBuild: true } : {}),
      ...(pin.deprecated === undefined ? {} : { deprecated: pin.deprecated }),
    }
  }
  return sortKeys(written)
}

function instances(formed: Instances): Record<InstanceId, LockedInstance> {
  const written: Record<InstanceId, LockedInstance> = {}
  for (const { id, node, links } of formed.instances.values()) {
    written[id] = {
      package: node.candidate.id,
      ...(formed.optional.has(id) ? { optional: true } : {}),
      ...(formed.inCheckout.has(id) ? { inCheckout: true } : {}),
      links: Object.fromEntries([...links].map(([name, { target }]) => [name, target])),
    }
  }
  return written
}

/** The positions that instances were formed of: a candidate that only stood by may have found no use. */
function keptCandidates(universe: Universe, { instances: all }: Instances): readonly (readonly number[])[] {
  const kept = universe.slots.map(() => new Set<number>())
  for (const { node } of all.values()) kept[node.candidate.slot]?.add(node.candidate.index)
  return kept.map((positions) => [...positions].sort((a, b) => a - b))
}

function report(
  universe: Universe,
  { solution }: Selection,
  kept: readonly (readonly number[])[],
  lock: Lock,
  resolution: Resolution,
): Omit<FlattenReport, 'otherPolicies'> {
  const moved: Move[] = []
  for (const [path, service] of Object.entries(lock.npm.services)) {
    for (const [name, { use, was }] of Object.entries(requirementsOf(service))) {
      if (use !== undefined && was !== undefined) moved.push({ service: path, name, from: was, to: use })
    }
  }
  const count = (candidates: Iterable<Candidate | undefined>): number =>
    new Set([...candidates].map((candidate) => candidate?.id)).size
  return {
    services: universe.services.length,
    names: kept.filter((positions) => positions.length > 0).length,
    before: count(universe.slots.flatMap((slot) => slot.candidates)),
    after: count(
      universe.slots.flatMap((slot) => (kept[slot.index] ?? []).map((position) => slot.candidates[position])),
    ),
    optimal: solution.optimal,
    lowerBound: solution.lowerBound.total,
    moved: moved.sort((a, b) => compareText(a.service, b.service) || compareText(a.name, b.name)),
    unmetPeers: [...resolution.unmetPeers, ...shownAnyway(universe, lock, resolution)].sort(
      (a, b) => compareText(a.owner, b.owner) || compareText(a.name, b.name),
    ),
    sharedPatches: universe.sharedPatches.toSorted(
      (a, b) => compareText(a.owner, b.owner) || compareText(a.uses, b.uses),
    ),
  }
}

/** What would be hidden if the service at the root did not ask for it. */
function shownAnyway(universe: Universe, { npm }: Lock, { hidden }: Resolution): UnmetPeer[] {
  return [...hidden].flatMap(([slot, unmet]) =>
    Object.hasOwn(npm.root, universe.slots[slot]?.name ?? '') ? [...unmet.values()] : [],
  )
}

/**
 * How many packages were selected had the other choice been made; demands that peers add are left out on both sides.
 * @param selection this policy's, if no such demand was in it
 */
function otherPolicies(
  gathered: Gathered,
  manifests: ReadonlyMap<PackageId, PinnedManifest>,
  universe: Universe,
  kept: readonly (readonly number[])[],
  selection: Selection | undefined,
): FlattenReport['otherPolicies'] {
  const { policy } = gathered.config
  const total = ({ solution }: Selection): number => solution.selected.reduce((sum, { length }) => sum + length, 0)
  const under = (changed: Partial<Policy>): number =>
    total(select(compile(gathered, manifests, { ...policy, ...changed }, universe.ranges), [], policy.single))
  // Only an exact version of a name that is split could save anything by moving.
  const movable = universe.services.some(({ edges }) =>
    edges.some(({ range, slot }) => isExact(range) && (kept[slot]?.length ?? 0) > 1),
  )
  const [asksSoft, asksFewest] = [policy.pins === 'hard' && movable, policy.versions === 'highest']
  if (!asksSoft && !asksFewest) return {}
  const own = total(selection ?? select(universe, [], policy.single))
  const soft = asksSoft ? under({ pins: 'soft' }) : own
  const fewest = asksFewest ? under({ versions: 'fewest' }) : own
  return {
    ...(soft < own ? { 'pins: soft': soft } : {}),
    ...(fewest < own ? { 'versions: fewest': fewest } : {}),
  }
}

function sameDemand(a: DerivedDemand, b: DerivedDemand): boolean {
  return a.owner === b.owner && a.slot === b.slot && a.allowed.join() === b.allowed.join()
}
