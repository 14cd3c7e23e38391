import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'

import { treeId, unpackTrees } from '../src/index.ts'
import { pax, tgz, type Entry } from './support/tar-writer.ts'
import { put, temporaryDirectory, temporaryStore } from './support/temporary-store.ts'

/** Tries to unpack the archive into a store that has a secret beside it, and tells what came of it. */
async function attack(entries: readonly Entry[]): Promise<string> {
  const store = temporaryStore()
  const beside = join(store.home, '..', 'secret')
  writeFileSync(beside, 'untouched')
  const integrity = await put(store, tgz(entries), 'evil@1.0.0')
  let outcome = 'unpacked'
  try {
    await unpackTrees(store, [{ id: treeId(integrity), integrity, label: 'evil@1.0.0', bin: {} }])
  } catch (error) {
    outcome = (error as { code: string }).code
  }
  expect(readFileSync(beside, 'utf8')).toBe('untouched')
  expect(readdirSync(join(store.home, '..')).sort()).toEqual(['home', 'secret'])
  expect(readdirSync(join(store.home, 'tmp'))).toEqual([])
  if (outcome !== 'unpacked') expect(readdirSync(join(store.home, 'trees'))).toEqual([])
  return outcome
}

const payload = (path: string): Entry => ({ path, data: 'pwned' })
const symlink = (path: string, link: string): Entry => ({ path, type: '2', link })

test('CVE-2018-20834: a hard link followed by a file of its name writes nothing through the link', async () => {
  expect(await attack([{ path: 'package/x', type: '1', link: '../../../../secret' }, payload('package/x')])).toBe(
    'ARCHIVE_REFUSED',
  )
})

test('CVE-2021-32803: a directory replaced by a link is not written through', async () => {
  expect(
    await attack([
      { path: 'package/d/', type: '5' },
      symlink('package/d', '../../../../..'),
      payload('package/d/secret'),
    ]),
  ).toBe('ARCHIVE_REFUSED')
})

test('CVE-2021-32804: stripping a leading slash does not leave another', async () => {
  const target = join(temporaryDirectory(), 'pwned')
  for (const slashes of ['', '/', '//']) {
    expect(await attack([pax({ path: `${slashes}${target}` }), payload('package/x')])).toBe('ARCHIVE_REFUSED')
  }
  expect(await attack([payload('package////etc/x')])).toBe('unpacked')
})

test('CVE-2021-37701: a trailing backslash does not make a link another path than its directory', async () => {
  expect(
    await attack([
      { path: 'package/d/', type: '5' },
      symlink('package/d\\', '../../../../..'),
      payload('package/d/secret'),
    ]),
  ).toBe('ARCHIVE_REFUSED')
})

test('CVE-2021-37712: two spellings of one name do not make a link and a directory', async () => {
  expect(
    await attack([
      { path: 'package/caf\u00e9/', type: '5' },
      symlink('package/cafe\u0301', '..'),
      payload('package/caf\u00e9/secret'),
    ]),
  ).toBe('ARCHIVE_REFUSED')
  expect(
    await attack([{ path: 'package/FOO/', type: '5' }, symlink('package/foo', '..'), payload('package/FOO/secret')]),
  ).toBe('ARCHIVE_REFUSED')
})

test('CVE-2021-37713: a path relative to a drive is no path in the package', async () => {
  expect(await attack([payload('C:../../secret')])).toBe('ARCHIVE_REFUSED')
  expect(await attack([payload('package/C:../secret')])).toBe('ARCHIVE_REFUSED')
})

test('CVE-2024-28863: a path of very many directories makes none of them', async () => {
  expect(await attack([pax({ path: `package/${'a/'.repeat(100_000)}x` }), payload('package/x')])).toBe(
    'ARCHIVE_REFUSED',
  )
})

test('CVE-2025-64118: an entry that ends early yields no bytes of unset memory', async () => {
  expect(await attack([{ ...payload('package/x'), size: 100_000 }])).toBe('ARCHIVE_REFUSED')
})

test('CVE-2026-23745: an absolute hard link or symbolic link links to nothing outside', async () => {
  expect(await attack([{ path: 'package/x', type: '1', link: '/etc/passwd' }])).toBe('ARCHIVE_REFUSED')
  expect(await attack([symlink('package/x', '/etc/passwd')])).toBe('ARCHIVE_REFUSED')
})

test('CVE-2026-23950: names that fold to the same letters do not race for one place', async () => {
  expect(await attack([payload('package/stra\u00dfe'), symlink('package/strasse', '..')])).toBe('ARCHIVE_REFUSED')
})

test('CVE-2026-24842: a hard link is judged from where its target is looked up, the archive’s root', async () => {
  expect(await attack([{ path: 'package/a/b/c/x', type: '1', link: '../../../secret' }])).toBe('ARCHIVE_REFUSED')
})

test('CVE-2026-26960: a hard link through a chain of symbolic links finds none of them', async () => {
  const chain = [symlink('package/a/b/up', '../..'), symlink('package/a/escape', 'b/up/..')]
  expect(await attack([...chain, { path: 'package/x', type: '1', link: 'package/a/escape/../../secret' }])).toBe(
    'ARCHIVE_REFUSED',
  )
  expect(await attack([...chain, payload('package/a/escape/secret')])).toBe('ARCHIVE_REFUSED')
  expect(await attack([...chain, { path: 'package/x', type: '1', link: 'package/a/escape/secret' }])).toBe('unpacked')
})
