import { isErrno, PolderError, type Manifest } from '@polder/spec'
import { parseManifest } from '@polder/spec/manifest'
import { Parser } from 'tar/parse'
import type { ReadEntry } from 'tar/read-entry'
import { promisify } from 'node:util'
import { gunzip, gunzipSync, type ZlibOptions } from 'node:zlib'

import { ArchivePaths, LIMITS, packagePath, staysInside } from './archive-paths.ts'
import type { Patch } from './patch.ts'

/** A package's archive, checked whole: nothing of it is written before all of it is known to be harmless. */
export interface Archive {
  /** Inside the package, parents first. */
  readonly directories: readonly string[]
  /** By path. */
  readonly files: ReadonlyMap<string, ArchivedFile>
  /** Links that stay inside the package: not unpacked, as npm does, but not forgotten either. */
  readonly skipped: readonly string[]
}

export interface ArchivedFile {
  readonly bytes: Buffer
  readonly executable: boolean
}

/**
 * Reads an npm package's archive: tar (ustar, pax, GNU long names), plain or gzipped.
 * @param label the package, for messages
 * @throws PolderError `ARCHIVE_REFUSED`, with the entry and the rule
 */
export function readArchive(bytes: Buffer, label: string): Archive {
  return readTar(inflated(bytes, label), label)
}

function readTar(tar: Buffer, label: string): Archive {
  const reading = new Reading(label)
  parseTar(tar, label, (entry) => reading.add(entry))
  return { directories: reading.paths.directories, files: reading.files, skipped: reading.skipped }
}

/**
 * As {@link readArchive}, while other threads inflate.
 * @throws PolderError `ARCHIVE_REFUSED`
 */
export async function openArchive(bytes: Buffer, label: string): Promise<Archive> {
  return readTar(await inflateArchive(bytes, label), label)
}

/**
 * As {@link openArchive}, for an archive that is used once: its memory, and that of `bytes`, is given back when `use`
 * returns. Left to the collector, a hundred megabytes of archives would make it run every thirty.
 * @param bytes not to be read by anybody else
 * @param use may keep nothing of the archive
 */
export async function useArchive<T>(bytes: Buffer, label: string, use: (archive: Archive) => T): Promise<T> {
  const tar = await inflateArchive(bytes, label)
  try {
    return use(readTar(tar, label))
  } finally {
    free(bytes)
    free(tar)
  }
}

function free({ buffer }: Buffer): void {
  // Small buffers are parts of one that Node shares out.
  if (buffer instanceof ArrayBuffer && buffer.byteLength >= LARGE) buffer.transfer(0)
}

const LARGE = 128 * 1024

/** A package's manifest, and whether npm would run `node-gyp` for it. */
export interface ArchiveManifest {
  readonly manifest: Manifest
  readonly hasBindingGyp: boolean
}

/**
 * The manifest in a package's archive.
 * @param label the package, for messages
 * @param patch applied first
 * @throws PolderError `ARCHIVE_REFUSED`, `MANIFEST_INVALID`, `PATCH_FAILED`
 */
export async function readArchiveManifest(bytes: Buffer, label: string, patch?: Patch): Promise<ArchiveManifest> {
  const archive = await openArchive(bytes, label)
  if (patch === undefined) return archiveManifest(archive, label)
  return archiveManifest((await import('./patch.ts')).applyPackagePatch(archive, patch, label), label)
}

/** As {@link readArchiveManifest}, of an archive that has been read. */
export function archiveManifest({ files }: Archive, label: string): ArchiveManifest {
  const file = files.get('package.json')
  if (file === undefined) throw refusal(label, 'it holds no package.json')
  return {
    manifest: parseManifest(file.bytes.toString('utf8'), `package.json of ${label}`),
    hasBindingGyp: files.has('binding.gyp'),
  }
}

/** node-tar's names of the types that are read; every other is refused. */
const FILES: ReadonlySet<string> = new Set(['File', 'OldFile', 'ContiguousFile'])
const LINKS: ReadonlySet<string> = new Set(['Link', 'SymbolicLink'])

class Reading {
  readonly label: string
  readonly paths = new ArchivePaths()
  readonly files = new Map<string, ArchivedFile>()
  readonly skipped: string[] = []
  #entries = 0

  constructor(label: string) {
    this.label = label
  }

  add(entry: ReadEntry): void {
    this.#entries += 1
    if (this.#entries > LIMITS.entries) throw refusal(this.label, `it has more than ${LIMITS.entries} entries`)
    const checked = packagePath(entry.path)
    if ('refused' in checked) throw this.#refuse(entry, checked.refused)
    const { path } = checked
    if (FILES.has(entry.type)) return this.#addFile(entry, path)
    if (LINKS.has(entry.type)) return this.#skipLink(entry, path)
    if (entry.type !== 'Directory') throw this.#refuse(entry, `is a ${entry.type}, which no package needs`)
    this.#accept(entry, this.paths.addDirectory(path))
    entry.resume()
  }

  #addFile(entry: ReadEntry, path: string): void {
    const mode = entry.mode ?? 0o644
    if ((mode & 0o6000) !== 0) throw this.#refuse(entry, `would run with its owner's rights (mode ${mode.toString(8)})`)
    // A file beside the root directory has no place in the package; every client leaves it out.
    if (path === '') {
      this.skipped.push(entry.path)
      entry.resume()
      return
    }
    const before = this.files.get(path)
    if (before === undefined) this.#accept(entry, this.paths.addLeaf(path))
    collect(entry, (bytes) => {
      if (before !== undefined && !before.bytes.equals(bytes))
        throw this.#refuse(entry, 'is there twice, with different contents')
      this.files.set(path, { bytes, executable: (mode & 0o100) !== 0 })
    })
  }

  #skipLink(entry: ReadEntry, path: string): void {
    const target = entry.linkpath ?? ''
    // A symbolic link counts from its own directory, a hard link from the root of the archive.
    const inside =
      entry.type === 'SymbolicLink' ? path !== '' && staysInside(path, target) : 'path' in packagePath(target)
    if (!inside) throw this.#refuse(entry, `is a link out of the package, to ${JSON.stringify(target)}`)
    this.#accept(entry, this.paths.addLeaf(path))
    this.skipped.push(path)
    entry.resume()
  }

  #accept(entry: ReadEntry, refused: string | undefined): void {
    if (refused !== undefined) throw this.#refuse(entry, refused)
  }

  #refuse(entry: ReadEntry, rule: string): PolderError {
    return refusal(this.label, `its entry ${JSON.stringify(entry.path)} ${rule}`)
  }
}

/** The whole body arrives at once, because the parser is given the whole archive at once. */
function collect(entry: ReadEntry, done: (bytes: Buffer) => void): void {
  const chunks: Buffer[] = []
  entry.on('data', (chunk: Buffer) => chunks.push(chunk))
  entry.on('end', () => done(chunks.length === 1 ? (chunks[0] as Buffer) : Buffer.concat(chunks)))
}

/** Feeds the parser of node-tar in strict mode: what it would only warn of (a wrong checksum, a bad header) is an error. */
function parseTar(tar: Buffer, label: string, onEntry: (entry: ReadEntry) => void): void {
  let failure: unknown
  const parser = new Parser({ strict: true, zstd: false, brotli: false })
  parser.on('error', (error: unknown) => (failure ??= error))
  parser.on('ignoredEntry', (entry: ReadEntry) => {
    throw refusal(
      label,
      `its entry ${JSON.stringify(entry.path)} is ${entry.meta ? 'a header of more than a megabyte' : `of an unknown type (${entry.header.typeKey})`}`,
    )
  })
  parser.on('entry', onEntry)
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

const gunzipInPool = promisify<Buffer, ZlibOptions, Buffer>(gunzip)

async function inflateArchive(bytes: Buffer, label: string): Promise<Buffer> {
  if (!isGzipped(bytes)) return inflated(bytes, label)
  try {
    return await gunzipInPool(bytes, inflation(bytes))
  } catch (error) {
    throw inflationFailure(error, bytes, label)
  }
}

function inflated(bytes: Buffer, label: string): Buffer {
  if (!isGzipped(bytes)) {
    if (bytes.length > LIMITS.unpackedBytes) throw tooLarge(label, LIMITS.unpackedBytes)
    return bytes
  }
  try {
    return gunzipSync(bytes, inflation(bytes))
  } catch (error) {
    throw inflationFailure(error, bytes, label)
  }
}

function isGzipped(bytes: Buffer): boolean {
  return bytes.length >= 2 && bytes[0] === 0x1f && bytes[1] === 0x8b
}

function inflation(bytes: Buffer): ZlibOptions {
  // The last four bytes are the unpacked size, where the archive is honest: then one buffer of that size does, and
  // nothing is copied. Memory that is not written to costs nothing.
  const announced = bytes.length >= 18 ? bytes.readUInt32LE(bytes.length - 4) : 0
  return {
    maxOutputLength: inflationLimit(bytes),
    chunkSize: Math.min(Math.max(announced + 64, 16 * 1024), 64 * 1024 * 1024),
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

function refusal(label: string, reason: string, cause?: unknown): PolderError {
  return new PolderError('ARCHIVE_REFUSED', `the archive of ${label} is refused: ${reason}`, {
    spec: label,
    ...(cause === undefined ? {} : { cause }),
    hint: 'no package needs this; leave the package out, or have its author publish a sound archive',
  })
}
