import type { Gathered, Requirement } from '@polder/gather'
import type {
  InstanceId,
  Lock,
  LockedInstance,
  LockedPackage,
  LockedRequirement,
  LockedService,
  Target,
} from '@polder/lock'
import { compareText, sortKeys, type PackageId } from '@polder/spec'

import { compile, type PinnedManifest, type ServiceOwner, type Universe } from './compile.ts'
import { demandsOf, type Asked, type DerivedDemand } from './demands.ts'
import { splitCauses } from './first-hand.ts'
import { formInstances, type Instances } from './instances.ts'
import { withLockedPeers } from './locked-peers.ts'
import { reportOf, type FlattenReport } from './report.ts'
import { resolvePeers, type Resolution } from './resolve.ts'
import { select, type Selection } from './select.ts'
import { refuseSplits } from './singles.ts'
import { explainSplits, keptVersions } from './splits.ts'

export interface Flattened {
  readonly lock: Lock
  readonly report: FlattenReport
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
  const { first, selection, asked, resolution, preferred } = settle(universe, policy.single)
  const formed = formInstances(universe, resolution)
  const kept = keptVersions(universe, formed.instances.values())
  const causes = splitCauses(universe, kept, asked)
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
      splits: explainSplits(universe, kept, asked, causes),
    },
  }
  refuseSplits(lock.npm, policy.single, selection)
  return {
    lock,
    report: reportOf(gathered, manifests, { universe, first, resolution, kept, asked, causes, lock }),
  }
}

interface Settled {
  /** What was selected before anything was derived. */
  readonly first: Selection
  readonly selection: Selection
  /** With what was derived. */
  readonly asked: Asked
  readonly resolution: Resolution
  readonly preferred: readonly (number | undefined)[]
}

/** Selects, and again for as long as peers turn out to ask for more. */
function settle(universe: Universe, single: readonly string[]): Settled {
  const derived: DerivedDemand[] = []
  let asked = demandsOf(derived)
  const first = select(universe, asked, single)
  for (let [round, selection] = [1, first]; ; round++) {
    const { selected } = selection.solution
    const preferred = preferredRoots(universe, selected)
    const resolution = resolvePeers(universe, selected, preferred)
    const fresh = resolution.derived.filter((demand) => !derived.some((known) => sameDemand(known, demand)))
    if (fresh.length === 0 || round === MAX_ROUNDS) return { first, selection, asked, resolution, preferred }
    derived.push(...fresh)
    asked = demandsOf(derived)
    selection = select(universe, asked, single)
  }
}

function lockedBuilds({ allow, env, workspaces }: Gathered['config']['builds']): Pick<Lock['policy'], 'builds'> {
  const isEmpty = (record: object): boolean => Object.keys(record).length === 0
  if (isEmpty(allow) && isEmpty(workspaces)) return {}
  return { builds: { allow, ...(isEmpty(env) ? {} : { env }), ...(isEmpty(workspaces) ? {} : { workspaces }) } }
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
      ...(source.kind === 'git' ? { git: gitAddress(source) } : {}),
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

/** As pnpm writes it. */
function gitAddress({ url, commit, path }: { url: string; commit: string; path?: string }): string {
  return `${url}#${commit}${path === undefined ? '' : `&path:${path}`}`
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

function sameDemand(a: DerivedDemand, b: DerivedDemand): boolean {
  return a.owner === b.owner && a.slot === b.slot && a.allowed.join() === b.allowed.join()
}
