import { createHash } from 'node:crypto'
import { mkdirSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs'
import { join } from 'node:path'

import { lockedPins, type LockedPins, type NamedLock } from '@polder/index/server'
import type { Lock } from '@polder/lock'
import { PolderError } from '@polder/spec'
import { atomicWrite, type Store } from '@polder/store'

import { lockDigest } from './lock-file.ts'
import { polderVersion } from './version.ts'

/** Another number where the same lock comes to other pins, or they are kept in another way. */
const SERVED_FORMAT = 1

/** How many locks' pins are kept: those of the branches somebody works on. */
const KEPT = 16

/**
 * A lock as the index serves it. The store keeps what follows from a lock's text by that text's hash: parsing it takes
 * several times as long as everything else until a server answers.
 * @param path named in errors
 * @throws PolderError `LOCK_INVALID`
 */
export async function servedLock(store: Store, lockText: string, path: string): Promise<NamedLock> {
  const id = lockDigest(lockText).slice(0, 12)
  const kept = readPins(pinsPath(store, lockText))
  if (kept !== undefined) return { id, pins: kept }
  const { parseLock } = await import('@polder/lock')
  const lock = parseLock(lockText, path)
  return { id, pins: keepServedLock(store, lockText, lock) }
}

/** What `polder lock` does, so that the first server starts as fast as all others. */
export function keepServedLock(store: Store, lockText: string, lock: Lock): LockedPins {
  const pins = lockedPins(lock)
  try {
    mkdirSync(directory(store), { recursive: true })
    const text = JSON.stringify(pins)
    atomicWrite(pinsPath(store, lockText), `${sha256(text)}\n${text}`)
    dropOldest(store)
  } catch (error) {
    // A store that cannot be written to still serves.
    const tolerable = error instanceof PolderError && (error.code === 'STORE_UNWRITABLE' || error.code === 'DISK_FULL')
    if (!tolerable && !(error instanceof Error && 'code' in error)) throw error
  }
  return pins
}

/** Behind their hash: what was damaged is made again. */
function readPins(path: string): LockedPins | undefined {
  try {
    const [digest, text = ''] = readFileSync(path, 'utf8').split('\n')
    return digest === sha256(text) ? (JSON.parse(text) as LockedPins) : undefined
  } catch {
    return undefined
  }
}

function dropOldest(store: Store): void {
  const aged = readdirSync(directory(store))
    .map((name) => join(directory(store), name))
    .map((path) => ({ path, at: statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? 0 }))
    .sort((a, b) => b.at - a.at)
  for (const { path } of aged.slice(KEPT)) rmSync(path, { force: true })
}

function pinsPath(store: Store, lockText: string): string {
  return join(directory(store), `${sha256(JSON.stringify([SERVED_FORMAT, polderVersion(), lockText]))}.json`)
}

function directory(store: Store): string {
  return join(store.home, 'served')
}

function sha256(text: string): string {
  return createHash('sha256').update(text).digest('hex')
}
