import type { Split, SplitDemand } from '@polder/lock'
import { sortKeys } from '@polder/spec'

import { fullReference, type Universe } from './compile.ts'
import { isHard, ownerName, type DerivedDemand, type Owner } from './select.ts'

interface Demand {
  readonly owner: Owner
  readonly allowed: readonly number[]
  readonly range: string
}

/**
 * Why each name is kept at several versions: for each version the demand that only it, of those kept, satisfies;
 * the narrowest one stands for them. Proven if no candidate at all satisfies two of these demands.
 */
export function explainSplits(
  universe: Universe,
  selected: readonly (readonly number[])[],
  derived: readonly DerivedDemand[],
): Record<string, Split> {
  const demands = activeDemands(universe, selected, derived)
  const splits: Record<string, Split> = {}
  for (const { index, name, candidates } of universe.slots) {
    const kept = selected[index] ?? []
    if (kept.length < 2) continue
    const versions: Record<string, SplitDemand> = {}
    const witnesses: Demand[] = []
    for (const position of kept) {
      const only = (demands.get(index) ?? []).filter(
        ({ allowed }) => kept.filter((other) => allowed.includes(other)).join() === `${position}`,
      )
      const witness = only.toSorted((a, b) => a.allowed.length - b.allowed.length)[0]
      if (witness !== undefined) witnesses.push(witness)
      const owners = new Set(only.map(({ owner }) => owner)).size
      const candidate = candidates[position]
      const version = candidate === undefined ? '' : fullReference(candidate)
      versions[version] = {
        range: witness?.range ?? '*',
        owner: witness === undefined ? '' : ownerName(witness.owner),
        owners,
      }
    }
    splits[name] = { proven: witnesses.length === kept.length && pairwiseDisjoint(witnesses), versions }
  }
  return sortKeys(splits)
}

function activeDemands(
  universe: Universe,
  selected: readonly (readonly number[])[],
  derived: readonly DerivedDemand[],
): ReadonlyMap<number, Demand[]> {
  const demands = new Map<number, Demand[]>()
  const add = (slot: number, demand: Demand): void => {
    const known = demands.get(slot)
    if (known === undefined) demands.set(slot, [demand])
    else known.push(demand)
  }
  const active = new Set<Owner>(universe.services)
  for (const slot of universe.slots)
    for (const position of selected[slot.index] ?? []) active.add(slot.candidates[position] as Owner)
  for (const owner of active) {
    for (const edge of owner.edges) {
      if (isHard(edge)) add(edge.slot, { owner, allowed: edge.allowed, range: edge.range })
    }
  }
  for (const { owner, slot, allowed, range } of derived) if (active.has(owner)) add(slot, { owner, allowed, range })
  return demands
}

function pairwiseDisjoint(demands: readonly Demand[]): boolean {
  const seen = new Set<number>()
  for (const { allowed } of demands) {
    for (const position of allowed) {
      if (seen.has(position)) return false
      seen.add(position)
    }
  }
  return true
}
