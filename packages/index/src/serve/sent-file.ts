import { closeSync, fstatSync, readSync } from 'node:fs'
import type { ServerResponse } from 'node:http'

import type { FileState } from '@polder/store'

import type { Exchange } from './resource.ts'

/** What is read and sent at a time: more is not faster, since it would not stay in the processor's cache in between. */
const CHUNK = 64 * 1024
/** For as many answers at once. The others make do with little, so that clients that do not read cannot fill the memory. */
const MANY = 256
const LITTLE = 8 * 1024

/** What files are read into on their way out: always the same memory, which nobody has to collect. */
export class ReadBuffers {
  readonly #free: Buffer[] = []
  #lent = 0

  take(): Buffer {
    this.#lent += 1
    return this.#lent > MANY ? Buffer.allocUnsafeSlow(LITTLE) : (this.#free.pop() ?? Buffer.allocUnsafeSlow(CHUNK))
  }

  giveBack(buffer: Buffer): void {
    this.#lent -= 1
    if (buffer.length === CHUNK) this.#free.push(buffer)
  }
}

/** A part of a file, open to be sent. Whoever has it closes it. */
export interface OpenPart {
  readonly file: number
  /** Where it begins, and how long it is, in bytes. */
  readonly at: number
  readonly size: number
  /** In which the file was verified; undefined for one that nobody else can write to. */
  readonly state?: FileState
  /** What closes the file instead, when it is collected. */
  readonly heldOpenBy?: object
}

/** Where the bytes of a body are on disk. Nothing that is not what its hash says comes out of it. */
export interface BodyFile {
  /** In bytes; 0 if there is none. */
  size(): number
  /** All of it, undefined if it is lost; or throws what an answer says then. */
  read(): Buffer | undefined
  /** To be sent from there. The caller closes it. Undefined, or rejects, as above. */
  open(): Promise<OpenPart | undefined>
}

export function closePart({ file, heldOpenBy }: OpenPart): void {
  if (heldOpenBy === undefined) closeSync(file)
}

/**
 * Settles when it is the turn of this answer on its connection. What waits must hold nothing, since not every Node tells it
 * when the connection ends first.
 */
export async function turnOf(response: ServerResponse): Promise<void> {
  if (response.socket === null && !response.destroyed)
    await new Promise<void>((resolve) => response.once('socket', () => resolve()))
}

/**
 * Sends the body of an answer whose head is written, `end` included, and closes the file. It is read while nothing else
 * happens: a chunk takes a few microseconds out of the system's cache, where it is since it was verified, and a detour by
 * another thread several times that. A file that somebody writes to meanwhile ends the answer.
 */
export function sendPart(
  { response, counters }: Exchange,
  part: OpenPart,
  { start, end }: { readonly start: number; readonly end: number },
  buffers: ReadBuffers,
): void {
  if (response.destroyed) return closePart(part)
  const buffer = buffers.take()
  response.once('close', () => {
    closePart(part)
    buffers.giveBack(buffer)
  })
  let sent = start
  const next = (error?: Error | null): void => {
    if (response.destroyed || error) return
    const length = Math.min(buffer.length, end + 1 - sent)
    if (!isRead(part, buffer, sent, length)) {
      counters.damaged += 1
      response.destroy()
      return
    }
    sent += length
    const chunk = length === buffer.length ? buffer : buffer.subarray(0, length)
    if (sent > end) response.end(chunk)
    else response.write(chunk, next)
  }
  next()
}

/** Reads what is `from` bytes behind the beginning of the part. False if that is not what was verified. */
function isRead({ file, at, state }: OpenPart, buffer: Buffer, from: number, length: number): boolean {
  try {
    if (readSync(file, buffer, 0, length, at + from) !== length) return false
    if (state === undefined) return true
    const { size, mtimeMs } = fstatSync(file)
    return size === state.size && mtimeMs === state.mtimeMs
  } catch {
    return false
  }
}

/** All of it; undefined if that is not what was verified. */
export function readPart(part: OpenPart): Buffer | undefined {
  // Not of the pool that Node shares out: bodies stay in memory for long.
  const bytes = Buffer.allocUnsafeSlow(part.size)
  return isRead(part, bytes, 0, part.size) ? bytes : undefined
}
