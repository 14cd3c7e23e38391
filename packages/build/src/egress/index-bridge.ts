import { connect, type Server, type Socket } from 'node:net'

/** The pinned index, as a build reaches it: a port of its own loopback that leads to the socket of the index's server. */
export interface IndexBridge {
  /** Where new connections go; nowhere if undefined. Those that are there end. */
  readonly lead: (socket: string | undefined) => void
}

export function bridgeIndex(server: Server): IndexBridge {
  let target: string | undefined
  const open = new Set<Socket>()
  // A build is not to use up our descriptors.
  server.maxConnections = 512
  server.on('connection', (inner: Socket) => {
    if (target === undefined) return void inner.destroy()
    // Either side may have said all it has to say while the other goes on.
    inner.allowHalfOpen = true
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
  return {
    lead: (socket) => {
      target = socket
      for (const connection of open) connection.destroy()
    },
  }
}
