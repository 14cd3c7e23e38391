import type { Demand, Problem } from '../../src/index.ts'

export interface Shape {
  readonly services: number
  readonly names: number
  /** Least and most candidates of a name. */
  readonly candidates: readonly [number, number]
  readonly seed: number
}

/**
 * A monorepo as they are: few popular names and many rare ones; versions in majors; most ranges are carets with a
 * floor, some are exact; services follow each other's majors mostly, but not always.
 */
export function generateProblem({ services, names, candidates, seed }: Shape): Problem {
  const random = randomOf(seed)
  const integer = (from: number, to: number): number => from + Math.floor(random() * (to - from + 1))
  // Majors ascend: [1, 1, 2] is 1.0.0, 1.1.0, 2.0.0.
  const majors = Array.from({ length: names }, () => {
    let major = 1
    return Array.from({ length: integer(...candidates) }, () => (random() < 0.35 ? ++major : major))
  })
  const versions = majors.map((list) => list.map((major, i) => `${major}.${i}.0`))
  const demand = (slot: number, owner: number): Demand => {
    const list = majors[slot] ?? []
    const newest = list.length - 1
    const floor = random() < 0.7 ? Math.floor(random() ** 2 * newest + 0.5) : integer(0, newest)
    const kind = random()
    const all = list.map((_, i) => i)
    const allowed =
      kind < 0.06
        ? [floor]
        : kind < 0.12
          ? all
          : kind < 0.2
            ? all.filter((i) => i >= floor)
            : all.filter((i) => i >= floor && list[i] === list[floor])
    return { slot, allowed, owner }
  }
  let owner = 0
  // Later names are deeper: a name needs names after it, so the graph is mostly acyclic, with a few cycles.
  const demands = versions.map((list, slot) => {
    const needs = Array.from({ length: Math.floor(random() ** 2 * 8) }, () =>
      random() < 0.03
        ? integer(0, names - 1)
        : Math.min(names - 1, slot + 1 + Math.floor(random() ** 3 * (names - slot))),
    )
    return list.map(() => {
      owner++
      return needs.filter(() => random() < 0.92).map((need) => demand(need, owner))
    })
  })
  const roots = Array.from({ length: services }, () => {
    owner++
    return Array.from({ length: integer(5, 30) }, () => demand(Math.floor(random() ** 2 * names), owner))
  }).flat()
  return {
    names: versions.map((_, slot) => `name-${String(slot).padStart(5, '0')}`),
    versions,
    roots,
    demands,
    lockedCount: versions.map((list) => list.map(() => integer(0, services))),
  }
}

/** The same problem with every list of demands in another order. */
export function shuffled(problem: Problem, seed: number): Problem {
  const random = randomOf(seed)
  const shuffle = (demands: readonly Demand[]): Demand[] => {
    const list = [...demands]
    for (let i = list.length - 1; i > 0; i--) {
      const j = Math.floor(random() * (i + 1))
      ;[list[i], list[j]] = [list[j] as Demand, list[i] as Demand]
    }
    return list
  }
  return { ...problem, roots: shuffle(problem.roots), demands: problem.demands.map((slot) => slot.map(shuffle)) }
}

/** Mulberry32. */
function randomOf(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let t = Math.imul(state ^ (state >>> 15), state | 1)
    t = (t + Math.imul(t ^ (t >>> 7), t | 61)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296
  }
}

/**
 * The same problem made solvable strictly: per name one candidate is drawn, and demands of services and of these
 * candidates that exclude it allow it too.
 */
export function withStrictSolution(problem: Problem, seed: number): Problem {
  const random = randomOf(seed)
  const planted = problem.versions.map((versions) => Math.floor(random() * versions.length))
  const open = (demand: Demand): Demand => {
    const candidate = planted[demand.slot] as number
    if (demand.allowed.includes(candidate)) return demand
    return { ...demand, allowed: [...demand.allowed, candidate].sort((a, b) => a - b) }
  }
  return {
    ...problem,
    roots: problem.roots.map(open),
    demands: problem.demands.map((slot, i) =>
      slot.map((demands, candidate) => (candidate === planted[i] ? demands.map(open) : demands)),
    ),
  }
}
