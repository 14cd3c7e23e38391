import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

import { serializeLock } from '@polder/lock'
import { integrityOf, type PackageId } from '@polder/spec'
import { artifactPath, hasArtifact, readArtifact } from '@polder/store'
import { describe, expect, test } from 'vitest'

import { exportBundle } from '../src/bundle/bundle-export.ts'
import { importBundle } from '../src/bundle/bundle-import.ts'
import { readManifest } from '../src/pins/manifests.ts'
import { readAttestations, readRelease } from '../src/trust/releases.ts'
import {
  exported,
  FILE,
  FILE_URL,
  filledStore,
  lockOf,
  PACKAGES,
  put,
  tarball,
  temporaryDirectory,
  temporaryStore,
} from './bundle-world.ts'

const hashOf = (path: string): string => createHash('sha256').update(readFileSync(path)).digest('hex')
const members = (path: string): string[] => execFileSync('tar', ['tf', path], { encoding: 'utf8' }).trim().split('\n')
const pathOf = (id: string): string =>
  `artifacts/${createHash('sha512').update(tarball(id)).digest('hex').slice(0, 40)}.tgz`

describe('an exported bundle', () => {
  test('is a tar archive: list, lock, releases, artifacts and files, sorted', async () => {
    const path = await exported(await filledStore())
    const artifacts = [...PACKAGES, 'tide@1.0.0'].map(pathOf).sort()
    const file = `files/${createHash('sha512').update(FILE).digest('hex').slice(0, 40)}`
    expect(members(path)).toEqual(['polder-bundle.json', 'polder.lock', 'releases.json', ...artifacts, file])
    const listing = execFileSync('tar', ['tvf', path, '--utc', '--numeric-owner'], { encoding: 'utf8' })
    for (const line of listing.trim().split('\n')) expect(line).toMatch(/^-rw-r--r-- 0\/0 +\d+ 1985-10-26 08:15/)
  })

  test('has the same bytes whatever registry was asked, and whenever', async () => {
    expect(hashOf(await exported(await filledStore('one')))).toBe(hashOf(await exported(await filledStore('two'))))
  })

  test('has these bytes, on every machine and in every version that writes format 1', async () => {
    const store = await filledStore('one', [])
    const lock = { ...lockOf([]), index: { files: { [FILE_URL]: { integrity: integrityOf('sha512', FILE) } } } }
    const path = await exported(store, { lock, lockText: 'a lock\n' })
    expect(hashOf(path)).toBe('2a62923b4467cd923b5679474ac33970c57f48d435dbe428f611db7defd56c16')
  })

  test('names no registry', async () => {
    expect(readFileSync(await exported(await filledStore('secret-mirror'))).includes('secret-mirror')).toBe(false)
  })

  test('for a service has what that service needs, through workspace packages too, and what was added by hand', async () => {
    const store = await filledStore()
    const path = await exported(store, { services: ['services/web'] })
    expect(members(path).filter((name) => name.startsWith('artifacts/'))).toEqual(
      ['alpha@1.0.0', 'beta@2.0.0', 'delta@4.0.0', 'tide@1.0.0'].map(pathOf).sort(),
    )
    const { services, missing } = await importBundle(temporaryStore(), path)
    expect({ services, missing }).toEqual({ services: ['services/web'], missing: [] })
  })

  test('since an older lock has what that one did not have', async () => {
    const older = lockOf(['alpha@1.0.0', 'beta@2.0.0'])
    const since = { lock: older, text: serializeLock(older) }
    const path = await exported(await filledStore(), { since })
    expect(members(path).slice(3)).toEqual(['@scope/gamma@3.0.0', 'delta@4.0.0'].map(pathOf).sort())
  })

  test('is not made if artifacts are missing: all of them are named', async () => {
    const store = await filledStore('one', ['alpha@1.0.0'])
    const directory = temporaryDirectory()
    const request = { lock: lockOf(), lockText: '' }
    await expect(exportBundle(store, join(directory, 'x.tar'), request)).rejects.toMatchObject({
      code: 'ARTIFACT_MISSING',
      message: '3 artifacts of the lock are not in the store',
      details: { others: [{ message: '@scope/gamma@3.0.0' }, { message: 'beta@2.0.0' }, { message: 'delta@4.0.0' }] },
    })
    expect(readdirSync(directory)).toEqual([])
  })

  test('is not made of a damaged artifact, and leaves nothing behind', async () => {
    const store = await filledStore()
    writeFileSync(artifactPath(store, integrityOf('sha512', tarball('delta@4.0.0'))), tarball('delta@4.0.1'))
    const directory = temporaryDirectory()
    const lock = lockOf()
    await expect(
      exportBundle(store, join(directory, 'x.tar'), { lock, lockText: serializeLock(lock) }),
    ).rejects.toMatchObject({ code: 'ARTIFACT_CORRUPT', details: { spec: 'delta@4.0.0' } })
    expect(readdirSync(directory)).toEqual([])
  })

  test('says which packages have no release record', async () => {
    const store = await filledStore('one', PACKAGES.slice(2))
    for (const id of PACKAGES.slice(0, 2)) await put(store, tarball(id))
    const lock = lockOf()
    const report = await exportBundle(store, join(temporaryDirectory(), 'x.tar'), { lock, lockText: '' })
    expect(report).toMatchObject({ artifacts: 5, files: 1, releases: 2, withoutRelease: ['alpha@1.0.0', 'beta@2.0.0'] })
  })
})

describe('an imported bundle', () => {
  test('brings everything that was exported, and is exported again with the same bytes', async () => {
    const path = await exported(await filledStore())
    const store = temporaryStore()
    const { lock, ...report } = await importBundle(store, path)
    expect(lock).toEqual(lockOf())
    expect(report).toMatchObject({ artifacts: 5, files: 1, releases: 4, added: 6, missing: [] })
    for (const id of PACKAGES) {
      expect(readArtifact(store, integrityOf('sha512', tarball(id)), id)).toEqual(tarball(id))
      expect(readManifest(store, integrityOf('sha512', tarball(id)))?.manifest.name).toBe(
        id.slice(0, id.indexOf('@', 1)),
      )
      expect(readRelease(store, id as PackageId)).toMatchObject({ published: '2020-01-01T00:00:00.000Z' })
      expect(readAttestations(store, id as PackageId)).toEqual({
        attestations: [{ predicateType: 'x', bundle: { a: 2, z: 1 } }],
      })
    }
    expect(readArtifact(store, integrityOf('sha512', FILE), FILE_URL)).toEqual(FILE)
    expect(readdirSync(join(store.home, 'tmp'))).toEqual([])
    expect(hashOf(await exported(store))).toBe(hashOf(path))
  })

  test('twice changes nothing, and does not touch what the store knows better', async () => {
    const store = await filledStore('one')
    expect(await importBundle(store, await exported(await filledStore('two')))).toMatchObject({ added: 0 })
    expect(readRelease(store, 'alpha@1.0.0' as PackageId)?.registry).toBe('https://one.example/npm/')
  })

  test('heals an artifact that is damaged', async () => {
    const store = await filledStore()
    const path = await exported(store)
    const integrity = integrityOf('sha512', tarball('alpha@1.0.0'))
    writeFileSync(artifactPath(store, integrity), 'damaged')
    await importBundle(store, path)
    expect(readArtifact(store, integrity, 'alpha@1.0.0')).toEqual(tarball('alpha@1.0.0'))
  })

  test('made against a lock that this machine lacks is imported, and says what is missing', async () => {
    const older = lockOf(['alpha@1.0.0', 'beta@2.0.0'])
    const path = await exported(await filledStore(), { since: { lock: older, text: serializeLock(older) } })
    const store = temporaryStore()
    const { missing, added } = await importBundle(store, path)
    expect({ missing, added }).toEqual({ missing: ['alpha@1.0.0', 'beta@2.0.0', FILE_URL, 'tide@1.0.0'], added: 2 })
    expect(await importBundle(store, await exported(await filledStore(), { lock: older }))).toMatchObject({ added: 4 })
    expect(await importBundle(store, path)).toMatchObject({ missing: [], added: 0 })
  })

  test('by several at once is complete', async () => {
    const path = await exported(await filledStore())
    const store = temporaryStore()
    await Promise.all([1, 2, 3, 4].map(() => importBundle(store, path)))
    for (const id of PACKAGES) expect(hasArtifact(store, integrityOf('sha512', tarball(id)))).toBe(true)
    expect(readdirSync(join(store.home, 'tmp'))).toEqual([])
    expect(readdirSync(join(store.home, 'locks'))).toEqual([])
  })
})
