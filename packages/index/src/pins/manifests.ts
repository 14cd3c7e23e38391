import { mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'

import { hexDigest, type Integrity, isErrno, type Manifest } from '@polder/spec'
import { type Store, temporaryPath, writeFailure } from '@polder/store'

import type { PinnedPackage } from './pin.ts'

// One file an artifact, manifests/sha512/ab/cdef….json:
//   { "format": 1, "needsBuild": false, "shasum"?, "manifest": { …as @polder/spec normalises it } }
const FORMAT = 1

/**
 * The manifest of an artifact, as it was recorded when the artifact came; undefined if there is none or it was written
 * by another version. It is derived data: whatever is wrong with it, the artifact can give it again.
 */
export function readManifest(store: Store, integrity: Integrity): PinnedPackage | undefined {
  return parseManifest(manifestText(store, integrity), integrity)
}

/** The record as it is on disk; empty if there is none. */
export function manifestText(store: Store, integrity: Integrity): string {
  try {
    return readFileSync(manifestPath(store, integrity), 'utf8')
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return ''
    throw error
  }
}

/** What {@link manifestText} says. */
export function parseManifest(text: string, integrity: Integrity): PinnedPackage | undefined {
  const record = parse(text)
  return record === undefined ? undefined : { integrity, ...record }
}

/**
 * Not fsynced, unlike the artifact: a file that a power cut left empty is no JSON, and is made again. The rename keeps
 * other processes from seeing half of it; what a killed one leaves is in the store's `tmp/`.
 * @throws PolderError `DISK_FULL`, `STORE_UNWRITABLE`
 */
export function writeManifest(store: Store, { integrity, manifest, needsBuild, shasum }: PinnedPackage): void {
  const path = manifestPath(store, integrity)
  const temporary = temporaryPath(store, 'manifest')
  try {
    writeFileSync(temporary, JSON.stringify({ format: FORMAT, needsBuild, shasum, manifest }))
    place(temporary, path)
  } catch (error) {
    rmSync(temporary, { force: true })
    throw writeFailure(error, 'writing a manifest', path)
  }
}

/** Most often the directory is there: 256 of them hold everything. */
function place(temporary: string, path: string): void {
  try {
    renameSync(temporary, path)
  } catch (error) {
    if (!isErrno(error, 'ENOENT')) throw error
    mkdirSync(dirname(path), { recursive: true })
    renameSync(temporary, path)
  }
}

/** Takes a manifest away that is not what its artifact says, so that the next sync reads it again. */
export function removeManifest(store: Store, integrity: Integrity): void {
  rmSync(manifestPath(store, integrity), { force: true })
}

function manifestPath(store: Store, integrity: Integrity): string {
  const hex = hexDigest(integrity)
  return join(store.home, 'manifests/sha512', hex.slice(0, 2), `${hex.slice(2)}.json`)
}

// As in spec's Manifest: these hold names from outside as keys, so they must not inherit anything.
const RECORDS = [
  'dependencies',
  'devDependencies',
  'optionalDependencies',
  'peerDependencies',
  'engines',
  'bin',
  'scripts',
] as const

const SHASUM = /^[0-9a-f]{40}$/

/** Our own file, so its shape is only checked where a wrong one would go unnoticed: this runs for every pin of a lock. */
function parse(text: string): Omit<PinnedPackage, 'integrity'> | undefined {
  let record: { format?: unknown; needsBuild?: unknown; shasum?: unknown; manifest?: Record<string, unknown> } | null
  try {
    record = JSON.parse(text) as typeof record
  } catch {
    return undefined
  }
  const manifest = record?.manifest
  if (
    record?.format !== FORMAT ||
    typeof record.needsBuild !== 'boolean' ||
    typeof manifest !== 'object' ||
    manifest === null
  )
    return undefined
  for (const field of RECORDS) {
    const value = manifest[field]
    if (typeof value !== 'object' || value === null) return undefined
    Object.setPrototypeOf(value, null)
  }
  if (!Array.isArray(manifest['optionalPeers']) || !Array.isArray(manifest['bundled'])) return undefined
  const { needsBuild, shasum } = record
  return {
    manifest: manifest as unknown as Manifest,
    needsBuild,
    ...(typeof shasum === 'string' && SHASUM.test(shasum) ? { shasum } : {}),
  }
}
