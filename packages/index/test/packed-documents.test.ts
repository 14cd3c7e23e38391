import { createHash } from 'node:crypto'
import { existsSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { gunzipSync } from 'node:zlib'

import type { Lock } from '@polder/lock'
import { beforeEach, describe, expect, test } from 'vitest'

import { readManifest, writeManifest } from '../src/pins/manifests.ts'
import { lockedPins, packDocuments } from '../src/serve/server.ts'
import { writeAttestations } from '../src/trust/releases.ts'
import { ABBREVIATED, type Answer, ask, askJson, lockOf, type Pinned, useServedWorld } from './served-world.ts'

const world = useServedWorld()
const BASE = 'http://127.0.0.1:4873/'
/** Long enough to be compressed. */
const SCRIPTS = Object.fromEntries(
  Array.from({ length: 30 }, (_, at) => [`task-${at}`, `${BASE} build the thing ${at} with care`]),
)

let path: string
beforeEach(() => {
  path = join(world.directory, 'a.documents')
})

const pack = (lock: Lock, to: string = path, older: readonly string[] = []): Promise<string> =>
  packDocuments(world.store, lockedPins(lock), to, older)

/** Two names, one with everything that a document can say, and with what looks like a base URL in its scripts. */
async function twoNames(): Promise<readonly [Pinned, Pinned, Pinned]> {
  const old = await world.pin('@acme/lib', '1.0.0', {
    scripts: SCRIPTS,
    optionalDependencies: { other: '^1.0.0', 'not-here': '1' },
  })
  const next = await world.pin('@acme/lib', '1.1.0', { scripts: { ...SCRIPTS, tarball: `${BASE}x` } })
  const other = await world.pin('other', '1.0.0')
  world.release(next, {
    published: '2024-05-06T07:08:09.000Z',
    attestations: { url: 'http://registry.example/-/x', provenance: { predicateType: 'p' } },
  })
  writeAttestations(world.store, next.id, { attestations: [] })
  return [old, next, other]
}

const REQUESTS = ['/@acme%2flib', '/other'].flatMap((url) =>
  [{}, { accept: ABBREVIATED }, { 'accept-encoding': 'gzip' }, { accept: ABBREVIATED, 'accept-encoding': 'gzip' }].map(
    (headers) => ({ url, headers }),
  ),
)

async function answers(server: { readonly address: string }, prefix = ''): Promise<readonly Answer[]> {
  return Promise.all(REQUESTS.map(({ url, headers }) => ask(server, `${prefix}${url}`, { headers })))
}

function facts({ status, headers, body }: Answer): object {
  const { date: _, ...rest } = headers
  return { status, headers: rest, body: body.toString('latin1') }
}

/** What a pack says of the full document of `other`, replaced by something else, with hashes that are right. */
function replaceBody(from: string, to: string): void {
  const bytes = readFileSync(path)
  const begin = Number(bytes.subarray(-16).toString())
  const body = Buffer.from(bytes.subarray(0, begin).toString('latin1').replaceAll(from, to), 'latin1')
  const digest = (part: Buffer): string => createHash('sha256').update(part).digest('base64url').slice(0, 27)
  const lines = bytes.subarray(begin, -80).toString().split('\n').slice(0, -1)
  const changed = lines.map((line) => {
    const [name = '', json = ''] = line.split('\t')
    const document = JSON.parse(json) as Record<'full' | 'abbreviated', { at: number; bytes: number; digest: string }>
    for (const part of [document.full, document.abbreviated])
      part.digest = digest(body.subarray(part.at, part.at + part.bytes))
    return `${name}\t${JSON.stringify(document)}\n`
  })
  const list = Buffer.from(changed.join(''))
  const footer = `${createHash('sha256').update(list).digest('hex')}${String(begin).padStart(16)}`
  writeFileSync(path, Buffer.concat([body, list, Buffer.from(footer)]))
}

describe('packed documents', () => {
  test('are what a server would have made, under every base URL and in every view', async () => {
    const lock = lockOf(await twoNames())
    await pack(lock)
    const bases = [BASE, 'http://localhost:4873/', 'https://index.example/below/this/']
    for (const baseUrl of bases) {
      const made = await world.serve(lock, { baseUrl })
      const packed = await world.serve(lock, { baseUrl, documents: path })
      for (const prefix of ['', '/@lock/lock0']) {
        const expected = await answers(made, prefix)
        expect((await answers(packed, prefix)).map(facts), baseUrl + prefix).toEqual(expected.map(facts))
        const { text } = expected[0] ?? expect.unreachable()
        expect(text).toContain(`"tarball":"${baseUrl}${prefix === '' ? '' : '@lock/lock0/'}@acme/lib/-/lib-1.1.0.tgz"`)
        expect(text).toContain(`"url":"${baseUrl}-/npm/v1/attestations/@acme/lib@1.1.0"`)
        expect(text).toContain(`"task-0":"${BASE} build the thing 0 with care"`)
        expect(gunzipSync(expected[2]?.body ?? Buffer.of()).toString()).toBe(text)
      }
    }
  })

  test('are what is sent: nothing is made as long as they hold', async () => {
    const lock = lockOf(await twoNames())
    await pack(lock)
    replaceBody('"_id":"other"', '"_id":"OTHER"')
    expect(await askJson(await world.serve(lock, { documents: path, baseUrl: BASE }), '/other')).toMatchObject({
      _id: 'OTHER',
    })
    expect(await askJson(await world.serve(lock, { documents: path }), '/other')).toMatchObject({ _id: 'OTHER' })
    expect(await askJson(await world.serve(lock), '/other')).toMatchObject({ _id: 'other' })
  })

  test('are sent from their file where there is no room for them in memory, as long as it is the same', async () => {
    const lock = lockOf(await twoNames())
    await pack(lock)
    const expected = (await answers(await world.serve(lock, { baseUrl: BASE }))).map(facts)
    const server = await world.serve(lock, { documents: path, baseUrl: BASE, memoryBytes: 0 })
    for (const _ of ['verified', 'known']) expect((await answers(server)).map(facts)).toEqual(expected)
    // Made anew, it is another file, and some of it is elsewhere.
    replaceBody('"_id":"other"', '"_id":"OTHER"')
    expect((await answers(server)).map(facts)).toEqual(expected)
  })

  test('of one lock serve the union of several as far as they are the same', async () => {
    const [old, next, other] = await twoNames()
    const lock = lockOf([next, other])
    await pack(lock)
    replaceBody('"_id":"', '"_ID":"')
    const union = await world.serve([lock, lockOf([old])], { documents: path })
    expect(await askJson(union, '/other')).toHaveProperty('_ID')
    expect(Object.keys((await askJson(union, '/@acme/lib'))['versions'] as object)).toEqual(['1.0.0', '1.1.0'])
    expect(await askJson(union, '/@lock/lock0/@acme/lib')).toHaveProperty('_ID')
  })

  test.each([
    ['a bit of a body', (bytes: Buffer) => flipped(bytes, 40)],
    ['a bit of what gzip made', (bytes: Buffer) => flipped(bytes, bytes.indexOf(Buffer.from([0x1f, 0x8b])) + 20)],
    ['a bit of the list', (bytes: Buffer) => flipped(bytes, bytes.length - 200)],
    ['a bit of the footer', (bytes: Buffer) => flipped(bytes, bytes.length - 10)],
    ['the end', (bytes: Buffer) => bytes.subarray(0, -1)],
    ['all', () => Buffer.of()],
    ['everything, by zeros', (bytes: Buffer) => Buffer.alloc(bytes.length)],
  ])('that lost %s are made again, and nothing of them is sent', async (_, damage) => {
    const lock = lockOf(await twoNames())
    await pack(lock)
    const whole = readFileSync(path)
    writeFileSync(path, damage(whole))
    const expected = (await answers(await world.serve(lock, { baseUrl: BASE }))).map(facts)
    for (const memoryBytes of [1e7, 0]) {
      const server = await world.serve(lock, { documents: path, baseUrl: BASE, memoryBytes })
      expect((await answers(server)).map(facts)).toEqual(expected)
    }
    // Until somebody packs them again, who believes no more of them.
    expect(await pack(lock, join(world.directory, 'again'), [path])).toBe('written')
    expect(readFileSync(join(world.directory, 'again')).equals(whole)).toBe(true)
  })

  test('are not sent after a record came, went or changed, or a manifest did', async () => {
    const [old, , other] = await twoNames()
    const lock = lockOf([old, other])
    await pack(lock)
    replaceBody('"_id":"', '"_ID":"')
    const isPacked = async (name: string): Promise<boolean> =>
      '_ID' in (await askJson(await world.serve(lock, { documents: path }), name))
    expect(await isPacked('/other')).toBe(true)
    world.release(other, { published: '2025-01-01T00:00:00.000Z' })
    expect(await isPacked('/other')).toBe(false)
    expect(await isPacked('/@acme/lib')).toBe(true)
    const known = readManifest(world.store, old.integrity) ?? expect.unreachable()
    writeManifest(world.store, { ...known, needsBuild: true })
    expect(await isPacked('/@acme/lib')).toBe(false)
    expect(await pack(lock)).toBe('written')
    expect(await pack(lock)).toBe('unchanged')
    replaceBody('"_id":"', '"_ID":"')
    expect([await isPacked('/other'), await isPacked('/@acme/lib')]).toEqual([true, true])
    rmSync(join(world.store.home, 'releases'), { recursive: true })
    expect(await isPacked('/other')).toBe(false)
  })

  test('are not sent where an optional dependency can be had that was left out of them', async () => {
    const [old, , other] = await twoNames()
    await pack(lockOf([old, other]))
    replaceBody('"_id":"', '"_ID":"')
    const here = await world.pin('not-here', '1.5.0')
    const document = await askJson(await world.serve(lockOf([old, other, here]), { documents: path }), '/@acme/lib')
    expect(document).toHaveProperty('_id')
    expect(document).toHaveProperty(['versions', '1.0.0', 'optionalDependencies', 'not-here'], '1')
  })

  test('are the same bytes whether they were all made, or taken from an older pack', async () => {
    const [old, next, other] = await twoNames()
    await pack(lockOf([next, other]), join(world.directory, 'older'))
    const lock = lockOf([old, next, other])
    await pack(lock)
    const before = readFileSync(path)
    rmSync(path)
    expect(await pack(lock, path, [join(world.directory, 'older'), join(world.directory, 'no such pack')])).toBe(
      'written',
    )
    expect(readFileSync(path).equals(before)).toBe(true)
  })

  test('are taken from an older pack, and not made, as far as it has them', async () => {
    const [old, next, other] = await twoNames()
    await pack(lockOf([next, other]))
    replaceBody('"_id":"other"', '"_id":"OTHER"')
    const after = join(world.directory, 'b.documents')
    await pack(lockOf([old, next, other]), after, [path])
    const server = await world.serve(lockOf([old, next, other]), { documents: after })
    expect(await askJson(server, '/other')).toMatchObject({ _id: 'OTHER' })
    expect(await askJson(server, '/@acme/lib')).toMatchObject({ _id: '@acme/lib' })
  })

  test('leave out what cannot be made whole, until it can', async () => {
    const [old, , other] = await twoNames()
    renameSync(other.path, `${other.path}.away`)
    await pack(lockOf([old, other]))
    expect(readFileSync(path, 'latin1')).not.toContain('"_id":"other"')
    renameSync(`${other.path}.away`, other.path)
    expect(await pack(lockOf([old, other]))).toBe('written')
    expect(readFileSync(path, 'latin1')).toContain('"_id":"other"')
  })

  test('are whole when several make them at once, and leave nothing else behind', async () => {
    const lock = lockOf(await twoNames())
    await Promise.all([pack(lock), pack(lock), pack(lock)])
    expect(await pack(lock)).toBe('unchanged')
    expect(readdirSync(join(world.store.home, 'tmp'))).toEqual([])
  })

  test('that cannot be written are an error, and leave nothing behind', async () => {
    const lock = lockOf(await twoNames())
    const nowhere = join(world.directory, 'no/such/directory')
    await expect(pack(lock, nowhere)).rejects.toThrow('no such file')
    expect(existsSync(nowhere)).toBe(false)
    expect(readdirSync(join(world.store.home, 'tmp'))).toEqual([])
  })
})

function flipped(bytes: Buffer, at: number): Buffer {
  const changed = Buffer.from(bytes)
  changed.writeUInt8(changed.readUInt8(at) ^ 1, at)
  return changed
}
