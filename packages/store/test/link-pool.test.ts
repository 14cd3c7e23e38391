import { existsSync, lstatSync, mkdirSync, readdirSync, readlinkSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'

import { collectGarbage, discard, linkPool, makeSymbolicLink } from '../src/index.ts'
import { temporaryDirectory, temporaryStore } from './support/temporary-store.ts'

const later = (): number => Date.now() + 60 * 60 * 1000

test('links with the same text are one inode, in whatever directory', () => {
  const store = temporaryStore()
  const [a, b] = [temporaryDirectory(), temporaryDirectory()]
  for (const directory of [a, b]) makeSymbolicLink(linkPool(store), '../vite/bin/vite.js', join(directory, 'vite'))
  expect(readlinkSync(join(b, 'vite'))).toBe('../vite/bin/vite.js')
  expect(lstatSync(join(a, 'vite')).ino).toBe(lstatSync(join(b, 'vite')).ino)
  expect(readdirSync(linkPool(store).directory)).toEqual(['..%vite%bin%vite.js'])
})

test.each(['/store/envs/x/node_modules/a', 'beside', '..', 'a/b%c', 'a/ü', `a/${'b'.repeat(300)}`, 'a/b\\c', 'a/b\nc'])(
  'a link to %j is made without the pool',
  (text) => {
    const store = temporaryStore()
    const path = join(temporaryDirectory(), 'link')
    makeSymbolicLink(linkPool(store), text, path)
    expect(readlinkSync(path)).toBe(text)
    expect(existsSync(linkPool(store).directory)).toBe(false)
  },
)

test('what was linked stays when the pool goes, and is made again', () => {
  const store = temporaryStore()
  const directory = temporaryDirectory()
  makeSymbolicLink(linkPool(store), '../a', join(directory, 'before'))
  discard(store, [], undefined)
  expect(existsSync(linkPool(store).directory)).toBe(false)
  makeSymbolicLink(linkPool(store), '../a', join(directory, 'after'))
  expect(['before', 'after'].map((name) => readlinkSync(join(directory, name)))).toEqual(['../a', '../a'])
  expect(lstatSync(join(directory, 'after')).nlink).toBe(2)
})

test('a collection takes what no checkout shares, and nothing that is young', async () => {
  const store = temporaryStore()
  const pool = linkPool(store)
  const directory = temporaryDirectory()
  for (const name of ['used', 'unused']) makeSymbolicLink(pool, `../${name}`, join(directory, name))
  rmSync(join(directory, 'unused'))
  await collectGarbage(store, { now: Date.now() })
  expect(readdirSync(pool.directory).sort()).toEqual(['..%unused', '..%used'])
  await collectGarbage(store, { now: later() })
  expect(readdirSync(pool.directory)).toEqual(['..%used'])
})

test('errors are those of the link: a name that is taken, a directory that is not there', () => {
  const pool = linkPool(temporaryStore())
  const directory = temporaryDirectory()
  writeFileSync(join(directory, 'taken'), '')
  expect(() => makeSymbolicLink(pool, '../a', join(directory, 'taken'))).toThrow(/EEXIST/)
  expect(() => makeSymbolicLink(pool, '../a', join(directory, 'absent/link'))).toThrow(/ENOENT/)
  expect(() => makeSymbolicLink(pool, '../a', join(directory, 'taken/link'))).toThrow(/ENOTDIR/)
})

test('a store in which there can be no pool serves all the same', () => {
  const store = temporaryStore()
  writeFileSync(linkPool(store).directory, 'in the way')
  const directory = temporaryDirectory()
  for (const name of ['a', 'b']) makeSymbolicLink(linkPool(store), `../${name}`, join(directory, name))
  expect(['a', 'b'].map((name) => readlinkSync(join(directory, name)))).toEqual(['../a', '../b'])
})

const OTHER_DEVICE = '/dev/shm'
const hasOtherDevice = existsSync(OTHER_DEVICE) && statSync(OTHER_DEVICE).dev !== statSync(tmpdir()).dev

test.skipIf(!hasOtherDevice)(
  `on another file system links are made without it${hasOtherDevice ? '' : ` (skipped: ${OTHER_DEVICE} is not another one)`}`,
  () => {
    const pool = linkPool(temporaryStore())
    const directory = join(OTHER_DEVICE, `polder-links-${process.pid}`)
    mkdirSync(directory)
    try {
      makeSymbolicLink(pool, '../a', join(directory, 'a'))
      expect(pool.usable).toBe(false)
      expect(readlinkSync(join(directory, 'a'))).toBe('../a')
    } finally {
      rmSync(directory, { recursive: true })
    }
  },
)
