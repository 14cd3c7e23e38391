import { expect, test } from 'vitest'

import { explainSplit, followersOf, reasonsFor, splitNames } from '../src/explain.ts'
import { flatten } from '../src/flatten.ts'
import { monorepo } from './support/monorepo.ts'

const harbour = (): ReturnType<typeof flatten>['lock']['npm'] => {
  const { gathered, manifests } = monorepo(
    {
      'services/berths': { dependencies: { chalk: '^4.1.0', report: '^1.0.0' } },
      'services/cranes': { dependencies: { chalk: '^5.0.0' } },
      'services/tide': { dependencies: { chalk: '>=4', report: '^1.0.0' } },
    },
    { 'chalk@4.1.2': {}, 'chalk@5.6.2': {}, 'report@1.0.0': { dependencies: { chalk: '^4.0.0' } } },
  )
  return flatten(gathered, manifests).lock.npm
}

test('a split is explained by who accepts no other version, over the shortest way, and by what would mend it', () => {
  expect(explainSplit(harbour(), 'chalk')).toEqual({
    name: 'chalk',
    proven: true,
    follows: [],
    followers: [],
    versions: [
      {
        version: '4.1.2',
        demands: [
          { owner: 'services/berths', range: '^4.1.0', path: ['services/berths'] },
          { owner: 'report@1.0.0', range: '^4.0.0', path: ['services/berths', 'report@1.0.0'] },
        ],
      },
      { version: '5.6.2', demands: [{ owner: 'services/cranes', range: '^5.0.0', path: ['services/cranes'] }] },
    ],
    remedies: ['bump chalk in services/cranes to ^4.1.0, and 5.6.2 goes'],
  })
})

test('a name that is there once has no explanation', () => {
  expect(explainSplit(harbour(), 'report')).toBeUndefined()
})

test('who leads to a package can be asked for one service only', () => {
  expect([...reasonsFor(harbour(), 'report', 'services/tide')]).toEqual([
    ['report@1.0.0', [{ owner: 'services/tide', range: '^1.0.0', path: ['services/tide'] }]],
  ])
})

test('splits are named in the order in which they are worth mending: those that most others follow from first', () => {
  const { gathered, manifests } = monorepo(
    {
      old: { dependencies: { a: '^1.0.0', glob: '^1.0.0' } },
      young: { dependencies: { a: '^2.0.0', glob: '^2.0.0' } },
    },
    {
      'a@1.0.0': {},
      'a@2.0.0': {},
      'glob@1.0.0': { dependencies: { brace: '^1.0.0' } },
      'glob@2.0.0': { dependencies: { brace: '^2.0.0' } },
      'brace@1.0.0': {},
      'brace@2.0.0': {},
    },
  )
  const { npm } = flatten(gathered, manifests).lock
  expect(splitNames(npm)).toEqual(['glob', 'a', 'brace'])
  expect(followersOf(npm, 'glob')).toEqual(['brace'])
  expect(explainSplit(npm, 'glob')).toMatchObject({ follows: [], followers: ['brace'] })
  expect(explainSplit(npm, 'brace')).toMatchObject({ follows: ['glob'], followers: [] })
})
