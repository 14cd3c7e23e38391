import { integrityOf } from '@polder/spec'
import { closeSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { describe, expect, test } from 'vitest'

import { artifactPath } from '../src/content-path.ts'
import {
  hasArtifact,
  openArtifact,
  openStore,
  readArtifact,
  treeId,
  unpackTrees,
  verifyArtifacts,
  writeArtifact,
  type FileState,
  type Store,
} from '../src/index.ts'
import { chunks, put, putPackage, temporaryStore } from './support/temporary-store.ts'

const hello = Buffer.from('hello world')
const sha512 = integrityOf('sha512', hello)

/** Replaces an artifact, which is read-only, as a failing disk would. */
function damage(store: Store, bytes: Buffer | string, integrity = sha512): void {
  writeFileSync(artifactPath(store, integrity), bytes)
}

function isEmpty(store: Store): boolean {
  return (
    !hasArtifact(store, sha512) &&
    readdirSync(join(store.home, 'tmp')).length === 0 &&
    readdirSync(join(store.home, 'artifacts', 'sha512')).length === 0
  )
}

describe('writing', () => {
  test('an artifact that is what was locked is kept under its sha512, read-only', async () => {
    const store = temporaryStore()
    expect(
      await writeArtifact(store, chunks('hello ', 'world'), { expected: sha512, maxBytes: 100, label: 'foo@1.0.0' }),
    ).toEqual({ integrity: sha512, bytes: 11 })
    expect(hasArtifact(store, sha512)).toBe(true)
    expect(readArtifact(store, sha512, 'foo@1.0.0').toString()).toBe('hello world')
    expect(statSync(artifactPath(store, sha512)).mode & 0o777).toBe(0o444)
    expect(readdirSync(join(store.home, 'tmp'))).toEqual([])
  })

  test('a weaker hash is checked too, and our own sha512 is what is returned', async () => {
    const store = temporaryStore()
    for (const algorithm of ['sha1', 'sha256', 'sha384'] as const) {
      const { integrity } = await writeArtifact(store, chunks(hello), {
        expected: integrityOf(algorithm, hello),
        maxBytes: 100,
        label: 'foo@1.0.0',
      })
      expect(integrity).toBe(sha512)
    }
  })

  test('other bytes than those locked are refused and nothing is kept', async () => {
    const store = temporaryStore()
    for (const algorithm of ['sha1', 'sha512'] as const) {
      const [expected, found] = [integrityOf(algorithm, Buffer.from('other')), integrityOf(algorithm, hello)]
      await expect(
        writeArtifact(store, chunks(hello), { expected, maxBytes: 100, label: 'foo@1.0.0' }),
      ).rejects.toMatchObject({
        code: 'INTEGRITY_MISMATCH',
        message: `foo@1.0.0 is not what was locked: its hash is ${found} (11 bytes), locked is ${expected}`,
      })
    }
    expect(isEmpty(store)).toBe(true)
  })

  test('a truncated download has another hash and is not kept', async () => {
    const store = temporaryStore()
    await expect(
      writeArtifact(store, chunks('hello'), { expected: sha512, maxBytes: 100, label: 'foo@1.0.0' }),
    ).rejects.toMatchObject({ code: 'INTEGRITY_MISMATCH' })
    expect(isEmpty(store)).toBe(true)
  })

  test('an endless body is cut off at the limit', async () => {
    const store = temporaryStore()
    let sent = 0
    async function* endless(): AsyncGenerator<Uint8Array> {
      for (;;) {
        sent += 1000
        yield Buffer.alloc(1000)
      }
    }
    await expect(
      writeArtifact(store, endless(), { expected: null, maxBytes: 10_000, label: 'foo@1.0.0' }),
    ).rejects.toMatchObject({
      code: 'FETCH_FAILED',
      message: 'foo@1.0.0 is larger than the limit of 10000 bytes',
    })
    expect(sent).toBe(11_000)
    expect(isEmpty(store)).toBe(true)
  })

  test('an empty body is no artifact, whatever was locked', async () => {
    const store = temporaryStore()
    const expected = integrityOf('sha512', Buffer.alloc(0))
    await expect(writeArtifact(store, chunks(), { expected, maxBytes: 100, label: 'foo@1.0.0' })).rejects.toMatchObject(
      { code: 'FETCH_FAILED' },
    )
    expect(isEmpty(store)).toBe(true)
  })

  test('a body that fails on the way leaves nothing, and its own error', async () => {
    const store = temporaryStore()
    async function* failing(): AsyncGenerator<Uint8Array> {
      yield Buffer.from('hello')
      throw Object.assign(new Error('connection reset'), { code: 'EACCES' })
    }
    await expect(
      writeArtifact(store, failing(), { expected: sha512, maxBytes: 100, label: 'foo@1.0.0' }),
    ).rejects.toThrow('connection reset')
    expect(isEmpty(store)).toBe(true)
  })

  test('the same artifact may be written many times at once', async () => {
    const store = temporaryStore()
    const all = await Promise.all(Array.from({ length: 20 }, () => put(store, hello)))
    expect(new Set(all)).toEqual(new Set([sha512]))
    expect(readdirSync(join(store.home, 'tmp'))).toEqual([])
    expect(readdirSync(dirname(artifactPath(store, sha512)))).toHaveLength(1)
  })
})

describe('reading', () => {
  test('a missing artifact is named, with the command that fetches it', () => {
    const store = temporaryStore()
    expect(hasArtifact(store, sha512)).toBe(false)
    expect(() => readArtifact(store, sha512, 'foo@1.0.0')).toThrow(
      expect.objectContaining({
        code: 'ARTIFACT_MISSING',
        message: 'the artifact of foo@1.0.0 is not in the store',
        details: expect.objectContaining({ hint: 'run `polder index sync` to fetch it', spec: 'foo@1.0.0' }) as unknown,
      }),
    )
  })

  const damages: readonly (readonly [string, Buffer])[] = [
    ['truncated', hello.subarray(0, 5)],
    ['with a flipped bit', Buffer.from('hellO world')],
    ['of zero length', Buffer.alloc(0)],
    ['with bytes behind its end', Buffer.concat([hello, Buffer.alloc(512)])],
  ]
  test.each(damages)(
    'an artifact %s is moved to quarantine, named, and fetched again by the next sync',
    async (_, bytes) => {
      const store = temporaryStore()
      await put(store, hello)
      damage(store, bytes)
      expect(() => readArtifact(store, sha512, 'foo@1.0.0')).toThrow(
        expect.objectContaining({
          code: 'ARTIFACT_CORRUPT',
          message: expect.stringContaining('the stored artifact of foo@1.0.0 is damaged') as unknown,
        }),
      )
      const [quarantined] = readdirSync(join(store.home, 'quarantine'))
      expect(readFileSync(join(store.home, 'quarantine', String(quarantined)))).toEqual(bytes)
      expect(hasArtifact(store, sha512)).toBe(false)
      await put(store, hello)
      expect(readArtifact(store, sha512, 'foo@1.0.0')).toEqual(hello)
    },
  )

  test('an artifact of zero length does not count as there', async () => {
    const store = temporaryStore()
    await put(store, hello)
    damage(store, '')
    expect(hasArtifact(store, sha512)).toBe(false)
  })

  test('verifying artifacts lists those that differ or are missing and moves nothing', async () => {
    const store = temporaryStore()
    const [good, bad] = [await put(store, Buffer.from('good')), await put(store, Buffer.from('bad'))]
    damage(store, 'worse', bad)
    const labels: string[] = []
    const wanted = [
      { integrity: good, label: 'good@1.0.0' },
      { integrity: bad, label: 'bad@1.0.0' },
      { integrity: sha512, label: 'gone@1.0.0' },
    ]
    expect(await verifyArtifacts(store, wanted, { onProgress: ({ label }) => labels.push(label) })).toEqual([
      { label: 'bad@1.0.0', integrity: bad, kind: 'differs' },
      { label: 'gone@1.0.0', integrity: sha512, kind: 'missing' },
    ])
    expect(labels).toEqual(['good@1.0.0', 'bad@1.0.0', 'gone@1.0.0'])
    expect(readdirSync(join(store.home, 'quarantine'))).toEqual([])
  })

  test('an artifact that is opened is read once to verify it, and again only if its file is in another state', async () => {
    const store = temporaryStore()
    await put(store, hello)
    const path = artifactPath(store, sha512)
    const opened = async (verified?: FileState): Promise<string> => {
      const { file } = await openArtifact(store, sha512, 'foo@1.0.0', verified)
      const text = readFileSync(file, 'utf8')
      closeSync(file)
      return text
    }
    expect(await opened()).toBe('hello world')
    damage(store, 'hello there')
    const { ino, size, mtimeMs, ctimeMs } = statSync(path)
    const state = { ino, size, mtimeMs, ctimeMs }
    // Whoever says that this state was verified is believed.
    expect(await opened(state)).toBe('hello there')
    await expect(opened({ ...state, mtimeMs: mtimeMs - 1 })).rejects.toMatchObject({
      code: 'ARTIFACT_CORRUPT',
      details: { spec: 'foo@1.0.0', found: integrityOf('sha512', Buffer.from('hello there')), wanted: sha512 },
    })
    expect(readdirSync(join(store.home, 'quarantine'))).toHaveLength(1)
    await expect(opened(state)).rejects.toMatchObject({ code: 'ARTIFACT_MISSING' })
  })

  test('unpacking names every damaged artifact and unpacks the others', async () => {
    const store = temporaryStore()
    const good = await putPackage(store, { 'index.js': '1' })
    const bad = [await putPackage(store, { 'index.js': '2' }), await putPackage(store, { 'index.js': '3' })]
    for (const integrity of bad) damage(store, 'garbage', integrity)
    const wanted = [...bad, good].map((integrity, index) => ({
      id: treeId(integrity),
      integrity,
      label: `p${index}@1.0.0`,
      bin: {},
    }))
    await expect(unpackTrees(store, wanted)).rejects.toMatchObject({
      code: 'ARTIFACT_CORRUPT',
      details: { spec: 'p0@1.0.0', others: [{ code: 'ARTIFACT_CORRUPT', details: { spec: 'p1@1.0.0' } }] },
    })
    await expect(unpackTrees(openStore(store.home), wanted.slice(2))).resolves.toBeUndefined()
    expect(readdirSync(join(store.home, 'trees'))).toHaveLength(1)
  })

  test('the store is addressed by sha512 only', () => {
    expect(() => hasArtifact(temporaryStore(), integrityOf('sha1', hello))).toThrow(
      expect.objectContaining({ code: 'INTEGRITY_MISSING' }),
    )
  })
})
