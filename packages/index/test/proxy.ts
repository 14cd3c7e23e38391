import { createServer, request } from 'node:http'
import { type AddressInfo, connect, type Socket } from 'node:net'

/** A real HTTP proxy on loopback: forwards plain requests and tunnels with CONNECT. */
export interface Proxy {
  readonly url: string
  /** `GET http://host/path` and `CONNECT host:port`, in order. */
  readonly log: readonly string[]
  /** How many TCP connections were accepted. */
  connections(): number
  close(): Promise<void>
}

export async function startProxy({ login }: { readonly login?: string } = {}): Promise<Proxy> {
  const log: string[] = []
  const sockets = new Set<Socket>()
  let connections = 0
  const wanted = login === undefined ? undefined : `Basic ${Buffer.from(login).toString('base64')}`
  const server = createServer((incoming, outgoing) => {
    if (incoming.headers['proxy-authorization'] !== wanted) {
      outgoing.writeHead(407).end()
      return
    }
    log.push(`${incoming.method} ${incoming.url}`)
    const { 'proxy-authorization': _, ...headers } = incoming.headers
    incoming.pipe(
      request(incoming.url ?? '', { method: incoming.method ?? 'GET', headers }, (answer) => {
        outgoing.writeHead(answer.statusCode ?? 502, answer.headers)
        answer.pipe(outgoing)
      }).on('error', () => outgoing.destroy()),
    )
  })
  server.on('connect', (incoming, near) => {
    log.push(`CONNECT ${incoming.url}`)
    const [host = '', port = ''] = (incoming.url ?? '').split(':')
    const far = connect(Number(port), host, () => {
      near.write('HTTP/1.1 200 OK\r\n\r\n')
      far.pipe(near).pipe(far)
    })
    far.on('error', () => near.destroy())
    near.on('error', () => far.destroy()).on('close', () => far.destroy())
  })
  server.on('connection', (socket: Socket) => {
    connections += 1
    sockets.add(socket)
    socket.once('close', () => sockets.delete(socket))
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    log,
    connections: () => connections,
    close: () =>
      new Promise<void>((resolve) => {
        server.close(() => resolve())
        for (const socket of sockets) socket.destroy()
      }),
  }
}
