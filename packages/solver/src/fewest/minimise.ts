import type { Literal, Sat } from '../sat/sat.ts'

/** A literal that should hold, and what it costs if it doesn't; weights are positive integers. */
export type SoftLiterals = Map<Literal, number>

export interface Minimum {
  /** No assignment that satisfies the clauses costs less. */
  readonly cost: number
  /** True if one costs just that; it is then the model last reported, and only such remain possible. */
  readonly reached: boolean
}

/**
 * The least cost at which `soft` can be broken, from below: assume all of them; where a few contradict each other (a
 * core), one of them must be paid for, and from then on only a second one of these is assumed away. So work goes where
 * versions really conflict, and what was paid is a proven bound at any time. (Fu and Malik 2006; the cores are relaxed
 * as in Narodytska and Bacchus 2014; heavy literals first as in Ansótegui et al. 2012.)
 * Adds clauses: after a minimum that was reached, `sat` has only assignments of that cost. Otherwise the assumptions
 * stand as the search left them.
 * @param limit of `sat.steps`
 */
export function minimise(sat: Sat, soft: SoftLiterals, limit: number, onModel: () => void): Minimum {
  let cost = 0
  let threshold = nextThreshold(soft, Infinity)
  const assume = (literal: Literal, weight: number): void => {
    if (weight >= threshold) sat.assume(literal)
  }
  const pay = (core: readonly Literal[]): void => {
    const least = core.reduce((weight, literal) => Math.min(weight, soft.get(literal) as number), Infinity)
    cost += least
    const broken = core.map((literal) => literal ^ 1)
    sat.addClause(broken)
    for (const literal of core) {
      const rest = (soft.get(literal) as number) - least
      if (rest === 0) soft.delete(literal)
      else {
        soft.set(literal, rest)
        assume(literal, rest)
      }
    }
    // One of the core is paid for; each further broken one costs the same again.
    for (const surplus of surplusOf(sat, broken)) {
      soft.set(surplus ^ 1, least)
      assume(surplus ^ 1, least)
    }
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
    if (verdict === 'limit') return { cost, reached: false }
    if (sat.cores.length === 0) throw new Error('the clauses contradict each other')
    sat.retract(sat.cores.flat())
    sat.cores.forEach(pay)
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

/** The heaviest weight below the last threshold, or half of it: few rounds even where all weights differ. */
function nextThreshold(soft: SoftLiterals, last: number): number {
  let heaviest = 0
  for (const weight of soft.values()) if (weight < last && weight > heaviest) heaviest = weight
  return heaviest <= 1 ? heaviest : Math.ceil(heaviest / 2)
}
