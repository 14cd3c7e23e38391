import type { Component } from './components.ts'
import { firstSelection, pruned, type Selection } from './first-selection.ts'
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

/**
 * The component's best selection, level by level: the minimum of a level becomes a condition of the next.
 * @param isSingle per slot of the component, for level 1
 */
export function optimumOf(component: Component, isSingle: readonly boolean[], maxSteps: number): ComponentOptimum {
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
  const paid = [0, 0, 0]
  for (const [level, soft] of levels.entries()) {
    const { cost, reached } = minimise(sat, soft(), maxSteps, consider)
    if (level < paid.length) paid[level] = cost
    if (!reached) return { selection: best, optimal: false, ...bounds(paid), steps: sat.steps }
  }
  const settled = settleTies(component, sat, maxSteps)
  return { selection: settled ? sat.model.slice(0, first.length) : best, optimal: settled, ...bounds(paid), steps: sat.steps }
}

function bounds([singles = 0, others = 0, names = 0]: readonly number[]): { extraCopies: number; moreNames: number } {
  return { extraCopies: singles + others, moreNames: names }
}

/** Variables 0 … are the candidates. Gives the soft literals of levels 1, 2, 3 and of 4 and 5 together. */
function encode(component: Component, sat: Sat, isSingle: readonly boolean[], first: Selection): (() => SoftLiterals)[] {
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
  slots.forEach(({ base, used, from, to }, slot) => {
    const atLeast = base > 0 ? candidatesOf(from, to) : countAbove(sat, from, to)
    for (const literal of atLeast) (isSingle[slot] === true ? singles : others).set(literal ^ 1, 1)
    if (base > 0 || used) return
    const uses = 2 * sat.newVariable()
    for (let candidate = from; candidate < to; candidate++) sat.addClause([selected(candidate) ^ 1, uses])
    names.set(uses ^ 1, 1)
  })
  return [() => singles, () => others, () => names, () => movesAndAges(component, sat)]
}

function candidatesOf(from: number, to: number): Literal[] {
  return Array.from({ length: to - from }, (_, i) => selected(from + i))
}

/**
 * Literals "at least 2 of the slot's candidates", "at least 3", …: each true if so many are selected (a sequential
 * counter, Sinz 2005, in the one direction that a minimum needs).
 */
function countAbove(sat: Sat, from: number, to: number): Literal[] {
  let counts: Literal[] = [selected(from)]
  for (let candidate = from + 1; candidate < to; candidate++) {
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
  return counts.slice(1)
}

/** Level 5 is weighed so low that all of it is less than one move of level 4. */
function movesAndAges(component: Component, sat: Sat): SoftLiterals {
  const { slots, behind, keep, stray, locked } = component
  const move = 1 + behind.reduce((sum, ages) => sum + ages, 0)
  const soft: SoftLiterals = new Map()
  const add = (literal: Literal, weight: number): void => {
    if (weight > 0) soft.set(literal, (soft.get(literal) ?? 0) + weight)
  }
  slots.forEach(({ from, to }) => {
    for (let candidate = from; candidate < to; candidate++) {
      add(selected(candidate), (keep[candidate] as number) * move)
      add(selected(candidate) ^ 1, (stray[candidate] as number) * move + (behind[candidate] as number))
    }
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
  for (const { base, used, from, to } of slots) {
    if (base > 0 || used) continue
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
