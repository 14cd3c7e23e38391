import { execFileSync } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

import { hasTree, readTree, type Store, verifyTree } from '@polder/store'
import { expect, test } from 'vitest'

import { importBundle } from '../src/bundle/bundle-import.ts'
import { buildingLock, exported, filledStore, lockOf, putBuilt, temporaryStore } from './bundle-world.ts'

const trees = (path: string): string[] =>
  execFileSync('tar', ['tf', path], { encoding: 'utf8' })
    .split('\n')
    .filter((name) => name.startsWith('trees/'))

async function refused(
  path: string,
): Promise<{ readonly code: string; readonly message: string; readonly store: Store }> {
  const store = temporaryStore()
  const error: unknown = await importBundle(store, path).catch((thrown: unknown) => thrown)
  const { code, message } = error as { code: string; message: string }
  return { code, message: message.replace(`${path} is refused: `, ''), store }
}

test('a bundle carries what packages were built to, and gives the same bytes when it is exported again', async () => {
  const store = await filledStore()
  const built = putBuilt(store, 'alpha@1.0.0')
  const path = await exported(store, { lock: buildingLock(), builtTrees: [built, built] })
  expect(trees(path)).toEqual([`trees/${built.id}`])
  const to = temporaryStore()
  expect(await importBundle(to, path)).toMatchObject({ artifacts: 5, files: 1, trees: 1, added: 7, missing: [] })
  expect(await verifyTree(to, built.id)).toEqual([])
  expect(readTree(to, built.id)).toMatchObject({ files: ['package.json', 'tool'], executable: [1] })
  expect(await importBundle(to, path)).toMatchObject({ added: 0 })
  expect(readdirSync(join(to.home, 'tmp'))).toEqual([])
  const again = await exported(to, { lock: buildingLock(), builtTrees: [built] })
  expect(readFileSync(again).equals(readFileSync(path))).toBe(true)
})

test('a bundle for services carries only what these are built with', async () => {
  const store = await filledStore()
  const lock = { ...buildingLock(), policy: { ...buildingLock().policy, builds: { allow: { alpha: '*', beta: '*' } } } }
  const builtTrees = [putBuilt(store, 'alpha@1.0.0'), putBuilt(store, 'beta@2.0.0')]
  const path = await exported(store, { lock, builtTrees, services: ['services/api'] })
  expect(trees(path)).toEqual([`trees/${builtTrees[0]?.id ?? ''}`])
})

test('without built trees the bytes are what they always were', async () => {
  const store = await filledStore()
  expect(readFileSync(await exported(store, { builtTrees: [] }))).toEqual(readFileSync(await exported(store)))
})

test.each([
  ['a tree of a package that may not be built', lockOf(), 'alpha@1.0.0'],
  ['a tree of an instance that the lock does not have', buildingLock(), 'alpha@9.0.0'],
  ['a tree of an instance with the name of a property', buildingLock(), '__proto__'],
])('%s is refused, with nothing kept', async (_, lock, instance) => {
  const store = await filledStore()
  const built = putBuilt(store, instance)
  const { code, message, store: to } = await refused(await exported(store, { lock, builtTrees: [built] }))
  expect({ code, message }).toEqual({
    code: 'BUNDLE_INVALID',
    message: `it holds trees/${built.id}, which is of no build of its lock`,
  })
  expect(readdirSync(join(to.home, 'trees'))).toEqual([])
  expect(readdirSync(join(to.home, 'tmp'))).toEqual([])
})

test('a tree cannot take the place of another one, such as that of an artifact', async () => {
  const store = await filledStore()
  const { recipe, instance } = putBuilt(store, 'alpha@1.0.0')
  // As if the store had published it under the id of an artifact that a victim will unpack.
  const id = putBuilt(store, 'beta@2.0.0').id
  const {
    code,
    message,
    store: to,
  } = await refused(await exported(store, { lock: buildingLock(), builtTrees: [{ id, instance, recipe }] }))
  expect({ code, message }).toEqual({
    code: 'ARCHIVE_REFUSED',
    message: `the archive of trees/${id} is refused: its recipe is of another build`,
  })
  expect(hasTree(to, id)).toBe(false)
  expect(readdirSync(join(to.home, 'tmp'))).toEqual([])
})
