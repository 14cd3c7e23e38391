import type { Candidate, Edge, ServiceOwner } from './compile.ts'

/** Who asks: a service or a candidate. */
export type Owner = ServiceOwner | Candidate

/** What an owner cannot do without: "one of these candidates of that slot". */
export type HardDemand = Pick<Edge, 'slot' | 'allowed' | 'range' | 'locked'>

/** A demand that follows from several edges together, found while peers were resolved. */
export interface DerivedDemand extends HardDemand {
  readonly owner: Owner
}

/** What owners ask for. */
export type Asked = (owner: Owner) => readonly HardDemand[]

/** Their hard edges, and what was derived for them. */
export function demandsOf(derived: readonly DerivedDemand[]): Asked {
  const extra = Map.groupBy(derived, ({ owner }) => owner)
  const known = new Map<Owner, readonly HardDemand[]>()
  return (owner) => {
    let demands = known.get(owner)
    if (demands === undefined)
      known.set(owner, (demands = [...owner.edges.filter(isHard), ...(extra.get(owner) ?? [])]))
    return demands
  }
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
function isHard(edge: Edge): boolean {
  return edge.allowed.length > 0 && !edge.workspace && (edge.kind !== 'optionalPeer' || edge.locked.length > 0)
}
