import { partOf, type Component, type OpenSlot } from './components.ts'
import { pruned, type Selection } from './first-selection.ts'
import { searchLevels } from './levels.ts'
import { compareCosts, costOf } from './objective.ts'

const NEIGHBOURHOOD = 80
const STEPS_PER_NEIGHBOURHOOD = 10_000

/**
 * A better selection where the search for the best was given up: for one split slot after the other, the slots around
 * it are chosen anew while everything else stays; again from the start until nothing gets better or the steps are used.
 */
export function improve(component: Component, from: Selection, maxSteps: number): Selection {
  const near = neighbours(component)
  let best = from
  let bestCost = costOf(component, best)
  let stepsLeft = maxSteps
  for (let improved = true; improved;) {
    improved = false
    for (const [slot, { base, from: first, to }] of component.slots.entries()) {
      if (stepsLeft <= 0) return best
      if (base + best.subarray(first, to).reduce((sum, bit) => sum + bit, 0) < 2) continue
      const part = restricted(component, best, around(component, near, slot))
      const found = searchLevels(part.component, Math.min(stepsLeft, STEPS_PER_NEIGHBOURHOOD))
      // Making the part costs time too.
      stepsLeft -= found.steps + part.component.candidates.length + component.candidates.length / 2
      const candidate = best.slice()
      for (const each of part.slots) candidate.fill(0, component.slots[each]?.from, component.slots[each]?.to)
      found.selection.forEach((bit, i) => {
        if (bit === 1) candidate[part.candidates[i] as number] = 1
      })
      if (compareCosts(costOf(component, candidate), bestCost) >= 0) continue
      best = pruned(component, candidate)
      bestCost = costOf(component, best)
      improved = true
    }
  }
  return best
}

function neighbours({ slots, slotOf, needs, choices }: Component): readonly (readonly number[])[] {
  const near = slots.map(() => new Set<number>())
  needs.forEach((ids, owner) => {
    for (const id of ids) {
      const [from, to] = [slotOf[owner] as number, slotOf[choices[id]?.[0] as number] as number]
      near[from]?.add(to)
      near[to]?.add(from)
    }
  })
  return near.map((set) => [...set].sort((a, b) => a - b))
}

/** The slot and the nearest others, ascending, until they have enough candidates. */
function around({ slots }: Component, near: readonly (readonly number[])[], slot: number): number[] {
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

interface Part {
  readonly component: Component
  /** Slots and candidates of the whole that the part is made of. */
  readonly slots: readonly number[]
  readonly candidates: readonly number[]
}

/** The component with everything outside `slots` as it is in `on`. */
function restricted(whole: Component, on: Selection, slots: readonly number[]): Part {
  const inside = new Uint8Array(whole.slots.length)
  for (const slot of slots) inside[slot] = 1
  const isInside = (candidate: number): boolean => inside[whole.slotOf[candidate] as number] === 1
  const allowed = new Uint8Array(on.length)
  for (const slot of slots) allowed.fill(1, whole.slots[slot]?.from, whole.slots[slot]?.to)
  const members = (id: number): readonly number[] => whole.choices[id] as readonly number[]
  // A candidate is out if something it needs is neither selected outside nor possible inside.
  for (let shrunk = true; shrunk;) {
    shrunk = false
    for (const slot of slots) {
      const { from, to } = whole.slots[slot] as OpenSlot
      for (let candidate = from; candidate < to; candidate++) {
        if (allowed[candidate] !== 1) continue
        const possible = (whole.needs[candidate] ?? []).every((id) =>
          members(id).some((member) => (isInside(member) ? allowed : on)[member] === 1),
        )
        if (possible) continue
        allowed[candidate] = 0
        shrunk = true
      }
    }
  }

  const demanded = new Set<number>(whole.roots.filter((id) => isInside(members(id)[0] as number)))
  const kept = new Map<number, number>()
  const lost = new Map<number, number>()
  whole.needs.forEach((ids, owner) => {
    if (on[owner] === 1 && !isInside(owner))
      for (const id of ids) if (isInside(members(id)[0] as number)) demanded.add(id)
  })
  for (const { owner, candidate, count } of whole.locked) {
    if (!isInside(owner) && on[owner] === 1) kept.set(candidate, (kept.get(candidate) ?? 0) + count)
    else if (isInside(owner) && (isInside(candidate) ? allowed : on)[candidate] !== 1)
      lost.set(owner, (lost.get(owner) ?? 0) + count)
  }

  const candidates = slots.flatMap((slot) => {
    const { from, to } = whole.slots[slot] as OpenSlot
    return Array.from({ length: to - from }, (_, i) => from + i).filter((candidate) => allowed[candidate] === 1)
  })
  const needs = [...whole.needs]
  for (const candidate of candidates)
    needs[candidate] = (whole.needs[candidate] as readonly number[]).filter((id) => isInside(members(id)[0] as number))
  const roots = [...demanded].sort((a, b) => a - b)
  const component = partOf({ ...whole, roots, needs }, candidates, {
    base: whole.slots.map(({ base }) => base),
    keep: kept,
    stray: lost,
  })
  return { component, slots, candidates }
}
