import fc from 'fast-check'
import { expect, test } from 'vitest'

import { Sat } from '../src/sat/sat.ts'

const VARIABLES = 8
const literal = fc.integer({ min: 0, max: 2 * VARIABLES - 1 })
const clauses = fc.array(fc.array(literal, { minLength: 1, maxLength: 4 }), { maxLength: 45 })

test('a series of questions under assumptions is answered as a truth table answers it, with models and cores', () => {
  fc.assert(
    fc.property(
      fc.array(fc.tuple(clauses, fc.uniqueArray(literal, { maxLength: 5, selector: (lit) => lit >> 1 })), {
        maxLength: 5,
      }),
      (rounds) => {
        const sat = new Sat()
        for (let i = 0; i < VARIABLES; i++) sat.newVariable()
        const all: number[][] = []
        for (const [more, assumptions] of rounds) {
          // A clause with a literal and its negation says nothing; the solver's callers never make one.
          for (const clause of more.filter((each) => !each.some((lit) => each.includes(lit ^ 1)))) {
            all.push(clause)
            sat.addClause(clause)
          }
          const verdict = sat.solve(assumptions, Infinity)
          expect(verdict).toBe(isSatisfiable(all, assumptions) ? 'satisfiable' : 'unsatisfiable')
          if (verdict === 'satisfiable') {
            expect(
              [...all, ...assumptions.map((lit) => [lit])].every((clause) =>
                clause.some((lit) => (sat.model[lit >> 1] ?? 0) === ((lit & 1) ^ 1)),
              ),
            ).toBe(true)
          } else {
            expect(assumptions).toEqual(expect.arrayContaining(sat.cores.flat()))
            expect(isSatisfiable(all, sat.cores.flat())).toBe(false)
          }
        }
      },
    ),
    { numRuns: 1000, seed: 1 },
  )
})

test('assumptions come and go one by one, between clauses, and every answer, model and core is right', () => {
  const operation = fc.oneof(
    {
      weight: 5,
      arbitrary: fc.record({
        kind: fc.constant('clause'),
        literals: fc.uniqueArray(literal, { minLength: 1, maxLength: 4 }),
      }),
    },
    {
      weight: 3,
      arbitrary: fc.record({ kind: fc.constant('assume'), literals: fc.uniqueArray(literal, { maxLength: 3 }) }),
    },
    {
      weight: 1,
      arbitrary: fc.record({ kind: fc.constant('retract'), literals: fc.uniqueArray(literal, { maxLength: 8 }) }),
    },
    { weight: 4, arbitrary: fc.record({ kind: fc.constant('ask'), literals: fc.constant<number[]>([]) }) },
  )
  fc.assert(
    fc.property(fc.array(operation, { maxLength: 40 }), (operations) => {
      const sat = new Sat()
      for (let i = 0; i < VARIABLES; i++) sat.newVariable()
      const all: number[][] = []
      const assumed = new Set<number>()
      for (const { kind, literals } of operations) {
        if (kind === 'clause' && !literals.some((lit) => literals.includes(lit ^ 1))) {
          all.push(literals)
          sat.addClause(literals)
        }
        if (kind === 'assume') {
          for (const each of literals.filter((lit) => !assumed.has(lit))) {
            assumed.add(each)
            sat.assume(each)
          }
        }
        if (kind === 'retract') {
          for (const each of literals) assumed.delete(each)
          sat.retract(literals)
        }
        if (kind !== 'ask') continue
        const verdict = sat.search(Infinity)
        expect(verdict).toBe(isSatisfiable(all, [...assumed]) ? 'satisfiable' : 'unsatisfiable')
        if (verdict === 'satisfiable') {
          const holds = (lit: number): boolean => (sat.model[lit >> 1] ?? 0) === ((lit & 1) ^ 1)
          expect(all.every((clause) => clause.some(holds)) && [...assumed].every(holds)).toBe(true)
          continue
        }
        const together = sat.cores.flat()
        expect(new Set(together).size).toBe(together.length)
        expect([...assumed]).toEqual(expect.arrayContaining(together))
        for (const core of sat.cores) expect(isSatisfiable(all, core)).toBe(false)
        if (sat.cores.length === 0) expect(isSatisfiable(all, [])).toBe(false)
        const taken = sat.cores.flatMap((core) => core.slice(0, 1))
        for (const each of taken) assumed.delete(each)
        sat.retract(taken)
      }
    }),
    { numRuns: 2000, seed: 5 },
  )
})

test('a question that needs search ends at its limit, and can be asked again', () => {
  const sat = new Sat()
  // Seven pigeons, six holes.
  const at = Array.from({ length: 7 }, () => Array.from({ length: 6 }, () => 2 * sat.newVariable()))
  for (const holes of at) sat.addClause(holes)
  for (let hole = 0; hole < 6; hole++) {
    for (let a = 0; a < 7; a++)
      for (let b = 0; b < a; b++) sat.addClause([(at[a]?.[hole] ?? 0) ^ 1, (at[b]?.[hole] ?? 0) ^ 1])
  }
  expect(sat.solve([], sat.steps + 500)).toBe('limit')
  expect(sat.solve([], Infinity)).toBe('unsatisfiable')
  expect(sat.cores.flat()).toEqual([])
})

function isSatisfiable(all: readonly (readonly number[])[], assumptions: readonly number[]): boolean {
  for (let bits = 0; bits < 2 ** VARIABLES; bits++) {
    const holds = (lit: number): boolean => ((bits >> (lit >> 1)) & 1) === ((lit & 1) ^ 1)
    if (assumptions.every(holds) && all.every((clause) => clause.some(holds))) return true
  }
  return false
}
