import { integrityOf } from '@polder/spec'
import { readdirSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'

import { artifactPath } from '../src/content-path.ts'
import { discardStaged, hasArtifact, publishStaged, readArtifact, stageArtifact, type Store } from '../src/index.ts'
import { chunks, put, temporaryStore } from './support/temporary-store.ts'

const [one, two] = [Buffer.from('one'), Buffer.from('two')]

async function stage(store: Store, bytes: Buffer): ReturnType<typeof stageArtifact> {
  return stageArtifact(store, chunks(bytes), { expected: integrityOf('sha512', bytes), maxBytes: 100, label: 'x' })
}

describe('staged artifacts', () => {
  test('are not there before they are published, and then all are', async () => {
    const store = temporaryStore()
    const staged = [await stage(store, one), await stage(store, two)]
    for (const bytes of [one, two]) expect(hasArtifact(store, integrityOf('sha512', bytes))).toBe(false)
    publishStaged(store, staged)
    for (const bytes of [one, two]) {
      const integrity = integrityOf('sha512', bytes)
      expect(readArtifact(store, integrity, 'x')).toEqual(bytes)
      expect(statSync(artifactPath(store, integrity)).mode & 0o777).toBe(0o444)
    }
    expect(readdirSync(join(store.home, 'tmp'))).toEqual([])
  })

  test('leave nothing behind if they are discarded or refused', async () => {
    const store = temporaryStore()
    discardStaged([await stage(store, one)])
    await expect(
      stageArtifact(store, chunks(two), { expected: integrityOf('sha512', one), maxBytes: 100, label: 'x' }),
    ).rejects.toMatchObject({ code: 'INTEGRITY_MISMATCH' })
    expect(readdirSync(join(store.home, 'tmp'))).toEqual([])
    expect(readdirSync(join(store.home, 'artifacts', 'sha512'))).toEqual([])
  })

  test('heal what is damaged', async () => {
    const store = temporaryStore()
    const integrity = await put(store, one)
    writeFileSync(artifactPath(store, integrity), 'onf')
    publishStaged(store, [await stage(store, one)])
    expect(readArtifact(store, integrity, 'x')).toEqual(one)
  })
})
