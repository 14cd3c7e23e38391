import fc from 'fast-check'

import type { Demand, Problem } from '../../src/index.ts'

/** Universes small enough to try every selection: up to `slots` slots with up to 3 candidates. */
export function tinyProblems(slots: number): fc.Arbitrary<Problem> {
  return fc.array(fc.integer({ min: 1, max: 3 }), { minLength: 1, maxLength: slots }).chain((widths) => {
    const demand: fc.Arbitrary<Demand> = fc.integer({ min: 0, max: widths.length - 1 }).chain((slot) =>
      fc
        .tuple(
          fc.uniqueArray(fc.integer({ min: 0, max: (widths[slot] ?? 1) - 1 }), { minLength: 1 }),
          fc.integer({ min: 0, max: 4 }),
          fc.option(fc.integer({ min: 0, max: (widths[slot] ?? 1) - 1 }), { nil: undefined }),
        )
        .map(([allowed, owner, locked]) => ({
          slot,
          allowed: allowed.sort((a, b) => a - b),
          owner,
          ...(locked === undefined ? {} : { locked }),
        })),
    )
    return fc
      .record({
        roots: fc.array(demand, { maxLength: 4 }),
        demands: fc.tuple(
          ...widths.map((width) =>
            fc.array(fc.array(demand, { maxLength: 3 }), { minLength: width, maxLength: width }),
          ),
        ),
        lockedCount: fc.tuple(
          ...widths.map((width) => fc.array(fc.integer({ min: 0, max: 3 }), { minLength: width, maxLength: width })),
        ),
      })
      .map((rest) => ({
        ...rest,
        names: widths.map((_, slot) => `n${slot}`),
        versions: widths.map((width) => Array.from({ length: width }, (_, i) => `${i + 1}.0.0`)),
      }))
  })
}

/** As tiny, but every candidate demands something and most demands allow one candidate: half of them contradict themselves. */
export function tightProblems(slots: number): fc.Arbitrary<Problem> {
  return fc.array(fc.integer({ min: 2, max: 3 }), { minLength: 2, maxLength: slots }).chain((widths) => {
    const demand = fc
      .integer({ min: 0, max: widths.length - 1 })
      .chain((slot) =>
        fc
          .uniqueArray(fc.integer({ min: 0, max: (widths[slot] ?? 1) - 1 }), { minLength: 1, maxLength: 2 })
          .map((allowed): Demand => ({ slot, allowed: allowed.sort((a, b) => a - b), owner: slot })),
      )
    const needs = fc.array(demand, { minLength: 1, maxLength: 4 })
    return fc
      .record({
        roots: needs,
        demands: fc.tuple(...widths.map((width) => fc.array(needs, { minLength: width, maxLength: width }))),
      })
      .map((rest) => ({
        ...rest,
        names: widths.map((_, slot) => `n${slot}`),
        versions: widths.map((width) => Array.from({ length: width }, (_, i) => `${i + 1}.0.0`)),
        lockedCount: widths.map((width) => Array.from({ length: width }, () => 0)),
      }))
  })
}
