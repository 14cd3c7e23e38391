import type { Component } from './components.ts'

/** A selection within a component: per candidate 1 if selected. */
export type Selection = Uint8Array

/**
 * A good selection, found without search: slot by slot the candidate that meets most of what is unmet there, then
 * everything dropped that later picks made superfluous.
 * @param leanings per candidate what comes before all that: those with the highest are taken
 */
export function firstSelection(component: Component, leanings?: Int8Array): Selection {
  const { choices, roots, needs, slots, slotOf } = component
  const on = new Uint8Array(component.candidates.length)
  const active = new Uint8Array(choices.length)
  const pending: number[][] = slots.map(() => [])
  const queue: number[] = []
  const activate = (id: number): void => {
    if (active[id] === 1) return
    active[id] = 1
    const members = choices[id] as readonly number[]
    const slot = slotOf[members[0] as number] as number
    ;(pending[slot] as number[]).push(id)
    // What leaves no choice goes first, so that the open choices of a slot see it.
    if (members.length === 1) select(members[0] as number)
    else queue.push(slot)
  }
  const select = (candidate: number): void => {
    if (on[candidate] === 1) return
    on[candidate] = 1
    for (const id of needs[candidate] as readonly number[]) activate(id)
  }
  roots.forEach(activate)
  for (let next = 0; next < queue.length; next++) {
    const slot = queue[next] as number
    const unmet = (): number[] => (pending[slot] as number[]).filter((id) => !isMet(choices[id], on))
    for (let open = unmet(); open.length > 0; open = unmet()) select(mostUseful(component, open, on, active, leanings))
  }
  return pruned(component, on)
}

const NONE: number[] = []

/** Drops what nothing needs and what can be missed, extra copies first and the oldest among them first. */
export function pruned(component: Component, selection: Selection): Selection {
  const on = selection.slice()
  const { choices, slots, slotOf, needs } = component
  const containing: number[][] = Array.from(on, (bit) => (bit === 1 ? [] : NONE))
  dropUnreached(component, on)
  choices.forEach((members, id) => {
    for (const member of members) if (on[member] === 1) containing[member]?.push(id)
  })
  const wanted = new Int32Array(choices.length)
  for (const id of component.roots) wanted[id] = 1
  on.forEach((bit, candidate) => {
    if (bit === 1) for (const id of needs[candidate] as readonly number[]) wanted[id] = (wanted[id] as number) + 1
  })
  const copies = slots.map(({ base, from, to }) => base + on.subarray(from, to).reduce((sum, bit) => sum + bit, 0))
  for (const extrasOnly of [true, false]) {
    for (let candidate = 0; candidate < on.length; candidate++) {
      const slot = slotOf[candidate] as number
      if (on[candidate] !== 1 || (extrasOnly && (copies[slot] as number) < 2)) continue
      on[candidate] = 0
      const own = needs[candidate] as readonly number[]
      const missed = (containing[candidate] as number[]).some((id) => {
        const others = (wanted[id] as number) - (own.includes(id) ? 1 : 0)
        return others > 0 && !isMet(choices[id], on)
      })
      if (missed) on[candidate] = 1
      else {
        copies[slot] = (copies[slot] as number) - 1
        for (const id of own) wanted[id] = (wanted[id] as number) - 1
      }
    }
  }
  dropUnreached(component, on)
  return on
}

/** Two candidates that only need each other are needed by nobody. */
function dropUnreached({ choices, roots, needs }: Component, on: Selection): void {
  const reached = new Uint8Array(on.length)
  const queue = [...roots]
  const seen = new Uint8Array(choices.length)
  for (let next = 0; next < queue.length; next++) {
    const id = queue[next] as number
    if (seen[id] === 1) continue
    seen[id] = 1
    for (const member of choices[id] as readonly number[]) {
      if (on[member] !== 1 || reached[member] === 1) continue
      reached[member] = 1
      queue.push(...(needs[member] as readonly number[]))
    }
  }
  on.set(reached)
}

function isMet(members: readonly number[] | undefined, on: Selection): boolean {
  return (members ?? []).some((member) => on[member] === 1)
}

/** Most unmet choices met; then fewest new unmet ones brought in; then most often locked; then newest. */
function mostUseful(
  component: Component,
  open: readonly number[],
  on: Selection,
  active: Uint8Array,
  leanings: Int8Array | undefined,
): number {
  const { choices, needs, keep, stray } = component
  const meets = new Map<number, number>()
  for (const id of open)
    for (const member of choices[id] as readonly number[]) meets.set(member, (meets.get(member) ?? 0) + 1)
  let best = -1
  let bestRank: readonly number[] = []
  for (const [candidate, count] of meets) {
    const brings = (needs[candidate] as readonly number[]).filter(
      (id) => active[id] !== 1 && !isMet(choices[id], on),
    ).length
    const rank = [
      leanings?.[candidate] ?? 0,
      count,
      -brings,
      (keep[candidate] as number) - (stray[candidate] as number),
      candidate,
    ]
    if (best < 0 || isGreater(rank, bestRank)) [best, bestRank] = [candidate, rank]
  }
  return best
}

function isGreater(a: readonly number[], b: readonly number[]): boolean {
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return (a[i] as number) > (b[i] as number)
  return false
}
