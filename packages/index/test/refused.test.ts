import { spawn } from 'node:child_process'
import { appendFileSync, mkdtempSync, readdirSync, readFileSync, rmSync, utimesSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import { openStore, type Store } from '@polder/store'
import { afterEach, beforeEach, expect, test } from 'vitest'

import type { Refusal } from '../src/serve/refusal.ts'
import { clearRefused, openRefusedRecord, readRefused } from '../src/serve/refused.ts'

let directory: string
let store: Store
let now: number

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'polder-refused-'))
  store = openStore(join(directory, 'store'))
  now = Date.parse('2026-01-01T00:00:00.000Z')
})
afterEach(() => rmSync(directory, { recursive: true, force: true }))

const refusal = (what: string, more: Partial<Refusal> = {}): Refusal => ({
  what,
  kind: 'package',
  socket: '127.0.0.1:1',
  ...more,
})
const files = (): string[] => readdirSync(join(store.home, 'refused'))
const open = (): ReturnType<typeof openRefusedRecord> => openRefusedRecord(store, { now: () => now })

test('what is asked for again is counted, with when it was first and last; who asks tells entries apart', () => {
  const record = open()
  record.note(refusal('left-pad', { userAgent: 'npm/11' }))
  now += 60_000
  record.note(refusal('left-pad', { userAgent: 'npm/11' }))
  record.note(refusal('left-pad', { userAgent: 'pnpm/12', asker: 'sharp@1.0.0' }))
  now += 60_000
  record.note(refusal('left-pad', { userAgent: 'npm/11' }))
  record.close()
  expect(readRefused(store)).toEqual([
    {
      ...refusal('left-pad', { userAgent: 'npm/11' }),
      first: '2026-01-01T00:00:00.000Z',
      last: '2026-01-01T00:02:00.000Z',
      count: 3,
    },
    {
      ...refusal('left-pad', { userAgent: 'pnpm/12', asker: 'sharp@1.0.0' }),
      first: '2026-01-01T00:01:00.000Z',
      last: '2026-01-01T00:01:00.000Z',
      count: 1,
    },
  ])
})

test('what is new is on the disk at once, and half a line of a server that a power cut ended is skipped', () => {
  open().note(refusal('left-pad'))
  const [name = ''] = files()
  appendFileSync(join(store.home, 'refused', name), '{"what":"half","kind":"pack')
  expect(readRefused(store).map(({ what }) => what)).toEqual(['left-pad'])
})

test('several servers, one of them killed in the middle, write into one record', async () => {
  const script = `
    import { openStore } from '@polder/store'
    import { openRefusedRecord } from ${JSON.stringify(new URL('../src/serve/refused.ts', import.meta.url).href)}
    const record = openRefusedRecord(openStore(${JSON.stringify(store.home)}))
    for (let at = 0; ; at += 1) {
      record.note({ what: 'name-' + at, kind: 'package', socket: process.argv[1] })
      if (at === 200) process.kill(process.pid, 'SIGKILL')
    }`
  const run = (socket: string): Promise<NodeJS.Signals | null> =>
    new Promise((resolve) => {
      const child = spawn(process.execPath, ['--input-type=module', '-e', script, socket], {
        cwd: new URL('..', import.meta.url),
        stdio: 'inherit',
      })
      child.once('exit', (_, signal) => resolve(signal))
    })
  expect(await Promise.all([run('a'), run('b')])).toEqual(['SIGKILL', 'SIGKILL'])
  const counted = readRefused(store).filter(({ count }) => count === 1)
  expect(counted.filter(({ socket }) => socket === 'a')).toHaveLength(201)
  expect(counted.filter(({ socket }) => socket === 'b')).toHaveLength(201)
})

test('somebody who asks for ever new names fills neither memory nor disk', () => {
  const record = open()
  for (let at = 0; at < 5000; at += 1) {
    record.note(refusal(`name-${at}`))
    if (at % 1000 === 0) record.close()
  }
  record.close()
  const entries = readRefused(store)
  expect(entries).toHaveLength(1001)
  expect(entries.find(({ what }) => what.startsWith('('))?.count).toBe(4000)
  for (let round = 0; round < 40; round += 1) {
    for (let at = 0; at < 1000; at += 1) record.note(refusal(`name-${at}`))
    record.close()
  }
  expect(readRefused(store).find(({ what }) => what === 'name-7')?.count).toBe(41)
  const [name = ''] = files()
  expect(readFileSync(join(store.home, 'refused', name)).length).toBeLessThan(1.3e6)
})

test('forgetting leaves servers that run with a record to go on with', () => {
  const record = open()
  record.note(refusal('before'))
  clearRefused(store)
  expect(readRefused(store)).toEqual([])
  record.note(refusal('after'))
  record.note(refusal('before'))
  record.close()
  expect(readRefused(store).map(({ what, count }) => [what, count])).toEqual([
    ['after', 1],
    ['before', 1],
  ])
})

test('the files of many servers that are long gone become one', () => {
  for (let at = 0; at < 60; at += 1) {
    const record = open()
    record.note(refusal(`name-${at % 3}`))
    record.close()
  }
  for (const name of files()) utimesSync(join(store.home, 'refused', name), 1, 1)
  const before = readRefused(store)
  openRefusedRecord(store)
  expect(files()).toHaveLength(1)
  expect(readRefused(store)).toEqual(before)
  expect(before.map(({ count }) => count)).toEqual([20, 20, 20])
})

test('a record that cannot be written ends nobody', () => {
  writeFileSync(join(store.home, 'refused'), 'a file')
  const record = open()
  record.note(refusal('left-pad'))
  record.close()
})
