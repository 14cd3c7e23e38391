import type { Candidate, Universe } from './compile.ts'
import type { Asked, Owner } from './demands.ts'

/** Per slot the positions of what is kept there, ascending. */
export type Kept = readonly (readonly number[])[]

/** Split slots, ascending, each with the first-hand splits that it follows from; none for a first-hand one. */
export type SplitCauses = ReadonlyMap<number, readonly number[]>

/**
 * Which splits bring about which. The *main version* of a name is the newest that suits those who come first: the
 * services, and what they reach over main versions alone. Where no version suits them all, the split is *first-hand*.
 * What needs another than the main version of any other name is there only because of a first-hand split: it is reached
 * by way of a version of that name that is not the main one. So were each first-hand demand met by a main version,
 * nothing would be split.
 *
 * Worked example: services need glob 7 and glob 10, glob 7 needs minimatch 3, glob 10 minimatch 9. The split of glob is
 * first-hand, that of minimatch follows from it. If a service needs minimatch 3 as well, both are first-hand.
 *
 * @param asked what an owner needs: one way to look at a selection (in production, say) is a function of its own
 */
export function splitCauses(universe: Universe, kept: Kept, asked: Asked): SplitCauses {
  const { main, owners, firstHand } = mainVersions(universe, kept, asked)
  const candidateAt = (slot: number, position: number): Candidate | undefined =>
    universe.slots[slot]?.candidates[position]
  const aside = new Map<Owner, readonly Candidate[]>()
  /** The candidates that an owner needs beside the main versions. */
  const needsAside = (owner: Owner): readonly Candidate[] => {
    let needed = aside.get(owner)
    if (needed === undefined) {
      needed = asked(owner).flatMap(({ slot, allowed }) => {
        const own = main.get(slot)
        const position = kept[slot]?.findLast((each) => allowed.includes(each))
        const isMain = position === undefined || (own !== undefined && allowed.includes(own))
        return isMain ? [] : (candidateAt(slot, position) ?? [])
      })
      aside.set(owner, needed)
    }
    return needed
  }
  const starts = Map.groupBy(owners.flatMap(needsAside), ({ slot }) => slot)
  const causes = new Map<number, number[]>()
  for (const [slot, { length }] of kept.entries()) if (length > 1) causes.set(slot, [])
  for (const cause of [...firstHand].sort((a, b) => a - b)) {
    const reached = new Set<Candidate>(starts.get(cause))
    for (const owner of reached) for (const needed of needsAside(owner)) reached.add(needed)
    const slots = new Set([...reached].map(({ slot }) => slot))
    for (const slot of slots) if (!firstHand.has(slot)) causes.get(slot)?.push(cause)
  }
  return causes
}

export interface MainVersions {
  /** Slot → position; nothing for a slot that only comes with a split. */
  readonly main: ReadonlyMap<number, number>
  /** Services, and the main versions that they reach over main versions. */
  readonly owners: readonly Owner[]
  /** Slots of which one of these owners needs another version. */
  readonly firstHand: ReadonlySet<number>
}

/** What suits everybody depends on who is reached, and the other way round: a few rounds settle it, mostly two. */
const MAX_ROUNDS = 6

export function mainVersions(universe: Universe, kept: Kept, asked: Asked): MainVersions {
  let preferred: ReadonlyMap<number, number> = new Map()
  let best: MainVersions | undefined
  for (let round = 1; ; round++) {
    const { main, owners, sets } = walk(universe, kept, asked, preferred)
    const firstHand = new Set<number>()
    const next = new Map<number, number>()
    for (const [slot, demands] of sets) {
      const chosen = main.get(slot)
      if (chosen === undefined || demands.some((allowed) => !allowed.includes(chosen))) firstHand.add(slot)
      const suited = newest(kept[slot], demands, 'every')
      if (suited !== undefined) next.set(slot, suited)
    }
    if (best === undefined || firstHand.size < best.firstHand.size) best = { main, owners, firstHand }
    if (round === MAX_ROUNDS || [...next].every(([slot, position]) => main.get(slot) === position)) return best
    preferred = next
  }
}

/** From the services over one version of each name: the preferred one if anybody who is reached takes it. */
function walk(
  universe: Universe,
  kept: Kept,
  asked: Asked,
  preferred: ReadonlyMap<number, number>,
): { main: Map<number, number>; owners: Owner[]; sets: Map<number, (readonly number[])[]> } {
  const main = new Map<number, number>()
  const owners: Owner[] = [...universe.services]
  const sets = new Map<number, (readonly number[])[]>()
  const enter = (slot: number, position: number | undefined): void => {
    const candidate = position === undefined ? undefined : universe.slots[slot]?.candidates[position]
    if (position === undefined || candidate === undefined) return
    main.set(slot, position)
    owners.push(candidate)
  }
  let done = 0
  for (;;) {
    for (; done < owners.length; done++) {
      for (const { slot, allowed } of asked(owners[done] as Owner)) {
        const known = sets.get(slot)
        if (known === undefined) sets.set(slot, [allowed])
        else known.push(allowed)
        const position = preferred.get(slot) ?? kept[slot]?.at(-1)
        if (!main.has(slot) && position !== undefined && allowed.includes(position)) enter(slot, position)
      }
    }
    const open = [...sets].filter(([slot]) => !main.has(slot)).sort(([a], [b]) => a - b)
    for (const [slot, demands] of open) enter(slot, newest(kept[slot], demands, 'some'))
    if (done === owners.length) return { main, owners, sets }
  }
}

function newest(
  positions: readonly number[] | undefined,
  sets: readonly (readonly number[])[],
  quantifier: 'every' | 'some',
): number | undefined {
  return positions?.findLast((position) => sets[quantifier]((allowed) => allowed.includes(position)))
}
