import { packageId } from '@polder/spec'
import { describe, expect, test } from 'vitest'

import { namesMatching } from '../src/trust/name-patterns.ts'
import { refusedPins, type NewPin, type ReleasePolicy } from '../src/trust/release-policy.ts'

const NOW = Date.parse('2026-06-01T00:00:00.000Z')
const MINUTE = 60_000

function refusals(published: string | undefined, policy: Partial<ReleasePolicy>, version = '1.0.0'): readonly string[] {
  const pin: NewPin = {
    id: packageId('tide', version),
    name: 'tide',
    version,
    fromRegistry: true,
    neededBy: ['a', 'b'],
  }
  const all = { minimumReleaseAge: 0, minimumReleaseAgeExclude: [], allow: [], deny: [], ...policy }
  const release = {
    name: 'tide',
    version,
    registry: 'https://registry.example/',
    ...(published === undefined ? {} : { published }),
  }
  return refusedPins([pin], all, { now: NOW, releaseOf: () => release }).map(
    ({ code, message }) => `${code}: ${message}`,
  )
}

const at = (minutesAgo: number): string => new Date(NOW - minutesAgo * MINUTE).toISOString()

describe('the age of a release', () => {
  test.each([
    [60, 60, 0],
    [59, 60, 1],
    [0, 0, 0],
    [-5, 60, 1],
    [-5, 0, 0],
  ])('of %i minutes with a minimum of %i is refused %i times', (age, minimumReleaseAge, times) => {
    expect(refusals(at(age), { minimumReleaseAge })).toHaveLength(times)
  })

  test('is not known where the clock is off by a year', () => {
    expect(refusals(at(-365 * 1440), { minimumReleaseAge: 1 })).toEqual([
      "RELEASE_DATE: tide@1.0.0 was published at 2027-06-01T00:00:00.000Z, which by this machine's clock (2026-06-01T00:00:00.000Z) is yet to come; needed by a, b",
    ])
  })

  test.each(['tide', 'ti*', '*', 'tide@1', 'tide@>=1 <2', 't*@1.0.0 || 2.0.0'])('does not matter for %s', (rule) => {
    expect(refusals(undefined, { minimumReleaseAge: 1, minimumReleaseAgeExclude: [rule] })).toEqual([])
    expect(refusals(undefined, { minimumReleaseAge: 1, minimumReleaseAgeExclude: [rule] }, '3.0.0')).toHaveLength(
      rule.includes('@') ? 1 : 0,
    )
  })
})

test.each([
  ['@acme/*', ['@acme/tide', '@acme/a.b'], ['@acme-evil/tide', 'acme/tide', '@acme']],
  ['acme-*', ['acme-', 'acme-tide'], ['acme', 'xacme-tide', '@acme-x/y']],
  ['a.b', ['a.b'], ['axb']],
  ['a.*', ['a.b'], ['ab', 'axb']],
])('the pattern %s', (pattern, yes, no) => {
  const matches = namesMatching([pattern])
  expect(yes.filter((name) => !matches(name))).toEqual([])
  expect(no.filter((name) => matches(name))).toEqual([])
})
