import { allowsAbsent, anyState, candidatesIn, isSubset, selectedAt, union, type Bitmap } from './bitmap.ts'
import { resolve, type Incompatibility, type Term } from './incompatibility.ts'
import type { Network } from '../network.ts'
import { PartialSolution, type Assignment } from './partial-solution.ts'

/** What slots can be. */
export interface Domain {
  /** Per slot every state it can be in. */
  readonly any: readonly Bitmap[]
  /** Per slot its candidates, best first. */
  readonly preferred: readonly (readonly number[])[]
}

/** How much work is left: incompatibilities that may still be looked at. */
export interface Budget {
  steps: number
}

export type Outcome =
  | { readonly kind: 'solved'; readonly selected: readonly (number | undefined)[] }
  | { readonly kind: 'failed'; readonly failure: Incompatibility }
  | { readonly kind: 'limit' }

export function domainOf({ first, keep }: Network): Domain {
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

/**
 * A solution, or the incompatibility without terms that says that there is none.
 * @param facts what holds of every solution, that of one term first; read in this order
 * @param order what to draw conclusions from first: `broad`, what was known first, which finds short proofs; or
 * `deep`, what was found last, which follows one chain from end to end and so gives proofs that are easy to read
 */
export function search(
  { any, preferred }: Domain,
  facts: readonly Incompatibility[],
  budget: Budget,
  order: 'broad' | 'deep',
): Outcome {
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

  /** Slots of which more is known than what was drawn from it. */
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
    for (let next = 0; next < changed.length;) {
      const slot = (order === 'broad' ? changed[next++] : changed.pop()) as number
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
  /** All services at once, so that they contradict each other in the fewest words; or one after the other. */
  const start = (): Incompatibility | undefined => {
    for (const fact of facts) {
      if (fact.terms.length > 1) break
      const conflict = conflicts(fact) ? fact : order === 'deep' ? propagate() : undefined
      if (conflict !== undefined) return conflict
    }
    return propagate()
  }

  let conflict = start()
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
