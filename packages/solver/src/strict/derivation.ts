import { allowsAbsent, hasCandidate } from './bitmap.ts'
import type { Incompatibility } from './incompatibility.ts'
import type { Choice, Network } from '../network.ts'
import type { Problem } from '../problem.ts'

/**
 * A proof, as a graph without cycles: what is said at its root follows from its two causes, and so on down to the
 * demands of the problem. What is said is that no solution makes all `terms` true; where there are none, that there
 * is no solution. Parts that are used several times are the same object.
 */
export interface Derivation {
  /** Ascending by slot. */
  readonly terms: readonly DerivationTerm[]
  readonly cause: RootCause | DemandCause | DerivedCause
}

/** "One of these candidates is selected", or "none of these is". */
export interface DerivationTerm {
  readonly slot: number
  /** Ascending, non-empty. */
  readonly candidates: readonly number[]
  readonly selected: boolean
}

/** Services demand one of `allowed`. */
export interface RootCause {
  readonly kind: 'root'
  readonly owners: readonly number[]
  readonly slot: number
  readonly allowed: readonly number[]
}

/** Each of these candidates demands one of `allowed`. */
export interface DemandCause {
  readonly kind: 'demand'
  readonly by: { readonly slot: number; readonly candidates: readonly number[] }
  readonly slot: number
  readonly allowed: readonly number[]
}

export interface DerivedCause {
  readonly kind: 'derived'
  readonly from: readonly [Derivation, Derivation]
}

/** The proof behind an incompatibility as plain data in the problem's own numbers. */
export function derivationOf(proof: Incompatibility, problem: Problem, { first }: Network): Derivation {
  const made = new Map<Incompatibility, Derivation>()
  const asDemand = ({ slot, members }: Choice): { slot: number; allowed: readonly number[] } => ({
    slot,
    allowed: members.map((member) => member - (first[slot] as number)),
  })
  const causeOf = ({ cause }: Incompatibility): Derivation['cause'] => {
    if (cause.kind === 'derived') {
      const [left, right] = cause.from
      return { kind: 'derived', from: [made.get(left) as Derivation, made.get(right) as Derivation] }
    }
    const demand = asDemand(cause.choice)
    if (cause.kind === 'root') return { kind: 'root', owners: ownersOf(problem, demand), ...demand }
    return { kind: 'demand', by: { slot: cause.slot, candidates: cause.candidates }, ...demand }
  }
  for (const each of causesFirst(proof, ({ cause }) => (cause.kind === 'derived' ? cause.from : []))) {
    const terms = each.terms.map(({ slot, states }): DerivationTerm => {
      const selected = !allowsAbsent(states)
      const candidates = (problem.versions[slot] ?? []).flatMap((_, candidate) =>
        hasCandidate(states, candidate) === selected ? [candidate] : [],
      )
      return { slot, candidates, selected }
    })
    made.set(each, { terms, cause: causeOf(each) })
  }
  return made.get(proof) as Derivation
}

/** The two causes of a derivation; none of a demand. */
export function causesOf({ cause }: Derivation): readonly Derivation[] {
  return cause.kind === 'derived' ? cause.from : []
}

/** All nodes below and including `root`, each once, after its causes. Chains are too long for recursion. */
export function causesFirst<T>(root: T, causes: (node: T) => readonly T[]): T[] {
  const done = new Set<T>()
  const stack = [root]
  for (let node = stack.at(-1); node !== undefined; node = stack.at(-1)) {
    const waiting = causes(node).filter((cause) => !done.has(cause))
    if (waiting.length > 0) stack.push(...waiting.toReversed())
    else {
      done.add(node)
      stack.pop()
    }
  }
  return [...done]
}

function ownersOf(problem: Problem, { slot, allowed }: { slot: number; allowed: readonly number[] }): number[] {
  const key = allowed.join()
  const owners = problem.roots
    .filter((root) => root.slot === slot && root.allowed.join() === key)
    .map(({ owner }) => owner)
  return [...new Set(owners)].sort((a, b) => a - b)
}
