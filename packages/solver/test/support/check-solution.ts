import type { Problem, Solution } from '../../src/index.ts'
import { activeLists } from './brute-force.ts'

/**
 * Everything that is wrong with a solution, as sentences; nothing here is shared with the solver. Bounds are checked
 * for not contradicting the selection; that they are true is for an oracle to say.
 */
export function faultsOf(problem: Problem, solution: Solution): string[] {
  const { selected, certificates, lowerBound, optimal } = solution
  const faults: string[] = []
  const name = (slot: number): string => problem.names[slot] ?? `slot ${slot}`
  const active = activeLists(problem, selected).flat()
  for (const { slot, allowed } of active) {
    if (!allowed.some((candidate) => selected[slot]?.includes(candidate)))
      faults.push(`${name(slot)}: nothing selected of ${allowed.join()}`)
  }
  selected.forEach((candidates, slot) => {
    if (candidates.some((candidate, i) => i > 0 && candidate <= (candidates[i - 1] as number)))
      faults.push(`${name(slot)} is not ascending`)
  })
  for (const [slot, candidate] of unreached(problem, selected)) faults.push(`nobody needs ${name(slot)} ${candidate}`)

  const extraCopies = selected.reduce((sum, candidates) => sum + Math.max(0, candidates.length - 1), 0)
  const total = selected.reduce((sum, candidates) => sum + candidates.length, 0)
  if (lowerBound.extraCopies > extraCopies || lowerBound.total > total) faults.push('a bound is above what was found')
  if (optimal && (lowerBound.extraCopies !== extraCopies || lowerBound.total !== total))
    faults.push('called optimal, but above its bound')

  const split = selected.flatMap((candidates, slot) => (candidates.length > 1 ? [slot] : []))
  if (split.join() !== certificates.map(({ slot }) => slot).join())
    faults.push('certificates are not those of the split slots')
  for (const { slot, demands, proven } of certificates) {
    if (demands.map(({ candidate }) => candidate).join() !== selected[slot]?.join())
      faults.push(`${name(slot)}: not one demand per candidate`)
    for (const demand of demands) {
      const same = active.filter(
        (other) =>
          other.slot === slot && other.owner === demand.owner && other.allowed.join() === demand.allowed.join(),
      )
      if (same.length === 0) faults.push(`${name(slot)}: a certificate names a demand that is not active`)
      const met = demand.allowed.filter((candidate) => selected[slot]?.includes(candidate))
      if (met.join() !== String(demand.candidate))
        faults.push(`${name(slot)}: a certified demand is met by ${met.join()}, not just ${demand.candidate}`)
      const sole = active.filter(
        (other) =>
          other.slot === slot &&
          other.allowed.filter((candidate) => selected[slot]?.includes(candidate)).join() === String(demand.candidate),
      )
      if (new Set(sole.map(({ owner, allowed }) => `${owner}:${allowed.join()}`)).size !== demand.count)
        faults.push(`${name(slot)}: count ${demand.count} is wrong`)
    }
    const everything = demands.flatMap(({ allowed }) => allowed)
    if (proven !== (new Set(everything).size === everything.length))
      faults.push(`${name(slot)}: "proven" is not what the demands say`)
  }
  return faults
}

function unreached(problem: Problem, selected: readonly (readonly number[])[]): [number, number][] {
  const reached = new Set<string>()
  const queue = [...problem.roots]
  for (const { slot, allowed } of queue) {
    for (const candidate of allowed) {
      if (selected[slot]?.includes(candidate) !== true || reached.has(`${slot} ${candidate}`)) continue
      reached.add(`${slot} ${candidate}`)
      queue.push(...(problem.demands[slot]?.[candidate] ?? []))
    }
  }
  return selected.flatMap((candidates, slot) =>
    candidates.flatMap((candidate): [number, number][] =>
      reached.has(`${slot} ${candidate}`) ? [] : [[slot, candidate]],
    ),
  )
}
