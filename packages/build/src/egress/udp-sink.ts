import { createSocket } from 'node:dgram'

/**
 * Takes every datagram that is redirected here.
 * @param took is told who sent it
 */
export async function startUdpSink(
  port: number,
  took: (address: string, port: number, bytes: Buffer) => void,
): Promise<void> {
  for (const kind of ['udp6', 'udp4'] as const) {
    const socket = createSocket(kind)
    const bound = await new Promise<boolean>((resolve) => {
      socket.once('error', () => resolve(false))
      socket.bind(port, () => resolve(true))
    })
    if (!bound) continue
    socket.on('message', (bytes, from) => took(from.address, from.port, bytes))
    return
  }
  throw new Error(`the sink for datagrams cannot listen on port ${port}`)
}
