import { execFile, execFileSync } from 'node:child_process'
import { promisify } from 'node:util'

import type { Programs } from '../programs.ts'

/** Where everything that a build sends outside of its loopback ends. */
export const SINK_PORT = 64873

// Names are asked of our name server, whichever server was meant. The destinations of datagrams are remembered, since
// who receives one is not told where it was going; those of connections the kernel tells (socketWithAddress).
const RULES = `
table inet polder {
  set sent4 { type ipv4_addr . inet_service . inet_service; flags dynamic; size 4096; }
  set sent6 { type ipv6_addr . inet_service . inet_service; flags dynamic; size 4096; }
  chain out {
    type nat hook output priority -100; policy accept;
    ip daddr 127.0.0.0/8 return
    ip6 daddr ::1 return
    meta l4proto { tcp, udp } th dport 53 redirect
    meta l4proto udp update @sent4 { ip daddr . udp dport . udp sport }
    meta l4proto udp update @sent6 { ip6 daddr . udp dport . udp sport }
    meta l4proto { tcp, udp } redirect to :${SINK_PORT}
  }
}
`

/**
 * Makes this network namespace, which has nothing but a loopback that is down, one where every address is our own and
 * every port of it leads to the sinks.
 * @returns why addresses cannot be recorded; undefined if they can. The network is cut either way.
 */
export function prepareNetwork({ ip, nft }: Programs): string | undefined {
  if (ip === undefined) throw new Error('ip is missing')
  execFileSync(ip, ['link', 'set', 'lo', 'up'], { stdio: ['ignore', 'ignore', 'pipe'] })
  if (nft === undefined) return 'nft is missing'
  try {
    execFileSync(nft, ['-f', '-'], { input: RULES, stdio: ['pipe', 'ignore', 'pipe'] })
    execFileSync(ip, ['route', 'add', 'local', 'default', 'dev', 'lo'], { stdio: ['ignore', 'ignore', 'pipe'] })
  } catch (error) {
    return firstLine(error)
  }
  try {
    execFileSync(ip, ['-6', 'route', 'add', 'local', 'default', 'dev', 'lo'], { stdio: 'ignore' })
  } catch {
    // A kernel without IPv6: there is nothing that could be reached by it.
  }
  return undefined
}

/** Where a datagram was going, by the port that it came from. */
export type Destinations = ReadonlyMap<number, readonly { readonly address: string; readonly port: number }[]>

/** Where datagrams were sent since `forgetDestinations`. */
export async function readDestinations(nft: string): Promise<Destinations> {
  const found = new Map<number, { address: string; port: number }[]>()
  for (const set of ['sent4', 'sent6']) {
    const { stdout } = await promisify(execFile)(nft, ['-j', 'list', 'set', 'inet', 'polder', set], {
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

/** Datagrams of one build are not to be taken for those of the next. */
export function forgetDestinations(nft: string): void {
  execFileSync(nft, ['-f', '-'], {
    input: 'flush set inet polder sent4\nflush set inet polder sent6\n',
    stdio: ['pipe', 'ignore', 'ignore'],
  })
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

function firstLine(error: unknown): string {
  const { stderr, message } = error as Error & { stderr?: Buffer }
  return ((stderr?.toString().trim() || message).split('\n')[0] ?? '').trim()
}
