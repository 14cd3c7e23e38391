import type { Component, OpenSlot } from './components.ts'
import { firstSelection, pruned, type Selection } from './first-selection.ts'
import { improve } from './improvement.ts'
import { minimise, type SoftLiterals } from './minimise.ts'
import { compareCosts, costOf, type Cost } from './objective.ts'
import { Sat, type Literal } from './sat.ts'

export interface ComponentOptimum {
  readonly selection: Selection
  /** True if the selection is the best at every level. */
  readonly optimal: boolean
  /** Bounds from below for what the component adds: to the extra copies, and to the names that the closure forces. */
  readonly extraCopies: number
  readonly moreNames: number
  readonly steps: number
}

/** Of the steps allowed, the part for finding and proving the optimum; what is left improves what was found instead. */
const SEARCH_SHARE = 0.7

/**
 * The component's best selection, or after `maxSteps` a good one with a bound.
 * @param isSingle per slot of the component, for level 1
 */
export function optimumOf(component: Component, isSingle: readonly boolean[], maxSteps: number): ComponentOptimum {
  const found = search(component, isSingle, Math.floor(maxSteps * SEARCH_SHARE))
  if (found.optimal) return found
  return {
    ...found,
    selection: improve(component, isSingle, found.selection, maxSteps - found.steps, search),
    steps: maxSteps,
  }
}

/** Level by level: the minimum of a level becomes a condition of the next. */
function search(component: Component, isSingle: readonly boolean[], maxSteps: number): ComponentOptimum {
  const first = firstSelection(component)
  const sat = new Sat()
  const levels = encode(component, sat, isSingle, first)
  let best = first
  let bestCost: Cost = costOf(component, first, isSingle)
  const consider = (): void => {
    const selection = pruned(component, sat.model.subarray(0, first.length))
    const cost = costOf(component, selection, isSingle)
    if (compareCosts(cost, bestCost) < 0) [best, bestCost] = [selection, cost]
  }
  const paid = [surelyExtra(component), 0, 0]
  for (const [level, soft] of levels.entries()) {
    const { cost, reached } = minimise(sat, soft(), maxSteps, consider)
    if (level < paid.length) paid[level] = (paid[level] as number) + cost
    if (!reached) return { selection: best, optimal: false, ...bounds(paid), steps: sat.steps }
  }
  const settled = settleTies(component, sat, maxSteps)
  return {
    selection: settled ? sat.model.slice(0, first.length) : best,
    optimal: settled,
    ...bounds(paid),
    steps: sat.steps,
  }
}

function bounds([singles = 0, others = 0, names = 0]: readonly number[]): { extraCopies: number; moreNames: number } {
  return { extraCopies: singles + others, moreNames: names }
}

/** Variables 0 … are the candidates. Gives the soft literals of levels 1, 2, 3 and of 4 and 5 together. */
function encode(
  component: Component,
  sat: Sat,
  isSingle: readonly boolean[],
  first: Selection,
): (() => SoftLiterals)[] {
  const { choices, roots, needs, slots } = component
  for (const bit of first) sat.newVariable(bit === 1 ? 1 : 0)
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
  const counts = slots.map(({ from, to }) => countsOf(sat, from, to))
  for (const slot of neighbouring(component)) {
    const { base, least } = slots[slot] as OpenSlot
    const spared = sparedCopies(base, least)
    const atLeast = counts[slot] as readonly Literal[]
    for (const literal of atLeast.slice(spared)) (isSingle[slot] === true ? singles : others).set(literal ^ 1, 1)
    if (base === 0 && least === 0) names.set((atLeast[0] as Literal) ^ 1, 1)
  }
  return [() => singles, () => others, () => names, () => movesAndAges(component, sat, counts)]
}

function surelyExtra({ slots }: Component): number {
  return slots.reduce((sum, { base, least }) => sum + (base > 0 ? least : Math.max(0, least - 1)), 0)
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

/** So many of a slot's open candidates cost nothing at levels 1 and 2, or are sure to be paid for. */
function sparedCopies(base: number, least: number): number {
  return base > 0 ? least : Math.max(1, least)
}

/**
 * Literals "at least 1 of the slot's open candidates", "at least 2", …: each true if so many are selected (a
 * sequential counter, Sinz 2005, in the one direction that a minimum needs).
 */
function countsOf(sat: Sat, from: number, to: number): Literal[] {
  let counts: Literal[] = []
  for (let candidate = from; candidate < to; candidate++) {
    const own = selected(candidate)
    const next = Array.from({ length: counts.length + 1 }, () => 2 * sat.newVariable())
    next.forEach((count, k) => {
      const same = counts[k]
      const fewer = counts[k - 1]
      if (same !== undefined) sat.addClause([same ^ 1, count])
      sat.addClause(fewer === undefined ? [own ^ 1, count] : [own ^ 1, fewer ^ 1, count])
    })
    counts = next
  }
  return counts
}

function candidatesOf(from: number, to: number): Literal[] {
  return Array.from({ length: to - from }, (_, i) => selected(from + i))
}

/** Level 5 is weighed so low that all of it is less than one move of level 4. */
function movesAndAges(component: Component, sat: Sat, counts: readonly (readonly Literal[])[]): SoftLiterals {
  const { slots, behind, keep, stray, locked } = component
  const move = 1 + behind.reduce((sum, ages) => sum + ages, 0)
  const soft: SoftLiterals = new Map()
  const add = (literal: Literal, weight: number): void => {
    if (weight > 0) soft.set(literal, (soft.get(literal) ?? 0) + weight)
  }
  slots.forEach(({ least, from, to }, slot) => {
    const prices = Array.from({ length: to - from }, (_, i) => {
      const candidate = from + i
      return ((stray[candidate] as number) - (keep[candidate] as number)) * move + (behind[candidate] as number)
    })
    // Where the number of copies is settled, all prices can be raised alike: the cheapest then costs nothing, and no
    // search has to find out that one of them must be paid.
    const more = counts[slot]?.[least]
    const settled = more === undefined || sat.fixed(more) === -1
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

/**
 * Level 6, among selections of equal cost: the first name in which they differ is used; then, name by name, the best
 * candidate in which they differ is selected.
 */
function settleTies({ slots, candidates }: Component, sat: Sat, limit: number): boolean {
  if (sat.solve([], limit) !== 'satisfiable') return false
  let model = sat.model
  const another = 2 * sat.newVariable()
  sat.addClause([another ^ 1, ...candidates.map((_, i) => selected(i) ^ (model[i] as number))])
  const verdict = sat.solve([another], limit)
  if (verdict === 'unsatisfiable') {
    sat.model = model
    return true
  }
  if (verdict === 'limit') return false
  const prefer = (literal: Literal, holds: boolean): boolean => {
    if (!holds && sat.fixed(literal) === 0) {
      const answer = sat.solve([literal], limit)
      if (answer === 'limit') return false
      if (answer === 'satisfiable') model = sat.model
      holds = answer === 'satisfiable'
    }
    sat.addClause([holds ? literal : literal ^ 1])
    return true
  }
  for (const { base, least, from, to } of slots) {
    if (base > 0 || least > 0) continue
    const uses = 2 * sat.newVariable()
    sat.addClause([uses ^ 1, ...candidatesOf(from, to)])
    if (!prefer(uses, model.subarray(from, to).includes(1))) return false
  }
  for (const { from, to } of slots) {
    for (let candidate = to - 1; candidate >= from; candidate--) {
      if (!prefer(selected(candidate), model[candidate] === 1)) return false
    }
  }
  sat.model = model
  return true
}

function selected(candidate: number): Literal {
  return 2 * candidate
}
