import { manifestFromJson } from '@polder/spec/manifest'
import { RangeCache } from '@polder/spec/semver-ranges'
import { expect, test } from 'vitest'

import { aliasOf, declaredRequirements, rangeOf } from '../src/specifier.ts'

const ranges = new RangeCache()

test.each([
  ['^1.0.0', '^1.0.0'],
  ['', '*'],
  ['npm:other@^2', '^2'],
  ['npm:@scope/other@1.x', '1.x'],
  ['npm:other', '*'],
  ['latest', null],
  ['workspace:^1.0.0', null],
  ['file:../lib', null],
  ['https://host.example/x.tgz', null],
  ['github:some/repo', null],
])('the range of "%s" is %s', (specifier, range) => {
  expect(rangeOf(specifier, ranges)).toBe(range)
})

test('an alias has a name of its own', () => {
  expect(aliasOf('npm:@scope/real@^1')).toEqual({ name: '@scope/real', range: '^1' })
  expect(aliasOf('^1')).toBeNull()
})

test('a name that is declared twice counts once, for what makes it hardest', () => {
  const manifest = manifestFromJson(
    {
      dependencies: { both: '^1', shy: '^1' },
      optionalDependencies: { shy: '^1' },
      devDependencies: { both: '^2', react: '^18' },
      peerDependencies: { react: '>=17', vue: '^3', svelte: '^4' },
      peerDependenciesMeta: { vue: { optional: true } },
    },
    'package.json',
  )
  expect(declaredRequirements(manifest)).toEqual([
    { name: 'both', kind: 'prod', specifier: '^1' },
    { name: 'react', kind: 'dev', specifier: '^18' },
    { name: 'shy', kind: 'optional', specifier: '^1' },
    { name: 'svelte', kind: 'peer', specifier: '^4' },
    { name: 'vue', kind: 'optionalPeer', specifier: '^3' },
  ])
})
