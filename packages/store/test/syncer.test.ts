import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test, vi } from 'vitest'

import { openIntake } from '../src/artifacts/intake.ts'
import { hasArtifact } from '../src/index.ts'
import { startSyncer } from '../src/durable/syncer.ts'
import { chunks, temporaryDirectory, temporaryStore } from './support/temporary-store.ts'

test('every call is answered, in order, also after an end was asked for', async () => {
  const store = temporaryStore()
  const syncer = startSyncer(store)
  const answers = Promise.all([syncer.sync(), syncer.sync(), syncer.sync()])
  syncer.close()
  expect(await answers).toEqual([true, true, true])
})

test('a directory that is not there cannot be synced, and the next one is asked for all the same', async () => {
  const syncer = startSyncer({ home: join(temporaryDirectory(), 'nowhere') })
  expect(await syncer.sync()).toBe(false)
  expect(await syncer.sync()).toBe(false)
  syncer.close()
})

test('where there is no shell, artifacts are made durable one by one', async () => {
  vi.stubEnv('PATH', temporaryDirectory())
  try {
    const store = temporaryStore()
    expect(await startSyncer(store).sync()).toBe(false)
    const intake = openIntake(store)
    const { integrity } = await intake.receive(chunks('one'), { expected: null, maxBytes: 100, label: 'foo@1.0.0' })
    await intake.close()
    expect(hasArtifact(store, integrity)).toBe(true)
    expect(readdirSync(join(store.home, 'tmp'))).toEqual([])
  } finally {
    vi.unstubAllEnvs()
  }
})
