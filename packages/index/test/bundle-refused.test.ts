import { generateKeyPairSync, sign } from 'node:crypto'
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

import { parseLock, serializeLock } from '@polder/lock'
import { integrityOf, type PackageId } from '@polder/spec'
import { type Store } from '@polder/store'
import fc from 'fast-check'
import { beforeAll, describe, expect, test } from 'vitest'

import { packTarball } from '../../../test/support/tarball.ts'
import {
  type BundleList,
  contentPath,
  END_BYTES,
  LIST_PATH,
  type Member,
  memberHeader,
  paddingOf,
  serializeList,
  sortMembers,
} from '../src/bundle/bundle-format.ts'
import { importBundle } from '../src/bundle/bundle-import.ts'
import { exported, FILE, filledStore, lockOf, tarball, temporaryDirectory, temporaryStore } from './bundle-world.ts'

let sound: Buffer

beforeAll(async () => {
  sound = readFileSync(await exported(await filledStore()))
})

function written(bytes: Uint8Array): string {
  const path = join(temporaryDirectory(), 'bundle.tar')
  writeFileSync(path, bytes)
  return path
}

/** Everything that is in a store besides empty directories and the file that says which layout it has. */
function contents(store: Store): string[] {
  return readdirSync(store.home, { recursive: true, withFileTypes: true })
    .filter((entry) => !entry.isDirectory() && entry.name !== 'layout')
    .map((entry) => join(entry.parentPath, entry.name))
}

/** The message without the path, after a look at the store: nothing may be in it. */
async function refusal(bytes: Uint8Array, code = 'BUNDLE_INVALID'): Promise<string> {
  const path = written(bytes)
  const store = temporaryStore()
  const error: unknown = await importBundle(store, path).catch((thrown: unknown) => thrown)
  expect(error).toMatchObject({ code })
  expect(contents(store)).toEqual([])
  return (error as Error).message.replace(`${path} is refused: `, '').replaceAll(path, '<bundle>')
}

interface Part {
  readonly member: Member
  readonly body: Buffer
}

/** What a hostile exporter can make: any list, any headers, any bodies. */
function forged(
  parts: readonly Part[],
  change: { readonly list?: (text: string) => string; readonly header?: (path: string, header: Buffer) => Buffer } = {},
  head: Partial<BundleList> = {},
): Buffer {
  const members = sortMembers(parts.map(({ member }) => member))
  const text = serializeList({ format: 1, members, ...head }).toString()
  const list = Buffer.from(change.list?.(text) ?? text)
  const framed = (path: string, body: Buffer): Buffer[] => [
    change.header?.(path, memberHeader(path, body.length)) ?? memberHeader(path, body.length),
    body,
    Buffer.alloc(paddingOf(body.length)),
  ]
  return Buffer.concat([
    ...framed(LIST_PATH, list),
    ...members.flatMap((member) =>
      framed(member.path, parts.find((part) => part.member === member)?.body ?? Buffer.of()),
    ),
    Buffer.alloc(END_BYTES),
  ])
}

function part(kind: Member['kind'], body: Buffer, path?: string): Part {
  const integrity = integrityOf('sha512', body)
  const own = path ?? (kind === 'artifact' || kind === 'file' ? contentPath(kind, integrity) : 'polder.lock')
  return { member: { kind, path: own, bytes: body.length, integrity }, body }
}

/** A lock that pins one package, and the parts of its bundle. */
function single(bytes: Buffer, more: readonly Part[] = []): Part[] {
  const lock = lockOf([])
  const pinned = {
    ...lock,
    npm: { ...lock.npm, packages: { ['evil@1.0.0' as PackageId]: { integrity: integrityOf('sha512', bytes) } } },
    index: {},
  }
  return [part('lock', Buffer.from(serializeLock(pinned))), part('artifact', bytes), ...more]
}

describe('refused, with nothing kept:', () => {
  test('a bundle with any bit changed', { timeout: 60_000 }, async () => {
    // In the list, in a header, in a body, in what fills up, in the end.
    await fc.assert(
      fc.asyncProperty(fc.nat(sound.length - 1), fc.nat(7), async (position, bit) => {
        const bytes = Buffer.from(sound)
        bytes[position] = (bytes[position] ?? 0) ^ (1 << bit)
        const store = temporaryStoreOnce()
        await expect(importBundle(store, written(bytes))).rejects.toMatchObject({ code: 'BUNDLE_INVALID' })
        expect(contents(store)).toEqual([])
      }),
      { numRuns: 150 },
    )
  })

  test('a bundle that ends early, wherever', { timeout: 60_000 }, async () => {
    await fc.assert(
      fc.asyncProperty(fc.nat(sound.length - 1), async (length) => {
        const store = temporaryStoreOnce()
        await expect(importBundle(store, written(sound.subarray(0, length)))).rejects.toMatchObject({
          code: 'BUNDLE_INVALID',
        })
        expect(contents(store)).toEqual([])
      }),
      { numRuns: 60 },
    )
  })

  test('one that ends early says within which member', async () => {
    const last = contentPath('file', integrityOf('sha512', FILE))
    expect(await refusal(sound.subarray(0, sound.length - END_BYTES - 100))).toBe(
      `it ends early, within ${last}: ${sound.length - END_BYTES - 100} of ${sound.length} bytes are there`,
    )
    expect(await refusal(sound.subarray(0, 700))).toBe('it ends early, after 700 bytes')
  })

  test('one with something behind its end', async () => {
    expect(await refusal(Buffer.concat([sound, Buffer.alloc(512)]))).toBe('512 bytes stand behind its end')
  })

  test('one whose artifact was exchanged says which', async () => {
    const bytes = Buffer.from(sound)
    const at = bytes.indexOf(tarball('beta@2.0.0'))
    bytes.fill(7, at + 20, at + 40)
    expect(await refusal(bytes)).toBe(
      `its member ${contentPath('artifact', integrityOf('sha512', tarball('beta@2.0.0')))} (beta@2.0.0) is not what its list says`,
    )
  })

  test.each([
    ['nothing', Buffer.alloc(0)],
    ['text', Buffer.from('hello '.repeat(1000))],
    ['zeros', Buffer.alloc(4096)],
    ['a tarball of npm', tarball('alpha@1.0.0')],
  ])('%s', async (_, bytes) => {
    expect(await refusal(bytes)).toBe('it is no bundle of polder')
  })

  test('what is not there, and a directory', async () => {
    const path = join(temporaryDirectory(), 'none')
    await expect(importBundle(temporaryStore(), path)).rejects.toMatchObject({
      code: 'USAGE',
      message: `there is no bundle at ${path}`,
    })
    await expect(importBundle(temporaryStore(), temporaryDirectory())).rejects.toMatchObject({
      code: 'BUNDLE_INVALID',
      message: expect.stringContaining('it cannot be read'),
    })
  })

  test('a later format, and a kind of member that this polder does not know', async () => {
    const parts = single(tarball('evil@1.0.0'))
    expect(await refusal(forged(parts, { list: (text) => text.replace('"format":1', '"format":2') }))).toBe(
      'it has format 2, and this polder reads format 1',
    )
    const wheel = '{"kind":"wheel","path":"wheels/0.whl","bytes":1,"integrity":"sha512-x"}'
    expect(await refusal(forged(parts, { list: (text) => text.replace('[\n', `[\n${wheel},\n`) }))).toBe(
      'it has a member of kind "wheel", which this polder does not know',
    )
  })

  test.each([
    [
      'other spaces',
      (text: string) => text.replace(':[', ': ['),
      'its list is not in the form in which polder writes it',
    ],
    [
      'a key twice',
      (text: string) => text.replace('{"format":1', '{"format":1,"format":1'),
      'its list is not in the form in which polder writes it',
    ],
    [
      'an unknown key',
      (text: string) => text.replace('"format":1', '"format":1,"x":1'),
      'its list is damaged: Unrecognized key: "x"',
    ],
    [
      'a path that leads out',
      (text: string) => text.replace(/artifacts\/[0-9a-f]+\.tgz/, '../../x.tgz'),
      /has a path that its kind cannot have$/,
    ],
    [
      'a path of another hash',
      (text: string) => text.replace(/artifacts\/[0-9a-f]{4}/, 'artifacts/0000'),
      /has a path that is not of its hash$/,
    ],
    [
      'a size of a terabyte',
      (text: string) => text.replace(/(tgz","bytes":)\d+/, '$11099511627776'),
      /is larger than its kind can be$/,
    ],
    [
      'a size below zero',
      (text: string) => text.replace(/(tgz","bytes":)\d+/, '$1-512'),
      /^its list is damaged: members: 1: bytes: /,
    ],
    [
      'no lock',
      (text: string) => text.replace(/\{"kind":"lock".*\n/, ''),
      'its list is damaged: members: holds not just one lock',
    ],
    ['no JSON', (text: string) => text.slice(1), /^its list is not JSON: /],
    ['no list', () => '[]\n', 'its first member is no list of a bundle'],
  ])('a list with %s', async (_, list, message) => {
    const found = await refusal(forged(single(tarball('evil@1.0.0')), { list }))
    if (typeof message === 'string') expect(found).toBe(message)
    else expect(found).toMatch(message)
  })

  test('a member twice', async () => {
    const [lock, artifact] = single(tarball('evil@1.0.0')) as [Part, Part]
    expect(await refusal(forged([lock, artifact, { ...artifact, member: { ...artifact.member } }]))).toBe(
      'its list names a member twice',
    )
  })

  // As in the advisories of tar: nothing but a plain file of the listed name and size can stand in a bundle.
  test.each([
    ['a symbolic link', (header: Buffer) => header.write('2', 156), 'a SymbolicLink'],
    ['a hard link', (header: Buffer) => header.write('1', 156), 'a Link'],
    ['a device', (header: Buffer) => header.write('3', 156), 'a CharacterDevice'],
    ['a directory', (header: Buffer) => header.write('5', 156), 'a Directory'],
    ['a pax header', (header: Buffer) => header.write('x', 156), 'a ExtendedHeader'],
    ['another name', (header: Buffer) => header.write('../../../etc/passwd\0', 0), 'a file "../../../etc/passwd'],
    ['a set-user-id bit', (header: Buffer) => header.write('004755 \0', 100), 'a file'],
    ['another size', (header: Buffer) => header.write('00000000001 ', 124), 'a file'],
    ['nothing in it', (header: Buffer) => header.fill(0), 'the end of the archive'],
    ['rubbish in it', (header: Buffer) => header.fill(65), 'no header of an archive'],
  ])('a header with %s', async (_, change, found) => {
    const bytes = tarball('evil@1.0.0')
    const path = contentPath('artifact', integrityOf('sha512', bytes))
    const message = await refusal(
      forged(single(bytes), {
        header: (name, header) => {
          if (name !== path) return header
          const changed = Buffer.from(header)
          change(changed)
          return withChecksum(changed, header)
        },
      }),
    )
    expect(message).toContain(`stands where ${path} belongs`)
    expect(message.startsWith(found)).toBe(true)
  })

  test('an artifact or a file that the lock does not pin', async () => {
    const more = part('artifact', tarball('other@1.0.0'))
    expect(await refusal(forged(single(tarball('evil@1.0.0'), [more])))).toBe(
      `it holds ${more.member.path}, which its lock does not pin`,
    )
  })

  test('one without an artifact that the lock pins', async () => {
    const [lock, artifact] = single(tarball('evil@1.0.0')) as [Part, Part]
    expect(await refusal(forged([lock]))).toBe(`it lacks ${artifact.member.path}, evil@1.0.0`)
  })

  test('one for a service that the lock does not have', async () => {
    expect(await refusal(forged(single(tarball('evil@1.0.0')), {}, { services: ['services/none'] }))).toBe(
      'it is for services/none, which its lock does not have',
    )
  })

  test('an archive that no package needs', async () => {
    const bomb = packTarball({ 'package.json': '{}', 'x.bin': Buffer.alloc(80 * 1024 ** 2) })
    expect(await refusal(forged(single(bomb)), 'ARCHIVE_REFUSED')).toMatch(
      /^the archive of evil@1\.0\.0 is refused: it unpacks to more than/,
    )
    const outside = packTarball({ 'package.json': '{}', '../../outside.js': '' })
    expect(await refusal(forged(single(outside)), 'ARCHIVE_REFUSED')).toContain('leads out of the package')
  })

  test('a lock that is none', async () => {
    expect(await refusal(forged([part('lock', Buffer.from('x: 1\n'))]), 'LOCK_INVALID')).toContain('polder.lock in')
  })

  test.each([
    [
      'of a package that is not pinned',
      { 'other@1.0.0': { release: { name: 'other', version: '1.0.0' } } },
      'releases.json has other@1.0.0, which its lock does not have',
    ],
    [
      'with another hash',
      { 'evil@1.0.0': { release: { name: 'evil', version: '1.0.0', integrity: integrityOf('sha512', Buffer.of(1)) } } },
      'releases.json has another hash for evil@1.0.0 than its lock',
    ],
    [
      'with another sha1',
      { 'evil@1.0.0': { release: { name: 'evil', version: '1.0.0', shasum: 'a'.repeat(40) } } },
      'releases.json has another sha1 for evil@1.0.0 than its artifact',
    ],
    [
      'with a registry',
      { 'evil@1.0.0': { release: { name: 'evil', version: '1.0.0', registry: 'x' } } },
      /^releases\.json is damaged: evil@1\.0\.0: release: Unrecognized key/,
    ],
  ])('release records %s', async (_, records, message) => {
    const releases = part('releases', Buffer.from(JSON.stringify(records)), 'releases.json')
    const found = await refusal(forged(single(tarball('evil@1.0.0'), [releases])))
    if (typeof message === 'string') expect(found).toBe(message)
    else expect(found).toMatch(message)
  })
})

test('a signature by a key of the lock has to be right', async () => {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const key = publicKey.export({ format: 'der', type: 'spki' }).toString('base64')
  const keys = { 'SHA256:x': { keytype: 'ecdsa-sha2-nistp256', scheme: 'ecdsa-sha2-nistp256', key } }
  const bytes = tarball('evil@1.0.0')
  const integrity = integrityOf('sha512', bytes)
  const signed = (message: string): Part[] => {
    const sig = sign('sha256', Buffer.from(message), privateKey).toString('base64')
    const release = { name: 'evil', version: '1.0.0', integrity, signatures: [{ keyid: 'SHA256:x', sig }] }
    const [lock, artifact] = single(bytes) as [Part, Part]
    const withKeys = { ...parseLock(lock.body.toString(), 'polder.lock'), index: { keys } }
    const releases = Buffer.from(JSON.stringify({ 'evil@1.0.0': { release } }))
    return [part('lock', Buffer.from(serializeLock(withKeys))), artifact, part('releases', releases, 'releases.json')]
  }
  expect(await refusal(forged(signed('evil@1.0.1:sha512-x')), 'SIGNATURE_INVALID')).toContain('evil@1.0.0 by SHA256:x')
  const sound = written(forged(signed(`evil@1.0.0:${integrity}`)))
  expect(await importBundle(temporaryStore(), sound)).toMatchObject({ releases: 1, artifacts: 1 })
})

/** One store for all runs of a property: it has to stay empty. */
let store: Store | undefined
function temporaryStoreOnce(): Store {
  return (store ??= temporaryStore())
}

/** With the sum that the changed header would have, unless it is none. */
function withChecksum(header: Buffer, original: Buffer): Buffer {
  if (header.subarray(257, 262).toString() !== 'ustar') return header
  original.copy(header, 148, 148, 156)
  header.fill(' ', 148, 156)
  const sum = header.reduce((total, byte) => total + byte, 0)
  header.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148)
  return header
}
