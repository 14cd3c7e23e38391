import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'

import { environmentPath, hasEnvironment, publishEnvironment, readRoots, recordRoot } from '../src/index.ts'
import { temporaryStore } from './support/temporary-store.ts'

test('an environment appears complete, with its marker', async () => {
  const store = temporaryStore()
  const path = await publishEnvironment(
    store,
    'e1',
    (directory) => {
      mkdirSync(join(directory, 'node_modules'))
      writeFileSync(join(directory, 'node_modules', 'x'), 'x')
      expect(hasEnvironment(store, 'e1')).toBe(false)
    },
    { trees: ['t1'], lock: 'abc' },
  )
  expect(path).toBe(environmentPath(store, 'e1'))
  expect(hasEnvironment(store, 'e1')).toBe(true)
  expect(readdirSync(path).sort()).toEqual(['.polder-environment.json', 'node_modules'])
  expect(JSON.parse(readFileSync(join(path, '.polder-environment.json'), 'utf8'))).toEqual({
    format: 1,
    trees: ['t1'],
    lock: 'abc',
  })
})

test('one that is there is not built again', async () => {
  const store = temporaryStore()
  let built = 0
  for (let times = 0; times < 2; times++) await publishEnvironment(store, 'e1', () => void (built += 1), { trees: [] })
  expect(built).toBe(1)
})

test('of two at once the first is used, and the second leaves nothing behind', async () => {
  const store = temporaryStore()
  const release: (() => void)[] = []
  const builds = ['first', 'second'].map((name) =>
    publishEnvironment(
      store,
      'e1',
      async (directory) => {
        writeFileSync(join(directory, name), '')
        await new Promise<void>((resolve) => release.push(resolve))
      },
      { trees: [] },
    ),
  )
  release[0]?.()
  await builds[0]
  release[1]?.()
  expect(await builds[1]).toBe(environmentPath(store, 'e1'))
  expect(existsSync(join(environmentPath(store, 'e1'), 'first'))).toBe(true)
  expect(readdirSync(join(store.home, 'tmp'))).toEqual([])
})

test('a build that fails leaves nothing behind, and its own error', async () => {
  const store = temporaryStore()
  const build = async (directory: string): Promise<void> => {
    writeFileSync(join(directory, 'x'), '')
    throw new Error('no such tree')
  }
  await expect(publishEnvironment(store, 'e1', build, { trees: [] })).rejects.toThrow('no such tree')
  expect(readdirSync(join(store.home, 'tmp'))).toEqual([])
  expect(hasEnvironment(store, 'e1')).toBe(false)
})

test('an environment without its marker is a ruin, and is replaced', async () => {
  const store = temporaryStore()
  await publishEnvironment(store, 'e1', (directory) => writeFileSync(join(directory, 'old'), ''), { trees: [] })
  rmSync(join(environmentPath(store, 'e1'), '.polder-environment.json'))
  expect(hasEnvironment(store, 'e1')).toBe(false)
  await publishEnvironment(store, 'e1', (directory) => writeFileSync(join(directory, 'new'), ''), { trees: [] })
  expect(readdirSync(environmentPath(store, 'e1')).sort()).toEqual(['.polder-environment.json', 'new'])
})

test('an id that is no plain file name is refused', () => {
  const store = temporaryStore()
  for (const id of ['', '.', '..', '../x', 'a/b', '.hidden', 'a\0']) {
    expect(() => environmentPath(store, id)).toThrow(expect.objectContaining({ code: 'STORE_LAYOUT' }))
  }
})

test('a checkout has one root, its latest', () => {
  const store = temporaryStore()
  const now = new Date(0)
  recordRoot(store, { checkout: '/a', environment: 'e1', now })
  recordRoot(store, { checkout: '/b', environment: 'e1', now })
  recordRoot(store, { checkout: '/a', environment: 'e2', now })
  expect(readRoots(store).toSorted((a, b) => (a.checkout < b.checkout ? -1 : 1))).toEqual([
    { checkout: '/a', environment: 'e2', at: '1970-01-01T00:00:00.000Z' },
    { checkout: '/b', environment: 'e1', at: '1970-01-01T00:00:00.000Z' },
  ])
})

test('a file that is no root is left out', () => {
  const store = temporaryStore()
  for (const [name, text] of [
    ['a.json', '{'],
    ['b.json', 'null'],
    ['c.json', '{"checkout":1}'],
    ['.d.json.1-000000000000.tmp', ''],
  ] as const) {
    writeFileSync(join(store.home, 'roots', name), text)
  }
  expect(readRoots(store)).toEqual([])
})
