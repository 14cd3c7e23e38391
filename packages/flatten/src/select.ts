import { solveFewest, type Demand, type Problem, type Solution } from '@polder/solver'

import type { Universe } from './compile.ts'
import type { Asked, Owner } from './demands.ts'

/** Which candidates the flattened environment holds, and the bound that proves it. */
export interface Selection {
  readonly problem: Problem
  readonly solution: Solution
  /** What the owners' numbers in the problem and the solution stand for. */
  readonly owners: readonly Owner[]
}

/** The fewest candidates that satisfy every demand. */
export function select(universe: Universe, asked: Asked, single: readonly string[]): Selection {
  const owners: Owner[] = [...universe.services, ...universe.slots.flatMap((slot) => slot.candidates)]
  const numbers = new Map(owners.map((owner, number) => [owner, number]))
  const demands = (owner: Owner): Demand[] => {
    const number = numbers.get(owner) ?? -1
    return asked(owner).map(({ slot, allowed, locked }) => {
      const chosen = locked.at(-1)
      return chosen === undefined ? { slot, allowed, owner: number } : { slot, allowed, owner: number, locked: chosen }
    })
  }
  const problem: Problem = {
    names: universe.slots.map((slot) => slot.name),
    versions: universe.slots.map((slot) => slot.candidates.map((candidate) => candidate.version)),
    roots: universe.services.flatMap(demands),
    demands: universe.slots.map((slot) => slot.candidates.map(demands)),
    lockedCount: universe.slots.map((slot) => slot.candidates.map((candidate) => candidate.pin.lockfiles.length)),
  }
  const singles = universe.slots.filter(({ name }) => single.includes(name)).map(({ index }) => index)
  return { problem, solution: solveFewest(problem, { singles }), owners }
}
