import { connect, createServer, type AddressInfo, type Socket } from 'node:net'

/** The pinned index, as a build reaches it: a port of its own loopback that leads to the socket of the index's server. */
export interface IndexBridge {
  readonly port: number
  /** Where the connections of the next build go; nowhere if undefined. Those of the build before it end. */
  readonly lead: (socket: string | undefined) => void
}

/** @param port 0 for any */
export async function startIndexBridge(port: number): Promise<IndexBridge> {
  let target: string | undefined
  const open = new Set<Socket>()
  const server = createServer({ allowHalfOpen: true }, (inner) => {
    if (target === undefined) return void inner.destroy()
    const outer = connect({ path: target, allowHalfOpen: true })
    for (const [one, other] of [
      [inner, outer],
      [outer, inner],
    ] as const) {
      open.add(one)
      one.on('error', () => other.destroy())
      one.on('close', () => {
        open.delete(one)
        other.destroy()
      })
    }
    inner.pipe(outer).pipe(inner)
  })
  // A build is not to use up our descriptors.
  server.maxConnections = 512
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(port, '127.0.0.1', resolve)
  })
  return {
    port: (server.address() as AddressInfo).port,
    lead: (socket) => {
      target = socket
      for (const connection of open) connection.destroy()
    },
  }
}
