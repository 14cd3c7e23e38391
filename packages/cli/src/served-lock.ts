import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, utimesSync } from 'node:fs'
import { join } from 'node:path'

import type { Gathered } from '@polder/gather'
import { lockedPins, type LockedPins, type NamedLock, packDocuments } from '@polder/index/server'
import type { Lock } from '@polder/lock'
import { PolderError } from '@polder/spec'
import { atomicWrite, readRoots, type Store } from '@polder/store'

import { lockDigest, readLockText } from './lock-file.ts'
import { unpinnedOf } from './unpinned.ts'
import { polderVersion } from './version.ts'

// What servers need of a lock, in the store's `served/`, by the digest of the lock's text: `<sha256>.json`, what the lock
// pins, and `<sha256>.documents`, the documents of that as they are sent. All of it is derived.

/** Another number where the same lock comes to other pins or documents, or they are kept in another way. */
const SERVED_FORMAT = 3

/** How many locks are kept: those of the branches somebody works on. */
const KEPT = 16

/**
 * A lock as the index serves it. The store keeps what follows from a lock's text by that text's hash: parsing it takes
 * several times as long as everything else until a server answers.
 * @param path named in errors
 * @throws PolderError `LOCK_INVALID`
 */
export async function servedLock(
  store: Store,
  lockText: string | Buffer,
  path: string,
): Promise<NamedLock & { readonly pins: LockedPins; readonly documents: string }> {
  const digest = lockDigest(lockText)
  const named = { id: digest.slice(0, 12), documents: documentsPath(store, digest) }
  const kept = readPins(pinsPath(store, digest))
  if (kept !== undefined) {
    markUsed(pinsPath(store, digest), named.documents)
    return { ...named, pins: kept }
  }
  const { parseLock } = await import('@polder/lock')
  const pins = lockedPins(parseLock(lockText.toString(), path))
  keepPins(store, digest, pins)
  return { ...named, pins }
}

/**
 * Keeps a lock as servers need it, when it is pinned.
 * @param before the text of the lock that was there, null if there was none
 * @param fetched true if more may be known of its pins than when its documents were made
 * @param gathered what it was made of, if that is known
 */
export async function keepServedLock(
  store: Store,
  lockText: string,
  lock: Lock,
  {
    before,
    fetched,
    gathered,
  }: { readonly before: string | null; readonly fetched: boolean; readonly gathered?: Gathered },
): Promise<void> {
  const digest = lockDigest(lockText)
  const [documents, path] = [documentsPath(store, digest), pinsPath(store, digest)]
  if (!fetched && existsSync(documents) && existsSync(path)) return
  const locked = lockedPins(lock)
  const known = readPins(path) ?? (before === null ? undefined : readPins(pinsPath(store, lockDigest(before))))
  const unpinned = gathered === undefined ? known?.unpinned : unpinnedOf(gathered, locked)
  const pins = { ...locked, ...(unpinned === undefined ? {} : { unpinned }) }
  keepPins(store, digest, pins)
  await keepDocuments(store, { pins, documents }, before)
}

/** As {@link keepServedLock}, for a lock that is there, when more may be known of what it pins. */
export async function renewServedLock(store: Store, lockText: string, path: string, gathered: Gathered): Promise<void> {
  const { pins, documents } = await servedLock(store, lockText, path)
  const renewed = { ...pins, unpinned: unpinnedOf(gathered, pins) }
  if (JSON.stringify(renewed) !== JSON.stringify(pins)) keepPins(store, lockDigest(lockText), renewed)
  await keepDocuments(store, { pins: renewed, documents })
}

/**
 * Makes the documents of a lock, for every server that there will be. What is up to date stays, and what is the same as in
 * those of another lock is taken from there.
 * @param before the text of the other lock
 */
export async function keepDocuments(
  store: Store,
  { pins, documents }: { readonly pins: LockedPins; readonly documents: string },
  before: string | null = null,
): Promise<void> {
  try {
    await packDocuments(store, pins, documents, before === null ? [] : [documentsPath(store, lockDigest(before))])
  } catch (error) {
    toleratedFailure(error)
  }
}

/** Nothing that was used in this time is collected: a lock need not be of a checkout that was installed. One day. */
const UNUSED_MS = 24 * 60 * 60 * 1000

/** Drops what was made of locks that no known checkout has and no server has used lately. */
export function dropStaleServed(store: Store, now: number): void {
  const current = readRoots(store).flatMap(({ checkout }) => {
    const text = tryLockText(checkout)
    const digest = text === null ? undefined : lockDigest(text)
    return digest === undefined ? [] : [pinsPath(store, digest), documentsPath(store, digest)]
  })
  for (const { path, at } of served(store))
    if (!current.includes(path) && now - at > UNUSED_MS) rmSync(path, { force: true })
}

function keepPins(store: Store, digest: string, pins: LockedPins): void {
  try {
    mkdirSync(directory(store), { recursive: true })
    const text = JSON.stringify(pins)
    // Of what a power cut left of it the hash is wrong.
    atomicWrite(pinsPath(store, digest), `${sha256(text)}\n${text}`, { durable: false })
    // Two files a lock.
    for (const { path } of served(store).slice(2 * KEPT)) rmSync(path, { force: true })
  } catch (error) {
    toleratedFailure(error)
  }
}

/** For {@link UNUSED_MS} and {@link KEPT}. */
function markUsed(...paths: readonly string[]): void {
  for (const path of paths) {
    try {
      utimesSync(path, new Date(), new Date())
    } catch (error) {
      toleratedFailure(error)
    }
  }
}

/** A store that cannot be written to still serves. */
function toleratedFailure(error: unknown): void {
  const tolerable = error instanceof PolderError && (error.code === 'STORE_UNWRITABLE' || error.code === 'DISK_FULL')
  if (!tolerable && !(error instanceof Error && 'code' in error && !(error instanceof PolderError))) throw error
}

/** A checkout of somebody else's says nothing. */
function tryLockText(checkout: string): string | null {
  try {
    return readLockText(checkout)
  } catch {
    return null
  }
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

/** What there is, the latest first. */
function served(store: Store): readonly { readonly path: string; readonly at: number }[] {
  if (!existsSync(directory(store))) return []
  return readdirSync(directory(store))
    .map((name) => join(directory(store), name))
    .map((path) => ({ path, at: statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? 0 }))
    .sort((a, b) => b.at - a.at)
}

function pinsPath(store: Store, digest: string): string {
  return join(directory(store), `${servedKey(digest)}.json`)
}

function documentsPath(store: Store, digest: string): string {
  return join(directory(store), `${servedKey(digest)}.documents`)
}

function servedKey(digest: string): string {
  return sha256(JSON.stringify([SERVED_FORMAT, polderVersion(), digest]))
}

function directory(store: Store): string {
  return join(store.home, 'served')
}

function sha256(text: string): string {
  return createHash('sha256').update(text).digest('hex')
}
