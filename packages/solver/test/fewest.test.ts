import fc from 'fast-check'
import { describe, expect, test } from 'vitest'

import { solveFewest, type Demand, type Problem } from '../src/index.ts'
import { bruteForce, objectiveOf } from './support/brute-force.ts'
import { faultsOf } from './support/check-solution.ts'
import { generateProblem, shuffled } from './support/generate.ts'
import { optimumByHighs } from './support/integer-program.ts'
import { tinyProblems } from './support/tiny-problems.ts'

describe('the selection', () => {
  test('takes the newest candidate that everyone allows', () => {
    expect(solve([3], [need(0, [0, 1]), need(0, [1, 2])]).selected).toEqual([[1]])
  })

  test('keeps a name at two versions where two demands share none, and certifies it', () => {
    const solution = solve([3], [need(0, [0], 7), need(0, [1, 2], 8), need(0, [2], 9), need(0, [2], 9)])
    expect(solution).toEqual({
      selected: [[0, 2]],
      optimal: true,
      lowerBound: { extraCopies: 1, total: 2 },
      certificates: [
        {
          slot: 0,
          proven: true,
          demands: [
            { ...need(0, [0], 7), candidate: 0, count: 1 },
            { ...need(0, [2], 9), candidate: 2, count: 2 },
          ],
        },
      ],
    })
  })

  test('is empty for a name that nobody needs, even if two candidates need each other', () => {
    expect(solve([1, 1, 1], [need(2, [0])], [[[need(1, [0])]], [[need(0, [0])]], [[]]]).selected).toEqual([[], [], [0]])
  })

  test('of the worked example in the README is the one it says', () => {
    const [chalk, mocha] = [0, 1]
    const demands = [
      [[], []],
      [[need(chalk, [0])], [need(chalk, [1])]],
    ]
    const roots = [need(chalk, [0, 1]), need(chalk, [0]), need(mocha, [0, 1])]
    expect(solve([2, 2], roots, demands)).toMatchObject({
      selected: [[0], [0]],
      lowerBound: { extraCopies: 0, total: 2 },
    })
    expect(solve([2, 2], [...roots, need(mocha, [1])], demands)).toMatchObject({
      selected: [[0, 1], [1]],
      lowerBound: { extraCopies: 1, total: 3 },
      certificates: [{ slot: chalk, proven: true, demands: [{ allowed: [0] }, { allowed: [1] }] }],
    })
  })

  test('accepts one more name to save a copy', () => {
    // The newer name 0 brings in a second copy of name 1, the older one a name of its own.
    const solution = solve(
      [2, 2, 1],
      [need(0, [0, 1]), need(1, [1])],
      [[[need(2, [0])], [need(1, [0])]], [[], []], [[]]],
    )
    expect(solution.selected).toEqual([[0], [1], [0]])
  })

  test('pays for a copy of one name with a copy of another where that one must stay single', () => {
    const problem = problemOf(
      [2, 2, 2, 1],
      [need(0, [0, 1]), need(1, [1]), need(2, [1]), need(3, [0])],
      [[[need(1, [0])], [need(2, [0]), need(3, [0])]], [[], []], [[], []], [[]]],
    )
    expect(solveFewest(problem, { singles: [1] }).selected).toEqual([[1], [1], [0, 1], [0]])
    expect(solveFewest(problem, { singles: [2] }).selected).toEqual([[0], [0, 1], [1], [0]])
  })

  test('stays with what most locks have, and among equals takes the newest', () => {
    const roots = [need(0, [0, 1, 2])]
    expect(solveFewest({ ...problemOf([3], roots), lockedCount: [[1, 5, 2]] }).selected).toEqual([[1]])
    expect(solveFewest({ ...problemOf([3], roots), lockedCount: [[5, 2, 5]] }).selected).toEqual([[2]])
  })

  test('stays with what an owner has locked', () => {
    expect(solve([3], [{ ...need(0, [0, 1, 2]), locked: 1 }]).selected).toEqual([[1]])
  })

  test('handles a name with more candidates than a bitmap has bits', () => {
    const roots = [need(0, [0, 39]), need(0, [39, 40, 63]), need(0, [5, 63]), need(0, [5, 20])]
    expect(solve([64], roots).selected).toEqual([[5, 39]])
  })

  test('of nothing is nothing', () => {
    expect(solve([], [])).toEqual({
      selected: [],
      optimal: true,
      lowerBound: { extraCopies: 0, total: 0 },
      certificates: [],
    })
  })

  test('refuses demands that break the contract', () => {
    expect(() => solve([2], [need(0, [])])).toThrow('a demand on "n0" allows [] of 2 candidates')
    expect(() => solve([2], [need(0, [2])])).toThrow('a demand on "n0" allows [2] of 2 candidates')
    expect(() => solve([2], [need(0, [1, 0])])).toThrow('a demand on "n0" allows [1, 0] of 2 candidates')
    expect(() => solve([2], [need(4, [0])])).toThrow('a demand names slot 4 of 1')
  })
})

describe('a small universe', () => {
  test('has the very solution that trying every selection finds, at all levels', () => {
    fc.assert(
      fc.property(tinyProblems(4), fc.subarray([0, 1, 2, 3]), (problem, singles) => {
        const solution = solveFewest(problem, { singles })
        expect(faultsOf(problem, solution)).toEqual([])
        expect(solution.selected).toEqual(bruteForce(problem, singles))
        expect(solution.optimal).toBe(true)
      }),
      { numRuns: 2000, seed: 7 },
    )
  })

  test('has the same solution in any order of its demands', () => {
    fc.assert(
      fc.property(tinyProblems(6), fc.integer(), (problem, seed) => {
        expect(solveFewest(shuffled(problem, seed))).toEqual(solveFewest(problem))
      }),
      { numRuns: 300, seed: 2 },
    )
  })

  test('is solved within its bounds however few steps are allowed', () => {
    fc.assert(
      fc.property(tinyProblems(6), fc.integer({ min: 0, max: 40 }), (problem, maxSteps) => {
        const limited = solveFewest(problem, { maxSteps })
        const best = solveFewest(problem)
        expect(faultsOf(problem, limited)).toEqual([])
        expect(limited.lowerBound.extraCopies).toBeLessThanOrEqual(best.lowerBound.extraCopies)
        if (limited.optimal) expect(limited.selected).toEqual(best.selected)
      }),
      { numRuns: 500, seed: 3 },
    )
  })
})

describe('a generated monorepo', () => {
  test.each([1, 2, 3, 4, 5, 6])('has the optimum that an integer program has at each level (seed %i)', async (seed) => {
    const problem = generateProblem({ services: 12, names: 120, candidates: [1, 6], seed })
    const singles = [3, 5, 8, 13, 21]
    const solution = solveFewest(problem, { singles })
    expect(faultsOf(problem, solution)).toEqual([])
    expect(solution.optimal).toBe(true)
    const [ones, extraCopies, total, moves, behind] = objectiveOf(problem, solution.selected, singles)
    expect({ singles: ones, extraCopies, total, moves, behind }).toEqual(await optimumByHighs(problem, singles))
  })

  test('of 200 services and 3,000 names is solved to its optimum, in any order of its demands', () => {
    const problem = generateProblem({ services: 200, names: 3000, candidates: [2, 3], seed: 1 })
    const solution = solveFewest(problem)
    expect(faultsOf(problem, solution)).toEqual([])
    expect(solution.optimal).toBe(true)
    expect(solveFewest(shuffled(problem, 1))).toEqual(solution)
  })

  test('of 200 services and 3,000 names with 5 to 12 candidates has the proven number of copies, in any order', () => {
    const problem = generateProblem({ services: 200, names: 3000, candidates: [5, 12], seed: 1 })
    const solution = solveFewest(problem)
    expect(faultsOf(problem, solution)).toEqual([])
    // What HiGHS has, in some seconds.
    expect(solution.lowerBound.extraCopies).toBe(3134)
    const [, extraCopies, total] = objectiveOf(problem, solution.selected)
    expect({ extraCopies, total }).toEqual(solution.lowerBound)
    expect(solveFewest(shuffled(problem, 1))).toEqual(solution)
  })

  test('that is too much work gets a selection with a bound, the same in any order of its demands', () => {
    const problem = generateProblem({ services: 100, names: 800, candidates: [5, 12], seed: 1 })
    const solution = solveFewest(problem, { maxSteps: 200_000 })
    expect(faultsOf(problem, solution)).toEqual([])
    expect(solution.optimal).toBe(false)
    const [, extraCopies = 0] = objectiveOf(problem, solution.selected)
    const [, atOnce = 0] = objectiveOf(problem, solveFewest(problem, { maxSteps: 0 }).selected)
    expect(extraCopies).toBeLessThan(atOnce)
    expect(solveFewest(shuffled(problem, 2), { maxSteps: 200_000 })).toEqual(solution)
  })
})

function need(slot: number, allowed: readonly number[], owner = 0): Demand {
  return { slot, allowed, owner }
}

function problemOf(widths: readonly number[], roots: readonly Demand[], demands?: Problem['demands']): Problem {
  return {
    names: widths.map((_, slot) => `n${slot}`),
    versions: widths.map((width) => Array.from({ length: width }, (_, i) => `${i + 1}.0.0`)),
    roots,
    demands: demands ?? widths.map((width) => Array.from({ length: width }, () => [])),
    lockedCount: widths.map((width) => Array.from({ length: width }, () => 0)),
  }
}

function solve(
  widths: readonly number[],
  roots: readonly Demand[],
  demands?: Problem['demands'],
): ReturnType<typeof solveFewest> {
  return solveFewest(problemOf(widths, roots, demands))
}
