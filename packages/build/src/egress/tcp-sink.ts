import { once } from 'node:events'
import type { Server, Socket } from 'node:net'

import { describeFirstBytes, isTlsHandshake, wantedBytes, type FirstBytes } from './first-bytes.ts'

const AT_ONCE = 256
const MOST_BYTES = 17 * 1024
// A client that lets the server speak first is not waited for longer than this.
const PATIENCE_MS = 1000

// An alert of TLS: fatal, access denied. A connection that only ends looks like a mishap, and clients try such a thing
// again after some time: npm waits ten seconds, then sixty.
const DENIED = Buffer.from([0x15, 0x03, 0x01, 0, 2, 2, 49])

const REFUSAL = 'polder: a build reaches the pinned index and nothing else.\n'
const FORBIDDEN = [
  'HTTP/1.1 403 Forbidden',
  'Content-Type: text/plain',
  `Content-Length: ${REFUSAL.length}`,
  'Connection: close',
  '',
  REFUSAL,
].join('\r\n')

interface TcpSink {
  /** How many there were. */
  readonly accepted: () => number
  /** Resolves when all are closed; their clients have ended, so that it is at hand what they had to say. */
  readonly closeAll: () => Promise<void>
}

/**
 * Accepts every connection that is redirected to these servers, waits for what it has to say, and refuses.
 * @param opened is called when a connection begins, while its client is sure to be there; what it gives is called at
 *   the end of it
 */
export function tcpSink(
  servers: readonly Server[],
  opened: (address: string, port: number) => (description: FirstBytes) => void,
): TcpSink {
  const open = new Set<Socket>()
  let accepted = 0
  const accept = (connection: Socket): void => {
    accepted++
    const closed = opened(connection.remoteAddress ?? '', connection.remotePort ?? 0)
    if (open.size >= AT_ONCE) {
      closed({})
      return void connection.destroy()
    }
    open.add(connection)
    let bytes = Buffer.alloc(0)
    let told = false
    const finish = (): void => {
      if (told) return
      told = true
      const description = describeFirstBytes(bytes)
      closed(description)
      if (connection.destroyed) return
      if (isTlsHandshake(bytes)) connection.write(DENIED)
      else if (description.request !== undefined) connection.write(FORBIDDEN)
      connection.end()
      // Whatever else it sends is read and forgotten: closed with unread bytes, the refusal would be lost.
      connection.setTimeout(500, () => connection.destroy())
    }
    connection.setTimeout(PATIENCE_MS, finish)
    connection.on('data', (more: Buffer) => {
      if (told) return
      bytes = Buffer.concat([bytes, more])
      if (bytes.length >= Math.min(wantedBytes(bytes), MOST_BYTES)) finish()
    })
    connection.on('end', finish)
    connection.on('error', () => connection.destroy())
    connection.on('close', () => {
      finish()
      open.delete(connection)
    })
  }
  for (const server of servers) server.on('connection', accept)
  return { accepted: () => accepted, closeAll: async () => closeAll(open) }
}

async function closeAll(open: ReadonlySet<Socket>): Promise<void> {
  const timer = setTimeout(() => open.forEach((connection) => connection.destroy()), 250)
  await Promise.all([...open].map(async (connection) => connection.closed || once(connection, 'close')))
  clearTimeout(timer)
}
