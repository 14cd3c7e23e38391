import { integrityOf } from '@polder/spec'
import { randomBytes } from 'node:crypto'
import { mkdirSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'

import { openArchiveReaders } from '../src/archives/archive-readers.ts'
import { artifactPath, treePath } from '../src/content-path.ts'
import { openIntake } from '../src/artifacts/intake.ts'
import {
  hasArtifact,
  hasTree,
  readArtifact,
  readTree,
  treeId,
  unpackTrees,
  verifyTree,
  type Store,
} from '../src/index.ts'
import { tgz } from './support/tar-writer.ts'
import { chunks, temporaryStore } from './support/temporary-store.ts'

const label = 'foo@1.0.0'
const readers = openArchiveReaders(1)
const expectation = { expected: null, maxBytes: 2 ** 30, label }
const leftovers = (store: Store): string[] => readdirSync(join(store.home, 'tmp'))

describe('an intake', () => {
  test('shows nothing before it is durable, and then everything', async () => {
    const store = temporaryStore()
    const intake = openIntake(store)
    const parts = ['one', 'two', 'three']
    for (const part of parts) await intake.receive(chunks(part), expectation)
    for (const part of parts) expect(hasArtifact(store, integrityOf('sha512', Buffer.from(part)))).toBe(false)
    await intake.close()
    for (const part of parts)
      expect(readArtifact(store, integrityOf('sha512', Buffer.from(part)), label).toString()).toBe(part)
    expect(leftovers(store)).toEqual([])
  })

  test('publishes by itself when some time has gone by, although nothing more comes', async () => {
    const store = temporaryStore()
    const intake = openIntake(store)
    const { integrity } = await intake.receive(chunks('early'), expectation)
    await expect.poll(() => hasArtifact(store, integrity), { timeout: 10_000 }).toBe(true)
    const late = await intake.receive(chunks('late'), expectation)
    await intake.close()
    expect(hasArtifact(store, late.integrity)).toBe(true)
    expect(leftovers(store)).toEqual([])
  })

  test('gives the contents of what came, also when it is too large to be held, and also after it got its name', async () => {
    const store = temporaryStore()
    const large = randomBytes(5 * 1024 * 1024)
    const intake = openIntake(store)
    const small = await intake.receive(chunks('sm', 'all'), expectation)
    const spilled = await intake.receive(
      chunks(large.subarray(0, 3_000_000), large.subarray(3_000_000, 4_500_000), large.subarray(4_500_000)),
      expectation,
    )
    expect(small.contents().toString()).toBe('small')
    expect(spilled.contents().equals(large)).toBe(true)
    await intake.close()
    expect(spilled.contents().equals(large)).toBe(true)
    expect(readArtifact(store, spilled.integrity, label).equals(large)).toBe(true)
  })

  test('writes the trees of what it is given, which are as if they had been unpacked later', async () => {
    const [store, other] = [temporaryStore(), temporaryStore()]
    const bytes = tgz([
      { path: 'package/package.json', data: '{}' },
      { path: 'package/bin/run', data: '#!/usr/bin/env node\r\n' },
    ])
    const bin = { run: 'bin/run' }
    const intake = openIntake(store)
    for (let twice = 0; twice < 2; twice += 1) {
      const { integrity, contents } = await intake.receive(chunks(bytes), expectation)
      await readers.use(contents, label, (archive) => intake.unpack(integrity, archive, bin, label))
    }
    const integrity = integrityOf('sha512', bytes)
    const id = treeId(integrity)
    expect(hasTree(store, id)).toBe(false)
    await intake.close()
    expect(await verifyTree(store, id)).toEqual([])
    const later = openIntake(other)
    await later.receive(chunks(bytes), expectation)
    await later.close()
    await unpackTrees(other, [{ id, integrity, label, bin }])
    const { path, ...tree } = readTree(store, id)
    expect(readTree(other, id)).toMatchObject(tree)
    expect(readdirSync(join(path, '..')).sort()).toEqual(readdirSync(join(readTree(other, id).path, '..')).sort())
    expect(leftovers(store)).toEqual([])
  })

  test('keeps nothing of what is refused, and goes on', async () => {
    const store = temporaryStore()
    const intake = openIntake(store)
    await expect(
      intake.receive(chunks('other'), { ...expectation, expected: integrityOf('sha512', Buffer.from('one')) }),
    ).rejects.toMatchObject({ code: 'INTEGRITY_MISMATCH' })
    expect(leftovers(store)).toEqual([])
    const { integrity } = await intake.receive(chunks('one'), expectation)
    await intake.close()
    expect(hasArtifact(store, integrity)).toBe(true)
  })

  test('that cannot give names fails when it is closed, and leaves nothing behind', async () => {
    const store = temporaryStore()
    const one = integrityOf('sha512', Buffer.from('one'))
    const intake = openIntake(store)
    await intake.receive(chunks('one'), expectation)
    // Where the artifact must be there is something that cannot be replaced by a file.
    mkdirSync(join(artifactPath(store, one), 'in the way'), { recursive: true })
    await expect(intake.close()).rejects.toThrow(/EISDIR|ENOTEMPTY|EEXIST/)
    expect(leftovers(store)).toEqual([])
  })

  test('gives nothing its name before it is told to, and nothing ever if that fails', async () => {
    const store = temporaryStore()
    const { promise, resolve } = Promise.withResolvers<void>()
    const intake = openIntake(store, promise)
    const { integrity } = await intake.receive(chunks('one'), expectation)
    let closed = false
    const closing = intake.close().then(() => (closed = true))
    await new Promise((done) => setImmediate(done))
    expect([closed, hasArtifact(store, integrity)]).toEqual([false, false])
    resolve()
    await closing
    expect(hasArtifact(store, integrity)).toBe(true)
    const failing = openIntake(store, Promise.reject(new Error('no keys')))
    const other = await failing.receive(chunks('other'), expectation)
    await expect(failing.close()).rejects.toThrow('no keys')
    expect(hasArtifact(store, other.integrity)).toBe(false)
    expect(leftovers(store)).toEqual([])
  })

  test('replaces an artifact that is damaged, and the ruin of a tree', async () => {
    const store = temporaryStore()
    const bytes = tgz([{ path: 'package/package.json', data: '{}' }])
    const integrity = integrityOf('sha512', bytes)
    const id = treeId(integrity)
    mkdirSync(join(artifactPath(store, integrity), '..'), { recursive: true })
    writeFileSync(artifactPath(store, integrity), 'damaged')
    mkdirSync(join(treePath(store, id), 'package'), { recursive: true })
    const intake = openIntake(store)
    const { contents } = await intake.receive(chunks(bytes), expectation)
    await readers.use(contents, label, (archive) => intake.unpack(integrity, archive, {}, label))
    await intake.close()
    expect(readArtifact(store, integrity, label).equals(bytes)).toBe(true)
    expect(await verifyTree(store, id)).toEqual([])
  })
})
