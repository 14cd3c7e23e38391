import { isErrno } from '@polder/spec'
import { readFileSync, readlinkSync } from 'node:fs'
import { hostname } from 'node:os'

/** A process, told from a later one that got the same id, and from one of that id in another container or machine. */
export interface ProcessIdentity {
  readonly pid: number
  readonly started: string
  /** The boot and the PID namespace. */
  readonly space: string
}

let own: ProcessIdentity | undefined

export function ownIdentity(): ProcessIdentity {
  own ??= { pid: process.pid, started: startOf(process.pid) ?? '', space: space() }
  return own
}

/** Whether a process is still there; of one in another space (a container, a machine on a shared disk) nobody can tell. */
export function livenessOf({ pid, started, space: home }: Partial<ProcessIdentity>): 'alive' | 'gone' | 'elsewhere' {
  if (home !== space()) return 'elsewhere'
  return typeof pid === 'number' && startOf(pid) === started ? 'alive' : 'gone'
}

function space(): string {
  try {
    return `${readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim()} ${readlinkSync('/proc/self/ns/pid')}`
  } catch {
    return hostname()
  }
}

/** When a living process started, in what unit ever the system offers; undefined if there is none of this id. */
function startOf(pid: number): string | undefined {
  try {
    // Field 22 of proc(5)'s stat; the second field is the program's name in parentheses, which may hold anything.
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19]
  } catch (error) {
    if (isErrno(error, 'ESRCH')) return undefined
  }
  try {
    process.kill(pid, 0)
    return 'alive'
  } catch (error) {
    return isErrno(error, 'EPERM') ? 'alive' : undefined
  }
}
