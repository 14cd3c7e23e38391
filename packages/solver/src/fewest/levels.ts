import type { Component } from './components.ts'
import { candidatesOf, encode, selected } from './encoding.ts'
import { firstSelection, pruned, type Selection } from './first-selection.ts'
import { minimise } from './minimise.ts'
import { compareCosts, costOf, type Cost } from './objective.ts'
import { Sat, type Literal } from '../sat/sat.ts'

export interface Found {
  readonly selection: Selection
  /** How many levels, from the first, have a proven minimum, which the selection has; 6 for all. */
  readonly levels: number
  /** Bounds from below for what the component adds: to the extra copies, and to the names that the closure forces. */
  readonly extraCopies: number
  readonly moreNames: number
  readonly steps: number
}

/**
 * A component's best selection, level by level: the minimum of a level becomes a condition of the next.
 * @param levels how many of them to care about: 3 or all 6
 */
export function searchLevels(component: Component, maxSteps: number, levels: 3 | 6 = 6): Found {
  const first = firstSelection(component)
  const sat = new Sat()
  let best = first
  let bestCost: Cost = costOf(component, first)
  const consider = (selection: Selection): void => {
    const cost = costOf(component, selection)
    if (compareCosts(cost, bestCost) < 0) [best, bestCost] = [selection, cost]
  }
  const paid: number[] = []
  const found = (selection: Selection, reached: number): Found => {
    const [singles = 0, others = 0, names = 0] = paid
    return { selection, levels: reached, extraCopies: singles + others, moreNames: names, steps: sat.steps }
  }
  for (const soft of encode(component, sat, first).slice(0, levels)) {
    const { cost, reached } = minimise(sat, soft(), maxSteps, () =>
      consider(pruned(component, sat.model.subarray(0, first.length))),
    )
    paid.push(cost)
    // Levels 4 and 5 are minimised together.
    if (reached) continue
    consider(firstSelection(component, sat.leanings(first.length)))
    return found(best, paid.length - 1)
  }
  if (levels === 3) return found(best, 3)
  return settleTies(component, sat, maxSteps) ? found(sat.model.slice(0, first.length), 6) : found(best, 5)
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
  for (const { base, isNeeded, from, to } of slots) {
    if (base > 0 || isNeeded) continue
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
