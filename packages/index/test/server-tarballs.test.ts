import { rmSync, statSync, utimesSync } from 'node:fs'
import { describe, expect, test } from 'vitest'

import { ask, askJson, lockOf, noise, useServedWorld } from './served-world.ts'

const world = useServedWorld()

/** A tarball in memory, and one that is too large for it and so comes from its file. */
describe.each([
  ['in memory', 1e7],
  ['as a file', 0],
])('a tarball %s', (_, memoryBytes) => {
  test('is the pinned one, under every way to write its path', async () => {
    const [plain, scoped] = [
      await world.pin('lib', '1.0.0-rc.1+build', { files: { data: noise(300_000) } }),
      await world.pin('@s/lib', '2.0.0'),
    ]
    const server = await world.serve(lockOf([plain, scoped]), { memoryBytes })
    const ways = ['/@s/lib/-/lib-2.0.0.tgz', '/@s%2flib/-/lib-2.0.0.tgz', '/@s%2Flib/-/lib-2.0.0.tgz']
    for (const path of [...ways, ...ways, '/%40s/lib/-/lib-2.0.0.tgz', '/@s/lib/-/lib-2.0.0.tgz?x=1']) {
      const { status, body } = await ask(server, path)
      expect({ path, status, same: body.equals(scoped.bytes) }).toEqual({ path, status: 200, same: true })
    }
    const { headers, body } = await ask(server, '/lib/-/lib-1.0.0-rc.1+build.tgz')
    expect(body.equals(plain.bytes)).toBe(true)
    expect(headers).toMatchObject({
      'content-type': 'application/octet-stream',
      'content-length': String(plain.bytes.length),
      'accept-ranges': 'bytes',
      'last-modified': 'Sat, 26 Oct 1985 08:15:00 GMT',
    })
    expect(headers.etag).toMatch(/^"[0-9a-f]{40}"$/)
    const head = await ask(server, '/lib/-/lib-1.0.0-rc.1+build.tgz', { method: 'HEAD' })
    expect(head).toMatchObject({ status: 200, headers: { 'content-length': String(plain.bytes.length) } })
    expect(head.body.length).toBe(0)
  })

  test('is sent in part, or not at all to whoever has it', async () => {
    const { bytes, ...pinned } = await world.pin('lib', '1.0.0', { files: { data: noise(200_000) } })
    const server = await world.serve(lockOf([{ bytes, ...pinned }]), { memoryBytes })
    const path = '/lib/-/lib-1.0.0.tgz'
    const size = bytes.length
    const { headers } = await ask(server, path)
    const etag = headers.etag ?? ''
    const part = async (range: string, more = {}): Promise<object> => {
      const answer = await ask(server, path, { headers: { range, ...more } })
      return { status: answer.status, range: answer.headers['content-range'], bytes: answer.body }
    }
    const slice = (start: number, end: number): object => ({
      status: 206,
      range: `bytes ${start}-${end - 1}/${size}`,
      bytes: bytes.subarray(start, end),
    })
    const whole = { status: 200, range: undefined, bytes }
    expect(await part('bytes=0-99')).toEqual(slice(0, 100))
    expect(await part('bytes=100-')).toEqual(slice(100, size))
    expect(await part('bytes=-10')).toEqual(slice(size - 10, size))
    expect(await part(`bytes=0-${size * 2}`)).toEqual(slice(0, size))
    expect(await part(`bytes=-${size * 2}`)).toEqual(slice(0, size))
    expect(await part('bytes=5-9', { 'if-range': etag })).toEqual(slice(5, 10))
    expect(await part('bytes=5-9', { 'if-range': '"other"' })).toEqual(whole)
    expect(await part('bytes=0-1,5-6')).toEqual(whole)
    expect(await part('bytes=9-5')).toEqual(whole)
    expect(await part('lines=1-2')).toEqual(whole)
    for (const range of [`bytes=${size}-`, 'bytes=-0'])
      expect(await part(range)).toMatchObject({ status: 416, range: `bytes */${size}` })
    for (const sent of [{ 'if-none-match': etag }, { 'if-modified-since': headers['last-modified'] ?? '' }])
      expect(await ask(server, path, { headers: sent })).toMatchObject({ status: 304, text: '' })
    expect(await ask(server, path, { headers: { 'if-none-match': '"other"' } })).toMatchObject({ status: 200 })
  })

  test('can be asked for by many at once', async () => {
    const pinned = await world.pin('lib', '1.0.0', { files: { data: noise(500_000) } })
    const server = await world.serve(lockOf([pinned]), { memoryBytes })
    const answers = await Promise.all(Array.from({ length: 40 }, () => ask(server, '/lib/-/lib-1.0.0.tgz')))
    expect(answers.every(({ body }) => body.equals(pinned.bytes))).toBe(true)
  })

  test('whose file was written anew with the same bytes is verified again and served', async () => {
    const pinned = await world.pin('lib', '1.0.0', { files: { data: noise(100_000) } })
    const server = await world.serve(lockOf([pinned]), { memoryBytes })
    await ask(server, '/lib/-/lib-1.0.0.tgz')
    const before = statSync(pinned.path).ino
    await world.put(pinned.bytes)
    utimesSync(pinned.path, 1, 1)
    expect(statSync(pinned.path).ino).not.toBe(before)
    expect((await ask(server, '/lib/-/lib-1.0.0.tgz')).body.equals(pinned.bytes)).toBe(true)
  })
})

test('bodies stay below the limit of memory, whatever is asked for', async () => {
  const pins = []
  for (let at = 0; at < 30; at += 1)
    pins.push(await world.pin(`lib${at}`, '1.0.0', { files: { data: noise(40_000 + at) } }))
  const server = await world.serve(lockOf(pins), { memoryBytes: 1_000_000 })
  for (const _ of ['once', 'again']) {
    for (const [at, { bytes }] of pins.entries()) {
      expect((await ask(server, `/lib${at}/-/lib${at}-1.0.0.tgz`)).body.equals(bytes)).toBe(true)
      expect(server.sample().bodyBytes).toBeLessThanOrEqual(1_000_000)
    }
  }
  expect(server.sample().bodies).toBeGreaterThan(5)
})

describe('a file that is on no registry', () => {
  const url = 'https://host.example/dist/v22.1.0/a%2Bb.zip?x=1'

  test('has a stable path, and the rest of the host is not there', async () => {
    const bytes = noise(5000)
    const integrity = await world.put(bytes)
    const files = { [url]: { integrity } }
    const server = await world.serve(lockOf([], { files }))
    for (const path of [
      '/-/files/host.example/dist/v22.1.0/a%2Bb.zip?x=1',
      '/-/files/host.example/dist/v22.1.0/a+b.zip?x=1',
    ])
      expect((await ask(server, path)).body.equals(bytes)).toBe(true)
    expect((await ask(server, '/@lock/lock0/-/files/host.example/dist/v22.1.0/a+b.zip?x=1')).status).toBe(200)
    expect(await askJson(server, '/-/files/host.example/dist/v22.1.0/other.zip')).toEqual({
      error: 'the file host.example/dist/v22.1.0/other.zip is not pinned; add it with `polder index add URL`',
      reason: 'the file host.example/dist/v22.1.0/other.zip is not pinned; add it with `polder index add URL`',
      code: 'NOT_PINNED',
    })
    expect(world.refused).toMatchObject([{ kind: 'file', what: 'http://host.example/dist/v22.1.0/other.zip' }])
    expect((await ask(server, '/-/files/')).status).toBe(404)
  })
})

test('the artifact of a pin is only read once while it is in memory', async () => {
  const pinned = await world.pin('lib', '1.0.0')
  const server = await world.serve(lockOf([pinned]))
  await ask(server, '/lib/-/lib-1.0.0.tgz')
  rmSync(pinned.path)
  expect((await ask(server, '/lib/-/lib-1.0.0.tgz')).body.equals(pinned.bytes)).toBe(true)
})
