import { execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import { PolderError } from '@polder/spec'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'

import {
  startRegistry,
  type Registry,
  type RegistryOptions,
  type ServedVersion,
} from '../../../test/support/registry.ts'
import type { Clock } from '../src/upstream/backoff.ts'
import { type NpmConfig } from '../src/upstream/npm-config.ts'
import { openUpstream, type Upstream } from '../src/upstream/upstream.ts'
import { startProxy } from './proxy.ts'
import { npmConfig } from './npm-config.ts'

let cleanups: (() => Promise<void> | void)[] = []
let waits: number[]
let registry: Registry
let foo: ServedVersion

beforeEach(async () => {
  waits = []
  registry = await start()
  foo = registry.serve('foo', '1.0.0', { files: { 'index.js': '// the package\n'.repeat(50) } })
})

afterEach(async () => {
  for (const cleanup of cleanups.reverse()) await cleanup()
  cleanups = []
})

async function start(options?: RegistryOptions): Promise<Registry> {
  const started = await startRegistry(options)
  cleanups.push(() => started.close())
  return started
}

/** No time passes between attempts; what would have passed is in `waits`. Half of the possible jitter. */
const clock: Clock = {
  now: () => Date.UTC(2026, 0, 1),
  random: () => 0.5,
  sleep: async (ms) => {
    waits.push(ms)
  },
}

async function open(config: Partial<NpmConfig> = {}): Promise<Upstream> {
  const upstream = await openUpstream(npmConfig(registry.url, config), clock)
  cleanups.push(() => upstream.close())
  return upstream
}

async function get(
  upstream: Upstream,
  url: string,
  options: { readonly maxBytes?: number; readonly registry?: string } = {},
): Promise<Buffer> {
  return upstream.download({ url, maxBytes: 1_000_000, ...options }, async (body) => {
    const chunks: Uint8Array[] = []
    for await (const chunk of body) chunks.push(chunk)
    return Buffer.concat(chunks)
  })
}

async function refusal(promise: Promise<unknown>): Promise<PolderError> {
  const error = await promise.then(
    () => undefined,
    (thrown: unknown) => thrown,
  )
  expect(error).toBeInstanceOf(PolderError)
  return error as PolderError
}

test('a body comes as it is on the server, without asking for compression', async () => {
  expect(await get(await open(), foo.url)).toEqual(foo.bytes)
  expect(registry.requests[0]?.headers).toMatchObject({ 'accept-encoding': 'identity', accept: '*/*' })
  expect(registry.requests[0]?.headers).not.toHaveProperty('authorization')
})

test('connections are used again', async () => {
  const upstream = await open()
  for (let count = 0; count < 20; count += 1) await get(upstream, foo.url)
  expect(registry.counts.peak).toBe(1)
  // The pool opens a second one if the next request comes before it has noticed that the first is free.
  expect(registry.counts.connections).toBeLessThanOrEqual(2)
})

test('never more connections than maxsockets, however much is asked for at once', async () => {
  registry = await start({ delayMs: 5 })
  const { url } = registry.serve('foo', '1.0.0')
  const upstream = await open({ sockets: { perHost: 3, localAddress: null, timeoutMs: 10_000 } })
  await Promise.all(Array.from({ length: 30 }, () => get(upstream, url)))
  expect(registry.counts).toEqual({ connections: 3, peak: 3 })
})

describe('what may pass is tried again', () => {
  test("503 twice: two waits, each up to half shorter than npm's backoff", async () => {
    registry.fault('foo', { kind: 'status', status: 503, times: 2 })
    expect(await get(await open(), foo.url)).toEqual(foo.bytes)
    expect(waits).toEqual([7_500, 45_000])
  })

  test.each([429, 408, 500, 502, 504])('status %i', async (status) => {
    registry.fault('foo', { kind: 'status', status, times: 1 })
    expect(await get(await open(), foo.url)).toEqual(foo.bytes)
    expect(waits).toEqual([7_500])
  })

  test.each([
    ['7', 7_000],
    ['Thu, 01 Jan 2026 00:00:20 GMT', 20_000],
    ['Thu, 01 Jan 2025 00:00:20 GMT', 0],
    ['86400', 60_000],
    ['soon', 7_500],
  ])('429 with Retry-After %s waits %i ms', async (header, ms) => {
    registry.fault('foo', { kind: 'status', status: 429, times: 1, headers: { 'retry-after': header } })
    await get(await open(), foo.url)
    expect(waits).toEqual([ms])
  })

  test.each(['reset', 'truncate'] as const)('a connection that fails: %s', async (kind) => {
    registry.fault('foo', { kind, times: 2 })
    expect(await get(await open(), foo.url)).toEqual(foo.bytes)
    expect(waits).toHaveLength(2)
  })

  test.each(['hang', 'stall'] as const)('a server that falls silent: %s', async (kind) => {
    registry.fault('foo', { kind, times: 1 })
    expect(await get(await open({ sockets: { perHost: 1, localAddress: null, timeoutMs: 500 } }), foo.url)).toEqual(
      foo.bytes,
    )
    expect(waits.length).toBeGreaterThanOrEqual(1)
  })
})

test('a body that trickles is given up after six times the timeout', async () => {
  const server = createServer((_, response) => {
    const timer = setInterval(() => response.write('x'), 20)
    response.once('close', () => clearInterval(timer))
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  cleanups.push(() => void server.close())
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`
  const once = { retries: 0, factor: 1, minMs: 0, maxMs: 0 }
  const upstream = await open({ retry: once, sockets: { perHost: 1, localAddress: null, timeoutMs: 200 } })
  const error = await refusal(get(upstream, url))
  expect(error.message).toBe(`${url} could not be read: it took too long`)
})

test('a server that stays broken is a failure with the status and the number of attempts', async () => {
  registry.fault('foo', { kind: 'status', status: 503 })
  const error = await refusal(get(await open(), foo.url))
  expect(error).toMatchObject({ code: 'FETCH_FAILED', message: `${foo.url} answered 503 (3 attempts)` })
  expect(error.details).toMatchObject({
    found: '503',
    hint: 'run `polder index sync` again later; it goes on with what is missing',
  })
  expect(registry.requests).toHaveLength(3)
})

test.each([404, 400, 401, 403, 501])('%i is not tried again', async (status) => {
  registry.fault('foo', { kind: 'status', status })
  expect((await refusal(get(await open(), foo.url))).details.found).toBe(String(status))
  expect(registry.requests).toHaveLength(1)
})

test('a host that cannot be reached is retried for the first download only', async () => {
  const closed = await startRegistry()
  const { url } = closed.serve('foo', '1.0.0')
  await closed.close()
  const upstream = await open()
  const error = await refusal(get(upstream, url))
  expect(error.code).toBe('FETCH_FAILED')
  expect(error.message).toMatch(/could not be read: .*ECONNREFUSED.* \(3 attempts\)$/)
  expect((await refusal(get(upstream, url))).message).toMatch(/ECONNREFUSED[^(]*$/)
  expect(waits).toHaveLength(2)
})

test('an endless body ends at the limit and is not tried again', async () => {
  registry.fault('foo', { kind: 'endless' })
  const error = await refusal(get(await open(), foo.url, { maxBytes: 100_000 }))
  expect(error).toMatchObject({ code: 'FETCH_FAILED', message: `${foo.url} sends more than the 100000 bytes allowed` })
  expect(waits).toEqual([])
})

test('a body announced as too large is not read', async () => {
  const error = await refusal(get(await open(), foo.url, { maxBytes: 10 }))
  expect(error.message).toBe(`${foo.url} announces ${foo.bytes.length} bytes, more than the 10 allowed`)
})

test('a body that is read slower than it comes is read whole', async () => {
  const large = randomBytes(3_000_000)
  const url = registry.serveFile('/large', large)
  const sizes: number[] = []
  const read = await (
    await open()
  ).download({ url, maxBytes: large.length }, async (body) => {
    const chunks: Uint8Array[] = []
    for await (const chunk of body) {
      sizes.push(chunk.length)
      chunks.push(chunk)
      await new Promise((resolve) => setImmediate(resolve))
    }
    return Buffer.concat(chunks)
  })
  expect(read.equals(large)).toBe(true)
  expect(sizes.length).toBeGreaterThan(10)
})

test('a body that nobody wants to the end does not keep the connection from others', async () => {
  const url = registry.serveFile('/large', randomBytes(3_000_000))
  const upstream = await open({ sockets: { perHost: 1, localAddress: null, timeoutMs: 30_000 } })
  const first = await upstream.download({ url, maxBytes: 1e9 }, async (body) => {
    for await (const chunk of body) return chunk.length
    return 0
  })
  expect(first).toBeGreaterThan(0)
  expect(await get(upstream, foo.url)).toEqual(foo.bytes)
})

test('what the consumer throws comes through and is not tried again', async () => {
  const upstream = await open()
  const own = new Error('the disk is on fire')
  await expect(
    upstream.download({ url: foo.url, maxBytes: 1_000_000 }, async () => {
      throw own
    }),
  ).rejects.toBe(own)
  expect(registry.requests).toHaveLength(1)
})

describe('redirects', () => {
  test('are followed', async () => {
    registry.serve('bar', '1.0.0')
    registry.fault('bar', { kind: 'redirect', to: '/foo/-/foo-1.0.0.tgz' })
    expect(await get(await open(), `${registry.url}bar/-/bar-1.0.0.tgz`)).toEqual(foo.bytes)
  })

  test('in a circle end', async () => {
    registry.fault('foo', { kind: 'redirect', to: '/foo/-/foo-1.0.0.tgz' })
    expect((await refusal(get(await open(), foo.url))).message).toBe(`${foo.url} redirects more than 10 times`)
    expect(registry.requests).toHaveLength(11)
  })

  test('to a file are refused', async () => {
    registry.fault('foo', { kind: 'redirect', to: 'file:///etc/passwd' })
    expect((await refusal(get(await open(), foo.url))).message).toBe(
      `${foo.url} redirects to what is no http or https URL`,
    )
  })

  test('to another host show it no credentials, not even its own, and the way back none either', async () => {
    const other = await start()
    const { url } = other.serve('foo', '1.0.0')
    const [here, there] = [new URL(registry.url), new URL(other.url)]
    registry.fault('foo', { kind: 'redirect', to: url, times: 1 })
    other.fault('foo', { kind: 'redirect', to: foo.url, times: 1 })
    const credentials = new Map([
      [`//${here.host}/`, { authorization: 'Bearer here' }],
      [`//${there.host}/`, { authorization: 'Bearer there' }],
    ])
    expect(await get(await open({ credentials }), foo.url)).toEqual(foo.bytes)
    expect(other.requests[0]?.headers.authorization).toBeUndefined()
    expect(registry.requests.map(({ headers }) => headers.authorization)).toEqual(['Bearer here', undefined])
  })
})

describe('credentials', () => {
  test('a token opens a closed registry, and only with it', async () => {
    registry = await start({ token: 'secret', basePath: '/npm/' })
    const { url } = registry.serve('foo', '1.0.0')
    const dart = `//${new URL(registry.url).host}/npm/`
    await get(await open({ credentials: new Map([[dart, { authorization: 'Bearer secret' }]]) }), url)
    const error = await refusal(get(await open(), url))
    expect(error.details).toMatchObject({
      found: '401',
      hint: `check the credentials for //${new URL(url).host}/ in .npmrc`,
    })
  })

  test('user and password in the URL are sent as Basic and never shown', async () => {
    registry = await start({ login: 'ann:s@cret' })
    const { url, bytes } = registry.serve('foo', '1.0.0')
    const secret = url.replace('://', '://ann:s%40cret@')
    expect(await get(await open(), secret)).toEqual(bytes)
    registry.fault('foo', { kind: 'status', status: 404 })
    expect((await refusal(get(await open(), secret))).message).toBe(`${url} answered 404`)
  })
})

const hasOpenssl = ((): boolean => {
  try {
    execFileSync('openssl', ['version'], { stdio: 'ignore' })
    return true
  } catch {
    return false
  }
})()

describe.skipIf(!hasOpenssl)('TLS (needs openssl to make a certificate)', () => {
  let tls: { readonly key: string; readonly cert: string }
  let url: string

  beforeEach(async () => {
    const directory = mkdtempSync(join(tmpdir(), 'polder-tls-'))
    const [key, cert] = [join(directory, 'key.pem'), join(directory, 'cert.pem')]
    const subject = ['-subj', '/CN=127.0.0.1', '-addext', 'subjectAltName=IP:127.0.0.1']
    execFileSync(
      'openssl',
      [
        'req',
        '-x509',
        '-newkey',
        'ec',
        '-pkeyopt',
        'ec_paramgen_curve:prime256v1',
        '-nodes',
        '-days',
        '2',
        '-keyout',
        key,
        '-out',
        cert,
        ...subject,
      ],
      { stdio: 'ignore' },
    )
    tls = { key: readFileSync(key, 'utf8'), cert: readFileSync(cert, 'utf8') }
    rmSync(directory, { recursive: true })
    registry = await start({ tls })
    ;({ url } = registry.serve('foo', '1.0.0'))
  })

  test('a certificate that nobody vouches for is refused at once, with what to set', async () => {
    const error = await refusal(get(await open(), url))
    expect(error.message).toMatch(/could not be read: .*self-signed certificate/)
    expect(error.details.hint).toContain('"cafile"')
    expect([registry.requests, waits]).toEqual([[], []])
  })

  test('with its authority in cafile, or without strict-ssl, it is accepted', async () => {
    const none = { ca: null, cert: null, key: null }
    await get(await open({ tls: { ...none, strict: true, ca: [tls.cert] } }), url)
    await get(await open({ tls: { ...none, strict: false } }), url)
    expect(registry.requests).toHaveLength(2)
  })

  test("through a proxy the registry's certificate is still checked", async () => {
    const proxy = await startProxy()
    cleanups.push(() => proxy.close())
    const route = { http: proxy.url, https: proxy.url, exempt: [] }
    await get(await open({ proxy: route, tls: { strict: true, ca: [tls.cert], cert: null, key: null } }), url)
    expect(proxy.log).toEqual([`CONNECT ${new URL(url).host}`])
    expect((await refusal(get(await open({ proxy: route }), url))).message).toMatch(/self-signed certificate/)
  })
})

describe('a proxy', () => {
  test('gets plain requests whole, with the credentials of its URL, unless the host is exempt', async () => {
    const proxy = await startProxy({ login: 'ann:secret' })
    cleanups.push(() => proxy.close())
    const http = proxy.url.replace('://', '://ann:secret@')
    expect(await get(await open({ proxy: { http, https: null, exempt: [] } }), foo.url)).toEqual(foo.bytes)
    expect(proxy.log).toEqual([`GET ${foo.url}`])
    expect(registry.requests[0]?.headers).not.toHaveProperty('proxy-authorization')
    await get(await open({ proxy: { http, https: null, exempt: ['127.0.0.1'] } }), foo.url)
    expect(proxy.log).toHaveLength(1)
  })

  test('gets no more connections than a registry would', async () => {
    const proxy = await startProxy()
    cleanups.push(() => proxy.close())
    registry = await start({ delayMs: 5 })
    const { url } = registry.serve('foo', '1.0.0')
    const upstream = await open({
      proxy: { http: proxy.url, https: null, exempt: [] },
      sockets: { perHost: 2, localAddress: null, timeoutMs: 10_000 },
    })
    await Promise.all(Array.from({ length: 20 }, () => get(upstream, url)))
    expect(proxy.connections()).toBe(2)
  })

  test('that is not there is named as unreachable', async () => {
    const proxy = await startProxy()
    await proxy.close()
    const error = await refusal(get(await open({ proxy: { http: proxy.url, https: null, exempt: [] } }), foo.url))
    expect(error.message).toMatch(/ECONNREFUSED/)
    expect(error.details.hint).toContain('"proxy" in .npmrc')
  })
})
