import type { Component, OpenSlot } from './components.ts'
import type { Selection } from './first-selection.ts'
import { surplusOf, type SoftLiterals } from './minimise.ts'
import type { Literal, Sat } from '../sat/sat.ts'

/** Variables 0 … are the candidates. Gives the soft literals of levels 1, 2, 3 and of 4 and 5 together. */
export function encode(component: Component, sat: Sat, phases: Selection): (() => SoftLiterals)[] {
  const { choices, roots, needs, slots } = component
  for (const bit of phases) sat.newVariable(bit === 1 ? 1 : 0)
  for (const id of roots) sat.addClause((choices[id] as readonly number[]).map(selected))
  needs.forEach((ids, owner) => {
    for (const id of ids) {
      const members = choices[id] as readonly number[]
      if (!members.includes(owner)) sat.addClause([selected(owner) ^ 1, ...members.map(selected)])
    }
  })
  const singles: SoftLiterals = new Map()
  const others: SoftLiterals = new Map()
  const names: SoftLiterals = new Map()
  const first = firstRoots(component)
  const extras: (readonly Literal[])[] = slots.map(() => [])
  for (const slot of neighbouring(component)) {
    const { base, isSingle, from, to } = slots[slot] as OpenSlot
    const all = candidatesOf(from, to)
    // One candidate of a slot costs nothing, of all or of those of which there has to be one.
    const free = base > 0 ? [] : (first[slot]?.map(selected) ?? all)
    const extra = [...all.filter((literal) => !free.includes(literal)), ...surplusOf(sat, free)]
    extras[slot] = extra
    for (const literal of extra) (isSingle ? singles : others).set(literal ^ 1, 1)
    if (base > 0 || first[slot] !== undefined) continue
    const used = 2 * sat.newVariable()
    for (const literal of all) sat.addClause([literal ^ 1, used])
    names.set(used ^ 1, 1)
  }
  return [() => singles, () => others, () => names, () => movesAndAges(component, sat, first, extras)]
}

/** Per slot the narrowest of the roots it has, the first of equals. */
function firstRoots({ slots, slotOf, choices, roots }: Component): readonly (readonly number[] | undefined)[] {
  const narrowest: (readonly number[] | undefined)[] = slots.map(() => undefined)
  for (const id of roots) {
    const members = choices[id] as readonly number[]
    const slot = slotOf[members[0] as number] as number
    if (members.length < (narrowest[slot]?.length ?? Infinity)) narrowest[slot] = members
  }
  return narrowest
}

/** Slots in an order in which those that demand each other are near each other, which keeps the solver's way back short. */
function neighbouring({ slots, slotOf, needs, choices }: Component): number[] {
  const near = slots.map(() => new Set<number>())
  needs.forEach((ids, owner) => {
    for (const id of ids) {
      const [from, to] = [slotOf[owner] as number, slotOf[choices[id]?.[0] as number] as number]
      near[from]?.add(to)
      near[to]?.add(from)
    }
  })
  const order: number[] = []
  const seen = new Set<number>()
  const visit = (slot: number): void => {
    const stack = [slot]
    for (let at = stack.pop(); at !== undefined; at = stack.pop()) {
      if (seen.has(at)) continue
      seen.add(at)
      order.push(at)
      stack.push(...(near[at] ?? []))
    }
  }
  slots.forEach((_, slot) => visit(slot))
  return order
}

export function candidatesOf(from: number, to: number): Literal[] {
  return Array.from({ length: to - from }, (_, i) => selected(from + i))
}

/** Level 5 is weighed so low that all of it is less than one move of level 4. */
function movesAndAges(
  component: Component,
  sat: Sat,
  first: readonly (readonly number[] | undefined)[],
  extras: readonly (readonly Literal[])[],
): SoftLiterals {
  const { slots, behind, keep, stray, locked } = component
  const move = 1 + behind.reduce((sum, ages) => sum + ages, 0)
  const soft: SoftLiterals = new Map()
  const add = (literal: Literal, weight: number): void => {
    if (weight > 0) soft.set(literal, (soft.get(literal) ?? 0) + weight)
  }
  slots.forEach(({ base, from, to }, slot) => {
    const prices = Array.from({ length: to - from }, (_, i) => {
      const candidate = from + i
      return ((stray[candidate] as number) - (keep[candidate] as number)) * move + (behind[candidate] as number)
    })
    // Where there can be no second copy, all prices can be raised alike: the cheapest then costs nothing, and no
    // search has to find out that one of them must be paid.
    const settled =
      base === 0 && first[slot] !== undefined && extras[slot]?.every((literal) => sat.fixed(literal) === -1) === true
    const lift = settled ? -Math.min(...prices) : 0
    prices.forEach((price, i) => {
      add(selected(from + i) ^ 1, price + lift)
      add(selected(from + i), -(price + lift))
    })
  })
  for (const { owner, candidate, count } of locked) {
    const moved = 2 * sat.newVariable()
    sat.addClause([selected(owner) ^ 1, selected(candidate), moved])
    add(moved ^ 1, count * move)
  }
  return soft
}

export function selected(candidate: number): Literal {
  return 2 * candidate
}
