import { spawn, type ChildProcess } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { closeSync, constants, existsSync, mkdirSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { Socket } from 'node:net'
import { constants as system } from 'node:os'
import { join, posix } from 'node:path'

import { bubblewrapArguments } from './bubblewrap.ts'
import { BASE_ENVIRONMENT, buildFileSystem, IN_MEMORY, USER } from './file-system.ts'
import { limitInOutput, watchLimits, type Limit, type Limits, type Peak } from './limits.ts'
import { openLog } from './log.ts'
import { listProcesses, type ProcessState } from './processes.ts'
import type { CellBuild, CellConfig } from './protocol.ts'
import { filteredBy, seccompFilter } from './seccomp.ts'
import { unshareScript } from './unshare.ts'

/** A build that has ended; `began` is false if its command was not reached, and then the tail says why. */
export interface EndedBuild {
  readonly began: boolean
  readonly status: number | null
  readonly signal: string | null
  readonly limit?: Limit
  readonly tail: string
  readonly logBytes: number
  readonly durationMs: number
  readonly peak: Readonly<Peak>
}

export interface RunningBuild {
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
    child = confinedProcess(config, build, marker, writer)
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
    await new Promise((resolve) => (stream.closed ? resolve(undefined) : stream.once('close', resolve)))
    if (waiting !== undefined) log.write(waiting)
    const wrapped = signalOfStatus(code)
    const how = { status: wrapped === undefined ? code : null, signal: signal ?? wrapped ?? null }
    if (limit !== undefined)
      log.note(`this build was ended: it went over its limit of ${describeLimit(limit, build.limits)}`)
    else if (how.status !== 0) {
      limit = limitInOutput(log.tail(), how.signal, watch.peak, build.limits)
      if (limit !== undefined) log.note(`this build failed at its limit of ${describeLimit(limit, build.limits)}`)
    }
    const { tail, bytes } = log.close()
    return {
      began: waiting === undefined,
      ...how,
      ...(limit === undefined ? {} : { limit }),
      tail,
      logBytes: bytes,
      durationMs,
      peak: watch.peak,
    }
  }
  return { ended: ended(), kill }
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

function confinedProcess(config: CellConfig, build: CellBuild, marker: string, output: number): ChildProcess {
  const { level, programs, scratch, etc, ownUser } = config
  const begin = marker.trimEnd()
  const limited = [programs.prlimit ?? 'prlimit', ...resourceLimits(build.limits), '--']
  const stdio: ('ignore' | number)[] = ['ignore', output, output]
  if (level === 'unenforced') {
    const words = [...limited, '/bin/sh', '-c', 'echo "$0"; exec "$@"', begin, ...build.command]
    if (programs.prlimit === undefined) words.splice(0, limited.length)
    // A session of its own: no terminal, and a signal to the whole of polder's group does not end it half-way.
    const cwd = join(build.directory.source, build.cwd)
    return spawn(words[0] ?? '', words.slice(1), { env: unconfined(build.env, scratch), cwd, stdio, detached: true })
  }
  const cwd = posix.join(build.directory.target, build.cwd)
  const pieces = buildFileSystem(etc, build.directory, build.mounts, build.limits)
  const drop = ['--inh-caps=-all', '--ambient-caps=-all', '--bounding-set=-all', '--no-new-privs', '--']
  const setpriv = programs.setpriv ?? 'setpriv'
  const becomeUser = [setpriv, `--reuid=${USER.id}`, `--regid=${USER.id}`, '--clear-groups', ...drop]
  if (level === 'bubblewrap') {
    const filter = seccompFilter()
    const options = join(scratch, 'options')
    const filterFile = join(scratch, 'seccomp')
    if (filter !== undefined && !existsSync(filterFile)) writeFileSync(filterFile, filter)
    const seccomp = filter === undefined ? undefined : 4
    writeFileSync(options, bubblewrapArguments({ pieces, env: build.env, cwd, ownUser, seccomp }), { mode: 0o600 })
    const descriptors = [openSync(options, 'r'), ...(filter === undefined ? [] : [openSync(filterFile, 'r')])]
    const inside = [...limited, '/bin/sh', '-c', 'echo "$0"; exec "$@"', begin, ...build.command]
    try {
      return spawn(programs.bwrap ?? 'bwrap', ['--args', '3', '--', ...(ownUser ? becomeUser : []), ...inside], {
        env: {},
        cwd: '/',
        stdio: [...stdio, ...descriptors],
        detached: true,
      })
    } finally {
      for (const descriptor of descriptors) closeSync(descriptor)
    }
  }
  const filter = seccompFilter()
  const filtered = filter === undefined || programs.perl === undefined ? [] : filteredBy(filter, programs.perl)
  // The shell stays as the first process of the namespace: another program would not take care of orphans.
  const inside = [...filtered, ...limited, '/bin/sh', '-c', 'echo "$0"; "$@"; exit $?', begin, ...build.command]
  const unshare = programs.unshare ?? 'unshare'
  const change = ownUser
    ? becomeUser
    : [unshare, '--user', `--map-user=${USER.id}`, `--map-group=${USER.id}`, '--keep-caps', '--', setpriv, ...drop]
  const root = join(scratch, 'root')
  const script = join(scratch, 'enter.sh')
  mkdirSync(root, { recursive: true })
  const { mount = 'mount', pivot_root: pivotRoot = 'pivot_root' } = programs
  const text = unshareScript({
    pieces,
    root,
    programs: { mount, pivotRoot },
    cwd,
    command: [...change, ...inside],
    env: build.env,
    ownNamespace: !ownUser,
  })
  writeFileSync(script, text, { mode: 0o600 })
  const namespaces = ['--mount', '--pid', '--ipc', '--uts', '--fork', '--kill-child']
  return spawn(unshare, [...(ownUser ? [] : ['--user', '--map-root-user']), ...namespaces, '--', '/bin/sh', script], {
    env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin' },
    cwd: '/',
    stdio,
    detached: true,
  })
}

/** Private directories are made on disk where there is no private file system. */
function unconfined(env: CellBuild['env'], scratch: string): Record<string, string> {
  const fresh = (name: string): string => {
    const path = join(scratch, name)
    rmSync(path, { recursive: true, force: true })
    mkdirSync(path)
    return path
  }
  const own = { HOME: fresh('home'), TMPDIR: fresh('tmp') }
  const given = Object.entries(env).filter(([name, value]) => BASE_ENVIRONMENT[name] !== value)
  return { ...BASE_ENVIRONMENT, ...own, ...Object.fromEntries(given) }
}

/** What the kernel limits for each process, and never more than it allows us ourselves. */
function resourceLimits({ memoryBytes, processes, diskBytes }: Limits): readonly string[] {
  const allowed = readFileSync('/proc/self/limits', 'latin1')
  const hard = (name: string): number => {
    const value = new RegExp(`^${name} +\\S+ +(\\S+)`, 'm').exec(allowed)?.[1]
    return value === undefined || value === 'unlimited' ? Number.POSITIVE_INFINITY : Number(value)
  }
  return [
    '--core=0',
    `--fsize=${Math.min(diskBytes, hard('Max file size'))}`,
    // Counted are the processes and threads of the build alone, as its user has no others in its namespace. A build that
    // meets this limit has gone over the one that ends it, but cannot take the machine with it before that is seen.
    `--nproc=${Math.min(Math.ceil(processes * 1.25) + 32, hard('Max processes'))}`,
    // What a process may write to in memory, used or not: programs reserve far more than they use.
    `--data=${Math.min(memoryBytes * 2 + 2 ** 30, hard('Max data size'))}`,
  ]
}

async function exitOf(child: ChildProcess): Promise<readonly [number | null, NodeJS.Signals | null]> {
  return new Promise((resolve, reject) => {
    child.once('error', reject)
    child.once('exit', (code, signal) => resolve([code, signal]))
  })
}

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
