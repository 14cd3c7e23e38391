import { isErrno, type PolderError } from '@polder/spec'
import { promisify } from 'node:util'
import { gunzip, gunzipSync, type ZlibOptions } from 'node:zlib'

import { LIMITS } from './archive-paths.ts'
import { refusal } from './refusal.ts'

const gunzipInPool = promisify<Buffer, ZlibOptions, Buffer>(gunzip)

/**
 * The tar archive in a package's archive, which may be gzipped. Other threads inflate.
 * @throws PolderError `ARCHIVE_REFUSED`
 */
export async function inflateArchive(bytes: Buffer, label: string): Promise<Buffer> {
  if (!isGzipped(bytes)) return asItIs(bytes, label)
  try {
    return await gunzipInPool(bytes, inflation(bytes))
  } catch (error) {
    throw inflationFailure(error, bytes, label)
  }
}

/** As {@link inflateArchive}, in this thread: all in all that takes less. */
export function inflateArchiveHere(bytes: Buffer, label: string): Buffer {
  if (!isGzipped(bytes)) return asItIs(bytes, label)
  try {
    return gunzipSync(bytes, inflation(bytes))
  } catch (error) {
    throw inflationFailure(error, bytes, label)
  }
}

function asItIs(bytes: Buffer, label: string): Buffer {
  if (bytes.length > LIMITS.unpackedBytes) throw tooLarge(label, LIMITS.unpackedBytes)
  return bytes
}

function isGzipped(bytes: Buffer): boolean {
  return bytes.length >= 2 && bytes[0] === 0x1f && bytes[1] === 0x8b
}

function inflation(bytes: Buffer): ZlibOptions {
  // The last four bytes are the unpacked size, where the archive is honest: then one buffer of that size does, and
  // nothing is copied, which of a large one would take its size in memory twice. What is not written to costs nothing.
  const announced = bytes.length >= 18 ? bytes.readUInt32LE(bytes.length - 4) : 0
  return {
    maxOutputLength: inflationLimit(bytes),
    chunkSize: Math.min(Math.max(announced + 64, 16 * 1024), inflationLimit(bytes)),
  }
}

function inflationLimit(bytes: Buffer): number {
  return Math.min(LIMITS.unpackedBytes, Math.max(LIMITS.ratioFloor, bytes.length * LIMITS.ratio))
}

function inflationFailure(error: unknown, bytes: Buffer, label: string): PolderError {
  if (isErrno(error, 'ERR_BUFFER_TOO_LARGE')) return tooLarge(label, inflationLimit(bytes))
  if (isErrno(error, 'Z_BUF_ERROR')) return refusal(label, 'it ends early, inside the compressed data', error)
  return refusal(label, `it is no well-formed gzip data (${(error as Error).message})`, error)
}

function tooLarge(label: string, limit: number): PolderError {
  return refusal(label, `it unpacks to more than ${limit} bytes`)
}
