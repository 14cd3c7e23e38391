import type { Literal, Sat } from './sat.ts'

/** A literal that should hold, and what it costs if it doesn't; weights are positive integers. */
export type SoftLiterals = Map<Literal, number>

export interface Minimum {
  /** No assignment that satisfies the clauses costs less. */
  readonly cost: number
  /** True if one costs just that; it is then the model last reported, and only such remain possible. */
  readonly reached: boolean
}

/** How often a core is looked for anew among its own literals, as long as that makes it smaller. */
const TRIMS = 4
/** How far a limit may be exceeded for a last model. */
const SETTLING_SHARE = 0.1

/**
 * The least cost at which `soft` can be broken, from below: assume all of them; where a few contradict each other (a
 * core), one of them must be paid for, and from then on only a second one of these is assumed away. So work goes where
 * versions really conflict, and what was paid is a proven bound at any time. (Fu and Malik 2006; the cores are relaxed
 * as in Narodytska and Bacchus 2014; heavy literals first as in Ansótegui et al. 2012.)
 * Adds clauses: after a minimum that was reached, `sat` has only assignments of that cost.
 * @param limit of `sat.steps`
 */
export function minimise(sat: Sat, soft: SoftLiterals, limit: number, onModel: () => void): Minimum {
  let cost = 0
  let threshold = nextThreshold(soft, Infinity)
  const assume = (literal: Literal, weight: number): void => {
    if (weight >= threshold) sat.assume(literal)
  }
  soft.forEach((weight, literal) => assume(literal, weight))
  for (;;) {
    const verdict = sat.search(limit)
    if (verdict === 'satisfiable') {
      onModel()
      const last = threshold
      threshold = nextThreshold(soft, last)
      if (threshold === 0) break
      for (const [literal, weight] of soft) if (weight < last) assume(literal, weight)
      continue
    }
    if (verdict === 'limit') {
      if (settle(sat, limit)) onModel()
      sat.retract([...soft.keys()])
      return { cost, reached: false }
    }
    const core = trimmed(sat)
    if (core.length === 0) throw new Error('the clauses contradict each other')
    const least = core.reduce((weight, literal) => Math.min(weight, soft.get(literal) as number), Infinity)
    cost += least
    sat.addClause(core.map((literal) => literal ^ 1))
    for (const literal of core) {
      const rest = (soft.get(literal) as number) - least
      if (rest === 0) soft.delete(literal)
      else {
        soft.set(literal, rest)
        assume(literal, rest)
      }
    }
    // One of the core is paid for; each further broken one costs the same again.
    for (const surplus of surplusOf(
      sat,
      core.map((literal) => literal ^ 1),
    )) {
      soft.set(surplus ^ 1, least)
      assume(surplus ^ 1, least)
    }
  }
  sat.retract([...soft.keys()])
  for (const literal of soft.keys()) sat.addClause([literal])
  return { cost, reached: true }
}

/**
 * Literals of which as many become true as the literals given that are, less one: with "later" d(i) = l(i+1) or … or
 * l(n), one for each l(i) and d(i).
 */
export function surplusOf(sat: Sat, literals: readonly Literal[]): Literal[] {
  const surplus: Literal[] = []
  let later = literals.at(-1)
  for (let i = literals.length - 2; i >= 0 && later !== undefined; i--) {
    const literal = literals[i] as Literal
    const both = 2 * sat.newVariable()
    sat.addClause([literal ^ 1, later ^ 1, both])
    surplus.push(both)
    if (i === 0) break
    const either = 2 * sat.newVariable()
    sat.addClause([literal ^ 1, either])
    sat.addClause([later ^ 1, either])
    later = either
  }
  return surplus
}

/** A model that keeps most of what is assumed: cores are given up instead of paid for. */
function settle(sat: Sat, limit: number): boolean {
  const extended = limit * (1 + SETTLING_SHARE)
  for (;;) {
    const verdict = sat.search(extended)
    if (verdict !== 'unsatisfiable') return verdict === 'satisfiable'
    sat.retract(sat.core)
  }
}

/** The heaviest weight below the last threshold, or half of it: few rounds even where all weights differ. */
function nextThreshold(soft: SoftLiterals, last: number): number {
  let heaviest = 0
  for (const weight of soft.values()) if (weight < last && weight > heaviest) heaviest = weight
  return heaviest <= 1 ? heaviest : Math.ceil(heaviest / 2)
}

/**
 * The core just found, or a smaller one that mere propagation finds when the core's literals are assumed one by one,
 * the last one first. It is retracted; everything else stays assumed.
 */
function trimmed(sat: Sat): readonly Literal[] {
  let best: readonly Literal[] = sat.core
  sat.retract(best)
  for (let trims = 0; trims < TRIMS && best.length > 1; trims++) {
    const order = best.toReversed()
    const last = order.findIndex((literal) => {
      sat.assume(literal)
      return sat.isRefuted()
    })
    const found = last < 0 ? best : sat.core
    sat.retract(found)
    for (const literal of order.slice(last + 1)) if (!found.includes(literal)) sat.assume(literal)
    if (found.length >= best.length) return found
    best = found
  }
  return best
}
