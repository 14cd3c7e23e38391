import { partOf, type Component, type OpenSlot } from './components.ts'
import { isSubset } from './network.ts'

/** A smaller component whose best selections at levels 1 to 3, with `must`, are best selections of the whole. */
export interface Reduction {
  /** Without prices: levels 4 to 6 are not those of the whole. */
  readonly component: Component
  /** Per candidate of `component` its number in the whole. */
  readonly candidates: readonly number[]
  /** Candidates of the whole that are selected with any selection of `component`. */
  readonly must: readonly number[]
}

/** Each round enables less of the next. */
const ROUNDS = 5

/**
 * Leaves out what no selection has to use to be best at levels 1 to 3. A candidate goes if another one of its slot is
 * in every choice that it is in and demands nothing that it does not demand, too:
 *
 *     a 1.1   demanded by ^1, needs b ^2
 *     a 1.2   demanded by ^1 and by ^1.2, needs b ^2 || ^3      1.1 goes: whoever selects it can select 1.2 instead
 *
 * Choices shrink by that; one that has one member left selects it, which may meet others.
 */
export function reduced(whole: Component): Reduction {
  const { slots, slotOf } = whole
  const count = whole.candidates.length
  const isOpen = new Uint8Array(count).fill(1)
  const must = new Uint8Array(count)
  let choices = whole.choices
  let roots = whole.roots
  let needs = whole.needs
  const membersOf = (id: number): readonly number[] => choices[id] as readonly number[]
  const isMet = (id: number): boolean => membersOf(id).some((member) => must[member] === 1)
  const implies = (known: readonly number[] | undefined, id: number): boolean =>
    known?.some((other) => other === id || isSubset(membersOf(other), membersOf(id))) === true

  for (let round = 0; round < ROUNDS; round++) {
    const forced = [...roots]
    for (const id of forced) {
      const [only] = membersOf(id)
      if (membersOf(id).length > 1 || must[only as number] === 1) continue
      must[only as number] = 1
      forced.push(...(needs[only as number] as readonly number[]))
    }
    const rootsOf = smallest(
      whole,
      choices,
      [...new Set(forced)].filter((id) => !isMet(id)),
    )
    roots = rootsOf.flat()

    const reached = new Uint8Array(count)
    const seen = new Uint8Array(choices.length)
    const queue = [...roots]
    const containing: number[][] = Array.from(isOpen, () => [])
    const kept: (readonly number[])[] = Array.from(isOpen, () => [])
    for (const id of queue) {
      if (seen[id] === 1) continue
      seen[id] = 1
      for (const member of membersOf(id)) {
        containing[member]?.push(id)
        if (reached[member] === 1) continue
        reached[member] = 1
        const open = (needs[member] as readonly number[]).filter(
          (need) =>
            !isMet(need) &&
            !membersOf(need).includes(member) &&
            !implies(rootsOf[slotOf[membersOf(need)[0] as number] as number], need),
        )
        kept[member] = open
        queue.push(...open)
      }
    }
    needs = kept
    isOpen.set(reached)
    for (const ids of containing) ids.sort((a, b) => a - b)

    let removed = 0
    const isWorse = (a: number, b: number): boolean =>
      isSubset(containing[a] as number[], containing[b] as number[]) &&
      (kept[b] as readonly number[]).every((need) => implies(kept[a], need))
    for (const { from, to } of slots) {
      for (let a = from; a < to; a++) {
        if (isOpen[a] !== 1) continue
        for (let b = to - 1; b >= from; b--) {
          if (b === a || isOpen[b] !== 1 || !isWorse(a, b)) continue
          isOpen[a] = 0
          removed++
          break
        }
      }
    }
    if (removed === 0) break
    choices = choices.map((members, id) =>
      seen[id] === 1 ? members.filter((member) => isOpen[member] === 1) : members,
    )
  }
  const candidates = [...isOpen.keys()].filter((candidate) => isOpen[candidate] === 1)
  return {
    component: partOf({ ...whole, choices }, candidates, {
      roots,
      needsOf: (candidate) => needs[candidate] as readonly number[],
      baseOf: (slot) => {
        const { base, from, to } = slots[slot] as OpenSlot
        return base + must.subarray(from, to).reduce((sum, bit) => sum + bit, 0)
      },
    }),
    candidates,
    must: [...must.keys()].filter((candidate) => must[candidate] === 1),
  }
}

/** Per slot those of the choices that no other one is part of. */
function smallest(
  { slots, slotOf }: Component,
  choices: Component['choices'],
  ids: readonly number[],
): readonly (readonly number[])[] {
  const found: number[][] = slots.map(() => [])
  for (const id of ids) {
    const members = choices[id] as readonly number[]
    const slot = slotOf[members[0] as number] as number
    const known = found[slot] as number[]
    if (known.some((other) => isSubset(choices[other] as readonly number[], members))) continue
    found[slot] = [...known.filter((other) => !isSubset(members, choices[other] as readonly number[])), id]
  }
  return found
}
