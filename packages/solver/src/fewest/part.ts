import { slotsOf, type Component, type OpenSlot } from './components.ts'

/** What a part of a component has to take into account of the rest. */
interface Surroundings {
  /** The choices that are to be met, ascending. */
  readonly roots: readonly number[]
  /** What a candidate of the part needs of the part. */
  readonly needsOf: (candidate: number) => readonly number[]
  /** How many of a slot's candidates are selected outside the part. */
  readonly baseOf: (slot: number) => number
  /** What comes on top of level 4. */
  readonly keepOf?: (candidate: number) => number
  readonly strayOf?: (candidate: number) => number
}

/** The component of just these candidates, ascending; a choice keeps those of its members that are among them. */
export function partOf(
  whole: Component,
  candidates: readonly number[],
  { roots: rootIds, needsOf, baseOf, keepOf = () => 0, strayOf = () => 0 }: Surroundings,
): Component {
  const local = new Map<number, number>()
  candidates.forEach((candidate, i) => local.set(candidate, i))
  const choices: number[][] = []
  const numbers = new Map<number, number>()
  const choiceOf = (id: number): number => {
    let number = numbers.get(id)
    if (number === undefined) {
      const members: number[] = []
      for (const member of whole.choices[id] as readonly number[]) {
        const at = local.get(member)
        if (at !== undefined) members.push(at)
      }
      numbers.set(id, (number = choices.push(members) - 1))
    }
    return number
  }
  const roots = rootIds.map(choiceOf)
  const needed = new Set(rootIds.map((id) => whole.slotOf[whole.choices[id]?.[0] as number]))
  const { slots, slotOf } = slotsOf(
    candidates,
    (candidate) => whole.slotOf[candidate] as number,
    (slot) => {
      const { isNeeded, ...rest } = whole.slots[slot] as OpenSlot
      return { ...rest, isNeeded: isNeeded || needed.has(slot), base: baseOf(slot) }
    },
  )
  return {
    slots,
    candidates: candidates.map((candidate) => whole.candidates[candidate] as number),
    slotOf,
    choices,
    roots,
    needs: candidates.map((candidate) => needsOf(candidate).map(choiceOf)),
    keep: candidates.map((candidate) => (whole.keep[candidate] as number) + keepOf(candidate)),
    stray: candidates.map((candidate) => (whole.stray[candidate] as number) + strayOf(candidate)),
    locked: whole.locked.flatMap(({ owner, candidate, count }) => {
      const [localOwner, localCandidate] = [local.get(owner), local.get(candidate)]
      return localOwner === undefined || localCandidate === undefined
        ? []
        : [{ owner: localOwner, candidate: localCandidate, count }]
    }),
    behind: candidates.map((candidate) => whole.behind[candidate] as number),
  }
}
