import { isErrno, type PolderError, type Manifest } from '@polder/spec'
import { parseManifest } from '@polder/spec/manifest'
import { promisify } from 'node:util'
import { gunzip, type ZlibOptions } from 'node:zlib'

import { ArchivePaths, LIMITS, packagePath, staysInside } from './archive-paths.ts'
import type { TarEntry } from './any-tar.ts'
import { readPlainTar } from './plain-tar.ts'
import { refusal } from './refusal.ts'

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
 * Reads an npm package's archive: tar (ustar, pax, GNU long names), plain or gzipped. Other threads inflate.
 * @param label the package, for messages
 * @throws PolderError `ARCHIVE_REFUSED`, with the entry and the rule
 */
export async function openArchive(bytes: Buffer, label: string): Promise<Archive> {
  return readTar(await inflateArchive(bytes, label), label)
}

async function readTar(tar: Buffer, label: string): Promise<Archive> {
  const reading = new Reading(label)
  const plain = readPlainTar(tar)
  if (plain !== undefined) for (const entry of plain) reading.add(entry)
  else (await import('./any-tar.ts')).readAnyTar(tar, label, (entry) => reading.add(entry))
  return { directories: reading.paths.directories, files: reading.files, skipped: reading.skipped }
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
    return use(await readTar(tar, label))
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
 * @throws PolderError `ARCHIVE_REFUSED`, `MANIFEST_INVALID`
 */
export async function readArchiveManifest(bytes: Buffer, label: string): Promise<ArchiveManifest> {
  return archiveManifest(await openArchive(bytes, label), label)
}

/** As {@link readArchiveManifest}, of an archive that has been read. */
export function archiveManifest({ files }: Archive, label: string): ArchiveManifest {
  const file = files.get('package.json')
  if (file === undefined) throw refusal(label, 'it holds no package.json')
  const text = file.bytes.toString('utf8')
  return {
    manifest: parseManifest(text, `package.json of ${label}`),
    hasBindingGyp: files.has('binding.gyp') && !refusesGyp(text),
  }
}

/** `"gypfile": false`: npm lets a binding.gyp be then, of a package that brings what it would make. */
function refusesGyp(manifest: string): boolean {
  return (
    manifest.includes('gypfile') &&
    (JSON.parse(manifest.replace(/^\uFEFF/, '')) as { gypfile?: unknown }).gypfile === false
  )
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

  add(entry: TarEntry): void {
    this.#entries += 1
    if (this.#entries > LIMITS.entries) throw refusal(this.label, `it has more than ${LIMITS.entries} entries`)
    const checked = packagePath(entry.path)
    if ('refused' in checked) throw this.#refuse(entry, checked.refused)
    const { path } = checked
    if (FILES.has(entry.type)) return this.#addFile(entry, path)
    if (LINKS.has(entry.type)) return this.#skipLink(entry, path)
    if (entry.type !== 'Directory') throw this.#refuse(entry, `is a ${entry.type}, which no package needs`)
    this.#accept(entry, this.paths.addDirectory(path))
  }

  #addFile(entry: TarEntry, path: string): void {
    const mode = entry.mode ?? 0o644
    if ((mode & 0o6000) !== 0) throw this.#refuse(entry, `would run with its owner's rights (mode ${mode.toString(8)})`)
    // A file beside the root directory has no place in the package; every client leaves it out.
    if (path === '') {
      this.skipped.push(entry.path)
      return
    }
    const before = this.files.get(path)
    if (before === undefined) this.#accept(entry, this.paths.addLeaf(path))
    else if (!before.bytes.equals(entry.bytes)) throw this.#refuse(entry, 'is there twice, with different contents')
    this.files.set(path, { bytes: entry.bytes, executable: (mode & 0o100) !== 0 })
  }

  #skipLink(entry: TarEntry, path: string): void {
    const target = entry.linkpath ?? ''
    // A symbolic link counts from its own directory, a hard link from the root of the archive.
    const inside =
      entry.type === 'SymbolicLink' ? path !== '' && staysInside(path, target) : 'path' in packagePath(target)
    if (!inside) throw this.#refuse(entry, `is a link out of the package, to ${JSON.stringify(target)}`)
    this.#accept(entry, this.paths.addLeaf(path))
    this.skipped.push(path)
  }

  #accept(entry: TarEntry, refused: string | undefined): void {
    if (refused !== undefined) throw this.#refuse(entry, refused)
  }

  #refuse(entry: TarEntry, rule: string): PolderError {
    return refusal(this.label, `its entry ${JSON.stringify(entry.path)} ${rule}`)
  }
}

const gunzipInPool = promisify<Buffer, ZlibOptions, Buffer>(gunzip)

async function inflateArchive(bytes: Buffer, label: string): Promise<Buffer> {
  if (!isGzipped(bytes)) {
    if (bytes.length > LIMITS.unpackedBytes) throw tooLarge(label, LIMITS.unpackedBytes)
    return bytes
  }
  try {
    return await gunzipInPool(bytes, inflation(bytes))
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
