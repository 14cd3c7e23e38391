import { opendirSync, lstatSync, statfsSync, statSync } from 'node:fs'
import { join } from 'node:path'

import { proportionalBytes, type ProcessState } from '../processes.ts'

/** How much one build may take. What goes over a limit is ended, and says which. */
export interface Limits {
  readonly timeMs: number
  /** Of all its processes together, with what is in its `/tmp`, HOME and `/dev/shm`. */
  readonly memoryBytes: number
  /** Processes and their threads, together. */
  readonly processes: number
  /** Of its log. */
  readonly outputBytes: number
  /** Of one file, of its own directory, and of its `/tmp` and of its HOME, each. */
  readonly diskBytes: number
}

export type Limit = 'time' | 'memory' | 'processes' | 'output' | 'disk'

export const DEFAULT_LIMITS: Limits = {
  timeMs: 30 * 60_000,
  memoryBytes: 4 * 2 ** 30,
  processes: 1024,
  outputBytes: 64 * 2 ** 20,
  diskBytes: 4 * 2 ** 30,
}

/** The most that a build was seen to use. */
export interface Peak {
  memoryBytes: number
  processes: number
}

interface Watched {
  readonly limits: Limits
  /** Of the build. */
  readonly processes: () => readonly ProcessState[]
  /** Directories that are a file system of their own each, as the processes of the build see them. */
  readonly memoryFileSystems: readonly string[]
  readonly directory: string
  readonly exceeded: (limit: Limit) => void
}

const INTERVAL_MS = 50

/**
 * Looks at a build twenty times a second. The kernel has no limit for several processes together that is there without
 * cgroups, which a user seldom may make; so this measures, and leaves to the kernel what it limits for each process.
 */
export function watchLimits({ limits, processes: list, memoryFileSystems, directory, exceeded }: Watched): {
  readonly peak: Peak
  readonly stop: () => void
} {
  const peak: Peak = { memoryBytes: 0, processes: 0 }
  let walkAt = performance.now() + 1000
  const look = (): void => {
    // bwrap leaves one behind that only waits to be reaped, a build.
    const processes = list().filter(({ ended }) => !ended)
    const threads = processes.reduce((sum, process) => sum + process.threads, 0)
    peak.processes = Math.max(peak.processes, threads)
    if (threads > limits.processes) return exceeded('processes')
    const files = inMemory(processes, memoryFileSystems)
    let memory = files + processes.reduce((sum, process) => sum + process.privateBytes, 0)
    if (memory > limits.memoryBytes) memory = files + proportionalBytes(processes)
    peak.memoryBytes = Math.max(peak.memoryBytes, memory)
    if (memory > limits.memoryBytes) return exceeded('memory')
    const now = performance.now()
    if (now < walkAt) return
    if (directoryBytes(directory) > limits.diskBytes) return exceeded('disk')
    // At most a twentieth of the time goes into walking a large directory.
    walkAt = performance.now() + Math.max(1000, (performance.now() - now) * 20)
  }
  const timer = setInterval(look, INTERVAL_MS)
  const deadline = setTimeout(() => exceeded('time'), limits.timeMs)
  return {
    peak,
    stop: () => {
      clearInterval(timer)
      clearTimeout(deadline)
    },
  }
}

/** What is in the private file systems, seen through a process that is already inside: its root is not ours. */
function inMemory(processes: readonly ProcessState[], fileSystems: readonly string[]): number {
  if (fileSystems.length === 0) return 0
  const ours = statSync('/')
  for (const { pid } of processes.toReversed()) {
    try {
      const { dev, ino } = statSync(`/proc/${pid}/root/`)
      if (dev === ours.dev && ino === ours.ino) continue
      return fileSystems.reduce((sum, path) => {
        const { blocks, bfree, bsize } = statfsSync(`/proc/${pid}/root${path}`)
        return sum + (blocks - bfree) * bsize
      }, 0)
    } catch {
      // It ended, or its file system is still being made.
    }
  }
  return 0
}

function directoryBytes(directory: string): number {
  let bytes = 0
  const pending = [directory]
  for (let next = pending.pop(); next !== undefined; next = pending.pop()) {
    try {
      const entries = opendirSync(next)
      try {
        for (let entry = entries.readSync(); entry !== null; entry = entries.readSync()) {
          const path = join(next, entry.name)
          if (entry.isDirectory()) pending.push(path)
          else bytes += lstatSync(path, { throwIfNoEntry: false })?.size ?? 0
        }
      } finally {
        entries.closeSync()
      }
    } catch {
      // Removed while we walked.
    }
  }
  return bytes
}

/**
 * What a build that failed ran into, if it says so itself: the limits of the kernel are errors of a system call, which
 * a program prints and then fails with.
 */
export function limitInOutput(tail: string, signal: string | null, used: Peak, limits: Limits): Limit | undefined {
  if (signal === 'SIGXFSZ' || DISK.test(tail)) return 'disk'
  if (PROCESSES.test(tail)) return 'processes'
  // Programs have limits of their own, above all Node; those are not ours.
  return MEMORY.test(tail) && used.memoryBytes > limits.memoryBytes / 2 ? 'memory' : undefined
}

const DISK = /ENOSPC|EFBIG|No space left on device|File too large|File size limit exceeded/
const PROCESSES = /Cannot fork|can't fork|fork:? .*(?:EAGAIN|Resource temporarily unavailable)|spawn \S+ EAGAIN/i
const MEMORY = /ENOMEM|Cannot allocate memory|virtual memory exhausted|ERR_MEMORY_ALLOCATION_FAILED|out of memory/
