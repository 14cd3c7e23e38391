import Logic from 'logic-solver'

import type { Demand, Problem } from '../../src/index.ts'
import { Sat } from '../../src/sat/sat.ts'
import { meetsAll } from './brute-force.ts'

/**
 * True if some selection meets everything with at most one candidate of each of `singles` (all slots by default);
 * tries every selection there is.
 */
export function isStrictlySolvable(
  problem: Problem,
  singles: readonly number[] = problem.names.map((_, slot) => slot),
): boolean {
  const options = problem.versions.map((versions, slot) => {
    const all = versions.map((_, candidate) => candidate)
    if (singles.includes(slot)) return [[], ...all.map((candidate) => [candidate])]
    return Array.from({ length: 2 ** all.length }, (_, bits) => all.filter((candidate) => (bits >> candidate) & 1))
  })
  const extend = (selected: readonly (readonly number[])[]): boolean => {
    const next = options[selected.length]
    if (next === undefined) return meetsAll(problem, selected)
    return next.some((candidates) => extend([...selected, candidates]))
  }
  return extend([])
}

/** The same by this package's own satisfiability solver, one variable a candidate. */
export function isSatisfiableBySat(problem: Problem): boolean {
  const sat = new Sat()
  const literals = problem.versions.map((versions) => versions.map(() => 2 * sat.newVariable()))
  const literal = (slot: number, candidate: number): number => literals[slot]?.[candidate] as number
  for (const clause of clausesOf(problem)) {
    const signed = clause.map(([slot, candidate, positive]) => literal(slot, candidate) ^ (positive ? 0 : 1))
    if (!signed.some((each) => signed.includes(each ^ 1))) sat.addClause(signed)
  }
  return sat.solve([], Infinity) === 'satisfiable'
}

/** The same by MiniSat. */
export function isSatisfiableByMinisat(problem: Problem): boolean {
  const solver = new Logic.Solver()
  for (const clause of clausesOf(problem)) {
    const terms = clause.map(([slot, candidate, positive]) => `${positive ? '' : '-'}x${slot}_${candidate}`)
    solver.require(Logic.or(...terms))
  }
  return solver.solve() !== null
}

type Signed = readonly [slot: number, candidate: number, positive: boolean]

function clausesOf({ roots, demands, versions }: Problem): Signed[][] {
  const met = ({ slot, allowed }: Demand): Signed[] => allowed.map((candidate) => [slot, candidate, true])
  return [
    ...roots.map(met),
    ...demands.flatMap((slot, i) =>
      slot.flatMap((list, candidate) => list.map((demand): Signed[] => [[i, candidate, false], ...met(demand)])),
    ),
    ...versions.flatMap((list, slot) =>
      list.flatMap((_, a) =>
        list.slice(0, a).map((__, b): Signed[] => [
          [slot, a, false],
          [slot, b, false],
        ]),
      ),
    ),
  ]
}
