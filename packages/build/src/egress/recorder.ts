import { attemptList, type AttemptList } from './attempts.ts'
import { inventedAddresses, startNameServer } from './dns.ts'
import { printable } from './first-bytes.ts'
import { forgetDestinations, prepareNetwork, readDestinations, SINK_PORT, type Destinations } from './network.ts'
import { actorOfSocket, socketWithAddress, type Actor, type SocketEntry } from '../processes.ts'
import type { Programs } from '../programs.ts'
import { startTcpSink } from './tcp-sink.ts'
import { startUdpSink } from './udp-sink.ts'

/** Takes all that a build sends anywhere but to the index, and writes it down. */
export interface Recorder {
  /** Why only names are recorded; undefined if addresses are, too. */
  readonly incomplete: string | undefined
  readonly begin: () => void
  /** When the build has ended, all its processes included. */
  readonly finish: () => Promise<AttemptList>
}

/** What one socket sent. */
interface Datagrams {
  readonly first: string
  readonly actor: Actor
  count: number
}

const MOST_SENDERS = 500

/** Sets this network namespace up and listens in it. */
export async function startRecorder(programs: Programs): Promise<Recorder> {
  const incomplete = prepareNetwork(programs)
  const invented = inventedAddresses()
  let attempts = attemptList()
  let datagrams = new Map<number, Datagrams>()
  let received = 0

  const ask = (protocol: 'tcp' | 'udp', address: string, port: number): SocketEntry & Actor => {
    const socket = socketWithAddress(protocol, address, port)
    return socket === undefined ? { inode: '0' } : { ...socket, ...actorOfSocket(socket.inode) }
  }

  await startNameServer(invented, (name, type, from) => {
    if (!attempts.hasRoom()) return attempts.add({ kind: 'dns', name, type })
    const { inode: _, address, port: __, ...actor } = ask(from.protocol, from.address, from.port)
    // A server that the build named itself is worth telling; the one of resolv.conf is not.
    const server = address === undefined || address === '127.0.0.1' ? {} : { address, port: 53 }
    attempts.add({ kind: 'dns', name, type, ...server, ...actor })
  })

  const tellDatagrams = (sent: ReadonlyMap<number, Datagrams>, destinations: Destinations): void => {
    for (const [from, { first, actor, count }] of sent) {
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

  const sink =
    incomplete === undefined
      ? await startTcpSink(SINK_PORT, (from, port) => {
          const into = attempts
          // The client is asked at once; it may be gone when the connection ends.
          const { inode: _, ...client } = into.hasRoom() ? ask('tcp', from, port) : { inode: '0' }
          const name = client.address === undefined ? undefined : invented.nameOf(client.address)
          return (description) => {
            into.add({ kind: 'tcp', ...(name === undefined ? {} : { name }), ...client, ...description })
          }
        })
      : undefined
  if (sink !== undefined) {
    await startUdpSink(SINK_PORT, (from, port, bytes) => {
      received++
      const before = datagrams.get(port)
      if (before !== undefined) return void before.count++
      if (datagrams.size >= MOST_SENDERS) return attempts.add({ kind: 'udp' })
      const { inode: _, address: __, port: ___, ...actor } = ask('udp', from, port)
      datagrams.set(port, { first: printable(bytes.toString('latin1'), 160), actor, count: 1 })
    })
  }

  return {
    incomplete,
    begin: () => {
      invented.clear()
      attempts = attemptList()
    },
    finish: async () => {
      await settle(() => attempts.seen() + received + (sink?.accepted() ?? 0))
      await sink?.closeAll()
      if (programs.nft !== undefined && datagrams.size > 0) {
        // What a build did counts more than where exactly a datagram was going.
        tellDatagrams(datagrams, await readDestinations(programs.nft).catch(() => new Map() as Destinations))
        forgetDestinations(programs.nft)
        datagrams = new Map()
      }
      return attempts
    },
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
