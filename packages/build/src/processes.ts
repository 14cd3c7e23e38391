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
