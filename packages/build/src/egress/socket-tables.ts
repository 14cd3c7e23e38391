import { closeSync, openSync, readSync } from 'node:fs'

/** A socket as the kernel lists it. */
export interface SocketEntry {
  readonly inode: string
  /** Where its owner connected to, before any redirect; undefined if it is connected to nothing. */
  readonly address?: string
  readonly port?: number
}

/** The sockets of one network namespace. */
export interface SocketTables {
  /**
   * The socket that has this local address: the other end of a connection that we accepted. A redirect changes what we
   * are connected to, but not what the kernel remembers in the client's own entry (/proc/net/tcp, the column
   * rem_address), which is the destination that was asked for.
   */
  readonly socketWithAddress: (protocol: Protocol, address: string, port: number) => SocketEntry | undefined
  readonly close: () => void
}

type Protocol = 'tcp' | 'udp'

/** @param pid a process that is in the namespace; the tables stay when it has ended */
export function openSocketTables(pid: number): SocketTables {
  const open = (file: string): readonly number[] => {
    try {
      return [openSync(`/proc/${pid}/net/${file}`, 'r')]
    } catch {
      // A kernel without IPv6.
      return []
    }
  }
  const tables = { tcp: ['tcp', 'tcp6'].flatMap(open), udp: ['udp', 'udp6'].flatMap(open) }
  return {
    socketWithAddress: (protocol, address, port) => {
      const locals = localsOf(protocol, address, port)
      let found: SocketEntry | undefined
      for (const line of tables[protocol].flatMap(linesOf)) {
        const [, local = '', remote = '', , , , , , , inode = '0'] = line.trim().split(/\s+/)
        if (!locals.has(local)) continue
        const entry = { inode, ...endpoint(remote) }
        // One that nobody holds any more (inode 0) still knows where it went.
        if (inode !== '0') return entry
        found ??= entry
      }
      return found
    },
    close: () => [...tables.tcp, ...tables.udp].forEach((table) => closeSync(table)),
  }
}

/** How the kernel writes this address as a local one. */
function localsOf(protocol: Protocol, address: string, port: number): ReadonlySet<string> {
  const v4 = /^(?:::ffff:)?(\d+\.\d+\.\d+\.\d+)$/.exec(address)?.[1]
  const plain = v4 === undefined ? v6Hex(address) : v4Hex(v4)
  const tail = `:${port.toString(16).toUpperCase().padStart(4, '0')}`
  // A datagram socket that was not bound to an address has none until it is connected.
  const locals = new Set([plain, `0000000000000000FFFF0000${plain}`].map((hex) => hex + tail))
  if (protocol === 'udp') for (const none of ['0'.repeat(8), '0'.repeat(32)]) locals.add(none + tail)
  return locals
}

/** The kernel makes the table anew when it is read from its beginning. */
function linesOf(table: number): readonly string[] {
  const parts: Buffer[] = []
  for (let at = 0; ;) {
    const part = Buffer.allocUnsafe(64 * 1024)
    const length = readSync(table, part, 0, part.length, at)
    if (length === 0) return Buffer.concat(parts).toString('latin1').split('\n').slice(1)
    parts.push(part.subarray(0, length))
    at += length
  }
}

// Addresses stand there as 32-bit words in the byte order of the machine, which is little-endian on x64 and arm64.
function v4Hex(address: string): string {
  return Buffer.from(address.split('.').map(Number)).reverse().toString('hex').toUpperCase()
}

function v6Hex(address: string): string {
  const [head = '', tail] = address.split('%', 1)[0]?.split('::') ?? []
  const front = head.split(':').filter(Boolean)
  const back = (tail ?? '').split(':').filter(Boolean)
  const groups = [...front, ...Array.from({ length: 8 - front.length - back.length }, () => '0'), ...back]
  return words(Buffer.from(groups.map((group) => group.padStart(4, '0')).join(''), 'hex')).toUpperCase()
}

function words(bytes: Buffer): string {
  return Buffer.from(bytes).swap32().toString('hex')
}

function endpoint(text: string): { readonly address?: string; readonly port?: number } {
  const [hex = '', port = '0'] = text.split(':')
  if (Number.parseInt(port, 16) === 0) return {}
  const bytes = Buffer.from(hex, 'hex').swap32()
  const mapped = bytes.length === 16 && bytes.subarray(0, 12).toString('hex') === '00000000000000000000ffff'
  const v4 = bytes.length === 4 ? bytes : mapped ? bytes.subarray(12) : undefined
  const address = v4 === undefined ? v6Text(bytes) : [...v4].join('.')
  return { address, port: Number.parseInt(port, 16) }
}

function v6Text(bytes: Buffer): string {
  const groups = Array.from({ length: 8 }, (_, at) => bytes.readUInt16BE(at * 2).toString(16))
  // Node's parser of URLs shortens an address as RFC 5952 has it.
  return new URL(`http://[${groups.join(':')}]`).hostname.slice(1, -1)
}
