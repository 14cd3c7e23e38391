import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import { type PackageId } from '@polder/spec'
import { openStore, type Store } from '@polder/store'
import { afterEach, beforeEach, expect, test } from 'vitest'

import { readAttestations, readRelease, type Release, writeAttestations, writeRelease } from '../src/trust/releases.ts'

const id = 'tide@1.0.0' as PackageId
const release: Release = {
  name: 'tide',
  version: '1.0.0',
  registry: 'https://registry.example/',
  published: '2026-01-02T03:04:05.000Z',
  distTags: { latest: '1.0.0', constructor: '0.1.0' },
}
let home: string
let store: Store

beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), 'polder-releases-'))
  store = openStore(home)
})
afterEach(() => rmSync(home, { recursive: true, force: true }))

test('a release is read as it was written, its tags without a prototype', () => {
  writeRelease(store, id, release)
  const read = readRelease(store, id)
  expect(read).toEqual(release)
  expect(Object.getPrototypeOf(read?.distTags)).toBeNull()
  expect(readRelease(store, 'tide@1.0.1' as PackageId)).toBeUndefined()
})

test('attestations stand beside the release, and neither needs the other', () => {
  writeAttestations(store, id, { attestations: [] })
  expect(readRelease(store, id)).toBeUndefined()
  expect(readAttestations(store, id)).toEqual({ attestations: [] })
})

test('a damaged record, and one of another id, is none', () => {
  writeRelease(store, id, release)
  const file = recordFile()
  const text = readFileSync(file, 'utf8')
  for (const damaged of ['', text.slice(0, -9), '[]', 'null', text.replaceAll('tide', 'ebbs')]) {
    writeFileSync(file, damaged)
    expect(readRelease(store, id)).toBeUndefined()
  }
  writeFileSync(file, text)
  expect(readRelease(store, id)).toEqual(release)
})

function recordFile(): string {
  const files = readdirSync(join(home, 'releases'), { recursive: true, encoding: 'utf8' })
  return join(home, 'releases', files.find((name) => name.endsWith('.json')) ?? '')
}
