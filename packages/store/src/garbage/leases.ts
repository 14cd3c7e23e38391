import { isErrno } from '@polder/spec'
import { closeSync, openSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'

import type { Store } from '../content-path.ts'
import { ownSuffix } from '../durable/own-suffix.ts'
import { livenessOf, ownIdentity, type ProcessIdentity } from './process-identity.ts'
import { writeFailure } from '../durable/write-failure.ts'

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

/**
 * Runs `fn` while holding a lease on the store: nothing in it is collected meanwhile. Waits while a collection decides what
 * is garbage (well under a second). Leases do not exclude each other.
 * @throws PolderError `DISK_FULL`, `STORE_UNWRITABLE`; what `fn` throws
 */
export async function withLease<T>(store: Store, fn: () => T | Promise<T>): Promise<T> {
  const path = join(store.home, 'locks', ownSuffix())
  try {
    writeFileSync(path, JSON.stringify(ownIdentity()), { flag: 'wx' })
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
      writeFileSync(file, JSON.stringify(ownIdentity()))
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
  let holder: Partial<ProcessIdentity>
  let age = 0
  try {
    age = Date.now() - statSync(path).mtimeMs
    holder = JSON.parse(readFileSync(path, 'utf8')) as Partial<ProcessIdentity>
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return false
    // Being written at this moment, or left half-written by a crash.
    if (error instanceof SyntaxError) return age < HALF_WRITTEN_MS
    throw error
  }
  const liveness = livenessOf(holder)
  return liveness === 'elsewhere' ? age < FOREIGN_LEASE_MS : liveness === 'alive'
}
