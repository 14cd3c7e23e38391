import { allowsAbsent, anyState, candidatesIn, isSubset, selectedAt, union, type Bitmap } from './bitmap.ts'
import { derivationOf, type Derivation } from './derivation.ts'
import { demandsAsIncompatibilities, resolve, type Incompatibility, type Term } from './incompatibility.ts'
import { networkOf, type Network } from './network.ts'
import { PartialSolution, type Assignment } from './partial-solution.ts'
import type { Problem } from './problem.ts'
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
  const outcome = search(domain, facts, budget)
  if (outcome.kind !== 'failed') return outcome
  const proof = shortest(domain, facts, outcome.failure, { steps: Math.min(budget.steps, SHORTENING_STEPS) })
  return { kind: 'failed', derivation: derivationOf(proof, problem, network) }
}

interface Domain {
  /** Per slot every state it can be in. */
  readonly any: readonly Bitmap[]
  /** Per slot its candidates, best first. */
  readonly preferred: readonly (readonly number[])[]
}

interface Budget {
  steps: number
}

type Outcome =
  | { readonly kind: 'solved'; readonly selected: readonly (number | undefined)[] }
  | { readonly kind: 'failed'; readonly failure: Incompatibility }
  | { readonly kind: 'limit' }

function domainOf({ first, keep }: Network): Domain {
  const counts = Array.from(
    { length: first.length - 1 },
    (_, slot) => (first[slot + 1] as number) - (first[slot] as number),
  )
  return {
    any: counts.map(anyState),
    preferred: counts.map((count, slot) => {
      const locks = (candidate: number): number => keep[(first[slot] as number) + candidate] as number
      return Array.from({ length: count }, (_, i) => i).sort((a, b) => locks(b) - locks(a) || b - a)
    }),
  }
}

/** @param facts what holds of every solution; read in this order */
function search({ any, preferred }: Domain, facts: readonly Incompatibility[], budget: Budget): Outcome {
  const solution = new PartialSolution(any)
  /** Per slot the incompatibilities with a term about it. */
  const mentions: (Incompatibility[] | undefined)[] = any.map(() => undefined)
  const add = (incompatibility: Incompatibility): void => {
    for (const { slot } of incompatibility.terms) {
      const known = mentions[slot]
      if (known === undefined) mentions[slot] = [incompatibility]
      else known.push(incompatibility)
    }
  }
  facts.forEach(add)
  budget.steps -= facts.length

  /** Slots of which more is known than what was drawn from it, first come, first served. */
  let changed: number[] = []
  const isChanged = new Uint8Array(any.length)
  /** True if all terms are true. If all but one are, that one is made false. */
  const conflicts = (incompatibility: Incompatibility): boolean => {
    budget.steps--
    let open: Term | undefined
    for (const term of incompatibility.terms) {
      const relation = solution.relation(term)
      if (relation === 'false') return false
      if (relation === 'true') continue
      if (open !== undefined) return false
      open = term
    }
    if (open === undefined) return true
    solution.refute(open, incompatibility)
    mark(open.slot)
    return false
  }
  const mark = (slot: number): void => {
    if (isChanged[slot] === 1) return
    isChanged[slot] = 1
    changed.push(slot)
  }
  /** The first incompatibility that everything known makes true. */
  const propagate = (): Incompatibility | undefined => {
    for (let next = 0; next < changed.length; next++) {
      const slot = changed[next] as number
      isChanged[slot] = 0
      const mentioning = mentions[slot] ?? []
      // What was learnt last says most.
      for (let i = mentioning.length - 1; i >= 0; i--) {
        const incompatibility = mentioning[i] as Incompatibility
        if (!conflicts(incompatibility)) continue
        for (const each of changed) isChanged[each] = 0
        changed = []
        return incompatibility
      }
    }
    changed = []
    return undefined
  }

  // The demands of services first: they contradict each other in the fewest words.
  let conflict = facts.find((fact) => fact.terms.length === 1 && conflicts(fact)) ?? propagate()
  for (;;) {
    if (conflict !== undefined) {
      const learnt = rootCause(solution, conflict, any)
      if (learnt.terms.length === 0) return { kind: 'failed', failure: learnt }
      if (learnt !== conflict) add(learnt)
      conflicts(learnt)
    } else {
      const slot = solution.nextOpen()
      if (slot < 0) break
      const candidates = candidatesIn(solution.statesOf(slot), preferred[slot]?.length ?? 0)
      const candidate = preferred[slot]?.find((each) => candidates.includes(each)) as number
      solution.decide(slot, selectedAt(any[slot] as Bitmap, [candidate]))
      mark(slot)
    }
    if (budget.steps < 0) return { kind: 'limit' }
    conflict = propagate()
  }
  return {
    kind: 'solved',
    selected: any.map((_, slot) => {
      const states = solution.statesOf(slot)
      return allowsAbsent(states) ? undefined : candidatesIn(states, preferred[slot]?.length ?? 0)[0]
    }),
  }
}

/**
 * Why all terms of `conflict` came to be true: as long as the last of them to become so was derived, and nothing was
 * decided in between, that derivation takes its place. Goes back to where the result has something new to say; where
 * it says that there is no solution it has no terms.
 */
function rootCause(solution: PartialSolution, conflict: Incompatibility, any: readonly Bitmap[]): Incompatibility {
  let incompatibility = conflict
  while (incompatibility.terms.length > 0) {
    let latest: { readonly term: Term; readonly by: Assignment } | undefined
    /** The level at which all was true but for the latest assignment. */
    let level = 0
    for (const term of incompatibility.terms) {
      const by = solution.satisfier(term)
      if (latest === undefined || by.position > latest.by.position) {
        level = Math.max(level, latest?.by.level ?? 0)
        latest = { term, by }
      } else level = Math.max(level, by.level)
    }
    if (latest === undefined) break
    const { term, by } = latest
    const { cause } = by
    if (cause !== undefined) {
      // If foo ^1.0.0 || ^2.0.0 was known already, "not foo ^2.0.0" makes foo ^1.0.0 true only together with that.
      const every = any[term.slot] as Bitmap
      const own = cause.terms.find(({ slot }) => slot === term.slot) as Term
      const rest = { slot: term.slot, states: union(term.states, own.states) }
      if (!isSubset(every, rest.states)) level = Math.max(level, solution.satisfier(rest).level)
      if (level === by.level) {
        incompatibility = resolve(incompatibility, cause, term.slot, every)
        continue
      }
    }
    solution.backtrack(level)
    return incompatibility
  }
  return incompatibility
}

/**
 * Another proof of the same, from demands of which none can be left out: the search meets many that have nothing to
 * do with it. Tries to do without each, the last first; where steps run out, with what is left by then.
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
    const needed = factsBehind(proof)
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
    )
    if (outcome.kind !== 'failed') continue
    proof = outcome.failure
    restrict()
  }
  // Once more, so that nothing of how it was found shows.
  const last = search(domain, facts, budget)
  return last.kind === 'failed' ? last.failure : proof
}

/** The demands at the leaves of a proof. */
function factsBehind(proof: Incompatibility): Set<Incompatibility> {
  const behind = new Set([proof])
  // A set gives what is added while it is read, too.
  for (const { cause } of behind) if (cause.kind === 'derived') for (const from of cause.from) behind.add(from)
  return behind
}
