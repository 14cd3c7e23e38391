import { describe, expect, test } from 'vitest'

import { flatten, type Flattened } from '../src/flatten.ts'
import { monorepo, type PackageSpec, type ServiceSpec } from './support/monorepo.ts'

type Policy = Parameters<typeof monorepo>[2]

function flattened(
  services: Readonly<Record<string, ServiceSpec>>,
  packages: Readonly<Record<string, PackageSpec>>,
  policy: Policy,
): Flattened {
  const { gathered, manifests } = monorepo(services, packages, policy)
  return flatten(gathered, manifests)
}

const drifted = { a: { dependencies: { x: '1.0.0' } }, b: { dependencies: { x: '^1.2.0' } } }
const versions = { 'x@1.0.0': {}, 'x@1.2.0': {}, 'x@1.9.0': {} }

describe('exact versions of services', () => {
  test('stay, and the report says what letting them move would save', () => {
    const { lock, report } = flattened(drifted, versions, {})
    expect(Object.keys(lock.npm.packages)).toEqual(['x@1.0.0', 'x@1.9.0'])
    expect(report.otherPolicies).toEqual({ 'pins: soft': 1 })
  })

  test('move to a compatible one that others have under pins: soft', () => {
    const { lock, report } = flattened(drifted, versions, { pins: 'soft' })
    expect(Object.keys(lock.npm.packages)).toEqual(['x@1.9.0'])
    expect(lock.policy).toEqual({ versions: 'fewest', platforms: ['linux-x64-glibc'], pins: 'soft' })
    expect(report.moved).toEqual([{ service: 'a', name: 'x', from: 'x@1.0.0', to: 'x@1.9.0' }])
  })

  test('never move to another major', () => {
    const { lock } = flattened(
      { a: { dependencies: { x: '1.0.0' } }, b: { dependencies: { x: '^2.0.0' } } },
      { 'x@1.0.0': {}, 'x@2.0.0': {} },
      { pins: 'soft' },
    )
    expect(Object.keys(lock.npm.packages)).toEqual(['x@1.0.0', 'x@2.0.0'])
  })
})

test('versions: highest keeps the newest for each requirement, and the report says what fewest would save', () => {
  const services = { a: { dependencies: { x: '~1.2.0' } }, b: { dependencies: { x: '^1.0.0' } } }
  const { lock, report } = flattened(services, versions, { versions: 'highest' })
  expect(lock.npm.services['a']?.dependencies?.['x']?.use).toBe('x@1.2.0')
  expect(lock.npm.services['b']?.dependencies?.['x']?.use).toBe('x@1.9.0')
  expect(report.otherPolicies).toEqual({ 'versions: fewest': 1 })
})

test('a name under policy.split keeps what each lockfile has', () => {
  const services = {
    a: { dependencies: { x: '^1.0.0' }, locked: { x: '1.0.0' } },
    b: { dependencies: { x: '^1.0.0' }, locked: { x: '1.9.0' } },
  }
  expect(Object.keys(flattened(services, versions, {}).lock.npm.packages)).toEqual(['x@1.9.0'])
  const { lock } = flattened(services, versions, { split: { x: 'a is being rewritten' } })
  expect(lock.npm.services['a']?.dependencies?.['x']?.use).toBe('x@1.0.0')
  expect(lock.npm.services['b']?.dependencies?.['x']?.use).toBe('x@1.9.0')
  expect(lock.policy.split).toEqual({ x: 'a is being rewritten' })
})

describe('policy.single', () => {
  const react = { 'react@17.0.2': {}, 'react@18.3.1': {} }

  test('fails where a name has to be split, with who needs which version', () => {
    const services = {
      old: { dependencies: { react: '^17.0.0' } },
      new: { dependencies: { ui: '^1.0.0' } },
    }
    const packages = { ...react, 'ui@1.0.0': { dependencies: { react: '^18.0.0' } } }
    expect(() => flattened(services, packages, { single: ['react'] })).toThrowError(
      expect.objectContaining({
        code: 'SINGLE_SPLIT',
        message: 'react must not be split (policy.single), and no locked version satisfies everyone',
        details: {
          spec: 'react',
          hint: 'bump react in old to ^18.0.0, and 17.0.2 goes',
          others: [
            expect.objectContaining({ message: '17.0.2 is needed by old (^17.0.0)' }),
            expect.objectContaining({ message: '18.3.1 is needed by ui@1.0.0 (^18.0.0) by way of new > ui@1.0.0' }),
          ],
        },
      }),
    )
  })

  test('says why no other locked version of what leads to it helps', () => {
    const either = (version: string): ServiceSpec => ({ dependencies: { ui: '>=1.0.0' }, locked: { ui: version } })
    const services = { old: { dependencies: { react: '^17.0.0' } }, new: either('1.0.0'), newer: either('2.0.0') }
    const packages = {
      ...react,
      'react@19.1.0': {},
      'ui@1.0.0': { dependencies: { react: '^18.0.0' } },
      'ui@2.0.0': { dependencies: { react: '^19.0.0' } },
    }
    expect(() => flattened(services, packages, { single: ['react'] })).toThrowError(
      expect.objectContaining({
        code: 'SINGLE_SPLIT',
        details: expect.objectContaining({
          others: [
            expect.objectContaining({ message: '17.0.2 is needed by old (^17.0.0)' }),
            expect.objectContaining({ message: '19.1.0 is needed by ui@2.0.0 (^19.0.0) by way of new > ui@2.0.0' }),
          ],
          explanation: [
            'Because ui 1.0.0 needs react 18.3.1 and ui 2.0.0 needs react 19.1.0, every version of ui requires react 18.3.1 or 19.1.0.',
            'So, because new and newer need ui and old needs react 17.0.2, react cannot be kept at one version.',
          ].join('\n'),
        }),
      }),
    )
  })

  test('says so too where only several such names together cannot be', () => {
    const services = {
      a: { dependencies: { ui: '>=1.0.0' }, locked: { ui: '1.0.0' } },
      b: { dependencies: { ui: '>=1.0.0' }, locked: { ui: '2.0.0' } },
      c: { dependencies: { react: '^17.0.0', graphql: '^16.0.0' } },
    }
    const packages = {
      ...react,
      'graphql@15.0.0': {},
      'graphql@16.0.0': {},
      'ui@1.0.0': { dependencies: { react: '^17.0.0', graphql: '^15.0.0' } },
      'ui@2.0.0': { dependencies: { react: '^18.0.0', graphql: '^16.0.0' } },
    }
    expect(() => flattened(services, packages, { single: ['react', 'graphql'] })).toThrowError(
      expect.objectContaining({
        details: expect.objectContaining({
          explanation: [
            'Because c needs react 17.0.2 and ui 2.0.0 needs react 18.3.1, ui 2.0.0 is ruled out.',
            'And, because a and b need ui, ui 1.0.0 is required.',
            'So, because ui 1.0.0 needs graphql 15.0.0 and c needs graphql 16.0.0, react and graphql cannot be kept at one version each.',
          ].join('\n'),
        }),
      }),
    )
  })

  test('would rather split two others than the one that must not be', () => {
    // Keeping x together costs a second copy of each of y and z.
    const services = {
      a: { dependencies: { x: '^1.0.0', y: '^1.0.0 || ^2.0.0', z: '^1.0.0 || ^2.0.0' } },
      b: { dependencies: { one: '^1.0.0' } },
      c: { dependencies: { two: '^1.0.0 || ^2.0.0' }, locked: { two: '1.0.0' } },
      d: { dependencies: { two: '^1.0.0 || ^2.0.0' }, locked: { two: '2.0.0' } },
    }
    const packages = {
      'x@1.0.0': {},
      'x@2.0.0': {},
      'y@1.0.0': {},
      'y@2.0.0': {},
      'z@1.0.0': {},
      'z@2.0.0': {},
      'one@1.0.0': { dependencies: { y: '^1.0.0', z: '^1.0.0' } },
      'two@1.0.0': { dependencies: { x: '^1.0.0', y: '^2.0.0', z: '^2.0.0' } },
      'two@2.0.0': { dependencies: { x: '^2.0.0' } },
    }
    expect(Object.keys(flattened(services, packages, {}).lock.npm.splits)).toEqual(['x'])
    expect(Object.keys(flattened(services, packages, { single: ['x'] }).lock.npm.splits)).toEqual(['y', 'z'])
  })
})
