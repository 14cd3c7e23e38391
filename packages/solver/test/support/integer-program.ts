import highsModule from 'highs'

import type { Demand, Problem } from '../../src/index.ts'

export interface ProvenLevels {
  readonly singles: number
  readonly extraCopies: number
  readonly total: number
  readonly moves: number
  readonly behind: number
}

/** Levels 1 to 5 of the objective by HiGHS, one integer program after the other, each holding those before it. */
export async function optimumByHighs(problem: Problem, singles: readonly number[] = []): Promise<ProvenLevels> {
  // The package's types describe a CommonJS module; Node gives its ES module, whose default is the loader itself.
  const highs = await (highsModule as unknown as typeof highsModule.default)()
  const program = programOf(problem, singles)
  const held: string[] = []
  const solved: number[] = []
  for (const level of program.levels) {
    const text = `Minimize\n cost: ${level.terms.length === 0 ? '0 x0' : linear(level.terms)}\nSubject To\n${[...program.constraints, ...held].join('\n')}\nBinary\n ${program.variables.join('\n ')}\nEnd\n`
    const result = highs.solve(text, { mip_rel_gap: 0, mip_abs_gap: 0.5, output_flag: false })
    if (result.Status !== 'Optimal') throw new Error(`HiGHS: ${result.Status}`)
    const cost = Math.round(result.ObjectiveValue)
    if (level.terms.length > 0) held.push(` held${held.length}: ${linear(level.terms)} <= ${cost}`)
    solved.push(cost + level.constant)
  }
  const [ones = 0, extraCopies = 0, total = 0, moves = 0, behind = 0] = solved
  return { singles: ones, extraCopies, total, moves, behind }
}

type Term = readonly [weight: number, variable: string]

interface Program {
  readonly variables: readonly string[]
  readonly constraints: readonly string[]
  readonly levels: readonly { readonly terms: readonly Term[]; readonly constant: number }[]
}

/** x: the candidate is selected; y: its slot is used; m: an active demand is off its locked candidate. */
function programOf(problem: Problem, singles: readonly number[]): Program {
  const variables = new Set<string>(['x0'])
  const constraints: string[] = []
  const x = (slot: number, candidate: number): string => named(`x${slot}_${candidate}`)
  const named = (variable: string): string => {
    variables.add(variable)
    return variable
  }
  const constrain = (text: string): void => void constraints.push(` c${constraints.length}: ${text}`)
  const moves: Term[] = []
  let movesConstant = 0
  const demand = ({ slot, allowed, locked }: Demand, owner: string | undefined): void => {
    const members = allowed.map((candidate) => x(slot, candidate))
    if (owner === undefined || !members.includes(owner))
      constrain(owner === undefined ? `${members.join(' + ')} >= 1` : `${members.join(' + ')} - ${owner} >= 0`)
    if (locked === undefined || !allowed.includes(locked)) return
    const kept = x(slot, locked)
    const moved = named(`m${variables.size}`)
    if (owner === undefined) constrain(`${moved} + ${kept} >= 1`)
    else if (owner !== kept) constrain(`${moved} + ${kept} - ${owner} >= 0`)
    moves.push([1, moved])
  }
  const distinct = (demands: readonly Demand[]): Demand[] => [
    ...new Map(
      demands.map((each) => [JSON.stringify([each.slot, each.owner, each.locked, each.allowed]), each]),
    ).values(),
  ]
  for (const each of distinct(problem.roots)) demand(each, undefined)
  problem.demands.forEach((slot, i) =>
    slot.forEach((demands, candidate) => distinct(demands).forEach((each) => demand(each, x(i, candidate)))),
  )

  const copies: Term[][] = problem.versions.map((versions, slot) =>
    versions.map((_, candidate): Term => [1, x(slot, candidate)]),
  )
  const used = problem.versions.map((versions, slot) => {
    const y = named(`y${slot}`)
    versions.forEach((_, candidate) => constrain(`${y} - ${x(slot, candidate)} >= 0`))
    return y
  })
  // "Used" costs -1 here, so it must be kept from being true of a slot without candidates.
  copies.forEach((terms, slot) => constrain(`${linear(terms)} - ${used[slot]} >= 0`))
  const extra = (slots: readonly number[]): Term[] =>
    slots.flatMap((slot) => [...(copies[slot] ?? []), [-1, used[slot] as string] as const])
  problem.lockedCount.forEach((counts, slot) =>
    counts.forEach((count, candidate) => {
      if (count === 0) return
      movesConstant += count
      moves.push([-count, x(slot, candidate)])
    }),
  )
  const behind = problem.versions.flatMap((versions, slot) =>
    versions.flatMap((_, candidate): Term[] =>
      candidate === versions.length - 1 ? [] : [[versions.length - 1 - candidate, x(slot, candidate)]],
    ),
  )
  return {
    constraints,
    levels: [
      { terms: extra(singles), constant: 0 },
      { terms: extra(problem.names.map((_, slot) => slot)), constant: 0 },
      { terms: copies.flat(), constant: 0 },
      { terms: moves, constant: movesConstant },
      { terms: behind, constant: 0 },
    ],
    variables: [...variables],
  }
}

// The LP format limits the length of a line.
function linear(terms: readonly Term[]): string {
  return terms
    .map(
      ([weight, variable], i) => `${weight < 0 ? '-' : '+'} ${Math.abs(weight)} ${variable}${i % 10 === 9 ? '\n' : ''}`,
    )
    .join(' ')
}
