import type { ChildProcess } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { closeSync, constants, openSync, statfsSync } from 'node:fs'
import { Socket } from 'node:net'
import { constants as system } from 'node:os'
import { join } from 'node:path'

import { confinedProcess } from './confined-process.ts'
import { IN_MEMORY } from './file-system.ts'
import { limitInOutput, watchLimits, type Limit, type Limits, type Peak } from './limits.ts'
import { openLog } from './log.ts'
import { listProcesses, type ProcessState } from '../processes.ts'
import type { CellBuild, CellConfig } from './protocol.ts'

/** A build that has ended; `began` is false if its command was not reached, and then the tail says why. */
export interface EndedBuild {
  readonly began: boolean
  readonly status: number | null
  readonly signal: string | null
  readonly limit?: Limit
  /** Not its limit was in its way, but the disk. */
  readonly diskFull?: true
  readonly tail: string
  readonly logBytes: number
  readonly durationMs: number
  readonly peak: Readonly<Peak>
}

export interface RunningBuild {
  /** Where it is confined, it waits to be let into its network (`receiveNetwork`). */
  readonly child: ChildProcess
  readonly ended: Promise<EndedBuild>
  readonly kill: () => void
}

/**
 * Starts one build in the namespaces of this cell.
 * @throws Error if what it is to see is not there
 */
export function startBuild(config: CellConfig, build: CellBuild): RunningBuild {
  const began = performance.now()
  const marker = `began ${randomBytes(16).toString('hex')}\n`
  const log = openLog(build.log, build.limits.outputBytes)
  const output = join(config.scratch, 'output')
  // A fifo, since programs open /dev/stderr anew, which they cannot if it is a socket, as the pipes of Node are.
  const reader = openSync(output, constants.O_RDONLY | constants.O_NONBLOCK)
  const writer = openSync(output, constants.O_WRONLY)
  let child: ChildProcess
  try {
    child = confinedProcess(config, build, marker.trimEnd(), writer)
  } catch (error) {
    closeSync(reader)
    log.close()
    throw error
  } finally {
    closeSync(writer)
  }

  let limit: Limit | undefined
  const unenforced = config.level === 'unenforced'
  const processes = (): readonly ProcessState[] => listProcesses(process.pid, unenforced ? child.pid : undefined)
  const kill = (): void => {
    for (const { pid } of processes()) killProcess(pid)
    child.kill('SIGKILL')
  }
  const exceeded = (which: Limit): void => {
    limit ??= which
    kill()
  }
  const watch = watchLimits({
    limits: build.limits,
    processes,
    memoryFileSystems: unenforced ? [] : IN_MEMORY,
    directory: build.directory.source,
    exceeded,
  })

  let waiting: Buffer | undefined = Buffer.alloc(0)
  const stream = new Socket({ fd: reader, readable: true, writable: false })
  stream.on('data', (bytes: Buffer) => {
    if (waiting !== undefined) {
      waiting = Buffer.concat([waiting, bytes])
      const at = waiting.indexOf(marker)
      if (at < 0) return
      bytes = Buffer.concat([waiting.subarray(0, at), waiting.subarray(at + marker.length)])
      waiting = undefined
    }
    if (!log.write(bytes)) exceeded('output')
  })

  const ended = async (): Promise<EndedBuild> => {
    const [code, signal] = await exitOf(child)
    const durationMs = Math.round(performance.now() - began)
    watch.stop()
    await drain(processes)
    await closed(stream)
    if (waiting !== undefined) log.write(waiting)
    const wrapped = signalOfStatus(code)
    let diskFull = false
    const how = { status: wrapped === undefined ? code : null, signal: signal ?? wrapped ?? null }
    if (limit !== undefined)
      log.note(`this build was ended: it went over its limit of ${describeLimit(limit, build.limits)}`)
    else if (how.status !== 0) {
      limit = limitInOutput(log.tail(), how.signal, watch.peak, build.limits)
      if (limit === 'disk' && isFull(build.directory.source)) {
        limit = undefined
        diskFull = true
      }
      if (limit !== undefined) log.note(`this build failed at its limit of ${describeLimit(limit, build.limits)}`)
    }
    const { tail, bytes, lost } = log.close()
    return {
      began: waiting === undefined,
      ...how,
      ...(limit === undefined ? {} : { limit }),
      ...(diskFull || lost ? { diskFull: true as const } : {}),
      tail,
      logBytes: bytes,
      durationMs,
      peak: watch.peak,
    }
  }
  return { child, ended: ended(), kill }
}

/** What a limit says, for people. */
function describeLimit(limit: Limit, limits: Limits): string {
  const mib = (bytes: number): string => `${Math.round(bytes / 2 ** 20)} MiB`
  switch (limit) {
    case 'time':
      return `${limits.timeMs / 1000} s`
    case 'memory':
      return `${mib(limits.memoryBytes)} of memory`
    case 'processes':
      return `${limits.processes} processes and threads`
    case 'output':
      return `${mib(limits.outputBytes)} of output`
    case 'disk':
      return `${mib(limits.diskBytes)} on disk`
  }
}

/** As good as: what is left of a file system can be kept for the superuser. */
function isFull(directory: string): boolean {
  const { bavail, bsize } = statfsSync(directory)
  return bavail * bsize < 2 ** 20
}

async function exitOf(child: ChildProcess): Promise<readonly [number | null, NodeJS.Signals | null]> {
  return new Promise((resolve, reject) => {
    child.once('error', reject)
    child.once('exit', (code, signal) => resolve([code, signal]))
  })
}

/**
 * Everything that was written was read. Where nothing is confined, a process that left the session of the build may keep
 * it open for as long as it runs.
 */
async function closed(stream: Socket): Promise<void> {
  const timer = setTimeout(() => stream.destroy(), LEFT_OPEN_MS)
  await new Promise((resolve) => (stream.closed ? resolve(undefined) : stream.once('close', resolve)))
  clearTimeout(timer)
}

const LEFT_OPEN_MS = 2000

/** The namespace of a build ends with its first process; that all others are gone is seen, not assumed. */
async function drain(processes: () => readonly ProcessState[]): Promise<void> {
  const deadline = performance.now() + 10_000
  for (;;) {
    const left = processes().filter(({ ended }) => !ended)
    if (left.length === 0) return
    if (performance.now() > deadline) throw new Error(`${left.length} processes of a build could not be ended`)
    for (const { pid } of left) killProcess(pid)
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
}

function killProcess(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL')
  } catch {
    // It has ended.
  }
}

/** bwrap and the shell give the number of a signal as 128 more. */
function signalOfStatus(code: number | null): string | undefined {
  if (code === null || code <= 128) return undefined
  return Object.entries(system.signals).find(([, number]) => number === code - 128)?.[0]
}
