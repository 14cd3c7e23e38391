import type { Gathered, Policy } from '@polder/gather'
import type { Lock } from '@polder/lock'
import { requirementsOf } from '@polder/lock/requirements'
import { compareText, type PackageId } from '@polder/spec'

import { compile, isExact, type PinnedManifest, type Universe } from './compile.ts'
import { demandsOf, isService, type Asked } from './demands.ts'
import { mainVersions, type Kept, type SplitCauses } from './first-hand.ts'
import type { SharedPatch } from './patch-rule.ts'
import type { Resolution, UnmetPeer } from './resolve.ts'
import { select, type Selection } from './select.ts'

/** What flattening did, for people. A package that is there under several install names is one package. */
export interface FlattenReport {
  readonly services: number
  /** Install names, workspace packages not counted. */
  readonly names: number
  /** Packages locked today that this lock could install, and what it does install. */
  readonly before: number
  readonly after: number
  /** No selection of locked versions under this policy has fewer. */
  readonly lowerBound: number
  /** True if `after` is that. */
  readonly optimal: boolean
  /** Splits that are not there because of others, and those of them that are there without development dependencies. */
  readonly firstHand: { readonly all: number; readonly production: number }
  /** Packages under other policies, for what this one costs or saves; only those that would differ. */
  readonly otherPolicies: Readonly<Partial<Record<OtherPolicy, number>>>
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

/** As `polder.yaml` would have it. */
export type OtherPolicy = 'pins: soft' | 'single: []' | 'split: {}' | 'versions: fewest'

/** What the stages made of a repository. */
export interface Outcome {
  readonly universe: Universe
  /** What was selected before demands of peers were added: its bound holds with and without them. */
  readonly first: Selection
  readonly resolution: Resolution
  readonly kept: Kept
  readonly asked: Asked
  readonly causes: SplitCauses
  readonly lock: Lock
}

export function reportOf(
  gathered: Gathered,
  manifests: ReadonlyMap<PackageId, PinnedManifest>,
  outcome: Outcome,
): FlattenReport {
  const { universe, first, resolution, kept, causes, lock } = outcome
  const after = countPackages(universe, kept)
  const lowerBound = leastPackages(universe, first)
  return {
    services: universe.services.length,
    names: kept.filter((positions) => positions.length > 0).length,
    before: countPackages(universe, everything(universe)),
    after,
    lowerBound,
    optimal: after === lowerBound,
    firstHand: {
      all: [...causes.values()].filter(({ length }) => length === 0).length,
      production: mainVersions(universe, kept, inProduction(outcome)).firstHand.size,
    },
    otherPolicies: otherPolicies(gathered, manifests, universe, after, first),
    moved: moves(lock),
    unmetPeers: [...resolution.unmetPeers, ...shownAnyway(universe, lock, resolution)].sort(
      (a, b) => compareText(a.owner, b.owner) || compareText(a.name, b.name),
    ),
    sharedPatches: universe.sharedPatches.toSorted(
      (a, b) => compareText(a.owner, b.owner) || compareText(a.uses, b.uses),
    ),
  }
}

function countPackages({ slots }: Universe, selected: Kept): number {
  return new Set(slots.flatMap(({ index, candidates }) => (selected[index] ?? []).map((at) => candidates[at]?.id))).size
}

function everything({ slots }: Universe): Kept {
  return slots.map(({ candidates }) => candidates.map(({ index }) => index))
}

/**
 * The solver counts candidates of slots. A package that is selected in a slot and, by an alias, in another, is counted
 * twice: in any selection at most as often as it is among all candidates.
 */
function leastPackages(universe: Universe, { solution }: Selection): number {
  const all = everything(universe)
  const counted = all.reduce((sum, { length }) => sum + length, 0)
  return solution.lowerBound.total - (counted - countPackages(universe, all))
}

/** What would be asked of the same selection if services had no development dependencies. */
function inProduction({ universe, asked }: Outcome): Asked {
  return (owner) => {
    if (!isService(owner)) return asked(owner)
    const dev = new Set(owner.service.requirements.flatMap(({ kind, name }) => (kind === 'dev' ? [name] : [])))
    return asked(owner).filter(({ slot }) => !dev.has(universe.slots[slot]?.name ?? ''))
  }
}

function moves({ npm }: Lock): Move[] {
  const moved: Move[] = []
  for (const [path, service] of Object.entries(npm.services)) {
    for (const [name, { use, was }] of Object.entries(requirementsOf(service))) {
      if (use !== undefined && was !== undefined) moved.push({ service: path, name, from: was, to: use })
    }
  }
  return moved.sort((a, b) => compareText(a.service, b.service) || compareText(a.name, b.name))
}

/** What would be hidden if the service at the root did not ask for it. */
function shownAnyway(universe: Universe, { npm }: Lock, { hidden }: Resolution): UnmetPeer[] {
  return [...hidden].flatMap(([slot, unmet]) =>
    Object.hasOwn(npm.root, universe.slots[slot]?.name ?? '') ? [...unmet.values()] : [],
  )
}

/**
 * How many packages it would be had another choice been made. The demands that peers add are left out of both sides of
 * the comparison.
 * @param first what this policy selects without them
 */
function otherPolicies(
  gathered: Gathered,
  manifests: ReadonlyMap<PackageId, PinnedManifest>,
  universe: Universe,
  after: number,
  first: Selection,
): FlattenReport['otherPolicies'] {
  const { policy } = gathered.config
  const own = countPackages(universe, first.solution.selected)
  const under = (changed: Partial<Policy>): number => {
    const other = { ...policy, ...changed }
    const { solution } = select(compile(gathered, manifests, other, universe), demandsOf([]), other.single)
    return after - own + countPackages(universe, solution.selected)
  }
  // An exact version of a name that has no other cannot move.
  const movable = universe.services.some(({ edges }) =>
    edges.some(({ range, slot }) => isExact(range) && (universe.slots[slot]?.candidates.length ?? 0) > 1),
  )
  const others: (readonly [OtherPolicy, boolean, Partial<Policy>])[] = [
    ['pins: soft', policy.pins === 'hard' && movable, { pins: 'soft' }],
    ['single: []', policy.single.length > 0, { single: [] }],
    ['split: {}', Object.keys(policy.split).length > 0, { split: {} }],
    ['versions: fewest', policy.versions === 'highest', { versions: 'fewest' }],
  ]
  const counted = others.flatMap(([name, asks, changed]) => (asks ? [[name, under(changed)] as const] : []))
  return Object.fromEntries(counted.filter(([, packages]) => packages < after))
}
