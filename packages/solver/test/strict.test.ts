import fc from 'fast-check'
import { describe, expect, test } from 'vitest'

import { renderDerivation, solveStrict, type Problem } from '../src/index.ts'
import { singlesProblem } from '../src/strict/single-names.ts'
import { meetsAll } from './support/brute-force.ts'
import { faultsOfProof, leavesAsProblem, stepsOf } from './support/check-derivation.ts'
import { generateProblem, shuffled, withStrictSolution } from './support/generate.ts'
import { isSatisfiableByMinisat, isSatisfiableBySat, isStrictlySolvable } from './support/strict-oracles.ts'
import { tightProblems, tinyProblems } from './support/tiny-problems.ts'

function asSets(selected: readonly (number | undefined)[]): number[][] {
  return selected.map((candidate) => (candidate === undefined ? [] : [candidate]))
}

const foo = (...roots: readonly number[][]): Problem => ({
  names: ['foo'],
  versions: [['1.0.0', '2.0.0', '3.0.0']],
  roots: roots.map((allowed, owner) => ({ slot: 0, allowed, owner })),
  demands: [[[], [], []]],
  lockedCount: [[0, 0, 0]],
})

describe('of the candidates that all demands allow', () => {
  test('the newest is selected where no lock has one', () => {
    expect(solveStrict(foo([0, 1, 2], [0, 1]))).toEqual({ kind: 'solved', selected: [1] })
  })

  test('the one that stands in most locks is selected', () => {
    expect(solveStrict({ ...foo([0, 1, 2]), lockedCount: [[2, 1, 0]] })).toEqual({ kind: 'solved', selected: [0] })
  })

  test("a service's own lock counts as one", () => {
    const problem = foo([0, 1, 2])
    const roots = problem.roots.map((root) => ({ ...root, locked: 1 }))
    expect(solveStrict({ ...problem, roots })).toEqual({ kind: 'solved', selected: [1] })
  })
})

test('nothing is selected that nobody needs', () => {
  expect(solveStrict(foo())).toEqual({ kind: 'solved', selected: [undefined] })
})

test('a slot may have more candidates than a word has bits', () => {
  const all = Array.from({ length: 100 }, (_, i) => i)
  const problem: Problem = {
    names: ['bar', 'foo'],
    versions: [['1.0.0'], all.map((i) => `${i}.0.0`)],
    roots: [
      { slot: 1, allowed: all.slice(20), owner: 0 },
      { slot: 0, allowed: [0], owner: 1 },
    ],
    demands: [[[{ slot: 1, allowed: all.slice(0, 66), owner: 2 }]], all.map(() => [])],
    lockedCount: [[0], all.map(() => 0)],
  }
  expect(solveStrict(problem)).toEqual({ kind: 'solved', selected: [0, 65] })
  const failing = solveStrict({ ...problem, roots: [...problem.roots, { slot: 1, allowed: [70, 99], owner: 3 }] })
  expect(failing.kind === 'failed' && renderDerivation(failing.derivation, problem, { ownerName: String })).toBe(
    'Because bar 1.0.0 needs foo 0.0.0 to 65.0.0 and 3 needs foo 70.0.0 or 99.0.0, bar 1.0.0 is ruled out.\n' +
      'So, because 1 needs bar 1.0.0, no selection meets every requirement.',
  )
})

describe('on small problems', () => {
  const problems = (slots: number): fc.Arbitrary<Problem> => fc.oneof(tinyProblems(slots), tightProblems(slots))

  test('it is solved if and only if a selection exists, as trying all, SAT and MiniSat say, and meets everything', () => {
    let failed = 0
    fc.assert(
      fc.property(problems(5), (problem) => {
        const result = solveStrict(problem)
        const solvable = isStrictlySolvable(problem)
        expect([isSatisfiableBySat(problem), isSatisfiableByMinisat(problem)]).toEqual([solvable, solvable])
        expect(result.kind).toBe(solvable ? 'solved' : 'failed')
        if (result.kind === 'solved') expect(meetsAll(problem, asSets(result.selected))).toBe(true)
        if (result.kind !== 'failed') return
        failed++
        expect(faultsOfProof(problem, result.derivation)).toEqual([])
      }),
      { numRuns: 1500, seed: 1 },
    )
    expect(failed).toBeGreaterThan(200)
  })

  test('a proof needs each of its demands', () => {
    fc.assert(
      fc.property(problems(5), (problem) => {
        const result = solveStrict(problem)
        if (result.kind !== 'failed') return
        const { derivation } = result
        expect(isStrictlySolvable(leavesAsProblem(problem, derivation))).toBe(false)
        for (const leaf of stepsOf(derivation).filter(({ cause }) => cause.kind !== 'derived'))
          expect(isStrictlySolvable(leavesAsProblem(problem, derivation, leaf))).toBe(true)
      }),
      { numRuns: 700, seed: 2 },
    )
  })

  test('only the singles are held to one candidate', () => {
    let failed = 0
    fc.assert(
      fc.property(problems(4), fc.uniqueArray(fc.integer({ min: 0, max: 3 })), (problem, drawn) => {
        const singles = drawn.filter((slot) => slot < problem.names.length)
        const result = solveStrict(problem, { singles })
        expect(result.kind).toBe(isStrictlySolvable(problem, singles) ? 'solved' : 'failed')
        if (result.kind !== 'failed') return
        failed++
        const stand = singlesProblem(problem, singles)
        const proof = solveStrict(stand.problem)
        expect(proof.kind === 'failed' && faultsOfProof(stand.problem, proof.derivation)).toEqual([])
        const own = leavesAsProblem(problem, result.derivation)
        expect(isStrictlySolvable(own, singles)).toBe(false)
      }),
      { numRuns: 1500, seed: 3 },
    )
    expect(failed).toBeGreaterThan(100)
  })

  test('the order and repetition of demands change nothing, not a byte of the explanation', () => {
    fc.assert(
      fc.property(problems(5), fc.integer(), (problem, seed) => {
        expect(bytesOf(shuffled(twice(problem), seed))).toBe(bytesOf(problem))
      }),
      { numRuns: 500, seed: 4 },
    )
  })
})

describe('on generated monorepos', () => {
  const shape = { services: 200, names: 3000, candidates: [2, 3] } as const

  test.for([1, 2, 3])('a solution meets everything, and is the same for another order (seed %i)', (seed) => {
    const problem = withStrictSolution(generateProblem({ ...shape, seed }), seed)
    const result = solveStrict(problem)
    if (result.kind !== 'solved') throw new Error('a selection was planted')
    expect(meetsAll(problem, asSets(result.selected))).toBe(true)
    expect(solveStrict(shuffled(problem, seed))).toEqual(result)
  })

  test.for([1, 2, 3])('what cannot be is proven, also for one name alone (seed %i)', (seed) => {
    const problem = generateProblem({ services: 20, names: 300, candidates: [2, 5], seed })
    expect(isSatisfiableBySat(problem)).toBe(false)
    const result = solveStrict(problem)
    expect(result.kind === 'failed' && faultsOfProof(problem, result.derivation)).toEqual([])
    expect(bytesOf(shuffled(problem, seed))).toBe(bytesOf(problem))
    const singles = problem.names.flatMap((_, slot) => (slot < 100 ? [slot] : []))
    const kinds = new Set(
      singles.map((slot) => {
        const stand = singlesProblem(problem, [slot])
        const one = solveStrict(stand.problem)
        if (one.kind === 'failed') expect(faultsOfProof(stand.problem, one.derivation)).toEqual([])
        expect(one.kind === 'solved').toBe(isSatisfiableBySat(stand.problem))
        return one.kind
      }),
    )
    expect(kinds).toEqual(new Set(['solved', 'failed']))
  })
})

test('a question that needs more steps than it may take has no answer', () => {
  const problem = withStrictSolution(generateProblem({ services: 20, names: 300, candidates: [2, 3], seed: 1 }), 1)
  expect(solveStrict(problem, { maxSteps: 100 })).toEqual({ kind: 'limit' })
})

test('a chain of demands may be longer than the stack is deep', () => {
  const length = 20_000
  const slots = Array.from({ length }, (_, slot) => slot)
  const problem: Problem = {
    names: slots.map((slot) => `n${String(slot).padStart(5, '0')}`),
    versions: slots.map(() => ['1.0.0', '2.0.0']),
    roots: [
      { slot: 0, allowed: [0], owner: 0 },
      { slot: length - 1, allowed: [1], owner: 1 },
    ],
    demands: slots.map((slot) => [slot + 1 < length ? [{ slot: slot + 1, allowed: [0], owner: 2 }] : [], []]),
    lockedCount: slots.map(() => [0, 0]),
  }
  // Too few steps to look for a shorter proof: each attempt would read the whole chain.
  const result = solveStrict(problem, { maxSteps: 100_000 })
  if (result.kind !== 'failed') throw new Error('the ends of the chain contradict each other')
  expect(faultsOfProof(problem, result.derivation)).toEqual([])
  const lines = renderDerivation(result.derivation, problem, { ownerName: (owner) => `service ${owner}` }).split('\n')
  expect(lines.at(-1)).toContain('no selection meets every requirement')
})

test('a demand that allows nothing is the error of whoever made the problem', () => {
  expect(() => solveStrict(foo([]))).toThrow(RangeError)
  expect(() => solveStrict(foo([3]), { singles: [0] })).toThrow(RangeError)
})

function twice(problem: Problem): Problem {
  const both = <T>(list: readonly T[]): T[] => [...list, ...list]
  return { ...problem, roots: both(problem.roots), demands: problem.demands.map((slot) => slot.map(both)) }
}

function bytesOf(problem: Problem): string {
  const result = solveStrict(problem)
  if (result.kind !== 'failed') return JSON.stringify(result)
  return renderDerivation(result.derivation, problem, { ownerName: (owner) => `service ${owner}` })
}
