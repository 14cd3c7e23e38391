import type { Component } from './components.ts'
import { pruned, type Selection } from './first-selection.ts'

/**
 * A selection that is no worse at levels 1 to 3 and better at 4 or 5, if taking another candidate of the same slot
 * for a selected one leads there, as often as it does. Cheap: nothing is searched.
 */
export function exchanged(component: Component, selection: Selection): Selection {
  let on = selection
  for (let rounds = 0; rounds < ROUNDS; rounds++) {
    const next = exchangedOnce(component, on)
    if (next === undefined) break
    on = next
  }
  return on
}

const ROUNDS = 8

function exchangedOnce(component: Component, selection: Selection): Selection | undefined {
  const { slots, slotOf, choices, needs, roots } = component
  const on = selection.slice()
  /** Per choice how many want it, and how many of its members are selected. */
  const wanted = new Int32Array(choices.length)
  const met = new Int32Array(choices.length)
  const choicesOn: number[][] = slots.map(() => [])
  for (const id of roots) wanted[id] = 1
  choices.forEach((members, id) => {
    choicesOn[slotOf[members[0] as number] as number]?.push(id)
    for (const member of members) if (on[member] === 1) met[id] = (met[id] as number) + 1
  })
  on.forEach((bit, candidate) => {
    if (bit === 1) for (const id of needs[candidate] as readonly number[]) wanted[id] = (wanted[id] as number) + 1
  })
  const toggle = (candidate: number, by: 1 | -1): void => {
    for (const id of needs[candidate] as readonly number[]) wanted[id] = (wanted[id] as number) + by
    for (const id of choicesOn[slotOf[candidate] as number] as readonly number[])
      if (choices[id]?.includes(candidate) === true) met[id] = (met[id] as number) + by
    on[candidate] = by === 1 ? 1 : 0
  }
  const isValid = (slot: number, added: number): boolean =>
    (choicesOn[slot] as readonly number[]).every((id) => wanted[id] === 0 || (met[id] as number) > 0) &&
    (needs[added] as readonly number[]).every((id) => (met[id] as number) > 0)
  const priceOf = pricesOf(component, on)
  let changed = false
  slots.forEach(({ from, to }, slot) => {
    for (let old = to - 1; old >= from; old--) {
      if (on[old] !== 1) continue
      const price = priceOf(old)
      toggle(old, -1)
      let best = old
      let bestPrice = price
      for (let other = to - 1; other >= from; other--) {
        if (on[other] === 1 || other === old) continue
        const otherPrice = priceOf(other)
        if (otherPrice >= bestPrice) continue
        toggle(other, 1)
        if (isValid(slot, other)) [best, bestPrice] = [other, otherPrice]
        toggle(other, -1)
      }
      toggle(best, 1)
      changed ||= best !== old
    }
  })
  return changed ? pruned(component, on) : undefined
}

/** What levels 4 and 5 pay for a candidate being selected rather than not, as one number. */
function pricesOf({ keep, stray, locked, behind }: Component, on: Selection): (candidate: number) => number {
  const own = new Map<number, { readonly candidate: number; readonly count: number }[]>()
  const others = new Map<number, { readonly owner: number; readonly count: number }[]>()
  for (const { owner, candidate, count } of locked) {
    own.set(owner, [...(own.get(owner) ?? []), { candidate, count }])
    others.set(candidate, [...(others.get(candidate) ?? []), { owner, count }])
  }
  const move = behind.reduce((most, ages) => Math.max(most, ages), 0) + 1
  return (candidate) => {
    let moves = (stray[candidate] as number) - (keep[candidate] as number)
    for (const { candidate: to, count } of own.get(candidate) ?? NONE)
      if (to !== candidate && on[to] !== 1) moves += count
    for (const { owner, count } of others.get(candidate) ?? NONE)
      if (owner !== candidate && on[owner] === 1) moves -= count
    return moves * move + (behind[candidate] as number)
  }
}

const NONE: readonly never[] = []
