import { createHash, type Hash } from 'node:crypto'
import { closeSync, fstatSync, openSync, read } from 'node:fs'
import { promisify } from 'node:util'

/** What tells a file from another one, and from itself after somebody wrote to it, without reading it. */
export interface FileState {
  readonly ino: number
  readonly size: number
  readonly mtimeMs: number
  readonly ctimeMs: number
}

/** A file that is open for reading, and the state in which its bytes were verified. Whoever has it closes it. */
export interface OpenFile {
  /** Its descriptor. Not a `FileHandle`: one that is open when it is collected ends the process. */
  readonly file: number
  readonly state: FileState
}

/**
 * Opens a file whose bytes are to be used from there.
 * @param verified the state in which they were verified before; in any other one, `verify` has to say that they are sound
 */
export async function openVerified(
  path: string,
  verified: FileState | undefined,
  verify: (file: number, state: FileState) => Promise<void>,
): Promise<OpenFile> {
  const file = openSync(path, 'r')
  try {
    const { ino, size, mtimeMs, ctimeMs } = fstatSync(file)
    const state = { ino, size, mtimeMs, ctimeMs }
    if (verified === undefined || !STATE.every((field) => verified[field] === state[field])) await verify(file, state)
    return { file, state }
  } catch (error) {
    closeSync(file)
    throw error
  }
}

const STATE = ['ino', 'size', 'mtimeMs', 'ctimeMs'] as const

/** What is read at a time: many may be verified at once. */
const CHUNK = 128 * 1024

/** The hash over a part of a file; it is shorter if the file is. */
export async function hashFile(algorithm: string, file: number, start: number, bytes: number): Promise<Hash> {
  const hash = createHash(algorithm)
  const chunk = Buffer.allocUnsafe(Math.min(CHUNK, bytes))
  for (let at = 0; at < bytes;) {
    const { bytesRead } = await reading(file, chunk, 0, Math.min(chunk.length, bytes - at), start + at)
    if (bytesRead === 0) break
    hash.update(chunk.subarray(0, bytesRead))
    at += bytesRead
  }
  return hash
}

const reading = promisify(read)
