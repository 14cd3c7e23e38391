import type { Certificate, CertifiedDemand, Demand, Problem } from '../problem.ts'

/** How many attempts at a disjoint set of demands a slot is worth; slots of real problems need a handful. */
const ATTEMPTS = 20_000

/** A certificate for each slot with more than one selected candidate, ascending by slot. */
export function certificatesOf(problem: Problem, selected: readonly (readonly number[])[]): Certificate[] {
  const split = selected.map((candidates) => candidates.length > 1)
  const active: Demand[][] = selected.map(() => [])
  const collect = (demands: readonly Demand[]): void => {
    for (const demand of demands) if (split[demand.slot] === true) active[demand.slot]?.push(demand)
  }
  collect(problem.roots)
  selected.forEach((candidates, slot) =>
    candidates.forEach((candidate) => collect(problem.demands[slot]?.[candidate] ?? [])),
  )
  return selected.flatMap((candidates, slot) =>
    candidates.length > 1 ? [certificateOf(slot, candidates, active[slot] ?? [])] : [],
  )
}

function certificateOf(slot: number, candidates: readonly number[], active: readonly Demand[]): Certificate {
  const perCandidate = candidates.map((candidate) => soleDemands(candidate, candidates, active))
  const disjoint = pairwiseDisjoint(perCandidate.map(({ options }) => options))
  return {
    slot,
    proven: disjoint !== undefined,
    demands: perCandidate.map(({ candidate, count, options }, i) => {
      // Every selected candidate has such a demand, or the selection could do without it.
      const { slot: on, allowed, owner, locked } = (disjoint?.[i] ?? options[0]) as Demand
      return { slot: on, allowed, owner, ...(locked === undefined ? {} : { locked }), candidate, count }
    }),
  }
}

interface SoleDemands {
  readonly candidate: CertifiedDemand['candidate']
  readonly count: number
  /** One demand for each distinct set that of the selected candidates allows only this one; narrowest first. */
  readonly options: readonly Demand[]
}

function soleDemands(candidate: number, selected: readonly number[], active: readonly Demand[]): SoleDemands {
  const options = new Map<string, Demand>()
  const seen = new Set<string>()
  for (const demand of active) {
    if (
      !demand.allowed.includes(candidate) ||
      selected.some((other) => other !== candidate && demand.allowed.includes(other))
    )
      continue
    const key = demand.allowed.join()
    seen.add(`${demand.owner}:${key}`)
    const known = options.get(key)
    if (known === undefined || compareDemands(demand, known) < 0) options.set(key, demand)
  }
  return { candidate, count: seen.size, options: [...options.values()].sort(compareDemands) }
}

/** Narrow sets are disjoint from more; the rest is only for a stated order. */
function compareDemands(a: Demand, b: Demand): number {
  if (a.allowed.length !== b.allowed.length) return a.allowed.length - b.allowed.length
  for (let i = 0; i < a.allowed.length; i++) {
    const order = (a.allowed[i] as number) - (b.allowed[i] as number)
    if (order !== 0) return order
  }
  return a.owner - b.owner || (a.locked ?? -1) - (b.locked ?? -1)
}

function pairwiseDisjoint(options: readonly (readonly Demand[])[]): Demand[] | undefined {
  const chosen: Demand[] = []
  let attempts = 0
  const extend = (at: number, taken: ReadonlySet<number>): boolean => {
    if (at === options.length) return true
    for (const demand of options[at] ?? []) {
      if (++attempts > ATTEMPTS) return false
      if (demand.allowed.some((candidate) => taken.has(candidate))) continue
      chosen.push(demand)
      if (extend(at + 1, new Set([...taken, ...demand.allowed]))) return true
      chosen.pop()
    }
    return false
  }
  return extend(0, new Set()) ? chosen : undefined
}
