import { causesFirst, causesOf, type Derivation, type DerivationTerm } from './derivation.ts'
import type { Demand, Problem } from '../problem.ts'

/** A strict problem that stands for one in which only some slots are held to one candidate. */
export interface SinglesProblem {
  readonly problem: Problem
  /** Per slot of `problem` what it stands for: its candidates are these of that slot. */
  readonly origins: readonly Origin[]
}

export interface Origin {
  readonly slot: number
  readonly candidates: readonly number[]
}

/**
 * Only `singles` are held to one candidate, all other slots may have several. Each of those becomes one slot a choice:
 * whoever demands `ui ^1` picks a `ui ^1` of its own, with the demands of that version. All picks of `ui` together are
 * what is selected of it.
 *
 *     web needs ui 1 || 2      ui 1 needs react 17      web needs ui¹     ui¹ 1 needs react 17
 *     api needs ui 2           ui 2 needs react 18      api needs ui²     ui¹ 2 needs react 18     ui² 2 needs react 18
 *
 * What can never force anything on a single is left out.
 */
export function singlesProblem(problem: Problem, singles: readonly number[]): SinglesProblem {
  const isSingle = new Set(singles)
  const harmless = harmlessCandidates(problem, isSingle)
  const constrains = ({ slot, allowed }: Demand): boolean =>
    !allowed.some((candidate) => harmless[slot]?.[candidate] === true)
  const origins: Origin[] = []
  const known = new Map<string, number>()
  const slotOf = (slot: number, allowed: readonly number[]): number => {
    const candidates = isSingle.has(slot) ? (problem.versions[slot] ?? []).map((_, i) => i) : allowed
    const key = isSingle.has(slot) ? String(slot) : `${slot}:${allowed.join()}`
    const found = known.get(key)
    if (found !== undefined) return found
    known.set(key, origins.length)
    return origins.push({ slot, candidates }) - 1
  }
  const translate = (demands: readonly Demand[]): Demand[] =>
    demands.filter(constrains).map(({ slot, allowed, owner }) => ({
      slot: slotOf(slot, allowed),
      allowed: isSingle.has(slot) ? allowed : allowed.map((_, i) => i),
      owner,
    }))
  // Numbered by content, so that nothing depends on the order in which demands were given.
  const constraints = [...problem.roots, ...problem.demands.flat(2)].filter(constrains)
  constraints.sort((a, b) => a.slot - b.slot || compareSets(a.allowed, b.allowed))
  for (const { slot, allowed } of constraints) slotOf(slot, allowed)
  return {
    origins,
    problem: {
      names: origins.map(({ slot }) => problem.names[slot] ?? ''),
      versions: origins.map(({ slot, candidates }) => candidates.map((each) => problem.versions[slot]?.[each] ?? '')),
      roots: translate(problem.roots),
      demands: origins.map(({ slot, candidates }) =>
        candidates.map((candidate) => translate(problem.demands[slot]?.[candidate] ?? [])),
      ),
      lockedCount: origins.map(({ slot, candidates }) =>
        candidates.map((candidate) => problem.lockedCount[slot]?.[candidate] ?? 0),
      ),
    },
  }
}

/** A proof for a singles problem, told of the slots that its own stand for. */
export function inTermsOfOrigins(proof: Derivation, origins: readonly Origin[]): Derivation {
  const told = new Map<Derivation, Derivation>()
  const place = (slot: number, candidates: readonly number[]): { slot: number; candidates: readonly number[] } => {
    const origin = origins[slot] as Origin
    return { slot: origin.slot, candidates: candidates.map((candidate) => origin.candidates[candidate] as number) }
  }
  const demand = (slot: number, allowed: readonly number[]): { slot: number; allowed: readonly number[] } => {
    const placed = place(slot, allowed)
    return { slot: placed.slot, allowed: placed.candidates }
  }
  const causeOf = ({ cause }: Derivation): Derivation['cause'] => {
    if (cause.kind === 'root') return { ...cause, ...demand(cause.slot, cause.allowed) }
    if (cause.kind === 'demand')
      return { ...cause, by: place(cause.by.slot, cause.by.candidates), ...demand(cause.slot, cause.allowed) }
    const [left, right] = cause.from
    return { kind: 'derived', from: [told.get(left) as Derivation, told.get(right) as Derivation] }
  }
  for (const step of causesFirst(proof, causesOf)) {
    const terms = step.terms.map((term): DerivationTerm => ({ ...term, ...place(term.slot, term.candidates) }))
    told.set(step, { terms: together(terms), cause: causeOf(step) })
  }
  return told.get(proof) as Derivation
}

/** "None of ui 1 is selected" and "none of ui 2 is" are one term; "ui 1 is" and "ui 2 is" are not. */
function together(terms: readonly DerivationTerm[]): DerivationTerm[] {
  const merged = new Map<string, DerivationTerm>()
  for (const term of terms) {
    const key = term.selected ? `${term.slot}:${term.candidates.join()}` : String(term.slot)
    const candidates = [...new Set([...(merged.get(key)?.candidates ?? []), ...term.candidates])].sort((a, b) => a - b)
    merged.set(key, { ...term, candidates })
  }
  return [...merged.values()]
}

/**
 * Candidates that can be selected, all of them at once, with nothing but each other: none is of a single, and each of
 * their demands allows another one of them. A demand that allows such a one is no constraint.
 */
function harmlessCandidates(problem: Problem, isSingle: ReadonlySet<number>): readonly (readonly boolean[])[] {
  const harmless = problem.versions.map((versions, slot) => versions.map(() => !isSingle.has(slot)))
  const candidates = problem.versions.flatMap((versions, slot) => versions.map((_, candidate) => ({ slot, candidate })))
  const askers = problem.names.map((): Set<(typeof candidates)[number]> => new Set())
  for (const each of candidates)
    for (const demand of problem.demands[each.slot]?.[each.candidate] ?? []) askers[demand.slot]?.add(each)
  const queue = [...candidates]
  for (let next = queue.pop(); next !== undefined; next = queue.pop()) {
    const { slot, candidate } = next
    const own = harmless[slot] as boolean[]
    const demands = problem.demands[slot]?.[candidate] ?? []
    const meets = (demand: Demand): boolean => demand.allowed.some((each) => harmless[demand.slot]?.[each] === true)
    if (own[candidate] !== true || demands.every(meets)) continue
    own[candidate] = false
    for (const asker of askers[slot] ?? []) queue.push(asker)
  }
  return harmless
}

function compareSets(a: readonly number[], b: readonly number[]): number {
  for (let i = 0; i < a.length && i < b.length; i++) {
    const order = (a[i] as number) - (b[i] as number)
    if (order !== 0) return order
  }
  return a.length - b.length
}
