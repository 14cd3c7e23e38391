import type { Component, OpenSlot } from './components.ts'
import { isSubset } from '../network.ts'
import { partOf } from './part.ts'

/** A smaller component whose best selections at levels 1 to 3, with `must`, are best selections of the whole. */
export interface Reduction {
  /** Its levels 4 to 6 are not those of the whole. */
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
  const must = new Uint8Array(count)
  const choices = whole.choices.slice()
  const needs = whole.needs.slice()
  let roots = whole.roots
  let isOpen = new Uint8Array(count)
  for (let round = 0; round < ROUNDS; round++) {
    const forced = [...roots]
    for (const id of forced) {
      const [only, another] = choices[id] as readonly number[]
      if (another !== undefined || must[only as number] === 1) continue
      must[only as number] = 1
      forced.push(...(needs[only as number] as readonly number[]))
    }
    const isMet = Uint8Array.from(choices, (members) => (members.some((member) => must[member] === 1) ? 1 : 0))
    const rootsOf = smallest(
      whole,
      choices,
      [...new Set(forced)].filter((id) => isMet[id] === 0),
    )
    roots = rootsOf.flat()

    isOpen = new Uint8Array(count)
    const isActive = new Uint8Array(choices.length)
    const queue = [...roots]
    for (const id of queue) {
      if (isActive[id] === 1) continue
      isActive[id] = 1
      for (const member of choices[id] as readonly number[]) {
        if (isOpen[member] === 1) continue
        isOpen[member] = 1
        const own = (needs[member] as readonly number[]).filter(
          (need) =>
            isMet[need] === 0 &&
            !(choices[need] as readonly number[]).includes(member) &&
            !implies(choices, rootsOf[slotOf[choices[need]?.[0] as number] as number] as readonly number[], need),
        )
        needs[member] = own
        queue.push(...own)
      }
    }
    const isRemoved = dominated({ ...whole, choices, needs }, isOpen, isActive)
    if (!isRemoved.includes(1)) break
    choices.forEach((members, id) => {
      if (isActive[id] === 1 && members.some((member) => isRemoved[member] === 1))
        choices[id] = members.filter((member) => isRemoved[member] === 0)
    })
    isRemoved.forEach((bit, candidate) => {
      if (bit === 1) isOpen[candidate] = 0
    })
  }
  const candidates = indicesOf(isOpen)
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
    must: indicesOf(must),
  }
}

/** Per open candidate 1 if another one of its slot, which stays, is no worse for anybody. */
function dominated({ slots, choices, needs }: Component, isOpen: Uint8Array, isActive: Uint8Array): Uint8Array {
  // The active choices that a candidate is in, ascending: `within[starts[candidate]] … within[starts[candidate + 1] - 1]`.
  const starts = new Int32Array(isOpen.length + 1)
  choices.forEach((members, id) => {
    if (isActive[id] === 1) for (const member of members) starts[member + 1] = (starts[member + 1] as number) + 1
  })
  for (let i = 1; i < starts.length; i++) starts[i] = (starts[i] as number) + (starts[i - 1] as number)
  const within = new Int32Array(starts[isOpen.length] as number)
  const filled = starts.slice()
  choices.forEach((members, id) => {
    if (isActive[id] !== 1) return
    for (const member of members) {
      within[filled[member] as number] = id
      filled[member] = (filled[member] as number) + 1
    }
  })
  const isInAllOf = (a: number, b: number): boolean => {
    let at = starts[a] as number
    const end = starts[a + 1] as number
    const otherEnd = starts[b + 1] as number
    for (let i = starts[b] as number; at < end; i++, at++) {
      while (i < otherEnd && (within[i] as number) < (within[at] as number)) i++
      if (i === otherEnd || within[i] !== within[at]) return false
    }
    return true
  }
  const isRemoved = new Uint8Array(isOpen.length)
  const stays = (candidate: number): boolean => isOpen[candidate] === 1 && isRemoved[candidate] === 0
  for (const { from, to } of slots) {
    for (let a = from; a < to; a++) {
      for (let b = to - 1; b >= from && stays(a); b--) {
        if (b === a || !stays(b) || !isInAllOf(a, b)) continue
        if ((needs[b] as readonly number[]).every((need) => implies(choices, needs[a] as readonly number[], need)))
          isRemoved[a] = 1
      }
    }
  }
  return isRemoved
}

/** True if whatever meets `known` meets the choice. */
function implies(choices: Component['choices'], known: readonly number[], id: number): boolean {
  return known.some(
    (other) => other === id || isSubset(choices[other] as readonly number[], choices[id] as readonly number[]),
  )
}

function indicesOf(bits: Uint8Array): number[] {
  const indices: number[] = []
  bits.forEach((bit, i) => {
    if (bit === 1) indices.push(i)
  })
  return indices
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
