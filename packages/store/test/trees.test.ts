import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { createHash } from 'node:crypto'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'

import { integrityOf } from '@polder/spec'
import { artifactPath, treePath } from '../src/content-path.ts'
import { hasTree, readTree, readTreeHashes, treeId, unpackTrees, verifyTree } from '../src/index.ts'
import type { Progress } from '../src/trees/trees.ts'
import { tgz } from './support/tar-writer.ts'
import { put, putPackage, temporaryStore } from './support/temporary-store.ts'

const label = 'foo@1.0.0'

describe('unpacking', () => {
  test('a tree lists its directories, parents first, and its files with their sizes', async () => {
    const store = temporaryStore()
    const integrity = await put(
      store,
      tgz([
        { path: 'package/lib/deep/b.js', data: 'bb' },
        { path: 'package/a.js', data: 'a' },
        { path: 'package/empty/', type: '5' },
        { path: 'package/run', data: '', mode: 0o755 },
      ]),
    )
    expect(hasTree(store, treeId(integrity))).toBe(false)
    await unpackTrees(store, [{ id: treeId(integrity), integrity, label, bin: {} }])
    expect(hasTree(store, treeId(integrity))).toBe(true)
    expect(readTree(store, treeId(integrity))).toEqual({
      id: treeId(integrity),
      path: join(store.home, 'trees', treeId(integrity), 'package'),
      directories: ['empty', 'lib', 'lib/deep'],
      files: ['a.js', 'lib/deep/b.js', 'run'],
      executable: [2],
      sizes: [1, 2, 0],
    })
  })

  test('files are read-only, of one age, and executable as packed', async () => {
    const store = temporaryStore()
    const integrity = await put(
      store,
      tgz([
        { path: 'p/a', data: 'a', mode: 0o666 },
        { path: 'p/run', data: 'r', mode: 0o700 },
      ]),
    )
    await unpackTrees(store, [{ id: treeId(integrity), integrity, label, bin: {} }])
    const { path } = readTree(store, treeId(integrity))
    const found = ['a', 'run'].map((file) => statSync(join(path, file)))
    expect(found.map(({ mode }) => (mode & 0o7777).toString(8))).toEqual(['444', '555'])
    expect(found.map(({ mtime }) => mtime.toISOString())).toEqual([
      '1985-10-26T08:15:00.000Z',
      '1985-10-26T08:15:00.000Z',
    ])
  })

  test('commands become executable and lose the carriage return of their first line only', async () => {
    const store = temporaryStore()
    const integrity = await putPackage(store, {
      'cli.js': '#!/usr/bin/env node\r\nrun()\r\n',
      'other.js': '#!/bin/sh\r\n',
      'plain.js': 'x\r\n',
    })
    await unpackTrees(store, [
      { id: treeId(integrity), integrity, label, bin: { foo: 'cli.js', plain: 'plain.js', gone: 'not/there.js' } },
    ])
    const tree = readTree(store, treeId(integrity))
    const text = (file: string): string => readFileSync(join(tree.path, file), 'utf8')
    expect(tree.files.map((file) => text(file))).toEqual(['#!/usr/bin/env node\nrun()\r\n', '#!/bin/sh\r\n', 'x\r\n'])
    expect(tree.executable.map((index) => tree.files[index])).toEqual(['cli.js', 'plain.js'])
    expect(await verifyTree(store, treeId(integrity))).toEqual([])
  })

  test('only what is missing is unpacked, and every tree is told to onProgress', async () => {
    const store = temporaryStore()
    const wanted = []
    for (const name of ['a', 'b', 'c']) {
      const integrity = await putPackage(store, { name })
      wanted.push({ id: treeId(integrity), integrity, label: name, bin: {} })
    }
    await unpackTrees(store, wanted.slice(0, 1))
    const list = join(store.home, 'trees', String(readdirSync(join(store.home, 'trees'))[0]), 'files.json')
    const before = statSync(list).ctimeMs
    const seen: Progress[] = []
    await unpackTrees(store, [...wanted, ...wanted], { onProgress: (progress) => seen.push(progress) })
    // Several are unpacked at once, and end in any order.
    expect(seen.map(({ done, total }) => [done, total])).toEqual([
      [1, 2],
      [2, 2],
    ])
    expect(seen.map((progress) => progress.label).sort()).toEqual(['b', 'c'])
    expect(statSync(list).ctimeMs).toBe(before)
  })

  test('all missing artifacts are named before anything is unpacked', async () => {
    const store = temporaryStore()
    const there = await putPackage(store, { a: '1' })
    const gone = ['x', 'y'].map((text) => integrityOf('sha512', Buffer.from(text)))
    const wanted = [there, ...gone].map((integrity, index) => ({
      id: treeId(integrity),
      integrity,
      label: `p${index}@1.0.0`,
      bin: {},
    }))
    await expect(unpackTrees(store, wanted)).rejects.toMatchObject({
      code: 'ARTIFACT_MISSING',
      message: '2 artifacts are not in the store',
      details: {
        others: ['p1', 'p2'].map((name) => ({
          code: 'ARTIFACT_MISSING',
          message: `the artifact of ${name}@1.0.0 is not in the store`,
        })),
      },
    })
    expect(readdirSync(join(store.home, 'trees'))).toEqual([])
  })

  test('the ruin of a tree, without its list, is replaced', async () => {
    const store = temporaryStore()
    const integrity = await putPackage(store, { 'a.js': 'a' })
    mkdirSync(join(treePath(store, treeId(integrity)), 'package', 'half'), { recursive: true })
    await unpackTrees(store, [{ id: treeId(integrity), integrity, label, bin: {} }])
    expect(await verifyTree(store, treeId(integrity))).toEqual([])
  })

  test('several at once in one process do not get in each other’s way', async () => {
    const store = temporaryStore()
    const wanted = []
    for (let index = 0; index < 20; index++) {
      const integrity = await putPackage(store, { name: String(index) })
      wanted.push({ id: treeId(integrity), integrity, label, bin: {} })
    }
    await Promise.all([
      unpackTrees(store, wanted),
      unpackTrees(store, [...wanted].reverse()),
      unpackTrees(store, wanted),
    ])
    for (const { integrity } of wanted) expect(await verifyTree(store, treeId(integrity))).toEqual([])
    expect(readdirSync(join(store.home, 'tmp'))).toEqual([])
  })

  test('a tree that is not unpacked cannot be read', () => {
    const integrity = integrityOf('sha512', Buffer.from('x'))
    expect(() => readTree(temporaryStore(), treeId(integrity))).toThrow(
      expect.objectContaining({ code: 'ARTIFACT_MISSING' }),
    )
  })
})

describe('verifying', () => {
  test('every file that differs, is missing or was added is listed', async () => {
    const store = temporaryStore()
    const integrity = await putPackage(store, {
      same: '1',
      changed: '1',
      gone: '1',
      linked: '1',
      run: '1',
      'lib/x': '1',
      'lost/y': '1',
    })
    await unpackTrees(store, [{ id: treeId(integrity), integrity, label, bin: {} }])
    const { path } = readTree(store, treeId(integrity))
    writeFileSync(join(path, 'changed'), '2')
    rmSync(join(path, 'gone'))
    rmSync(join(path, 'linked'))
    symlinkSync('same', join(path, 'linked'))
    chmodSync(join(path, 'run'), 0o555)
    writeFileSync(join(path, 'lib', 'extra'), '')
    mkdirSync(join(path, 'more'))
    rmSync(join(path, 'lost'), { recursive: true })
    expect(lstatSync(join(path, 'linked')).isSymbolicLink()).toBe(true)
    expect(await verifyTree(store, treeId(integrity))).toEqual([
      { path: 'changed', kind: 'differs' },
      { path: 'gone', kind: 'missing' },
      { path: 'lib/extra', kind: 'added' },
      { path: 'linked', kind: 'differs' },
      { path: 'lost', kind: 'missing' },
      { path: 'lost/y', kind: 'missing' },
      { path: 'more', kind: 'added' },
      { path: 'run', kind: 'differs' },
    ])
  })

  test('what must be in the files is what the artifact has, commands without their carriage return', async () => {
    const store = temporaryStore()
    const integrity = await putPackage(store, { a: 'hello world', run: '#!/usr/bin/env node\r\n' })
    await unpackTrees(store, [{ id: treeId(integrity), integrity, label, bin: { run: 'run' } }])
    const hashes = await readTreeHashes(store, treeId(integrity))
    expect([...hashes]).toEqual([
      ['a', 'b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9'],
      ['run', createHash('sha256').update('#!/usr/bin/env node\n').digest('hex')],
    ])
    expect(await verifyTree(store, treeId(integrity))).toEqual([])
  })

  test('without its artifact, the kinds and sizes of a tree’s files are still compared', async () => {
    const store = temporaryStore()
    const integrity = await putPackage(store, { a: 'hello world', b: 'hello world' })
    await unpackTrees(store, [{ id: treeId(integrity), integrity, label, bin: {} }])
    writeFileSync(artifactPath(store, integrity), 'damaged')
    expect(await readTreeHashes(store, treeId(integrity))).toEqual(new Map())
    const { path } = readTree(store, treeId(integrity))
    writeFileSync(join(path, 'a'), 'hello w0rld')
    writeFileSync(join(path, 'b'), 'hello')
    expect(await verifyTree(store, treeId(integrity))).toEqual([{ path: 'b', kind: 'differs' }])
    // Nothing was moved away: that is for whoever reads the artifact.
    expect(existsSync(artifactPath(store, integrity))).toBe(true)
  })
})
