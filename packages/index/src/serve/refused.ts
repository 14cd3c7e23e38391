import { randomBytes } from 'node:crypto'
import { appendFileSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, statSync } from 'node:fs'
import { join } from 'node:path'

import { compareText, isErrno, PolderError } from '@polder/spec'
import { atomicWrite, type Store } from '@polder/store'

import type { Refusal } from './refusal.ts'

// refused/<pid>-<random>.jsonl, one file a server, so that several never write into one. A line is so many refusals of one
// kind: { …Refusal, "first", "last", "count" }. A line is appended by one write, so a server that is killed leaves whole
// lines; one that a power cut left in pieces is skipped.

/** What was asked for in vain, by whom and how often. */
export interface RefusedEntry extends Refusal {
  /** ISO 8601, UTC. */
  readonly first: string
  readonly last: string
  readonly count: number
}

/** A server's part of the record. */
export interface RefusedRecord {
  readonly note: (refusal: Refusal) => void
  /** Writes what is not written yet. */
  readonly close: () => void
}

export interface RefusedOptions {
  /** The clock, in milliseconds since 1970. */
  readonly now?: () => number
  /** How long repeated requests may be gathered before they are written. New ones are written at once. */
  readonly delayMs?: number
}

/** What one server tells apart. Whatever else is asked for is counted together. */
const MOST_ENTRIES = 1000
/** A file that grew beyond this is written anew, merged. */
const MOST_BYTES = 1024 * 1024
/** Files that were not written to for a day are merged when there are more than this. */
const MOST_FILES = 50
const DAY_MS = 24 * 60 * 60 * 1000

/** Opens the record for one server. Whatever is wrong with the disk, the server goes on. */
export function openRefusedRecord(
  store: Store,
  { now = Date.now, delayMs = 1000 }: RefusedOptions = {},
): RefusedRecord {
  const path = join(directory(store), `${process.pid}-${randomBytes(6).toString('hex')}.jsonl`)
  const known = new Set<string>()
  const pending = new Map<string, RefusedEntry>()
  let timer: NodeJS.Timeout | undefined

  const write = (): void => {
    clearTimeout(timer)
    timer = undefined
    if (pending.size === 0) return
    const lines = [...pending.values()].map(lineOf).join('')
    pending.clear()
    tolerant(() => {
      mkdirSync(directory(store), { recursive: true })
      appendFileSync(path, lines)
      if (statSync(path).size > MOST_BYTES) atomicWrite(path, merged([path]).map(lineOf).join(''))
    })
  }
  tolerant(() => {
    mergeOldFiles(store, now())
  })
  return {
    note(refusal) {
      let subject = refusal
      if (!known.has(keyOf(refusal)) && known.size >= MOST_ENTRIES)
        subject = { what: '(more than can be told apart)', kind: 'package', socket: refusal.socket }
      const key = keyOf(subject)
      add(pending, subject, new Date(now()).toISOString())
      const isNew = !known.has(key)
      known.add(key)
      if (isNew) write()
      else timer ??= setTimeout(write, delayMs).unref()
    },
    close: write,
  }
}

/** What all servers of this store refused, the latest first. */
export function readRefused(store: Store): readonly RefusedEntry[] {
  return merged(filesOf(store)).sort((a, b) => compareText(b.last, a.last) || compareText(a.what, b.what))
}

/**
 * Forgets it. Servers that are running begin anew.
 * @throws PolderError `STORE_UNWRITABLE`
 */
export function clearRefused(store: Store): void {
  for (const path of filesOf(store)) rmSync(path, { force: true })
}

function directory(store: Store): string {
  return join(store.home, 'refused')
}

function filesOf(store: Store): string[] {
  try {
    return readdirSync(directory(store))
      .filter((name) => name.endsWith('.jsonl'))
      .sort(compareText)
      .map((name) => join(directory(store), name))
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return []
    throw error
  }
}

function merged(paths: readonly string[]): RefusedEntry[] {
  const entries = new Map<string, RefusedEntry>()
  for (const path of paths) {
    for (const line of readLines(path)) {
      const { first, last, count, ...refusal } = line
      const key = keyOf(refusal)
      const other = entries.get(key)
      entries.set(key, {
        ...refusal,
        first: other === undefined || first < other.first ? first : other.first,
        last: other === undefined || last > other.last ? last : other.last,
        count: count + (other?.count ?? 0),
      })
    }
  }
  return [...entries.values()]
}

function readLines(path: string): RefusedEntry[] {
  let text: string
  try {
    text = readFileSync(path, 'utf8')
  } catch (error) {
    // Merged or cleared by another process meanwhile.
    if (isErrno(error, 'ENOENT')) return []
    throw error
  }
  return text.split('\n').flatMap((line) => {
    try {
      const entry = JSON.parse(line) as Partial<RefusedEntry> | null
      return typeof entry?.what === 'string' && typeof entry.last === 'string' && typeof entry.count === 'number'
        ? [entry as RefusedEntry]
        : []
    } catch {
      return []
    }
  })
}

/** A server that writes into one of them meanwhile begins a new one: it opens the file for every line. */
function mergeOldFiles(store: Store, now: number): void {
  const files = filesOf(store)
  const old = files.filter((path) => now - (statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? now) > DAY_MS)
  if (files.length <= MOST_FILES || old.length < 2) return
  const aside = old.flatMap((path) => {
    try {
      renameSync(path, `${path}.merging`)
      return [`${path}.merging`]
    } catch {
      return []
    }
  })
  const newest = merged(aside)
    .sort((a, b) => compareText(b.last, a.last))
    .slice(0, MOST_ENTRIES)
  atomicWrite(join(directory(store), `merged-${randomBytes(6).toString('hex')}.jsonl`), newest.map(lineOf).join(''))
  for (const path of aside) rmSync(path, { force: true })
}

function add(pending: Map<string, RefusedEntry>, refusal: Refusal, at: string): void {
  const key = keyOf(refusal)
  const other = pending.get(key)
  pending.set(key, { ...refusal, first: other?.first ?? at, last: at, count: (other?.count ?? 0) + 1 })
}

/** Everything but when and how often, in one order. */
function keyOf(refusal: Refusal): string {
  const { what, kind, asker, userAgent, command, referer, socket } = refusal
  return JSON.stringify([what, kind, asker, userAgent, command, referer, socket])
}

function lineOf(entry: RefusedEntry): string {
  return `${JSON.stringify(entry)}\n`
}

function tolerant(action: () => void): void {
  try {
    action()
  } catch (error) {
    const isDisk = error instanceof PolderError || (error instanceof Error && 'code' in error)
    if (!isDisk) throw error
  }
}
