import { attemptList, type AttemptList } from './attempts.ts'
import { answerNames, inventedAddresses } from './dns.ts'
import { printable } from './first-bytes.ts'
import type { Destinations, Network } from './network.ts'
import { actorOfSocket, type Actor } from '../processes.ts'
import type { SocketEntry } from './socket-tables.ts'
import { tcpSink } from './tcp-sink.ts'

/** What one socket sent. */
interface Datagrams {
  readonly first: string
  readonly actor: Actor
  count: number
}

const MOST_SENDERS = 500

/**
 * Takes all that a build sends anywhere but to the index, and writes it down.
 * @param network of this build alone
 * @returns gives what it tried when it has ended, all its processes included
 */
export function recordAttempts(network: Network): () => Promise<AttemptList> {
  const invented = inventedAddresses()
  const attempts = attemptList()
  const datagrams = new Map<number, Datagrams>()
  let received = 0

  const ask = (protocol: 'tcp' | 'udp', address: string, port: number): SocketEntry & Actor => {
    const socket = network.tables.socketWithAddress(protocol, address, port)
    return socket === undefined ? { inode: '0' } : { ...socket, ...actorOfSocket(socket.inode) }
  }

  answerNames(network.names, invented, (name, type, from) => {
    if (!attempts.hasRoom()) return attempts.add({ kind: 'dns', name, type })
    const { inode: _, address, port: __, ...actor } = ask(from.protocol, from.address, from.port)
    // A server that the build named itself is worth telling; the one of resolv.conf is not.
    const server = address === undefined || address === '127.0.0.1' ? {} : { address, port: 53 }
    attempts.add({ kind: 'dns', name, type, ...server, ...actor })
  })

  const sink = tcpSink(network.sinks.tcp, (from, port) => {
    // The client is asked at once; it may be gone when the connection ends.
    const { inode: _, ...client } = attempts.hasRoom() ? ask('tcp', from, port) : { inode: '0' }
    const name = client.address === undefined ? undefined : invented.nameOf(client.address)
    return (description) => {
      attempts.add({ kind: 'tcp', ...(name === undefined ? {} : { name }), ...client, ...description })
    }
  })
  for (const socket of network.sinks.udp) {
    socket.on('message', (bytes, { address, port }) => {
      received++
      const before = datagrams.get(port)
      if (before !== undefined) return void before.count++
      if (datagrams.size >= MOST_SENDERS) return attempts.add({ kind: 'udp' })
      const { inode: _, address: __, port: ___, ...actor } = ask('udp', address, port)
      datagrams.set(port, { first: printable(bytes.toString('latin1'), 160), actor, count: 1 })
    })
  }

  const tellDatagrams = (destinations: Destinations): void => {
    for (const [from, { first, actor, count }] of datagrams) {
      const reached: readonly { address?: string; port?: number }[] = destinations.get(from) ?? [{}]
      for (const { address, port } of reached) {
        const name = address === undefined ? undefined : invented.nameOf(address)
        const to = address === undefined || port === undefined ? {} : { address, port }
        // How many of them went to which of several destinations is not known.
        for (let times = reached.length === 1 ? count : 1; times > 0; times--) {
          attempts.add({ kind: 'udp', ...(name === undefined ? {} : { name }), ...to, first, ...actor })
        }
      }
    }
  }

  return async () => {
    await settle(() => attempts.seen() + received + sink.accepted())
    await sink.closeAll()
    // What a build did counts more than where exactly a datagram was going.
    if (datagrams.size > 0) tellDatagrams(await network.destinations().catch(() => new Map()))
    return attempts
  }
}

/**
 * What a process did just before it ended waits in the queues of our sockets: goes on for as long as turns of the event
 * loop bring more.
 */
async function settle(seen: () => number): Promise<void> {
  for (let before = -1; before !== seen();) {
    before = seen()
    for (let turn = 0; turn < 3; turn++) await new Promise((resolve) => setImmediate(resolve))
  }
}
