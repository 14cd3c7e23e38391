import { Parser } from 'tar/parse'
import type { ReadEntry } from 'tar/read-entry'

import { refusal } from './refusal.ts'

/** What an archive has at a path. */
export interface TarEntry {
  /** As it is written there. */
  readonly path: string
  /** node-tar's name of it: `File`, `Directory`, `SymbolicLink`, … */
  readonly type: string
  readonly mode?: number | undefined
  readonly linkpath?: string | undefined
  readonly bytes: Buffer
}

/**
 * Reads a tar archive of any kind (ustar, pax, GNU long names) with the parser of node-tar in strict mode: what it would
 * only warn of (a wrong checksum, a bad header) is an error.
 * @param onEntry called with each, in order
 * @throws PolderError `ARCHIVE_REFUSED`, and what `onEntry` throws
 */
export function readAnyTar(tar: Buffer, label: string, onEntry: (entry: TarEntry) => void): void {
  let failure: unknown
  const parser = new Parser({ strict: true, zstd: false, brotli: false })
  parser.on('error', (error: unknown) => (failure ??= error))
  parser.on('ignoredEntry', (entry: ReadEntry) => {
    throw refusal(
      label,
      `its entry ${JSON.stringify(entry.path)} is ${entry.meta ? 'a header of more than a megabyte' : `of an unknown type (${entry.header.typeKey})`}`,
    )
  })
  parser.on('entry', (entry: ReadEntry) => {
    const { path, type, mode, linkpath } = entry
    collect(entry, (bytes) => onEntry({ path, type, mode, linkpath, bytes }))
  })
  const seen = { eof: false, end: false }
  parser.on('eof', () => (seen.eof = true))
  parser.on('end', () => (seen.end = true))
  parser.end(tar)
  if (failure !== undefined) {
    const { message } = failure as Error
    throw refusal(
      label,
      message.includes('Truncated input')
        ? 'it ends early, inside a file'
        : `it is no well-formed tar archive (${message})`,
      failure,
    )
  }
  // Archives without their two zero blocks exist, but they are whole blocks.
  if (!seen.eof && tar.length % 512 !== 0) throw refusal(label, 'it ends early, inside a header')
  // The parser waits for an entry that nobody reads; then what follows it would be missing.
  if (!seen.end) throw new Error('the tar parser did not reach the end of the archive')
}

/** The whole body arrives at once, because the parser is given the whole archive at once. */
function collect(entry: ReadEntry, done: (bytes: Buffer) => void): void {
  const chunks: Buffer[] = []
  entry.on('data', (chunk: Buffer) => chunks.push(chunk))
  entry.on('end', () => done(chunks.length === 1 ? (chunks[0] as Buffer) : Buffer.concat(chunks)))
}
