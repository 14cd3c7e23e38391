import { hash } from 'node:crypto'
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { connect } from 'node:net'
import { join } from 'node:path'

import { integrityOf } from '@polder/spec'
import { collectGarbage } from '@polder/store'
import { describe, expect, test } from 'vitest'

import { readManifest, writeManifest } from '../src/pins/manifests.ts'
import { ask, askJson, lockOf, noise, sendRaw, useServedWorld, type Pinned } from './served-world.ts'

const world = useServedWorld()

const quarantined = (): string[] => readdirSync(join(world.store.home, 'quarantine'))

/** Writes over an artifact, which is read-only as everything in the store. */
function damage({ path }: Pinned, how: (bytes: Buffer) => Buffer): void {
  const bytes = readFileSync(path)
  chmodSync(path, 0o644)
  writeFileSync(path, how(bytes))
}

describe('case 1: a damaged artifact', () => {
  const WAYS: Readonly<Record<string, (bytes: Buffer) => Buffer>> = {
    'bit-flipped': (bytes) => Buffer.concat([bytes.subarray(0, -1), Buffer.of((bytes.at(-1) ?? 0) ^ 1)]),
    truncated: (bytes) => bytes.subarray(0, bytes.length >> 1),
    'too long': (bytes) => Buffer.concat([bytes, Buffer.of(0)]),
    empty: () => Buffer.of(),
  }

  describe.each([
    ['in memory', 1e7],
    ['as a file', 0],
  ])('served %s', (_, memoryBytes) => {
    test.each(Object.keys(WAYS))('%s: is never sent, is named, and goes to quarantine', async (way) => {
      const [broken, whole] = [await world.pin('broken', '1.0.0'), await world.pin('whole', '1.0.0')]
      damage(broken, WAYS[way] ?? ((bytes) => bytes))
      const server = await world.serve(lockOf([broken, whole]), { memoryBytes })
      const answer = await ask(server, '/broken/-/broken-1.0.0.tgz')
      expect(answer.status).toBe(503)
      expect(JSON.parse(answer.text)).toMatchObject({
        code: 'ARTIFACT_CORRUPT',
        error: expect.stringMatching(
          /^the stored artifact of broken@1\.0\.0 is damaged: .*it was moved to quarantine; run `polder index sync`/s,
        ) as string,
      })
      expect(existsSync(broken.path)).toBe(false)
      expect(quarantined()).toHaveLength(1)
      expect(await ask(server, '/broken/-/broken-1.0.0.tgz')).toMatchObject({ status: 503 })
      expect(await askJson(server, '/broken/-/broken-1.0.0.tgz')).toMatchObject({ code: 'ARTIFACT_MISSING' })
      expect((await ask(server, '/whole/-/whole-1.0.0.tgz')).body.equals(whole.bytes)).toBe(true)
      // What a sync does: it is served again without a restart.
      await world.put(broken.bytes)
      expect((await ask(server, '/broken/-/broken-1.0.0.tgz')).body.equals(broken.bytes)).toBe(true)
      expect(server.sample().damaged).toBe(3)
    })
  })

  test('that was verified is found out if its file is written to afterwards', async () => {
    const pinned = await world.pin('lib', '1.0.0', { files: { data: noise(300_000) } })
    const server = await world.serve(lockOf([pinned]), { memoryBytes: 0 })
    expect((await ask(server, '/lib/-/lib-1.0.0.tgz')).status).toBe(200)
    chmodSync(pinned.path, 0o644)
    truncateSync(pinned.path, 1000)
    expect((await ask(server, '/lib/-/lib-1.0.0.tgz')).status).toBe(503)
    await world.put(pinned.bytes)
    expect((await ask(server, '/lib/-/lib-1.0.0.tgz')).status).toBe(200)
    damage(pinned, (bytes) => Buffer.from(bytes).fill(0))
    utimesSync(pinned.path, 1, 1)
    expect((await ask(server, '/lib/-/lib-1.0.0.tgz')).status).toBe(503)
  })

  test('that becomes damaged while it is sent ends the answer before its end', async () => {
    const pinned = await world.pin('lib', '1.0.0', { files: { data: noise(20_000_000) } })
    const server = await world.serve(lockOf([pinned]), { memoryBytes: 0 })
    const colon = server.address.lastIndexOf(':')
    const socket = connect(Number(server.address.slice(colon + 1)), '127.0.0.1')
    socket.on('error', () => undefined)
    socket.write(`GET /lib/-/lib-1.0.0.tgz HTTP/1.1\r\nHost: ${server.address}\r\n\r\n`)
    const chunks: Buffer[] = []
    socket.once('data', (chunk: Buffer) => {
      chunks.push(chunk)
      damage(pinned, (bytes) => Buffer.from(bytes).fill(0))
      socket.on('data', (more: Buffer) => chunks.push(more))
    })
    await new Promise((resolve) => socket.once('close', resolve))
    const received = Buffer.concat(chunks)
    const body = received.subarray(received.indexOf('\r\n\r\n') + 4)
    expect(body.length).toBeLessThan(pinned.bytes.length)
    expect(body.equals(pinned.bytes.subarray(0, body.length))).toBe(true)
    expect(server.sample().damaged).toBe(1)
    expect(await askJson(server, '/lib/-/lib-1.0.0.tgz')).toMatchObject({ code: 'ARTIFACT_CORRUPT' })
  })

  test('leaves its document as it is, without the sha1 that nobody could compute', async () => {
    const pinned = await world.pin('lib', '1.0.0')
    const server = await world.serve(lockOf([pinned]))
    await askJson(server, '/lib')
    const { shasum, ...known } = readManifest(world.store, pinned.integrity) ?? expect.unreachable()
    expect(shasum).toBe(hash('sha1', pinned.bytes))
    // Of another polder, that did not record it.
    writeManifest(world.store, known)
    damage(pinned, () => Buffer.of())
    const document = await askJson(await world.serve(lockOf([pinned])), '/lib')
    expect(document).toHaveProperty(['versions', '1.0.0', 'dist', 'integrity'], pinned.integrity)
    expect(document).not.toHaveProperty(['versions', '1.0.0', 'dist', 'shasum'])
    expect(quarantined()).toHaveLength(1)
  })

  test('of a file that is on no registry is refused as well', async () => {
    const integrity = await world.put(Buffer.from('headers'))
    const url = 'https://host.example/headers.tar.gz'
    rmSync(join(world.store.home, 'artifacts'), { recursive: true })
    mkdirSync(join(world.store.home, 'artifacts/sha512'), { recursive: true })
    const server = await world.serve(lockOf([], { files: { [url]: { integrity } } }))
    expect(await askJson(server, '/-/files/host.example/headers.tar.gz')).toMatchObject({
      code: 'ARTIFACT_MISSING',
      error: expect.stringContaining(url) as string,
    })
  })
})

test('case 2: a weak hash of the registry is never what a client gets to see as the integrity', async () => {
  const pinned = await world.pin('lib', '1.0.0')
  const weak = integrityOf('sha1', Buffer.from('something else'))
  world.release({ ...pinned, integrity: weak }, { shasum: 'd'.repeat(40) })
  const document = await askJson(await world.serve(lockOf([pinned])), '/lib')
  const { dist } = (document['versions'] as Record<string, { dist: Record<string, string> }>)['1.0.0'] ?? { dist: {} }
  expect(dist['integrity']).toBe(pinned.integrity)
  expect(dist['shasum']).not.toBe('d'.repeat(40))
})

describe('case 10: what is not pinned', () => {
  test('is 404 with what is pinned instead, and recorded with who asked', async () => {
    const pins = [await world.pin('left-pad', '1.2.0'), await world.pin('left-pad', '1.1.0')]
    const server = await world.serve(lockOf(pins), { asker: 'sharp@0.33.0' })
    const headers = { 'user-agent': 'npm/11.19.1 node/v26', 'npm-command': 'install', referer: 'install left-pad' }
    const answer = await ask(server, '/left-pad/-/left-pad-1.3.0.tgz', { headers })
    const reason = 'left-pad@1.3.0 is not pinned; pinned are 1.2.0, 1.1.0. Add it to a service and run `polder lock`'
    expect(answer).toMatchObject({ status: 404, headers: { 'npm-notice': reason } })
    expect(JSON.parse(answer.text)).toEqual({ error: reason, reason, code: 'NOT_PINNED' })
    expect(await askJson(server, '/right-pad', { headers: { 'user-agent': 'pnpm/12.21.0' } })).toMatchObject({
      error: 'right-pad is not pinned. Add it to a service and run `polder lock`',
    })
    const who = { asker: 'sharp@0.33.0', socket: server.address }
    expect(world.refused).toEqual([
      {
        what: 'left-pad@1.3.0',
        kind: 'version',
        userAgent: 'npm/11.19.1 node/v26',
        command: 'install',
        referer: 'install left-pad',
        ...who,
      },
      { what: 'right-pad', kind: 'package', userAgent: 'pnpm/12.21.0', ...who },
    ])
  })

  test('does not trouble the user of a client that looks for a newer one of itself', async () => {
    const server = await world.serve(lockOf([]))
    const { headers } = await ask(server, '/npm', { headers: { 'user-agent': 'npm/11.19.1 node/v26' } })
    expect(headers).not.toHaveProperty('npm-notice')
    expect(world.refused).toHaveLength(1)
  })
})

describe('case 11: a lock whose URLs lead to another host', () => {
  test('a request that names another host is served by its path or refused, and nothing is fetched from there', async () => {
    const pinned = await world.pin('left-pad', '1.2.0')
    const server = await world.serve(lockOf([pinned]))
    const line = 'GET http://registry.example/left-pad/-/left-pad-1.2.0.tgz HTTP/1.1\r\n'
    // As a proxy: the Host of such a request is the other host's.
    expect(await sendRaw(server, `${line}Host: registry.example\r\n\r\n`)).toMatch(/^HTTP\/1.1 400 .*HOST_REFUSED/s)
    const served = await sendRaw(server, `${line}Host: ${server.address}\r\nConnection: close\r\n\r\n`)
    expect(served).toMatch(/^HTTP\/1.1 200 /)
    expect(served.endsWith(pinned.bytes.toString('latin1'))).toBe(true)
    expect(await sendRaw(server, 'CONNECT registry.example:443 HTTP/1.1\r\nHost: registry.example:443\r\n\r\n')).toBe(
      '',
    )
  })

  test('in a sandbox, whose socket nobody else reaches, the name counts and not the host', async () => {
    const pinned = await world.pin('left-pad', '1.2.0')
    const socket = join(world.directory, 'index.sock')
    const server = await world.serve(lockOf([pinned]), { listen: { socket } })
    const answer = await ask(server, 'http://registry.example/left-pad/-/left-pad-1.2.0.tgz', {
      headers: { host: 'registry.example' },
    })
    expect(answer.body.equals(pinned.bytes)).toBe(true)
    expect((await ask(server, '/left-pad', { headers: { host: 'registry.example' } })).text).not.toContain(
      'registry.example',
    )
  })
})

describe('case 14: beside others', () => {
  test('a collection that removes everything but the pins takes nothing from a server', async () => {
    const [pinned, garbage] = [
      await world.pin('lib', '1.0.0', { files: { data: noise(100_000) } }),
      await world.pin('gone', '1.0.0'),
    ]
    const server = await world.serve(lockOf([pinned]), { memoryBytes: 0 })
    let collecting = true
    const asking = (async () => {
      let answers = 0
      for (; collecting || answers < 20; answers += 1) {
        const { status, body } = await ask(server, '/lib/-/lib-1.0.0.tgz')
        if (status !== 200 || !body.equals(pinned.bytes)) return { answers, status }
      }
      return 'all right'
    })()
    for (let round = 0; round < 5; round += 1) {
      const report = await collectGarbage(world.store, {
        keep: { artifacts: [pinned.integrity] },
        now: Date.now() + 3_600_000,
      })
      expect(report.busy).toBe(false)
      await world.put(pinned.bytes)
    }
    collecting = false
    expect(await asking).toBe('all right')
    expect(existsSync(garbage.path)).toBe(false)
  })

  test('an artifact that goes away while it is being sent arrives whole; after that it is missing, and said so', async () => {
    const pinned = await world.pin('lib', '1.0.0', { files: { data: noise(8_000_000) } })
    const server = await world.serve(lockOf([pinned]), { memoryBytes: 0 })
    const colon = server.address.lastIndexOf(':')
    const socket = connect(Number(server.address.slice(colon + 1)), '127.0.0.1')
    socket.write(`GET /lib/-/lib-1.0.0.tgz HTTP/1.1\r\nHost: ${server.address}\r\nConnection: close\r\n\r\n`)
    const chunks: Buffer[] = []
    await new Promise<void>((resolve, reject) => {
      socket.once('data', (chunk: Buffer) => {
        chunks.push(chunk)
        renameSync(pinned.path, join(world.directory, 'taken-away'))
        socket.on('data', (more: Buffer) => chunks.push(more))
      })
      socket.once('close', () => resolve())
      socket.once('error', reject)
    })
    expect(Buffer.concat(chunks).subarray(-pinned.bytes.length).equals(pinned.bytes)).toBe(true)
    expect(await askJson(server, '/lib/-/lib-1.0.0.tgz')).toMatchObject({ code: 'ARTIFACT_MISSING' })
  })
})

test('case 15: dates are the recorded ones, whatever the clock says', async () => {
  const [dated, undated] = [await world.pin('dated', '1.0.0'), await world.pin('undated', '1.0.0')]
  world.release(dated, { published: '2031-01-01T00:00:00.000Z' })
  const server = await world.serve(lockOf([dated, undated]))
  const { headers, text } = await ask(server, '/dated')
  expect(JSON.parse(text)).toMatchObject({
    time: { created: '2031-01-01T00:00:00.000Z', '1.0.0': '2031-01-01T00:00:00.000Z' },
  })
  expect(headers['last-modified']).toBe('Wed, 01 Jan 2031 00:00:00 GMT')
  expect(await askJson(server, '/undated')).toMatchObject({ modified: '1985-10-26T08:15:00.000Z' })
})
