import fc from 'fast-check'
import { expect, test } from 'vitest'

import { forcedClosure } from '../src/fewest/closure.ts'
import { openComponents, type Component } from '../src/fewest/components.ts'
import { searchLevels } from '../src/fewest/levels.ts'
import { networkOf } from '../src/network.ts'
import { costOf } from '../src/fewest/objective.ts'
import { reduced } from '../src/fewest/reduction.ts'
import type { Problem } from '../src/index.ts'
import { generateProblem } from './support/generate.ts'
import { tinyProblems } from './support/tiny-problems.ts'

function componentsOf(problem: Problem, singles: readonly number[]): Component[] {
  const network = networkOf(problem)
  return openComponents(network, forcedClosure(network), new Set(singles))
}

/** Levels 1 to 3 of the best selection, found in the whole and in what it was reduced to. */
function bothWays(whole: Component): readonly (readonly number[])[] {
  const { component, candidates, must } = reduced(whole)
  const selection = new Uint8Array(whole.candidates.length)
  for (const candidate of must) selection[candidate] = 1
  searchLevels(component, Infinity, 3).selection.forEach((bit, i) => {
    if (bit === 1) selection[candidates[i] as number] = 1
  })
  return [searchLevels(whole, Infinity).selection, selection].map((each) => costOf(whole, each).slice(0, 3))
}

test('what is left out of a small component is not needed to be best at levels 1 to 3', () => {
  fc.assert(
    fc.property(tinyProblems(6), fc.subarray([0, 1, 2, 3, 4, 5]), (problem, singles) => {
      for (const component of componentsOf(problem, singles)) {
        const [whole, part] = bothWays(component)
        expect(part).toEqual(whole)
      }
    }),
    { numRuns: 500, seed: 4 },
  )
})

test.each([1, 2, 3])('a generated component loses most of its candidates and no optimum (seed %i)', (seed) => {
  const problem = generateProblem({ services: 30, names: 300, candidates: [4, 10], seed })
  const largest = componentsOf(problem, [2, 3, 5, 8]).at(-1) as Component
  expect(reduced(largest).candidates.length).toBeLessThan(largest.candidates.length / 2)
  const [whole, part] = bothWays(largest)
  expect(part).toEqual(whole)
})
