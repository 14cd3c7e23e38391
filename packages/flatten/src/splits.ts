import type { Split, SplitDemand } from '@polder/lock'
import { sortKeys } from '@polder/spec'

import { fullReference, type Universe } from './compile.ts'
import { ownerName, type Asked, type HardDemand, type Owner } from './demands.ts'
import type { Kept, SplitCauses } from './first-hand.ts'
import type { Instance } from './instances.ts'

interface Demand extends HardDemand {
  readonly owner: Owner
}

/** The positions that instances were formed of: a candidate that only stood by may have found no use. */
export function keptVersions({ slots }: Universe, instances: Iterable<Instance>): Kept {
  const kept = slots.map(() => new Set<number>())
  for (const { node } of instances) kept[node.candidate.slot]?.add(node.candidate.index)
  return kept.map((positions) => [...positions].sort((a, b) => a - b))
}

/**
 * Why each name is kept at several versions: for each version the demand that only it, of those kept, satisfies;
 * the narrowest one stands for them. Proven if no candidate at all satisfies two of these demands.
 */
export function explainSplits(
  universe: Universe,
  kept: Kept,
  asked: Asked,
  causes: SplitCauses,
): Record<string, Split> {
  const demands = activeDemands(universe, kept, asked)
  const splits: Record<string, Split> = {}
  for (const [slot, from] of causes) {
    const { name = '', candidates = [] } = universe.slots[slot] ?? {}
    const versions: Record<string, SplitDemand> = {}
    const witnesses: Demand[] = []
    const positions = kept[slot] ?? []
    for (const position of positions) {
      const only = (demands.get(slot) ?? []).filter(
        ({ allowed }) => positions.filter((other) => allowed.includes(other)).join() === `${position}`,
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
    const follows = from.map((cause) => universe.slots[cause]?.name ?? '')
    splits[name] = {
      proven: witnesses.length === positions.length && pairwiseDisjoint(witnesses),
      ...(follows.length === 0 ? {} : { follows }),
      versions,
    }
  }
  return sortKeys(splits)
}

/** By split slot, in the order of services and candidates. */
function activeDemands(universe: Universe, kept: Kept, asked: Asked): ReadonlyMap<number, Demand[]> {
  const selected = universe.slots.flatMap(({ index, candidates }) =>
    (kept[index] ?? []).flatMap((position) => candidates[position] ?? []),
  )
  const all = [...universe.services, ...selected].flatMap((owner) =>
    asked(owner).flatMap((demand): Demand[] => ((kept[demand.slot]?.length ?? 0) > 1 ? [{ ...demand, owner }] : [])),
  )
  return Map.groupBy(all, ({ slot }) => slot)
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
