import { isErrno } from '@polder/spec'
import { closeSync, openSync, writeSync } from 'node:fs'

const TAIL_BYTES = 16 * 1024

/** The log of one build: all it printed, up to its limit, on disk; and the last of it in memory. */
export interface BuildLog {
  /** False from the write on that reached the limit. */
  readonly write: (bytes: Buffer) => boolean
  readonly note: (line: string) => void
  /** The end of it so far. */
  readonly tail: () => string
  /** `lost` if the disk was too full for some of it. */
  readonly close: () => { readonly tail: string; readonly bytes: number; readonly lost: boolean }
}

/** @param path is made, or made empty */
export function openLog(path: string, limit: number): BuildLog {
  const file = openSync(path, 'w', 0o644)
  let written = 0
  let truncated = false
  let lost = false
  let tail = Buffer.alloc(0)
  const put = (bytes: Buffer): void => {
    try {
      writeSync(file, bytes)
    } catch (error) {
      if (!isErrno(error, 'ENOSPC', 'EDQUOT')) throw error
      lost = true
    }
    tail = Buffer.concat([tail, bytes]).subarray(-TAIL_BYTES)
  }
  const text = (): string => tail.toString('utf8').replace(/^\uFFFD+/, '')
  return {
    write: (bytes) => {
      const room = limit - written
      if (truncated || bytes.length === 0) return !truncated
      put(bytes.length > room ? bytes.subarray(0, room) : bytes)
      written += Math.min(bytes.length, room)
      truncated = bytes.length > room
      return !truncated
    },
    note: (line) => put(Buffer.from(`\npolder: ${line}\n`)),
    tail: text,
    close: () => {
      closeSync(file)
      return { tail: text(), bytes: written, lost }
    },
  }
}
