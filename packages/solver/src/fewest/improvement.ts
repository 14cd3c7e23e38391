import type { Component, OpenSlot } from './components.ts'
import { pruned, type Selection } from './first-selection.ts'
import { searchLevels } from './levels.ts'
import { compareCosts, costOf } from './objective.ts'
import { partOf } from './part.ts'

const NEIGHBOURHOOD = 80
const STEPS_PER_NEIGHBOURHOOD = 10_000
/** What it takes to make a part, in steps. */
const STEPS_TO_PREPARE = 1500

/**
 * A better selection where the search for the best was given up: for one split slot after the other, the slots around
 * it are chosen anew while everything else stays; again from the start until nothing gets better or the steps are used.
 */
export function improve(component: Component, from: Selection, maxSteps: number): Selection {
  const map = mapOf(component)
  let best = from.slice()
  let stepsLeft = maxSteps - component.candidates.length
  for (let improved = true; improved;) {
    improved = false
    for (const [slot, { base, from: first, to }] of component.slots.entries()) {
      if (base + best.subarray(first, to).reduce((sum, bit) => sum + bit, 0) < 2) continue
      if (stepsLeft <= 0) break
      const { part, candidates } = restricted(component, map, best, around(component, map, slot))
      const found = searchLevels(part, Math.min(stepsLeft, STEPS_PER_NEIGHBOURHOOD))
      stepsLeft -= found.steps + STEPS_TO_PREPARE
      const present = Uint8Array.from(candidates, (candidate) => best[candidate] as number)
      if (compareCosts(costOf(part, found.selection), costOf(part, present)) >= 0) continue
      candidates.forEach((candidate, i) => (best[candidate] = found.selection[i] as number))
      improved = true
    }
    best = pruned(component, best).slice()
  }
  return best
}

/** What stands around a slot. */
interface Neighbours {
  /** Per slot those with a demand on it or by it, ascending. */
  readonly near: readonly (readonly number[])[]
  /** Per slot the choices on it. */
  readonly choicesOn: readonly (readonly number[])[]
  /** Per choice the candidates that demand it. */
  readonly owners: readonly (readonly number[])[]
  /** Per choice 1 if it is a root. */
  readonly isRoot: Uint8Array
}

function mapOf({ slots, slotOf, needs, choices, roots }: Component): Neighbours {
  const near = slots.map(() => new Set<number>())
  const choicesOn: number[][] = slots.map(() => [])
  const owners: number[][] = choices.map(() => [])
  const isRoot = new Uint8Array(choices.length)
  for (const id of roots) isRoot[id] = 1
  const slotOn = choices.map((members) => slotOf[members[0] as number] as number)
  slotOn.forEach((slot, id) => choicesOn[slot]?.push(id))
  needs.forEach((ids, owner) => {
    const from = slotOf[owner] as number
    for (const id of ids) {
      owners[id]?.push(owner)
      near[from]?.add(slotOn[id] as number)
      near[slotOn[id] as number]?.add(from)
    }
  })
  return { near: near.map((set) => [...set].sort((a, b) => a - b)), choicesOn, owners, isRoot }
}

/** The slot and the nearest others, ascending, until they have enough candidates. */
function around({ slots }: Component, { near }: Neighbours, slot: number): number[] {
  const chosen = new Set([slot])
  let candidates = 0
  for (const each of chosen) {
    const { from, to } = slots[each] as OpenSlot
    candidates += to - from
    if (candidates >= NEIGHBOURHOOD) break
    for (const other of near[each] ?? []) chosen.add(other)
    // A hub has more neighbours than there is room for; the rest of them is dropped below.
  }
  let room = NEIGHBOURHOOD
  return [...chosen]
    .filter((each) => (room -= (slots[each]?.to ?? 0) - (slots[each]?.from ?? 0)) >= 0 || each === slot)
    .sort((a, b) => a - b)
}

/** The slots as a component, with everything outside them as it is in `on`. */
function restricted(
  whole: Component,
  { choicesOn, owners, isRoot }: Neighbours,
  on: Selection,
  slots: readonly number[],
): { readonly part: Component; readonly candidates: readonly number[] } {
  const inside = new Set(slots)
  const isInside = (candidate: number): boolean => inside.has(whole.slotOf[candidate] as number)
  const members = (id: number): readonly number[] => whole.choices[id] as readonly number[]
  const allowed = new Set<number>()
  for (const slot of slots) {
    const { from, to } = whole.slots[slot] as OpenSlot
    for (let candidate = from; candidate < to; candidate++) allowed.add(candidate)
  }
  const isPossible = (member: number): boolean => (isInside(member) ? allowed.has(member) : on[member] === 1)
  // A candidate is out if something it needs is neither selected outside nor possible inside.
  for (let size = -1; size !== allowed.size;) {
    size = allowed.size
    for (const candidate of allowed)
      if (!(whole.needs[candidate] ?? []).every((id) => members(id).some(isPossible))) allowed.delete(candidate)
  }
  const keep = new Map<number, number>()
  const stray = new Map<number, number>()
  for (const { owner, candidate, count } of whole.locked) {
    if (!isInside(owner) && on[owner] === 1) keep.set(candidate, (keep.get(candidate) ?? 0) + count)
    else if (isInside(owner) && !isPossible(candidate)) stray.set(owner, (stray.get(owner) ?? 0) + count)
  }
  const candidates = [...allowed]
  const part = partOf(whole, candidates, {
    roots: slots.flatMap((slot) =>
      (choicesOn[slot] ?? []).filter(
        (id) => isRoot[id] === 1 || owners[id]?.some((owner) => on[owner] === 1 && !isInside(owner)),
      ),
    ),
    needsOf: (candidate) => (whole.needs[candidate] ?? []).filter((id) => isInside(members(id)[0] as number)),
    baseOf: (slot) => whole.slots[slot]?.base ?? 0,
    keepOf: (candidate) => keep.get(candidate) ?? 0,
    strayOf: (candidate) => stray.get(candidate) ?? 0,
  })
  return { part, candidates }
}
