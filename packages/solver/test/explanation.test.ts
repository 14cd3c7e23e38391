import { describe, expect, test } from 'vitest'

import { renderDerivation, solveStrict } from '../src/index.ts'
import type { Derivation, DerivationTerm } from '../src/strict/derivation.ts'
import { namedProblem, type Manifests } from './support/named-problem.ts'

function explain(services: Manifests, packages: Manifests, single?: string): string {
  const { problem, ownerName } = namedProblem(services, packages)
  const result = solveStrict(problem, single === undefined ? {} : { singles: [problem.names.indexOf(single)] })
  if (result.kind !== 'failed') return JSON.stringify(result)
  const conclusion = single === undefined ? {} : { conclusion: `${single} cannot be kept at one version` }
  return `\n${renderDerivation(result.derivation, problem, { ownerName, ...conclusion })}\n`
}

describe('the classical cases of PubGrub', () => {
  test('a simple conflict is one sentence', () => {
    expect(explain({ web: { foo: '1.0.0' }, api: { foo: '2.0.0' } }, { 'foo 1.0.0': {}, 'foo 2.0.0': {} })).toBe(`
Because api needs foo 2.0.0 and web needs foo 1.0.0, no selection meets every requirement.
`)
  })

  test('a linear explanation follows the chain', () => {
    const packages = {
      'foo 1.0.0': { bar: '2.0.0' },
      'foo 1.1.0': { bar: '2.0.0' },
      'bar 1.0.0': {},
      'bar 2.0.0': { baz: '3.0.0' },
      'baz 1.0.0': {},
      'baz 3.0.0': {},
    }
    expect(explain({ web: { foo: '*', baz: '1.0.0' } }, packages)).toBe(`
Because every version of foo needs bar 2.0.0 which needs baz 3.0.0, every version of foo requires baz 3.0.0.
So, because web needs both foo and baz 1.0.0, no selection meets every requirement.
`)
  })

  test('a branching explanation numbers the line that it comes back to', () => {
    const packages = {
      'foo 1.0.0': { a: '1.0.0', b: '1.0.0' },
      'foo 1.1.0': { x: '1.0.0', y: '1.0.0' },
      'a 1.0.0': { b: '2.0.0' },
      'b 1.0.0': {},
      'b 2.0.0': {},
      'x 1.0.0': { y: '2.0.0' },
      'y 1.0.0': {},
      'y 2.0.0': {},
    }
    expect(explain({ web: { foo: '*' } }, packages)).toBe(`
    Because foo 1.0.0 needs a 1.0.0 which needs b 2.0.0, foo 1.0.0 requires b 2.0.0.
(1) So, because foo 1.0.0 needs b 1.0.0, foo 1.0.0 is ruled out.

    Because foo 1.1.0 needs x 1.0.0 which needs y 2.0.0, foo 1.1.0 requires y 2.0.0.
    And, because foo 1.1.0 needs y 1.0.0, foo 1.1.0 is ruled out.
    And, because foo 1.0.0 is ruled out (1), every version of foo is ruled out.
    So, because web needs foo, no selection meets every requirement.
`)
  })

  // Shared 2.0.0 would do for left, but not together with right: the requirement of target follows from both.
  const partialSatisfier = {
    'foo 1.0.0': {},
    'foo 1.1.0': { left: '1.0.0', right: '1.0.0' },
    'left 1.0.0': { shared: '1.0.0 2.0.0' },
    'right 1.0.0': { shared: '1.0.0 3.0.0' },
    'shared 1.0.0': { target: '1.0.0' },
    'shared 2.0.0': {},
    'shared 3.0.0': {},
    'target 1.0.0': {},
    'target 2.0.0': {},
  }

  test('a partial satisfier makes the search go back to an older version', () => {
    expect(explain({ web: { foo: '*', target: '2.0.0' } }, partialSatisfier)).toBe(
      JSON.stringify({ kind: 'solved', selected: [0, null, null, null, 1] }),
    )
  })

  test('a partial satisfier is explained by both demands that it follows from', () => {
    expect(explain({ web: { foo: '1.1.0', target: '2.0.0' } }, partialSatisfier)).toBe(`
Because web needs target 2.0.0 and shared 1.0.0 needs target 1.0.0, shared 1.0.0 is ruled out.
And, because right 1.0.0 needs shared 1.0.0 or 3.0.0, right 1.0.0 requires shared 3.0.0.
And, because foo 1.1.0 needs left 1.0.0 which needs shared 1.0.0 or 2.0.0, foo 1.1.0 and right 1.0.0 cannot be selected together.
So, because web needs foo 1.1.0 which needs right 1.0.0, no selection meets every requirement.
`)
  })

  test('backjumping leaves the versions alone that have nothing to do with the conflict', () => {
    const packages = { 'a 1': {}, 'a 2': { c: '1' }, 'b 1': {}, 'b 2': {}, 'b 3': { c: '2' }, 'c 1': {}, 'c 2': {} }
    expect(explain({ web: { a: '*', b: '*', c: '*' } }, packages)).toBe(
      JSON.stringify({ kind: 'solved', selected: [1, 1, 0] }),
    )
  })
})

describe('the words', () => {
  test('show versions against those there are', () => {
    const foo = Object.fromEntries(['1.0.0', '1.1.0', '1.2.0', '2.0.0', '3.0.0', '4.0.0'].map((v) => [`foo ${v}`, {}]))
    const services = {
      a: { foo: '1.0.0 1.1.0 1.2.0 3.0.0' },
      b: { foo: '2.0.0 3.0.0 4.0.0' },
      c: { foo: '1.0.0 2.0.0 4.0.0' },
    }
    expect(explain(services, foo)).toBe(`
Because b needs foo 2.0.0 to 4.0.0 and c needs foo 1.0.0, 2.0.0 or 4.0.0, foo 2.0.0 or 4.0.0 is required.
So, because a needs foo 1.0.0 to 1.2.0 or 3.0.0, no selection meets every requirement.
`)
  })

  test('name at most three services with the same requirement', () => {
    const need = { foo: '1.0.0' }
    expect(explain({ d: need, b: need, c: need, x: { foo: '2.0.0' } }, { 'foo 1.0.0': {}, 'foo 2.0.0': {} })).toBe(`
Because x needs foo 2.0.0 and b, c and d need foo 1.0.0, no selection meets every requirement.
`)
    expect(explain({ d: need, b: need, c: need, a: need, x: { foo: '2.0.0' } }, { 'foo 1.0.0': {}, 'foo 2.0.0': {} }))
      .toBe(`
Because x needs foo 2.0.0 and a, b and 2 others need foo 1.0.0, no selection meets every requirement.
`)
  })

  test('need no numbers for two short branches', () => {
    const packages = {
      'foo 1.0.0': { bar: '2.0.0' },
      'foo 2.0.0': { bar: '1.0.0' },
      'bar 1.0.0': { foo: '1.0.0' },
      'bar 2.0.0': { foo: '2.0.0' },
    }
    expect(explain({ web: { foo: '*' } }, packages)).toBe(`
Because foo 1.0.0 needs bar 2.0.0 which needs foo 2.0.0, foo 1.0.0 is ruled out.
Because foo 2.0.0 needs bar 1.0.0 which needs foo 1.0.0, foo 2.0.0 is ruled out.
Thus, every version of foo is ruled out.
So, because web needs foo, no selection meets every requirement.
`)
  })

  test('tell why a candidate that contradicts itself is ruled out', () => {
    expect(explain({ web: { foo: '1.0.0' } }, { 'foo 1.0.0': { foo: '2.0.0' }, 'foo 2.0.0': {} })).toBe(`
Because web needs foo 1.0.0 which needs foo 2.0.0, no selection meets every requirement.
`)
  })

  test('tell of a name that must not be split why no version of another one helps', () => {
    const packages = {
      'react 17.0.2': {},
      'react 18.3.1': {},
      'react 19.1.0': {},
      'ui 1.0.0': { react: '18.3.1' },
      'ui 1.1.0': { react: '18.3.1' },
      'ui 2.0.0': { react: '18.3.1 19.1.0' },
    }
    expect(explain({ old: { react: '17.0.2' }, new: { ui: '1.1.0 2.0.0' } }, packages, 'react')).toBe(`
Because ui 1.1.0 needs react 18.3.1 and ui 2.0.0 needs react 18.3.1 or 19.1.0, ui 1.1.0 or 2.0.0 requires react 18.3.1 or 19.1.0.
So, because new needs ui 1.1.0 or 2.0.0 and old needs react 17.0.2, react cannot be kept at one version.
`)
  })

  test('follow a long chain from one end to the other', () => {
    const packages = {
      'a 1': { b: '1' },
      'b 1': { c: '1' },
      'c 1': { d: '1' },
      'd 1': { shared: '1' },
      'w 1': { x: '1' },
      'x 1': { y: '1' },
      'y 1': { shared: '2' },
      'shared 1': {},
      'shared 2': {},
    }
    expect(explain({ web: { a: '1' }, api: { w: '1' } }, packages)).toBe(`
Because api needs w 1 which needs x 1, x 1 is required.
And, because x 1 needs y 1, y 1 is required.
And, because y 1 needs shared 2 and d 1 needs shared 1, d 1 is ruled out.
And, because b 1 needs c 1 which needs d 1, b 1 is ruled out.
So, because web needs a 1 which needs b 1, no selection meets every requirement.
`)
  })

  test('leave names that may split their versions', () => {
    const packages = { 'react 18.3.1': {}, 'ui 1.0.0': { react: '18.3.1' }, 'ui 2.0.0': { react: '18.3.1' } }
    expect(explain({ old: { ui: '1.0.0' }, new: { ui: '2.0.0' } }, packages, 'react')).toBe(
      JSON.stringify({ kind: 'solved', selected: [0, null] }),
    )
  })
})

test('a step that two others use is written once, numbered, and referred to', () => {
  const { problem, ownerName } = namedProblem(
    { web: { foo: '*' } },
    {
      'bar 1': {},
      'bar 2': { x: '1', y: '1' },
      'foo 1': { lib: '1' },
      'lib 1': { bar: '2' },
      'x 1': { y: '2' },
      'y 1': {},
      'y 2': {},
    },
  )
  const [bar, foo, lib, x, y] = [0, 1, 2, 3, 4]
  const is = (slot: number, ...candidates: number[]): DerivationTerm => ({ slot, candidates, selected: true })
  const not = (slot: number, ...candidates: number[]): DerivationTerm => ({ slot, candidates, selected: false })
  const demand = (by: number, candidate: number, slot: number, allowed: number): Derivation => ({
    terms: [is(by, candidate), not(slot, allowed)],
    cause: { kind: 'demand', by: { slot: by, candidates: [candidate] }, slot, allowed: [allowed] },
  })
  const derived = (terms: DerivationTerm[], a: Derivation, b: Derivation): Derivation => ({
    terms,
    cause: { kind: 'derived', from: [a, b] },
  })
  const shared = derived([is(foo, 0), not(bar, 1)], demand(foo, 0, lib, 0), demand(lib, 0, bar, 1))
  const throughX = derived([is(foo, 0), not(x, 0)], shared, demand(bar, 1, x, 0))
  const one = derived([is(foo, 0), not(y, 1)], throughX, demand(x, 0, y, 1))
  const other = derived([is(foo, 0), not(y, 0)], shared, demand(bar, 1, y, 0))
  const ruledOut = derived([is(foo, 0)], one, other)
  const root: Derivation = { terms: [not(foo, 0)], cause: { kind: 'root', owners: [0], slot: foo, allowed: [0] } }
  expect(`\n${renderDerivation(derived([], ruledOut, root), problem, { ownerName })}\n`).toBe(`
(1) Because foo 1 needs lib 1 which needs bar 2, foo 1 requires bar 2.
(2) So, because bar 2 needs x 1 which needs y 2, foo 1 requires y 2.

    Because foo 1 requires bar 2 (1) which needs y 1, foo 1 requires y 1.
    And, because foo 1 requires y 2 (2), foo 1 is ruled out.
    So, because web needs foo 1, no selection meets every requirement.
`)
})
