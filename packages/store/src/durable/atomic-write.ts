import { closeSync, fsyncSync, openSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'

import { ownSuffix } from './own-suffix.ts'
import { writeFailure } from './write-failure.ts'

/** A name in the same directory, for what is to be renamed to `path`. */
export function temporaryBeside(path: string): string {
  return join(dirname(path), `.${basename(path)}.${ownSuffix()}.tmp`)
}

/** What {@link atomicWrite} leaves behind if it is killed; garbage collection removes such files. */
export const TEMPORARY: RegExp = /^\.[^/]+\.\d+-[0-9a-f]{12}\.tmp$/

interface AtomicWriteOptions {
  readonly mode?: number
  /**
   * False for a file that is no more durable than what it tells of, without both fsyncs. A power cut may then leave the
   * old one, the new one, or an empty one, which its reader has to take for none.
   */
  readonly durable?: boolean
}

/**
 * Replaces a file so that a reader, or a crash at any point, finds the old bytes or the new, never a mixture:
 * temporary file in the same directory → fsync → rename → fsync of the directory.
 * @throws PolderError `DISK_FULL`, `STORE_UNWRITABLE`
 */
export function atomicWrite(
  path: string,
  bytes: Uint8Array | string,
  { mode = 0o644, durable = true }: AtomicWriteOptions = {},
): void {
  const temporary = temporaryBeside(path)
  try {
    const file = openSync(temporary, 'wx', mode)
    try {
      writeFileSync(file, bytes)
      if (durable) fsyncSync(file)
    } finally {
      closeSync(file)
    }
    renameSync(temporary, path)
    if (durable) syncDirectory(dirname(path))
  } catch (error) {
    rmSync(temporary, { force: true })
    throw writeFailure(error, `writing ${basename(path)}`, path)
  }
}

/** Makes the names in a directory (not what they name) durable. */
export function syncDirectory(path: string): void {
  const directory = openSync(path, 'r')
  try {
    fsyncSync(directory)
  } finally {
    closeSync(directory)
  }
}
