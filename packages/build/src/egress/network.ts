import { type ChildProcess, execFile, type SendHandle, type Serializable } from 'node:child_process'
import { Socket as DatagramSocket } from 'node:dgram'
import { closeSync, openSync } from 'node:fs'
import { Server } from 'node:net'
import { promisify } from 'node:util'

import type { Programs } from '../programs.ts'
import { openSocketTables, type SocketTables } from './socket-tables.ts'

/** Where datagrams were going, by the port that they came from. */
export type Destinations = ReadonlyMap<number, readonly { readonly address: string; readonly port: number }[]>

/** The network namespace of one build: what listens in it, and what the kernel tells of it. */
export interface Network {
  readonly index: Server
  /** At the addresses of name servers. */
  readonly names: Ends
  /** Where all else is redirected to; empty if addresses cannot be recorded. */
  readonly sinks: Ends
  /** Why addresses cannot be recorded; undefined if they can. The network is cut either way. */
  readonly incomplete: string | undefined
  readonly tables: SocketTables
  /** Lets the command begin. */
  readonly enter: () => void
  readonly destinations: () => Promise<Destinations>
  /** Lets go of it: with its last process and socket it ends. */
  readonly close: () => void
}

interface Ends {
  readonly tcp: readonly Server[]
  readonly udp: readonly DatagramSocket[]
}

type Received = { readonly as: 'index' | 'names' | 'sink' } | { readonly incomplete: string }

/**
 * What a command of `inOwnNetwork` hands over before it begins.
 * @param child started with an IPC channel
 * @returns undefined if it ended before; it has said why
 */
export async function receiveNetwork(child: ChildProcess, { nsenter, nft }: Programs): Promise<Network | undefined> {
  const received: { readonly as: string; readonly end: Server | DatagramSocket }[] = []
  const closeAll = (): void => {
    for (const { end } of received) end.close()
  }
  const incomplete = await new Promise<string | undefined>((resolve) => {
    child.once('error', () => resolve(undefined))
    child.once('disconnect', () => resolve(undefined))
    child.on('message', (message: Serializable, end: SendHandle | undefined) => {
      const said = message as Received
      if ('incomplete' in said) resolve(Buffer.from(said.incomplete, 'hex').toString().split('\n', 1)[0])
      else if (end instanceof Server || end instanceof DatagramSocket) received.push({ as: said.as, end })
    })
  })
  const index = received.find(({ as }) => as === 'index')?.end
  if (incomplete === undefined || !(index instanceof Server) || child.pid === undefined) {
    closeAll()
    return undefined
  }
  let namespace: number
  try {
    // Open, it stays what it is when the process has ended.
    namespace = openSync(`/proc/${child.pid}/ns/net`, 'r')
  } catch {
    // It was killed meanwhile.
    child.kill('SIGKILL')
    closeAll()
    return undefined
  }
  const tables = openSocketTables(child.pid)
  return {
    index,
    names: endsOf(received, 'names'),
    sinks: endsOf(received, 'sink'),
    incomplete: incomplete === '' ? undefined : incomplete,
    tables,
    // One that was killed meanwhile is no error of ours.
    enter: () => void child.send('enter', () => undefined),
    destinations: async () => readDestinations([`${nsenter}`, `--net=/proc/${process.pid}/fd/${namespace}`, `${nft}`]),
    close: () => {
      closeAll()
      tables.close()
      closeSync(namespace)
    },
  }
}

function endsOf(received: readonly { readonly as: string; readonly end: Server | DatagramSocket }[], as: string): Ends {
  const ends = received.filter((one) => one.as === as).map(({ end }) => end)
  return {
    tcp: ends.filter((end) => end instanceof Server),
    udp: ends.filter((end) => end instanceof DatagramSocket),
  }
}

async function readDestinations([command = '', ...words]: readonly string[]): Promise<Destinations> {
  const found = new Map<number, { address: string; port: number }[]>()
  for (const set of ['sent4', 'sent6']) {
    const { stdout } = await promisify(execFile)(command, [...words, '-j', 'list', 'set', 'inet', 'polder', set], {
      maxBuffer: 16 * 2 ** 20,
    })
    for (const [address, port, from] of elements(JSON.parse(stdout))) {
      const before = found.get(from)
      if (before === undefined) found.set(from, [{ address, port }])
      else before.push({ address, port })
    }
  }
  return found
}

/** `{ nftables: [{ set: { elem: [{ concat: [address, port, port] }] } }] }`, elements with a `val` if they have more. */
function* elements(listing: unknown): Generator<readonly [address: string, port: number, from: number]> {
  const { nftables = [] } = listing as { nftables?: readonly { set?: { elem?: readonly unknown[] } }[] }
  for (const element of nftables.flatMap(({ set }) => set?.elem ?? [])) {
    const outer = element as { elem?: { val?: unknown }; concat?: unknown }
    const { concat } = (outer.elem?.val ?? outer) as { concat?: unknown }
    if (!Array.isArray(concat)) continue
    const [address, port, from] = concat as readonly unknown[]
    if (typeof address === 'string' && typeof port === 'number' && typeof from === 'number') yield [address, port, from]
  }
}
