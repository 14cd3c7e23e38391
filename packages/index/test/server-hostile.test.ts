import { packageId } from '@polder/spec'
import { describe, expect, test } from 'vitest'

import { lockedPins } from '../src/serve/locked-pins.ts'
import { ask, lockOf, sendRaw, useServedWorld } from './served-world.ts'

const world = useServedWorld()

describe('case 17: hostile requests', () => {
  const PATHS: readonly (readonly [string, number])[] = [
    ['/__proto__', 404],
    ['/constructor', 404],
    ['/toString/-/toString-1.0.0.tgz', 404],
    ['/@scope%2f__proto__', 404],
    ['/@__proto__/x', 404],
    ['/lib/__proto__', 404],
    ['/-/__proto__', 404],
    ['/@lock/__proto__/lib', 404],
    ['/@lock/constructor/lib', 404],
    ['/../../etc/passwd', 404],
    ['/%2e%2e/%2e%2e/etc/passwd', 404],
    ['/..%2f..%2fetc%2fpasswd', 404],
    ['/lib/-/../../../etc/passwd', 404],
    ['/lib/-/lib-..%2f..%2f.tgz', 404],
    ['/-/files/..%2f..%2fetc/passwd', 404],
    ['//evil.example/lib', 404],
    ['/lib//-/lib-1.0.0.tgz', 404],
    ['/lib%00', 400],
    ['/lib%0d%0aset-cookie:x', 400],
    ['/%1b[31mlib', 400],
    ['/lib\\..\\x', 400],
    ['/%ff', 400],
    ['/%', 400],
    [`/${'a'.repeat(5000)}`, 414],
    [`/${'a'.repeat(300)}`, 404],
    ['/node_modules', 404],
    ['/favicon.ico', 404],
    ['*', 400],
  ]

  test.each(PATHS)('%s is %i, with a reason', async (path, status) => {
    const server = await world.serve(lockOf([await world.pin('lib', '1.0.0')]))
    const answer = await ask(server, path)
    expect({ path, status: answer.status }).toEqual({ path, status })
    expect(JSON.parse(answer.text)).toEqual({
      error: expect.any(String) as string,
      reason: expect.any(String) as string,
      code: expect.stringMatching(/^[A-Z_]+$/) as string,
    })
    // oxlint-disable-next-line no-control-regex -- what must not be there
    expect(answer.text).not.toMatch(/[\0-\x1f]/)
    expect(Object.keys({})).toEqual([])
  })

  test('a Host that is not this server: a page in a browser that made its own name mean this machine', async () => {
    const server = await world.serve(lockOf([await world.pin('private', '1.0.0')]))
    for (const host of [
      'evil.example',
      `evil.example:${server.address.split(':')[1]}`,
      '127.0.0.1',
      'localhost:1',
      'a b',
    ]) {
      const { status, text } = await ask(server, '/private', { headers: { host } })
      expect({ host, status, leaked: text.includes('sha512') }).toEqual({ host, status: 400, leaked: false })
    }
    for (const host of [server.address, `localhost:${server.address.split(':')[1]}`]) {
      const { status, text } = await ask(server, '/private', { headers: { host } })
      expect({ status, fixed: text.includes(`${server.url}private/-/private-1.0.0.tgz`) }).toEqual({
        status: 200,
        fixed: true,
      })
    }
    expect(await sendRaw(server, 'GET /private HTTP/1.1\r\n\r\n')).toMatch(/^HTTP\/1.1 400 /)
    expect(await sendRaw(server, 'GET /private HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n')).toMatch(/^HTTP\/1.1 400 /)
  })

  test('too many headers, no HTTP, and a body that does not end are ended with a reason', async () => {
    const server = await world.serve(lockOf([]))
    const host = `Host: ${server.address}\r\n`
    expect(await sendRaw(server, `GET / HTTP/1.1\r\n${host}X: ${'x'.repeat(20_000)}\r\n\r\n`)).toMatch(
      /^HTTP\/1.1 431 .*"code":"BAD_REQUEST"/s,
    )
    expect(await sendRaw(server, '\x16\x03\x01\x02\x00 this is TLS\r\n\r\n')).toMatch(/^HTTP\/1.1 400 .*BAD_REQUEST/s)
    const post = `POST /-/npm/v1/security/advisories/bulk HTTP/1.1\r\n${host}`
    expect(await sendRaw(server, `${post}Content-Length: 999999999\r\n\r\n`)).toMatch(
      /^HTTP\/1.1 413 .*BODY_TOO_LARGE/s,
    )
    expect(await sendRaw(server, `PUT /lib HTTP/1.1\r\n${host}Content-Length: 999999999\r\n\r\n{`)).toMatch(
      /^HTTP\/1.1 405 .*READ_ONLY/s,
    )
    expect(await ask(server, '/-/ping')).toMatchObject({ status: 200 })
  })

  test('a body in pieces beyond what an audit may have is cut off, and costs no memory', async () => {
    const server = await world.serve(lockOf([]))
    const chunk = `${(64 * 1024).toString(16)}\r\n${'x'.repeat(64 * 1024)}\r\n`
    const before = process.memoryUsage().arrayBuffers
    const received = await sendRaw(
      server,
      `POST /-/npm/v1/security/audits HTTP/1.1\r\nHost: ${server.address}\r\nTransfer-Encoding: chunked\r\n\r\n${chunk.repeat(300)}`,
    )
    expect(received).toBe('')
    // The text that is sent is in this process too.
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(40e6)
  })

  test('a thousand names that do not exist leave nothing behind', async () => {
    const server = await world.serve(lockOf([]), { onRefused: () => undefined })
    for (let at = 0; at < 1000; at += 1) await ask(server, `/name-${at}`)
    expect(server.sample()).toMatchObject({ bodies: 0, bodyBytes: 0, connections: expect.any(Number) as number })
    expect(server.sample().answers.refused).toEqual([0, 0, 0, 0, 1000, 0])
  })
})

describe('case 18: a lock that holds what no registry could serve', () => {
  test.each(['1.0.0/../../x', '../1.0.0', '1.0.0\u001b[31m', '1.0.0 x', '', 'latest', `1${'0'.repeat(300)}`])(
    'the version %j is refused',
    async (version) => {
      const pinned = await world.pin('lib', '1.0.0')
      const lock = lockOf([{ ...pinned, id: packageId('lib', version) }])
      expect(() => lockedPins(lock)).toThrow(expect.objectContaining({ code: 'LOCK_INVALID' }) as Error)
    },
  )

  test('a header never holds what came from a request', async () => {
    const server = await world.serve(lockOf([]))
    const { headers } = await ask(server, '/left-pad/-/left-pad-1.0.0%E2%80%AE%C3%A9.tgz')
    expect(headers['npm-notice']).toMatch(/^left-pad@1\.0\.0\?\? is not pinned/)
  })
})
