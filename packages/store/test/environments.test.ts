import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { basename, join } from 'node:path'
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
  const deep = `/${'deep/'.repeat(60)}%2F`
  recordRoot(store, { checkout: '/a%2Fb', environment: 'e1' })
  recordRoot(store, { checkout: '/a/b', environment: 'e1' })
  recordRoot(store, { checkout: deep, environment: 'e1' })
  recordRoot(store, { checkout: '/a/b', environment: 'e2' })
  const roots = readRoots(store).toSorted((a, b) => (a.checkout < b.checkout ? -1 : 1))
  expect(roots.map(({ path, ...root }) => [root, basename(path)])).toEqual([
    [{ checkout: '/a%2Fb', environment: 'e1' }, '%2Fa%252Fb'],
    [{ checkout: '/a/b', environment: 'e2' }, '%2Fa%2Fb'],
    [{ checkout: deep, environment: 'e1' }, expect.stringMatching(/^[0-9a-f]{40}\.json$/)],
  ])
})

test('a file that is no root is left out', () => {
  const store = temporaryStore()
  for (const [name, text] of [
    ['a.json', '{'],
    ['b.json', 'null'],
    ['c.json', '{"checkout":1}'],
    ['.d.json.1-000000000000.tmp', ''],
    ['%2Fnot-a-link', ''],
    ['something-else', ''],
  ] as const) {
    writeFileSync(join(store.home, 'roots', name), text)
  }
  symlinkSync('../envs/e1', join(store.home, 'roots', '%2F%'))
  expect(readRoots(store)).toEqual([])
})
