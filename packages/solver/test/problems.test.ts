import { existsSync } from 'node:fs'
import { join } from 'node:path'

import { expect, test } from 'vitest'

import { solveFewest, solveStrict } from '../src/index.ts'
import { singlesProblem } from '../src/strict/single-names.ts'
import { objectiveOf } from './support/brute-force.ts'
import { faultsOfProof } from './support/check-derivation.ts'
import { faultsOf } from './support/check-solution.ts'
import { shuffled } from './support/generate.ts'
import { optimumByHighs } from './support/integer-program.ts'
import { compileProblemFile, readProblemFile } from './support/problem-file.ts'

const folder = process.env['POLDER_PROBLEMS'] ?? join(import.meta.dirname, '../../../../shared/problems')

// The totals that an exact solver proved for these repositories.
test.for([
  ['vscsamples', 1108],
  ['jest', 2083],
  ['ws-vscsamples', 1108],
  ['ws-jest', 2083],
] as const)(
  'the problem %s has its proven optimum of %i candidates, every split certified',
  async ([name, optimum], { skip }) => {
    const file = join(folder, `${name}.json.gz`)
    skip(!existsSync(file), `${file} is absent; set POLDER_PROBLEMS to the folder of the problems`)
    const { problem } = compileProblemFile(readProblemFile(file))
    const solution = solveFewest(problem)
    expect(faultsOf(problem, solution)).toEqual([])
    expect(solution.optimal).toBe(true)
    expect(solution.certificates.every(({ proven }) => proven)).toBe(true)
    const [singles, extraCopies, total, moves, behind] = objectiveOf(problem, solution.selected)
    expect(total).toBe(optimum)
    expect({ singles, extraCopies, total, moves, behind }).toEqual(await optimumByHighs(problem))
    expect(solveFewest(shuffled(problem, 1))).toEqual(solution)
  },
)

test.for(['vscsamples', 'jest'])('in the problem %s each name that is split is proven to need it', (name, { skip }) => {
  const file = join(folder, `${name}.json.gz`)
  skip(!existsSync(file), `${file} is absent; set POLDER_PROBLEMS to the folder of the problems`)
  const { problem } = compileProblemFile(readProblemFile(file))
  const { certificates } = solveFewest(problem)
  expect(certificates.length).toBeGreaterThan(100)
  for (const { slot } of certificates) {
    const stand = singlesProblem(problem, [slot])
    const result = solveStrict(stand.problem)
    expect(result.kind === 'failed' && faultsOfProof(stand.problem, result.derivation)).toEqual([])
  }
})
