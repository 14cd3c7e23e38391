import fc from 'fast-check'
import semver from 'semver'
import { expect, test } from 'vitest'

import { RangeCache } from '../src/semver-ranges.ts'

const ranges = new RangeCache()

test.each([
  ['^20 || ^22', '22.x', true],
  ['>=18', '26.x', true],
  ['20.1.0', '20.x', true],
  ['20', '26.x', false],
  ['latest', '*', false],
])('%s and %s overlap: %j', (range, other, expected) => {
  expect(ranges.overlap(range, other)).toBe(expected)
  expect(ranges.overlap(other, range)).toBe(expected)
})

test.each([
  ['1.2.3', '^1.0.0', true],
  ['2.0.0', '^1.0.0', false],
  ['1.2.3', '', true],
  ['1.2.3', 'x', true],
  ['1.0.0-rc.1', '^1.0.0-rc.0', true],
  ['1.1.0-rc.1', '^1.0.0', false],
  ['1.2.3', '>=1 <2 || >=3', true],
  ['1.2.3', '1.0.0 - 1.2.3', true],
  ['v1.2.3', '=v1.2.3', true],
  ['1.2.3beta', '1.2.3-beta', true],
  ['1.2.3', 'latest', false],
  ['1.2.3', 'workspace:*', false],
  ['1.2.3', 'npm:a@1', false],
  ['file:a.tgz', '*', false],
])('%s satisfies %j: %s', (version, range, expected) => {
  expect(ranges.satisfies(version, range)).toBe(expected)
  expect(ranges.satisfies(version, range)).toBe(expected)
})

test('a range is told from a tag, a URL and a path', () => {
  expect(['^1', '*', '', '1 || 2'].every((text) => ranges.isRange(text))).toBe(true)
  expect(
    ['latest', 'https://host.example/a.tgz', '../a', 'git+ssh://host.example/a'].some((text) => ranges.isRange(text)),
  ).toBe(false)
})

test('versions ascend, prereleases first, and what is no version comes before all', () => {
  const texts = ['10.0.0', '9.0.0', 'file:b', '9.0.0-rc.1', 'file:a', '9.0.0+b', '9.0.0+a']
  expect(texts.sort((a, b) => ranges.compare(a, b))).toEqual([
    'file:a',
    'file:b',
    '9.0.0-rc.1',
    '9.0.0',
    '9.0.0+a',
    '9.0.0+b',
    '10.0.0',
  ])
})

test('the order is total: versions that semver takes for equal still have one', () => {
  expect(ranges.compare('v1.0.0', '1.0.0')).toBeGreaterThan(0)
  expect(ranges.compare('1.0.0', 'v1.0.0')).toBeLessThan(0)
  expect(ranges.compare('1.0.0', '1.0.0')).toBe(0)
})

test('the cache never answers otherwise than node-semver', () => {
  const number = fc.integer({ min: 0, max: 3 })
  const version = fc.tuple(number, number, number).map((parts) => parts.join('.'))
  const range = fc.tuple(fc.constantFrom('^', '~', '>=', '<', ''), version).map((parts) => parts.join(''))
  fc.assert(
    fc.property(version, range, (v, r) => {
      expect(ranges.satisfies(v, r)).toBe(semver.satisfies(v, r, { loose: true }))
    }),
  )
})
