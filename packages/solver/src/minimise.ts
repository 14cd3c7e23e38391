import type { Literal, Sat, Verdict } from './sat.ts'

/** A literal that should hold, and what it costs if it doesn't; weights are positive integers. */
export type SoftLiterals = Map<Literal, number>

export interface Minimum {
  /** No assignment that satisfies the clauses costs less. */
  readonly cost: number
  /** True if one costs just that; it is then the model last reported, and only such remain possible. */
  readonly reached: boolean
}

/** Cores above this are not made smaller literal by literal: that takes as many attempts as they have literals. */
const TRIMMED_CORE = 24

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
  const pay = (core: readonly Literal[]): void => {
    const least = core.reduce((weight, literal) => Math.min(weight, soft.get(literal) as number), Infinity)
    cost += least
    for (const literal of core) {
      const rest = (soft.get(literal) as number) - least
      if (rest === 0) soft.delete(literal)
      else soft.set(literal, rest)
    }
    relax(sat, core, least, soft)
  }

  for (const literal of [...soft.keys()]) if (sat.fixed(literal) === -1) pay([literal])
  let threshold = nextThreshold(soft, Infinity)
  for (;;) {
    const { cores, verdict } = disjointCores(sat, soft, threshold, limit)
    if (verdict === 'satisfiable') onModel()
    for (const core of cores) pay(trimmed(sat, core, limit))
    if (verdict === 'limit') return { cost, reached: false }
    if (cores.length > 0) continue
    threshold = nextThreshold(soft, threshold)
    if (threshold === 0) break
  }
  for (const literal of soft.keys()) sat.addClause([literal])
  return { cost, reached: true }
}

/** Cores without a common literal among those that one pass over the assumptions finds, small ones first. */
function disjointCores(
  sat: Sat,
  soft: SoftLiterals,
  threshold: number,
  limit: number,
): { readonly cores: readonly (readonly Literal[])[]; readonly verdict: Verdict } {
  const assumed = [...soft].flatMap(([literal, weight]) =>
    weight >= threshold && sat.fixed(literal) !== 1 ? [literal] : [],
  )
  const found: Literal[][] = []
  const verdict = sat.solveMost(assumed, limit, found)
  if (verdict === 'unsatisfiable') throw new Error('the clauses contradict each other')
  const taken = new Set<Literal>()
  const cores = found
    .sort((a, b) => a.length - b.length)
    .filter((core) => {
      if (core.some((literal) => taken.has(literal))) return false
      for (const literal of core) taken.add(literal)
      return true
    })
  return { cores, verdict }
}

/** The heaviest weight below the last threshold, or half of it: few rounds even where all weights differ. */
function nextThreshold(soft: SoftLiterals, last: number): number {
  let heaviest = 0
  for (const weight of soft.values()) if (weight < last && weight > heaviest) heaviest = weight
  return heaviest <= 1 ? heaviest : Math.ceil(heaviest / 2)
}

/** A smaller core, if mere propagation finds one. */
function trimmed(sat: Sat, core: readonly Literal[], limit: number): readonly Literal[] {
  if (core.length < 2 || core.length > TRIMMED_CORE) return core
  let best = core
  for (const literal of core) {
    if (!best.includes(literal) || best.length === 1) continue
    const without = best.filter((other) => other !== literal)
    if (sat.refutes(without, limit)) best = sat.core
  }
  return best
}

/**
 * One of the core is paid for; each further broken one costs `weight` again. With b the broken literals and
 * "later" d(i) = b(i+1) or … or b(n), that is one payment for each b(i) and d(i): their count is one less than
 * the number of broken literals.
 */
function relax(sat: Sat, core: readonly Literal[], weight: number, soft: SoftLiterals): void {
  sat.addClause(core.map((literal) => literal ^ 1))
  let later: Literal | undefined
  for (let i = core.length - 1; i >= 0; i--) {
    const broken = (core[i] as Literal) ^ 1
    if (later === undefined) {
      later = broken
      continue
    }
    const again = 2 * sat.newVariable()
    sat.addClause([broken ^ 1, later ^ 1, again])
    soft.set(again ^ 1, weight)
    if (i === 0) break
    const either = 2 * sat.newVariable()
    sat.addClause([broken ^ 1, either])
    sat.addClause([later ^ 1, either])
    later = either
  }
}
