import { once } from 'node:events'
import { createServer, type AddressInfo, type Socket } from 'node:net'
import { connect } from 'node:tls'
import { expect, test } from 'vitest'

import { describeFirstBytes, wantedBytes } from '../src/egress/first-bytes.ts'

/** What Node itself says first to a server of this name. */
async function clientHello(servername: string): Promise<Buffer> {
  const server = createServer()
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const client = connect({ port: (server.address() as AddressInfo).port, host: '127.0.0.1', servername })
  client.on('error', () => undefined)
  const [socket] = (await once(server, 'connection')) as [Socket]
  const [bytes] = (await once(socket, 'data')) as [Buffer]
  socket.destroy()
  client.destroy()
  server.close()
  return bytes
}

test('a TLS handshake is for the server that it names, and its length is known from its start', async () => {
  const bytes = await clientHello('registry.example')
  expect(describeFirstBytes(bytes)).toEqual({ sni: 'registry.example' })
  expect(wantedBytes(bytes.subarray(0, 5))).toBe(bytes.length)
})

test('a handshake that is cut off at any byte, or changed at any byte, is harmless', async () => {
  const bytes = await clientHello('registry.example')
  for (let length = 0; length < bytes.length; length++) {
    const { sni } = describeFirstBytes(bytes.subarray(0, length))
    expect(sni === undefined || 'registry.example'.startsWith(sni), String(length)).toBe(true)
    const changed = Buffer.from(bytes)
    changed[length] = 0xff
    expect(describeFirstBytes(changed).sni ?? '').toMatch(/^[ -~]*$/)
  }
})

test('an HTTP request is told with its host, and only printable text comes of it', () => {
  const request = Buffer.from(
    'POST /collect?a=\u001b[31m HTTP/1.1\r\nUser-Agent: x\r\nHost: tracker.example\r\n\r\nbody',
  )
  expect(describeFirstBytes(request)).toEqual({
    request: 'POST /collect?a=\\x1b[31m',
    host: 'tracker.example',
    first:
      'POST /collect?a=\\x1b[31m HTTP/1.1\\x0d\\x0aUser-Agent: x\\x0d\\x0aHost: tracker.example\\x0d\\x0a\\x0d\\x0abody',
  })
  expect(describeFirstBytes(Buffer.from('SSH-2.0-x\r\n'))).toEqual({ first: 'SSH-2.0-x\\x0d\\x0a' })
  expect(describeFirstBytes(Buffer.alloc(0))).toEqual({})
})

test('of a flood only the beginning is kept', () => {
  const { first = '' } = describeFirstBytes(Buffer.alloc(100_000, 'a'))
  expect(first).toBe('a'.repeat(160))
})
