import { existsSync, linkSync, lstatSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import { join } from 'node:path'

import { describe, expect, test } from 'vitest'

import { type AnsweredRequest, openIndex, type ServerOptions } from '../src/serve/server.ts'
import { ask, askJson, lockOf, noise, sendRaw, useServedWorld } from './served-world.ts'

const world = useServedWorld()

describe('what is not about a package', () => {
  test('is answered, each in its own way', async () => {
    const server = await world.serve(lockOf([await world.pin('lib', '1.0.0'), await world.pin('lib', '2.0.0')]))
    expect(await askJson(server, '/-/ping')).toEqual({})
    expect(await askJson(server, '/-/ping?write=true')).toEqual({})
    expect(await askJson(server, '/-/health')).toEqual({ status: 'ok', names: 1 })
    expect(await askJson(server, '/')).toEqual({ name: 'polder', names: 1, locks: ['lock0'] })
    expect(await ask(server, '/-/whoami')).toMatchObject({ status: 401 })
    expect(await askJson(server, '/-/whoami')).toMatchObject({ code: 'NO_ACCOUNTS' })
    expect(await ask(server, '/-/nothing')).toMatchObject({ status: 404 })
    expect((await ask(server, '/-/ping', { method: 'HEAD' })).status).toBe(200)
  })

  test('audits say that nothing is known here, in the words of each client', async () => {
    const server = await world.serve(lockOf([]))
    const body = JSON.stringify({ lib: ['1.0.0'] })
    const bulk = await ask(server, '/-/npm/v1/security/advisories/bulk', { method: 'POST', body })
    expect(bulk).toMatchObject({
      status: 200,
      text: '{}',
      headers: { 'polder-advisories': 'none known here: this index asks no upstream' },
    })
    for (const path of ['audits', 'audits/quick']) {
      const report = await askJson(server, `/-/npm/v1/security/${path}`, { method: 'POST', body })
      expect(report).toMatchObject({ advisories: {}, actions: [], metadata: { vulnerabilities: { critical: 0 } } })
    }
    expect(await ask(server, '/-/npm/v1/security/audits')).toMatchObject({ status: 405, headers: { allow: 'POST' } })
  })

  test('search finds pinned names', async () => {
    const pins = ['chalk', 'chalk-cli', 'other'].map((name) => world.pin(name, '1.0.0'))
    const server = await world.serve(lockOf([...(await Promise.all(pins)), await world.pin('chalk', '1.10.0')]))
    const search = async (query: string): Promise<unknown[]> => {
      const { objects, total } = (await askJson(server, `/-/v1/search?${query}`)) as {
        objects: { package: { name: string; version: string } }[]
        total: number
      }
      return [total, ...objects.map(({ package: { name, version } }) => `${name}@${version}`)]
    }
    expect(await search('text=chalk')).toEqual([2, 'chalk@1.10.0', 'chalk-cli@1.0.0'])
    expect(await search('text=CHALK%20cli')).toEqual([1, 'chalk-cli@1.0.0'])
    expect(await search('text=chalk&from=1&size=1')).toEqual([2, 'chalk-cli@1.0.0'])
    expect(await search('text=&size=x')).toHaveLength(4)
    expect(await search('text=__proto__')).toEqual([0])
  })

  test('whatever would change it is refused with 405', async () => {
    const server = await world.serve(lockOf([await world.pin('lib', '1.0.0')]))
    for (const [method, path] of [
      ['PUT', '/lib'],
      ['DELETE', '/lib/-rev/1-pinned'],
      ['PUT', '/-/user/org.couchdb.user:me'],
      ['POST', '/-/npm/v1/tokens'],
      ['PATCH', '/lib'],
      ['OPTIONS', '/lib'],
    ] as const) {
      const { status, headers, text } = await ask(server, path, { method, ...(method === 'PUT' ? { body: '{}' } : {}) })
      if (path.includes('/-rev/')) expect(status).toBe(404)
      else
        expect({ method, path, status, allow: headers.allow }).toEqual({
          method,
          path,
          status: 405,
          allow: 'GET, HEAD',
        })
      expect(text).toContain('"error":')
    }
  })
})

test('metrics count what was answered, in the format of Prometheus', async () => {
  const server = await world.serve(lockOf([await world.pin('lib', '1.0.0')]))
  for (const path of ['/lib', '/lib', '/lib/-/lib-1.0.0.tgz', '/left-pad', '/-/ping', '//']) await ask(server, path)
  const { text, headers } = await ask(server, '/-/metrics')
  expect(headers['content-type']).toBe('text/plain; version=0.0.4')
  const metric = (name: string): number => Number(new RegExp(`^${name} (.*)$`, 'm').exec(text)?.[1])
  const requests = (kind: string, status: string): number =>
    metric(`polder_index_requests_total\\{kind="${kind}",status="${status}"\\}`)
  expect(requests('document', '2xx')).toBe(2)
  expect(requests('tarball', '2xx')).toBe(1)
  expect(requests('refused', '4xx')).toBe(1)
  expect(requests('service', '2xx')).toBe(1)
  expect(requests('other', '4xx')).toBe(1)
  expect(metric('polder_index_bodies')).toBe(2)
  expect(metric('polder_index_pins')).toBe(1)
  expect(metric('polder_index_body_limit_bytes')).toBe(1e7)
  expect(metric('process_resident_memory_bytes')).toBeGreaterThan(1e7)
  for (const line of text.trim().split('\n'))
    expect(line).toMatch(/^(# (HELP|TYPE) \w+ .+|\w+(\{[\w=",]+\})? [\d.e+-]+)$/)
})

test('a log hears of every answer', async () => {
  const log: AnsweredRequest[] = []
  const server = await world.serve(lockOf([await world.pin('lib', '1.0.0')]), { onRequest: (line) => log.push(line) })
  await ask(server, '/lib', { headers: { 'user-agent': 'npm/11' } })
  await ask(server, '/left-pad')
  expect(log).toEqual([
    {
      method: 'GET',
      url: '/lib',
      status: 200,
      complete: true,
      durationMs: expect.any(Number) as number,
      userAgent: 'npm/11',
    },
    { method: 'GET', url: '/left-pad', status: 404, complete: true, durationMs: expect.any(Number) as number },
  ])
})

test('another index is used from the next request on', async () => {
  const [one, two] = [await world.pin('lib', '1.0.0'), await world.pin('lib', '2.0.0')]
  const server = await world.serve(lockOf([one]))
  expect((await ask(server, '/lib/-/lib-2.0.0.tgz')).status).toBe(404)
  server.use(openIndex(world.store, [{ id: 'x', lock: lockOf([two]) }], { memoryBytes: 1e6 }))
  expect((await ask(server, '/lib/-/lib-2.0.0.tgz')).body.equals(two.bytes)).toBe(true)
  expect((await ask(server, '/lib/-/lib-1.0.0.tgz')).status).toBe(404)
})

test('documents that are made ahead are the ones that are served', async () => {
  const pins = await Promise.all(['a', 'b', 'c'].map((name) => world.pin(name, '1.0.0')))
  const server = await world.serve(lockOf(pins))
  await server.prepare()
  expect(server.sample().bodies).toBe(6)
  expect(await askJson(server, '/b')).toMatchObject({ name: 'b' })
  expect(server.sample().bodies).toBe(6)
})

test('pins that the store lacks hinder nothing else, and are there as soon as they are', async () => {
  const [there, gone] = [await world.pin('there', '1.0.0'), await world.pin('gone', '1.0.0')]
  rmSync(gone.path)
  const index = openIndex(world.store, [{ id: 'x', lock: lockOf([gone, there]) }], { memoryBytes: 1e6 })
  expect(await index.missing()).toEqual(['gone@1.0.0'])
  const server = await world.serve(lockOf([gone, there]))
  await server.prepare()
  expect(server.sample().bodies).toBe(2)
  expect(await askJson(server, '/gone')).toMatchObject({
    code: 'ARTIFACT_MISSING',
    error: 'the artifact of gone@1.0.0 is not in the store; run `polder index sync` to fetch it',
  })
  expect((await ask(server, '/gone')).status).toBe(503)
  expect((await ask(server, '/there')).status).toBe(200)
  await world.put(gone.bytes)
  expect((await ask(server, '/gone')).status).toBe(200)
})

describe('closing', () => {
  test('finishes what is being sent and takes nothing new', async () => {
    const pinned = await world.pin('lib', '1.0.0', { files: { data: noise(20_000_000) } })
    const server = await world.serve(lockOf([pinned]), { memoryBytes: 0 })
    const [host, port] = server.address.split(':')
    const socket = connect(Number(port), host)
    socket.write(`GET /lib/-/lib-1.0.0.tgz HTTP/1.1\r\nHost: ${server.address}\r\n\r\n`)
    const chunks: Buffer[] = []
    const ended = new Promise((resolve) => socket.once('close', resolve))
    await new Promise<void>((resolve) => {
      socket.once('data', (chunk: Buffer) => {
        chunks.push(chunk)
        socket.pause()
        resolve()
      })
    })
    const closing = server.close()
    await expect(ask(server, '/lib')).rejects.toMatchObject({ code: 'ECONNREFUSED' })
    socket.on('data', (chunk: Buffer) => chunks.push(chunk))
    socket.resume()
    await ended
    await closing
    expect(Buffer.concat(chunks).subarray(-pinned.bytes.length).equals(pinned.bytes)).toBe(true)
  })

  test('does not wait for ever for somebody who does not read', async () => {
    const pinned = await world.pin('lib', '1.0.0', { files: { data: noise(20_000_000) } })
    const server = await world.serve(lockOf([pinned]), { memoryBytes: 0 })
    const [host, port] = server.address.split(':')
    const socket = connect(Number(port), host)
    socket.on('error', () => undefined)
    socket.write(`GET /lib/-/lib-1.0.0.tgz HTTP/1.1\r\nHost: ${server.address}\r\n\r\n`)
    await new Promise((resolve) => socket.once('readable', resolve))
    await server.close(100)
    socket.destroy()
  })
})

describe('where it listens', () => {
  const start = (listen: ServerOptions['listen']): ReturnType<typeof world.serve> => world.serve(lockOf([]), { listen })

  test.each(['0.0.0.0', '::', '10.0.0.1', 'example.org', '127.0.0.1.example.org', ''])(
    'never beyond this machine: %j',
    async (host) => {
      await expect(start({ host, port: 0 })).rejects.toMatchObject({
        code: 'ADDRESS_REFUSED',
        details: { hint: expect.stringContaining('proxy') as string },
      })
    },
  )

  test('a port that is in use is refused with what to do', async () => {
    const first = await start({ host: '127.0.0.1', port: 0 })
    const port = Number(first.address.split(':')[1])
    await expect(start({ host: '127.0.0.1', port })).rejects.toMatchObject({
      code: 'ADDRESS_REFUSED',
      message: `cannot listen on 127.0.0.1:${port}: it is in use`,
    })
  })

  test('a unix socket is its owner’s only, and is gone after closing', async () => {
    const socket = join(world.directory, 'index.sock')
    const server = await start({ socket })
    expect({ url: server.url, address: server.address }).toEqual({ url: 'http://127.0.0.1:4873/', address: socket })
    expect(lstatSync(socket).mode & 0o777).toBe(0o600)
    expect(await askJson(server, '/-/ping')).toEqual({})
    await server.close()
    expect(existsSync(socket)).toBe(false)
  })

  test('servers that start at once leave the process the mask that it had, so that files are for whom they were', async () => {
    const mask = process.umask()
    await Promise.all(['one', 'two', 'three'].map((name) => start({ socket: join(world.directory, `${name}.sock`) })))
    expect(process.umask()).toBe(mask)
  })

  test('a socket that a killed server left is replaced, one that is in use is not, nor is anything else', async () => {
    const socket = join(world.directory, 'index.sock')
    const abandoned = createServer()
    await new Promise<void>((resolve) => abandoned.listen(join(world.directory, 'own'), resolve))
    linkSync(join(world.directory, 'own'), socket)
    await new Promise((resolve) => abandoned.close(resolve))
    expect(lstatSync(socket).isSocket()).toBe(true)
    const server = await start({ socket })
    expect(await askJson(server, '/-/ping')).toEqual({})
    await expect(start({ socket })).rejects.toMatchObject({
      code: 'ADDRESS_REFUSED',
      message: `cannot listen on ${socket}: another server listens there`,
    })
    expect(await askJson(server, '/-/ping')).toEqual({})
    const file = join(world.directory, 'precious')
    writeFileSync(file, 'data')
    symlinkSync(file, join(world.directory, 'link'))
    for (const path of [file, join(world.directory, 'link')])
      await expect(start({ socket: path })).rejects.toMatchObject({ code: 'ADDRESS_REFUSED' })
    expect(readFileSync(file, 'utf8')).toBe('data')
    await expect(start({ socket: join(world.directory, 'x'.repeat(200)) })).rejects.toMatchObject({
      code: 'ADDRESS_REFUSED',
    })
    await expect(start({ socket: join(world.directory, 'no/such/directory') })).rejects.toMatchObject({
      code: 'ADDRESS_REFUSED',
    })
  })

  test('of several that start at once on a stale socket one wins, and answers', async () => {
    const socket = join(world.directory, 'index.sock')
    const abandoned = createServer()
    await new Promise<void>((resolve) => abandoned.listen(join(world.directory, 'own'), resolve))
    linkSync(join(world.directory, 'own'), socket)
    await new Promise((resolve) => abandoned.close(resolve))
    const outcomes = await Promise.allSettled(Array.from({ length: 8 }, () => start({ socket })))
    expect(outcomes.filter(({ status }) => status === 'fulfilled')).toHaveLength(1)
    expect(await askJson({ address: socket }, '/-/ping')).toEqual({})
  })
})

test('a request that comes a byte at a time is given up on', async () => {
  const server = await world.serve(lockOf([]))
  // Node looks at its connections every two seconds; five are allowed for the headers.
  const answer = await sendRaw(server, `GET / HTTP/1.1\r\nHost: ${server.address}\r\nX: `)
  expect(answer).toMatch(/^HTTP\/1.1 408 Request Timeout/)
})
