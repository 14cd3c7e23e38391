import type { Problem } from '../../src/index.ts'
import type { Derivation, DerivationTerm } from '../../src/strict/derivation.ts'

/**
 * Everything that is wrong with a proof that a problem has no strict solution, as sentences; nothing here is shared
 * with the solver. A leaf must be a demand of the problem; a step must follow from its causes: on one slot, whatever
 * makes its term true makes that of one cause true, and on all others that of both.
 */
export function faultsOfProof(problem: Problem, proof: Derivation): string[] {
  const faults: string[] = []
  if (proof.terms.length > 0) faults.push('the proof ends in something that may be false')
  for (const step of stepsOf(proof)) {
    const { cause, terms } = step
    if (cause.kind === 'derived') {
      if (!follows(problem, step, cause.from)) faults.push(`does not follow: ${JSON.stringify(terms)}`)
      continue
    }
    const unmet = `${cause.slot} not ${cause.allowed.join()}`
    const said = terms.map(({ slot, candidates, selected }) => `${slot} ${selected ? '' : 'not '}${candidates.join()}`)
    const isDemand = (list: Problem['roots'], owner?: number): boolean =>
      list.some(
        (demand) =>
          demand.slot === cause.slot &&
          demand.allowed.join() === cause.allowed.join() &&
          (owner === undefined || demand.owner === owner),
      )
    if (cause.kind === 'root') {
      if (said.join() !== unmet) faults.push(`says ${said.join()} of the demand ${unmet}`)
      if (cause.owners.length === 0) faults.push('nobody demands it')
      for (const owner of cause.owners) if (!isDemand(problem.roots, owner)) faults.push(`${owner}: no such demand`)
      continue
    }
    const { slot, candidates } = cause.by
    for (const candidate of candidates)
      if (!isDemand(problem.demands[slot]?.[candidate] ?? [])) faults.push(`${slot} ${candidate}: no such demand`)
    if (slot === cause.slot && candidates.some((candidate) => cause.allowed.includes(candidate)))
      faults.push(`${slot}: the demand is met by who has it`)
    const own = `${slot} ${candidates.join()}`
    const wanted = slot === cause.slot ? [own] : slot < cause.slot ? [own, unmet] : [unmet, own]
    if (said.join() !== wanted.join()) faults.push(`says ${said.join()} of the demand ${wanted.join()}`)
  }
  return faults
}

/** Every step, once. */
export function stepsOf(proof: Derivation): Derivation[] {
  const steps = new Set([proof])
  for (const { cause } of steps) if (cause.kind === 'derived') for (const from of cause.from) steps.add(from)
  return [...steps]
}

/** The problem that has only the demands at the leaves, without the leaf `except`. */
export function leavesAsProblem(problem: Problem, proof: Derivation, except?: Derivation): Problem {
  const leaves = stepsOf(proof).filter((step) => step !== except && step.cause.kind !== 'derived')
  return {
    ...problem,
    roots: leaves.flatMap(({ cause }) =>
      cause.kind === 'root' ? [{ slot: cause.slot, allowed: cause.allowed, owner: 0 }] : [],
    ),
    demands: problem.demands.map((perCandidate, slot) =>
      perCandidate.map((_, candidate) =>
        leaves.flatMap(({ cause }) =>
          cause.kind === 'demand' && cause.by.slot === slot && cause.by.candidates.includes(candidate)
            ? [{ slot: cause.slot, allowed: cause.allowed, owner: 0 }]
            : [],
        ),
      ),
    ),
  }
}

function follows(problem: Problem, step: Derivation, [a, b]: readonly [Derivation, Derivation]): boolean {
  const slots = [...new Set([step, a, b].flatMap(({ terms }) => terms.map(({ slot }) => slot)))]
  const states = ({ terms }: Derivation, slot: number): Set<number> => {
    // -1 is absent; a slot without a term may be anything.
    const all = [-1, ...(problem.versions[slot] ?? []).map((_, candidate) => candidate)]
    const term: DerivationTerm | undefined = terms.find((each) => each.slot === slot)
    return new Set(term === undefined ? all : all.filter((each) => term.candidates.includes(each) === term.selected))
  }
  const inBoth = (slot: number): boolean =>
    [...states(step, slot)].every((state) => states(a, slot).has(state) && states(b, slot).has(state))
  const inEither = (slot: number): boolean =>
    [...states(step, slot)].every((state) => states(a, slot).has(state) || states(b, slot).has(state))
  const distinct = new Set(step.terms.map(({ slot }) => slot)).size === step.terms.length
  return distinct && slots.some((pivot) => slots.every((slot) => (slot === pivot ? inEither(slot) : inBoth(slot))))
}
