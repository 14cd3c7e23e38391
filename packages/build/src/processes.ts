import { readdirSync, readFileSync, readlinkSync } from 'node:fs'

/**
 * What /proc tells of the processes of a build. The cell has a process namespace of its own, so that whatever is in
 * /proc and is not the cell belongs to the build.
 */
export interface ProcessState {
  readonly pid: number
  readonly parent: number
  readonly session: number
  /** It only waits to be reaped: it holds nothing but its number. */
  readonly ended: boolean
  readonly threads: number
  /** Bytes that are its own: neither of a file nor shared. */
  readonly privateBytes: number
}

/**
 * All processes but our own.
 * @param of only this one, which leads a session, what is in that, and what those started; for where /proc has others, too
 */
export function listProcesses(own: number, of?: number): readonly ProcessState[] {
  const found: ProcessState[] = []
  for (const name of readdirSync('/proc')) {
    const pid = Number(name)
    if (!Number.isInteger(pid) || pid === own) continue
    try {
      const status = readFileSync(`/proc/${pid}/status`, 'latin1')
      const field = (name: string): string => new RegExp(`^${name}:\\s*(\\S+)`, 'm').exec(status)?.[1] ?? ''
      found.push({
        pid,
        parent: Number(field('PPid')),
        session: Number(field('NSsid')),
        ended: field('State') === 'Z' || field('State') === 'X',
        threads: Number(field('Threads')),
        // Not told of one that has ended, nor of a kernel thread.
        privateBytes: Number(field('RssAnon') || 0) * 1024,
      })
    } catch {
      // It ended while we looked.
    }
  }
  return of === undefined ? found : descendants(found, of)
}

function descendants(processes: readonly ProcessState[], root: number): readonly ProcessState[] {
  const within = new Set([root])
  // One whose parent has ended has another one now, but is in the same session.
  for (const { pid, session } of processes) if (session === root) within.add(pid)
  for (let before = 0; before < within.size;) {
    before = within.size
    for (const { pid, parent } of processes) if (within.has(parent)) within.add(pid)
  }
  return processes.filter(({ pid }) => within.has(pid))
}

/**
 * The memory of these processes where each shared page counts once (proc(5), smaps_rollup): slower to find out than
 * `privateBytes`, which counts what a parent and its forks still share once for each.
 */
export function proportionalBytes(processes: readonly ProcessState[]): number {
  let bytes = 0
  for (const { pid, privateBytes } of processes) {
    try {
      const rollup = readFileSync(`/proc/${pid}/smaps_rollup`, 'latin1')
      bytes += Number(/^Pss_Anon: *(\d+) kB$/m.exec(rollup)?.[1] ?? Number.NaN) * 1024 || privateBytes
    } catch {
      // Ended, or not ours to ask.
    }
  }
  return bytes
}

/** Which process did it, and on whose behalf. */
export interface Actor {
  readonly command?: string
  readonly ancestry?: readonly string[]
}

/** The command lines of the process that holds the socket of this inode, and of its parents. */
export function actorOfSocket(inode: string): Actor {
  const wanted = `socket:[${inode}]`
  for (const name of readdirSync('/proc')) {
    const pid = Number(name)
    if (!Number.isInteger(pid) || pid === process.pid) continue
    try {
      const holds = readdirSync(`/proc/${pid}/fd`).some((fd) => {
        try {
          return readlinkSync(`/proc/${pid}/fd/${fd}`) === wanted
        } catch {
          return false
        }
      })
      if (holds) return describeActor(pid)
    } catch {
      // It ended while we looked.
    }
  }
  return {}
}

const COMMAND_LENGTH = 300
const GENERATIONS = 8

function describeActor(pid: number): Actor {
  const lines: string[] = []
  for (let at = pid; at > 1 && lines.length <= GENERATIONS;) {
    try {
      const status = readFileSync(`/proc/${at}/status`, 'latin1')
      // The first process of the namespace holds the sandbox up; it is not the build's.
      if (/^NSpid:.*\t1$/m.test(status)) break
      lines.push(commandLine(at))
      at = Number(/^PPid:\t(\d+)$/m.exec(status)?.[1] ?? 0)
    } catch {
      break
    }
  }
  const [command, ...ancestry] = lines
  return command === undefined ? {} : { command, ancestry }
}

function commandLine(pid: number): string {
  const words = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0')
  return words.join(' ').replaceAll(/\s+/g, ' ').trim().slice(0, COMMAND_LENGTH)
}

/** A socket as the kernel lists it, in the namespace of the cell. */
export interface SocketEntry {
  readonly inode: string
  /** Where its owner connected to, before any redirect; undefined if it is connected to nothing. */
  readonly address?: string
  readonly port?: number
}

/**
 * The socket that has this local address: the other end of a connection that we accepted. A redirect changes what we
 * are connected to, but not what the kernel remembers in the client's own entry (/proc/net/tcp, the column
 * rem_address), which is the destination that was asked for.
 */
export function socketWithAddress(protocol: 'tcp' | 'udp', address: string, port: number): SocketEntry | undefined {
  const v4 = /^(?:::ffff:)?(\d+\.\d+\.\d+\.\d+)$/.exec(address)?.[1]
  const plain = v4 === undefined ? v6Hex(address) : v4Hex(v4)
  const tail = `:${port.toString(16).toUpperCase().padStart(4, '0')}`
  // A datagram socket that was not bound to an address has none until it is connected.
  const locals = new Set([plain, `0000000000000000FFFF0000${plain}`].map((hex) => hex + tail))
  if (protocol === 'udp') for (const none of ['0'.repeat(8), '0'.repeat(32)]) locals.add(none + tail)
  let found: SocketEntry | undefined
  for (const file of [protocol, `${protocol}6`]) {
    for (const line of readTable(file)) {
      const [, local = '', remote = '', , , , , , , inode = '0'] = line.trim().split(/\s+/)
      if (!locals.has(local)) continue
      const entry = { inode, ...endpoint(remote) }
      // One that nobody holds any more (inode 0) still knows where it went.
      if (inode !== '0') return entry
      found ??= entry
    }
  }
  return found
}

function readTable(file: string): readonly string[] {
  try {
    return readFileSync(`/proc/self/net/${file}`, 'latin1').split('\n').slice(1)
  } catch {
    return []
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
