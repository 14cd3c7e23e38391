import { solveFewest, type Demand, type Problem, type Solution } from '@polder/solver'

import type { Candidate, Edge, ServiceOwner, Universe } from './compile.ts'

/** Who asks: a service or a candidate. */
export type Owner = ServiceOwner | Candidate

/** A demand that follows from several edges together, found while peers were resolved. */
export interface DerivedDemand {
  readonly owner: Owner
  readonly slot: number
  readonly allowed: readonly number[]
  readonly range: string
}

/** Which candidates the flattened environment holds, and the bound that proves it. */
export interface Selection {
  readonly problem: Problem
  readonly solution: Solution
  /** What the owners' numbers in the problem and the solution stand for. */
  readonly owners: readonly Owner[]
}

/**
 * The fewest candidates that satisfy every hard edge: prod, optional and peer edges, those optional peers that a
 * lockfile resolved, and the derived demands.
 */
export function select(
  universe: Universe,
  derived: readonly DerivedDemand[],
  single: readonly string[] = [],
): Selection {
  const owners: Owner[] = []
  const ownerNumber = new Map<Owner, number>()
  for (const owner of [...universe.services, ...universe.slots.flatMap((slot) => slot.candidates)]) {
    ownerNumber.set(owner, owners.length)
    owners.push(owner)
  }
  const extra = new Map<Owner, DerivedDemand[]>()
  for (const demand of derived) extra.set(demand.owner, [...(extra.get(demand.owner) ?? []), demand])
  const demandsOf = (owner: Owner): Demand[] => {
    const number = ownerNumber.get(owner) ?? -1
    return [
      ...owner.edges.filter(isHard).map((edge) => demand(edge.slot, edge.allowed, number, edge.locked)),
      ...(extra.get(owner) ?? []).map(({ slot, allowed }) => demand(slot, allowed, number, [])),
    ]
  }
  const problem: Problem = {
    names: universe.slots.map((slot) => slot.name),
    versions: universe.slots.map((slot) => slot.candidates.map((candidate) => candidate.version)),
    roots: universe.services.flatMap(demandsOf),
    demands: universe.slots.map((slot) => slot.candidates.map(demandsOf)),
    lockedCount: universe.slots.map((slot) => slot.candidates.map((candidate) => candidate.pin.lockfiles.length)),
  }
  const singles = universe.slots.filter(({ name }) => single.includes(name)).map(({ index }) => index)
  return { problem, solution: solveFewest(problem, { singles }), owners }
}

export function isService(owner: Owner): owner is ServiceOwner {
  return 'service' in owner
}

/** `services/berths`, `express@4.22.1`: how an owner is named to people. */
export function ownerName(owner: Owner): string {
  return isService(owner) ? owner.service.path : owner.id
}

/**
 * Whether an edge asks for a candidate. One that the workspace meets does not, nor an optional peer, unless some
 * lockfile resolved it: then it is visible to its owner, and what is visible has to fit.
 */
export function isHard(edge: Edge): boolean {
  return edge.allowed.length > 0 && !edge.workspace && (edge.kind !== 'optionalPeer' || edge.locked.length > 0)
}

function demand(slot: number, allowed: readonly number[], owner: number, locked: readonly number[]): Demand {
  const chosen = locked.at(-1)
  return chosen === undefined ? { slot, allowed, owner } : { slot, allowed, owner, locked: chosen }
}
