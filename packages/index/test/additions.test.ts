import { readdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

import { type Additions, type Integrity, integrityOf, type PackageId } from '@polder/spec'
import { hasArtifact, readArtifact } from '@polder/store'
import { describe, expect, onTestFinished, test } from 'vitest'

import { startRegistry, type Registry } from '../../../test/support/registry.ts'
import { packTarball } from '../../../test/support/tarball.ts'
import { addFile, addTarball, parseSha512 } from '../src/pins/additions.ts'
import { readManifest } from '../src/pins/manifests.ts'
import { type AdditionSources, syncAdditions } from '../src/pins/sync-additions.ts'
import { put, tarball, temporaryDirectory, temporaryStore } from './bundle-world.ts'
import { npmConfig } from './npm-config.ts'

const BYTES = Buffer.from('headers')
const HASH = integrityOf('sha512', BYTES)

async function upstream(): Promise<Registry> {
  const registry = await startRegistry()
  onTestFinished(() => registry.close())
  return registry
}

describe('a tarball', () => {
  test('is stored under the name and version that it says, with its manifest', async () => {
    const store = temporaryStore()
    const path = join(temporaryDirectory(), 'whatever.tgz')
    writeFileSync(path, tarball('@acme/lib@2.0.0'))
    const integrity = integrityOf('sha512', tarball('@acme/lib@2.0.0'))
    expect(await addTarball(store, path, 'whatever.tgz')).toEqual({
      id: '@acme/lib@2.0.0',
      integrity,
      bytes: tarball('@acme/lib@2.0.0').length,
    })
    expect(readManifest(store, integrity)?.manifest.name).toBe('@acme/lib')
  })

  test.each([
    ['no archive', Buffer.from('hello'.repeat(300)), 'ARCHIVE_REFUSED'],
    ['a path that leads out', packTarball({ '../../x': '', 'package.json': '{}' }), 'ARCHIVE_REFUSED'],
    ['no manifest', packTarball({ 'index.js': '' }), 'ARCHIVE_REFUSED'],
    ['a manifest without a version', packTarball({ 'package.json': '{"name":"x"}' }), 'MANIFEST_INVALID'],
    ['a version that is none', packTarball({ 'package.json': '{"name":"x","version":"../1"}' }), 'MANIFEST_INVALID'],
    ['a name that is none', packTarball({ 'package.json': '{"name":"../x","version":"1.0.0"}' }), 'MANIFEST_INVALID'],
  ])('with %s is refused, and nothing is kept', async (_, bytes, code) => {
    const store = temporaryStore()
    await expect(addTarball(store, bytes, 'x.tgz')).rejects.toMatchObject({ code })
    expect(readdirSync(join(store.home, 'artifacts/sha512'))).toEqual([])
    expect(readdirSync(join(store.home, 'tmp'))).toEqual([])
  })

  test('that is not there is said to be so', async () => {
    await expect(addTarball(temporaryStore(), join(temporaryDirectory(), 'x.tgz'), 'x.tgz')).rejects.toMatchObject({
      code: 'FETCH_FAILED',
      message: expect.stringContaining('cannot be read'),
    })
  })
})

describe('a file', () => {
  test('is fetched by its URL, redirects followed, and has to have its hash', async () => {
    const registry = await upstream()
    const url = registry.serveFile('/dist/v1.0.0/headers.bin', BYTES)
    registry.fault('/moved', { kind: 'redirect', to: url })
    const store = temporaryStore()
    const origin = { npm: async () => npmConfig(registry.url) }
    const moved = new URL('/moved', registry.url).href
    expect(await addFile(store, moved, HASH, origin)).toEqual({ integrity: HASH, bytes: BYTES.length })
    expect(readArtifact(store, HASH, url)).toEqual(BYTES)
    await expect(addFile(store, url, integrityOf('sha512', Buffer.of(1)), origin)).rejects.toMatchObject({
      code: 'INTEGRITY_MISMATCH',
      details: { found: HASH },
    })
  })

  test('can be at hand', async () => {
    const store = temporaryStore()
    const path = join(temporaryDirectory(), 'headers.bin')
    writeFileSync(path, BYTES)
    expect(await addFile(store, 'https://host.example/x', null, { path })).toEqual({ integrity: HASH, bytes: 7 })
  })
})

test.each([
  ['hex', Buffer.from(HASH.slice(7), 'base64').toString('hex')],
  ['HEX', Buffer.from(HASH.slice(7), 'base64').toString('hex').toUpperCase()],
  ['SRI', HASH],
])('a hash can be given as %s', (_, text) => {
  expect(parseSha512(text)).toBe(HASH)
})

test.each(['', 'abc', 'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=', 'a'.repeat(127)])(
  '%j is no sha512',
  (text) => {
    expect(() => parseSha512(text)).toThrowError(expect.objectContaining({ code: 'USAGE' }))
  },
)

describe('what was pinned by hand', () => {
  const ID = 'tide@1.0.0' as PackageId
  const integrity = integrityOf('sha512', tarball(ID))
  const none: AdditionSources = { root: '/', npm: null, pack: async () => undefined }
  const pins = (entry: object, files: Additions['files'] = {}): Additions => ({
    packages: { [ID]: { integrity, ...entry } },
    files,
  })

  test('comes from the repository, from its sources, and from its URL', async () => {
    const registry = await upstream()
    const url = registry.serveFile('/x.bin', BYTES)
    const root = temporaryDirectory()
    writeFileSync(join(root, 'tide.tgz'), tarball(ID))
    const store = temporaryStore()
    const sources = { root, npm: async () => npmConfig(registry.url), pack: none.pack }
    const additions = pins({ file: 'tide.tgz' }, { [url]: { integrity: HASH } })
    expect(await syncAdditions(store, additions, sources)).toMatchObject({ fetched: 2, failures: [] })
    expect(readManifest(store, integrity)?.manifest.version).toBe('1.0.0')
    expect(hasArtifact(store, HASH)).toBe(true)
    expect(await syncAdditions(store, additions, none)).toEqual({ fetched: 0, bytes: 0, failures: [] })
    const packing = { ...none, pack: async () => tarball(ID) }
    expect(await syncAdditions(temporaryStore(), pins({ workspace: true }), packing)).toMatchObject({ fetched: 1 })
  })

  test('and is nowhere is a failure each, with what would help', async () => {
    const { failures } = await syncAdditions(
      temporaryStore(),
      pins({}, { 'https://host.example/x': { integrity: HASH } }),
      none,
    )
    expect(failures).toMatchObject([
      { code: 'ARTIFACT_MISSING', details: { spec: ID, hint: expect.stringContaining('polder index import') } },
      {
        code: 'ARTIFACT_MISSING',
        details: { spec: 'https://host.example/x', hint: expect.stringContaining('index sync') },
      },
    ])
  })

  test('is never taken with other bytes', async () => {
    const store = temporaryStore()
    const other = { ...none, pack: async () => tarball('tide@1.0.1') }
    const { failures } = await syncAdditions(store, pins({ workspace: true }), other)
    expect(failures).toMatchObject([
      { code: 'INTEGRITY_MISMATCH', message: 'the workspace package tide@1.0.0 is not what it was when it was pinned' },
    ])
    expect(hasArtifact(store, integrity)).toBe(false)
  })

  test('gets its manifest again if only that is lost', async () => {
    const store = temporaryStore()
    const stored: Integrity = await put(store, tarball(ID))
    rmSync(join(store.home, 'manifests'), { recursive: true })
    expect(readManifest(store, stored)).toBeUndefined()
    expect(await syncAdditions(store, pins({}), none)).toMatchObject({ failures: [] })
    expect(readManifest(store, stored)?.manifest.name).toBe('tide')
  })
})
