import { isErrno } from '@polder/spec'
import { randomBytes } from 'node:crypto'
import { closeSync, openSync, readdirSync, readFileSync, readlinkSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { hostname } from 'node:os'
import { join } from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'

import type { Store } from './content-path.ts'
import { writeFailure } from './write-failure.ts'

/**
 * `locks/<pid>-<random>` is held by whoever uses the store; `locks/collecting` by the one process that decides what
 * is garbage. Each writes its own file first and then looks for the other's, so that at least one of the two sees
 * the other: an installation waits, a collection gives up.
 */
const COLLECTING = 'collecting'

/** A lease of another machine or container cannot be checked; it counts for as long as an installation may take. */
const FOREIGN_LEASE_MS = 24 * 60 * 60 * 1000

/** A lease is one small write: what is still not JSON after this long never will be. */
const HALF_WRITTEN_MS = 10_000

/** Who holds a lease. A process id is used again, so it counts only together with when that process started. */
interface Holder {
  readonly pid: number
  readonly started: string
  /** Machine (or, on Linux, boot and process namespace) in which the pid means something. */
  readonly space: string
}

/**
 * Runs `fn` while holding a lease on the store: nothing in it is collected meanwhile. Waits while a collection decides what
 * is garbage (well under a second). Leases do not exclude each other.
 * @throws PolderError `DISK_FULL`, `STORE_UNWRITABLE`; what `fn` throws
 */
export async function withLease<T>(store: Store, fn: () => T | Promise<T>): Promise<T> {
  const path = join(store.home, 'locks', `${process.pid}-${randomBytes(6).toString('hex')}`)
  try {
    writeFileSync(path, JSON.stringify(self()), { flag: 'wx' })
  } catch (error) {
    // Where nobody can write, nobody collects.
    if (isErrno(error, 'EROFS')) return fn()
    throw writeFailure(error, 'taking a lease on the store', path)
  }
  try {
    while (isHeld(join(store.home, 'locks', COLLECTING))) await wait(10)
    return await fn()
  } finally {
    rmSync(path, { force: true })
  }
}

/**
 * Runs `fn` if nobody uses the store and nobody else collects; leases of dead processes are removed.
 * @returns what `fn` returns, or undefined if the store is in use
 */
export function whileUnused<T>(store: Store, fn: () => T): { readonly result: T } | undefined {
  const locks = join(store.home, 'locks')
  const own = join(locks, COLLECTING)
  if (!takeExclusive(own)) return undefined
  try {
    for (const name of readdirSync(locks)) {
      if (name === COLLECTING) continue
      if (isHeld(join(locks, name))) return undefined
      rmSync(join(locks, name), { force: true })
    }
    return { result: fn() }
  } finally {
    rmSync(own, { force: true })
  }
}

function takeExclusive(path: string): boolean {
  for (const attempt of ['first', 'after a dead process']) {
    try {
      const file = openSync(path, 'wx')
      writeFileSync(file, JSON.stringify(self()))
      closeSync(file)
      return true
    } catch (error) {
      if (!isErrno(error, 'EEXIST')) throw writeFailure(error, 'locking the store', path)
      if (attempt !== 'first' || isHeld(path)) return false
      rmSync(path, { force: true })
    }
  }
  return false
}

function isHeld(path: string): boolean {
  let holder: Partial<Holder>
  let age = 0
  try {
    age = Date.now() - statSync(path).mtimeMs
    holder = JSON.parse(readFileSync(path, 'utf8')) as Partial<Holder>
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return false
    // Being written at this moment, or left half-written by a crash.
    if (error instanceof SyntaxError) return age < HALF_WRITTEN_MS
    throw error
  }
  if (holder.space !== space()) return age < FOREIGN_LEASE_MS
  return typeof holder.pid === 'number' && startOf(holder.pid) === holder.started
}

function self(): Holder {
  return { pid: process.pid, started: startOf(process.pid) ?? '', space: space() }
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
