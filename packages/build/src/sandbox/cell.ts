import { spawn, type ChildProcess } from 'node:child_process'
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'

import type { CellBuild, CellConfig, CellReady, CellReply, CellRequest } from './protocol.ts'

/** Namespaces with a process of ours in them, for one build at a time. */
export interface Cell {
  /** Where builds find the index. */
  readonly indexPort: number
  /** Rejects if the cell cannot go on. */
  readonly run: (build: CellBuild) => Promise<CellReply>
  /** Ends the build that is running. */
  readonly kill: () => void
  /** Resolves when nothing of it is left. */
  readonly close: () => Promise<void>
}

/** What `outside` a user namespace stands behind the user that builds are, where it is not polder's own. */
export interface OwnUser {
  readonly outside: number
}

// Which file it is depends on whether we run from source or from the bundle, where it is an entry of its own.
const PROCESS = fileURLToPath(
  new URL(import.meta.url.endsWith('.ts') ? './cell-process.ts' : './cell-process.mjs', import.meta.url),
)

// The shell waits until its user ids mean something, and only then becomes the process of the cell: a program that
// starts as nobody has no capabilities, not even in its own namespace.
const WAIT = 'echo; read _ && exec "$@"'

/** @throws Error with what the system said, if there can be no such cell here */
export async function openCell(config: CellConfig, user: OwnUser | undefined): Promise<Cell> {
  rmSync(config.scratch, { recursive: true, force: true })
  mkdirSync(config.scratch, { recursive: true, mode: 0o700 })
  const { programs } = config
  const node = [process.execPath, PROCESS]
  const map = user === undefined ? ['--map-root-user'] : []
  const namespaces = [
    '--user',
    ...map,
    '--net',
    '--mount',
    '--uts',
    '--pid',
    '--fork',
    '--kill-child',
    '--mount-proc',
    '--',
  ]
  // If polder is killed, the kernel kills unshare, and then what unshare started, and so all that there is in the
  // namespaces. A process that gains capabilities loses this tie, so it comes after that.
  const tie = [programs.setpriv ?? 'setpriv', '--pdeathsig', 'KILL', '--']
  const enter = [...tie, programs.unshare ?? 'unshare', ...namespaces]
  const wait = user === undefined ? [] : ['/bin/sh', '-c', WAIT, 'sh', ...tie]
  const words = config.level === 'unenforced' ? node : [...enter, ...wait, ...node]
  // A session of its own: an interrupt from the terminal is for polder, which then ends what it started.
  const child = spawn(words[0] ?? '', words.slice(1), {
    stdio: ['pipe', 'pipe', 'pipe'],
    cwd: '/',
    env: {},
    detached: true,
  })
  const told: string[] = []
  child.stderr.on('data', (bytes: Buffer) => told.push(bytes.toString()))
  child.stdin.on('error', () => undefined)
  const ended = endOf(child, told)
  const lines = linesOf(child)
  const next = async (): Promise<string> => Promise.race([lines(), ended])
  const send = (message: CellConfig | CellRequest): void => void child.stdin.write(`${JSON.stringify(message)}\n`)

  try {
    if (config.level !== 'unenforced' && user !== undefined) {
      await inTime(next())
      const map = `0 0 1\n1000 ${user.outside} 1\n`
      for (const file of ['uid_map', 'gid_map']) writeFileSync(`/proc/${child.pid}/${file}`, map)
      child.stdin.write('\n')
    }
    send(config)
    const ready = JSON.parse(await inTime(next())) as CellReady
    return {
      indexPort: ready.indexPort,
      run: async (build) => {
        send({ run: build })
        return JSON.parse(await next()) as CellReply
      },
      kill: () => send({ kill: true }),
      close: async () => close(child),
    }
  } catch (error) {
    await close(child)
    throw error
  } finally {
    ended.catch(() => undefined)
  }
}

/**
 * A user id that nobody has, for the builds of one cell. To the kernel, the superuser without any capability is still
 * who owns /proc and is exempt from the limit of processes; so its builds are somebody else.
 * @param cell counted from 0
 * @returns undefined if we are not the superuser, or in a namespace that has no further ids
 */
export function spareUser(cell: number): OwnUser | undefined {
  if (process.geteuid?.() !== 0) return undefined
  const ranges = ['uid_map', 'gid_map'].map((file) => lastRange(readFileSync(`/proc/self/${file}`, 'latin1')))
  const end = Math.min(...ranges.map(({ start, count }) => start + count))
  const start = Math.max(...ranges.map((range) => range.start))
  // Far from both ends: users of the machine come first, and some ranges end with `nobody`.
  const outside = Math.min(end - 1000, 2_000_000_000) - cell
  return outside > start && outside > 1000 ? { outside } : undefined
}

function lastRange(map: string): { readonly start: number; readonly count: number } {
  const [start = 0, , count = 0] = (map.trim().split('\n').at(-1) ?? '').trim().split(/\s+/).map(Number)
  return { start, count }
}

const OPENING_MS = 120_000

/** Opening takes a fraction of a second. That something in the way of it never ends has to be said, not waited for. */
async function inTime<T>(opening: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`it was not open after ${OPENING_MS / 1000} s`)), OPENING_MS)
  })
  return Promise.race([opening, late]).finally(() => clearTimeout(timer))
}

async function endOf(child: ChildProcess, told: readonly string[]): Promise<never> {
  const how = await new Promise<string>((resolve) => {
    child.once('error', (error) => resolve(error.message))
    child.once('close', (code, signal) => resolve(`ended with ${signal ?? code}`))
  })
  throw new Error(told.join('').trim() || how)
}

/** Gives one line of its stdout a call. */
function linesOf(child: ChildProcess): () => Promise<string> {
  const ready: string[] = []
  const waiting: ((line: string) => void)[] = []
  if (child.stdout === null) throw new Error('no stdout')
  createInterface({ input: child.stdout }).on('line', (line) => {
    const first = waiting.shift()
    if (first === undefined) ready.push(line)
    else first(line)
  })
  return async () => {
    const line = ready.shift()
    return line ?? (await new Promise((resolve) => waiting.push(resolve)))
  }
}

async function close(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined) return
  const gone = new Promise((resolve) => child.once('close', resolve))
  child.stdin?.end()
  const timer = setTimeout(() => child.kill('SIGKILL'), 2000)
  await gone
  clearTimeout(timer)
}
