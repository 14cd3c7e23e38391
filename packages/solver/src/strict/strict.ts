import { allowsAbsent } from './bitmap.ts'
import { derivationOf, type Derivation } from './derivation.ts'
import { demandsAsIncompatibilities, type Incompatibility } from './incompatibility.ts'
import { networkOf } from '../network.ts'
import type { Problem } from '../problem.ts'
import { domainOf, search, type Budget, type Domain } from './search.ts'
import { inTermsOfOrigins, singlesProblem } from './single-names.ts'

export interface StrictOptions {
  /** Slots that must not have several candidates, while all others may; every slot by default. */
  readonly singles?: readonly number[]
  /** How much work to do before giving up: incompatibilities looked at, some tens of millions a second. */
  readonly maxSteps?: number
}

export type StrictResult =
  /** Per slot its candidate, if anything needs it; nothing for a slot that may have several. */
  | { readonly kind: 'solved'; readonly selected: readonly (number | undefined)[] }
  /** There is none, and (but for very long proofs) each demand at the leaves of the derivation is needed for that. */
  | { readonly kind: 'failed'; readonly derivation: Derivation }
  /** `maxSteps` were not enough. */
  | { readonly kind: 'limit' }

const MAX_STEPS = 20_000_000
const SHORTENING_STEPS = 1_000_000

/**
 * At most one candidate of every slot, such that every active demand is met; or a proof that there is no such
 * selection. PubGrub (Weizenbaum 2018) over finite sets: what is known follows by unit propagation; where nothing
 * does, the required slot with the fewest candidates left gets the one that stands in most locks, the newest of
 * those; a conflict becomes a new incompatibility, from which the search learns and of which a failure consists.
 * The order and repetition of demands make no difference.
 * @throws RangeError if the problem breaks its contract
 */
export function solveStrict(problem: Problem, options: StrictOptions = {}): StrictResult {
  const { singles, maxSteps = MAX_STEPS } = options
  if (singles === undefined) return solveAll(problem, maxSteps)
  // For its checks: what is left out below would not be looked at.
  networkOf(problem)
  const stand = singlesProblem(problem, singles)
  const result = solveAll(stand.problem, maxSteps)
  if (result.kind === 'limit') return result
  if (result.kind === 'failed')
    return { kind: 'failed', derivation: inTermsOfOrigins(result.derivation, stand.origins) }
  const selected = problem.names.map((): number | undefined => undefined)
  stand.origins.forEach(({ slot }, i) => {
    if (singles.includes(slot)) selected[slot] = result.selected[i]
  })
  return { kind: 'solved', selected }
}

function solveAll(problem: Problem, maxSteps: number): StrictResult {
  const network = networkOf(problem)
  const domain = domainOf(network)
  const budget = { steps: maxSteps }
  const facts = demandsAsIncompatibilities(network)
  const outcome = search(domain, facts, budget, 'broad')
  if (outcome.kind !== 'failed') return outcome
  const proof = shortest(domain, facts, outcome.failure, { steps: Math.min(budget.steps, SHORTENING_STEPS) })
  return { kind: 'failed', derivation: derivationOf(proof, problem, network) }
}

/**
 * Another proof of the same, from demands of which none can be left out: the search meets many that have nothing to
 * do with it. Tries to do without each, the last first; where steps run out, with what is left by then. Of two proofs
 * from the same demands the one that is easier to follow.
 */
function shortest(
  domain: Domain,
  all: readonly Incompatibility[],
  failure: Incompatibility,
  budget: Budget,
): Incompatibility {
  let proof = failure
  let facts = all
  const restrict = (): void => {
    const needed = everythingBehind(proof)
    facts = facts.filter((fact) => needed.has(fact))
  }
  restrict()
  const kept = new Set<Incompatibility>()
  for (let fact = facts.at(-1); fact !== undefined; fact = facts.findLast((each) => !kept.has(each))) {
    kept.add(fact)
    if (budget.steps < 0) return proof
    const outcome = search(
      domain,
      facts.filter((each) => each !== fact),
      budget,
      'broad',
    )
    if (outcome.kind !== 'failed') continue
    proof = outcome.failure
    restrict()
  }
  const again = (['broad', 'deep'] as const).flatMap((order) => {
    const outcome = search(domain, facts, budget, order)
    return outcome.kind === 'failed' ? [outcome.failure] : []
  })
  return again.reduce((best, each) => (burdenOf(each) < burdenOf(best) ? each : best), again[0] ?? proof)
}

/** How much a reader has to keep in mind: conditions, and possible results, beyond the first of each step. */
function burdenOf(proof: Incompatibility): number {
  let burden = 0
  for (const { terms, cause } of everythingBehind(proof)) {
    if (cause.kind !== 'derived') continue
    const results = terms.filter(({ states }) => allowsAbsent(states)).length
    burden += Math.max(0, results - 1) + Math.max(0, terms.length - results - 1)
  }
  return burden
}

/** A proof with all that it consists of, down to the demands. */
function everythingBehind(proof: Incompatibility): Set<Incompatibility> {
  const behind = new Set([proof])
  // A set gives what is added while it is read, too.
  for (const { cause } of behind) if (cause.kind === 'derived') for (const from of cause.from) behind.add(from)
  return behind
}
