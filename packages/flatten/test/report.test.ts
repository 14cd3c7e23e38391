import { describe, expect, test } from 'vitest'

import { flatten, type Flattened } from '../src/flatten.ts'
import { monorepo, type PackageSpec, type ServiceSpec } from './support/monorepo.ts'

type Services = Readonly<Record<string, ServiceSpec>>
type Packages = Readonly<Record<string, PackageSpec>>

function report(
  services: Services,
  packages: Packages,
  policy: Parameters<typeof monorepo>[2] = {},
): Flattened['report'] {
  const { gathered, manifests } = monorepo(services, packages, policy)
  return flatten(gathered, manifests).report
}

describe('the bound', () => {
  test('is what is kept, where nothing less would do', () => {
    const services = { a: { dependencies: { x: '^1.0.0' } }, b: { dependencies: { x: '^2.0.0' } } }
    expect(report(services, { 'x@1.0.0': {}, 'x@1.1.0': {}, 'x@2.0.0': {} })).toMatchObject({
      before: 2,
      after: 2,
      lowerBound: 2,
      optimal: true,
    })
  })

  test('counts a package once that is there under its own name and under an alias', () => {
    const services = {
      a: { dependencies: { chalk: '^4.0.0', 'old-chalk': 'npm:chalk@^4.0.0' } },
      b: { dependencies: { chalk: '^5.0.0', 'older-chalk': 'npm:chalk@^4.0.0' } },
    }
    expect(report(services, { 'chalk@4.1.2': {}, 'chalk@5.6.2': {} })).toMatchObject({
      names: 3,
      before: 2,
      after: 2,
      lowerBound: 2,
      optimal: true,
    })
  })

  test('is below what is kept where peers ask for more than the bound knows of', () => {
    // Without peers x 1 and x 2 are enough; but a, which may have 1 or 3, has to give f one that f accepts.
    const services = {
      a: { dependencies: { x: '^1.0.0 || ^3.0.0', f: '*' } },
      b: { dependencies: { x: '^2.0.0', y: '*' } },
    }
    const packages = {
      'x@1.0.0': {},
      'x@2.0.0': {},
      'x@3.0.0': {},
      'y@1.0.0': { dependencies: { x: '^1.0.0' } },
      'f@1.0.0': { peerDependencies: { x: '>=2' } },
    }
    expect(report(services, packages)).toMatchObject({ after: 5, lowerBound: 4, optimal: false })
  })
})

describe('what the policy costs', () => {
  const packages = { 'x@1.0.0': {}, 'x@1.1.0': {}, 'x@2.0.0': {}, 'y@1.0.0': {}, 'y@2.0.0': {} }

  test('is said for names that must not be split: others may have to be instead', () => {
    // lib 1.0 splits x, lib 1.1 splits y and z.
    const services = {
      a: { dependencies: { lib: '^1.0.0' } },
      c: { dependencies: { lib: '^1.0.0' }, locked: { lib: '1.0.0' } },
      b: { dependencies: { x: '^2.0.0', y: '^2.0.0', z: '^2.0.0' } },
    }
    const available = {
      ...packages,
      'lib@1.0.0': { dependencies: { x: '^1.0.0' } },
      'lib@1.1.0': { dependencies: { x: '^2.0.0', y: '^1.0.0', z: '^1.0.0' } },
      'z@1.0.0': {},
      'z@2.0.0': {},
    }
    expect(report(services, available)).toMatchObject({ after: 5, otherPolicies: {} })
    expect(report(services, available, { single: ['x'] })).toMatchObject({
      after: 6,
      optimal: true,
      otherPolicies: { 'single: []': 5 },
    })
  })

  test('is said for names that are kept apart on purpose', () => {
    const services = {
      a: { dependencies: { x: '^1.0.0' }, locked: { x: '1.0.0' } },
      b: { dependencies: { x: '^1.0.0' } },
    }
    expect(report(services, packages, { split: { x: 'a is being rewritten' } }).otherPolicies).toEqual({
      'split: {}': 1,
    })
  })

  test('counts what softer pins would save elsewhere too', () => {
    // x is there once, but as an older version that brings an older y along.
    const services = { a: { dependencies: { x: '1.0.0' } }, b: { dependencies: { x: '^1.0.0', y: '^2.0.0' } } }
    const available = {
      'x@1.0.0': { dependencies: { y: '^1.0.0' } },
      'x@1.1.0': { dependencies: { y: '^2.0.0' } },
      'y@1.0.0': {},
      'y@2.0.0': {},
    }
    const hard = report(services, available)
    expect(hard).toMatchObject({ after: 3, otherPolicies: { 'pins: soft': 2 } })
    expect(report(services, available, { pins: 'soft' })).toMatchObject({ after: 2, otherPolicies: {} })
  })
})
