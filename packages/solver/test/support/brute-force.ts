import type { Demand, Problem } from '../../src/index.ts'

/** Per level what a selection costs; see {@link objectiveOf}. */
export type Objective = readonly number[]

/**
 * The objective written down once more, straight from its definition and with nothing of the solver's: levels 1 to 5,
 * then level 6 as a list of which the smaller one wins.
 */
export function objectiveOf(
  problem: Problem,
  selected: readonly (readonly number[])[],
  singles: readonly number[] = [],
): Objective {
  const extra = selected.map((candidates) => Math.max(0, candidates.length - 1))
  const sum = (numbers: readonly number[]): number => numbers.reduce((a, b) => a + b, 0)
  const has = (slot: number, candidate: number): boolean => selected[slot]?.includes(candidate) === true
  const lost = problem.lockedCount.map((counts, slot) => sum(counts.filter((_, candidate) => !has(slot, candidate))))
  const moved = activeLists(problem, selected).map((demands) => {
    const distinct = new Map(
      demands.map((demand) => [JSON.stringify([demand.slot, demand.owner, demand.locked, demand.allowed]), demand]),
    )
    return [...distinct.values()].filter(
      ({ slot, locked, allowed }) => locked !== undefined && allowed.includes(locked) && !has(slot, locked),
    ).length
  })
  const behind = selected.map((candidates, slot) =>
    sum(candidates.map((candidate) => (problem.versions[slot]?.length ?? 0) - 1 - candidate)),
  )
  return [
    sum(extra.filter((_, slot) => singles.includes(slot))),
    sum(extra),
    sum(selected.map((candidates) => candidates.length)),
    sum(lost) + sum(moved),
    sum(behind),
    ...selected.map((candidates) => (candidates.length > 0 ? 0 : 1)),
    ...problem.versions.flatMap((versions, slot) =>
      versions.map((_, candidate) => (has(slot, candidate) ? 0 : 1)).reverse(),
    ),
  ]
}

/** True if every root and every demand of every selected candidate is met. */
export function meetsAll(problem: Problem, selected: readonly (readonly number[])[]): boolean {
  return activeLists(problem, selected)
    .flat()
    .every(({ slot, allowed }) => allowed.some((candidate) => selected[slot]?.includes(candidate)))
}

/** Tries every selection there is. */
export function bruteForce(problem: Problem, singles: readonly number[] = []): readonly (readonly number[])[] {
  const widths = problem.versions.map((versions) => versions.length)
  const count = widths.reduce((a, b) => a + b, 0)
  let best: readonly (readonly number[])[] | undefined
  let bestObjective: Objective = []
  for (let bits = 0; bits < 2 ** count; bits++) {
    let at = 0
    const selected = widths.map((width) => Array.from({ length: width }, (_, i) => i).filter(() => (bits >> at++) & 1))
    if (!meetsAll(problem, selected)) continue
    const objective = objectiveOf(problem, selected, singles)
    if (best === undefined || isLess(objective, bestObjective)) [best, bestObjective] = [selected, objective]
  }
  if (best === undefined) throw new Error('a selection of everything meets everything')
  return best
}

/** The roots, and the demands of each selected candidate. */
export function activeLists(problem: Problem, selected: readonly (readonly number[])[]): (readonly Demand[])[] {
  return [
    problem.roots,
    ...selected.flatMap((candidates, slot) => candidates.map((candidate) => problem.demands[slot]?.[candidate] ?? [])),
  ]
}

function isLess(a: Objective, b: Objective): boolean {
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return (a[i] as number) < (b[i] as number)
  return false
}
