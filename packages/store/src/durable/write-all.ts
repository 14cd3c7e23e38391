import { writeSync } from 'node:fs'

/**
 * For more at a time, Linux looks for runs of free memory that are as long, and that may take ten times as long as
 * copying the bytes does (6.18, in a virtual machine).
 */
const WRITE_BYTES = 512 * 1024

/** Writes all of it where the file is at. */
export function writeAll(file: number, bytes: Uint8Array): void {
  for (let offset = 0; offset < bytes.length;)
    offset += writeSync(file, bytes, offset, Math.min(bytes.length - offset, WRITE_BYTES))
}
