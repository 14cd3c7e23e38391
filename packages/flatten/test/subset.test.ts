import { expect, test } from 'vitest'

import { flatten } from '../src/flatten.ts'
import { onlyServices } from '../src/subset.ts'
import { monorepo } from './support/monorepo.ts'

test('a subset holds the services, the workspace packages they lead to, and only what their own locks chose', () => {
  const { gathered, manifests } = monorepo(
    {
      'packages/tide': { name: 'tide', version: '1.0.0', dependencies: { y: '^1.0.0' } },
      a: { dependencies: { tide: 'workspace:*', x: '^1.0.0' }, locked: { tide: 'link:packages/tide', x: '1.0.0' } },
      b: { dependencies: { x: '^1.0.0' }, locked: { x: '1.9.0' } },
    },
    { 'x@1.0.0': { dependencies: { z: '^1.0.0' } }, 'x@1.9.0': {}, 'y@1.0.0': {}, 'z@1.0.0': {} },
  )
  const { npm } = flatten(onlyServices(gathered, ['a']), manifests).lock
  expect(Object.keys(npm.services)).toEqual(['a', 'packages/tide'])
  expect(Object.keys(npm.packages)).toEqual(['x@1.0.0', 'y@1.0.0', 'z@1.0.0'])
  // Together they share what only b had locked.
  expect(Object.keys(flatten(gathered, manifests).lock.npm.packages)).toEqual(['x@1.9.0', 'y@1.0.0'])
})
