import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readFileSync, rmSync } from 'node:fs'
import { dirname, join } from 'node:path'

import { type Integrity, isErrno, type PackageId } from '@polder/spec'
import { atomicWrite, type FileToWrite, type Store, writeFailure } from '@polder/store'

/** What a registry's document said of a version when it was recorded. Never looked up anew: drift is reported against it. */
export interface Release {
  readonly name: string
  readonly version: string
  /** The registry that said so, without secrets. */
  readonly registry: string
  /** The registry did not have it when it was asked, so nothing else is known. */
  readonly unlisted?: true
  /** ISO 8601, UTC. */
  readonly published?: string
  /** The strongest hash of `dist.integrity`, or of `dist.shasum` where there is nothing better. */
  readonly integrity?: Integrity
  /** sha1, hex. */
  readonly shasum?: string
  readonly fileCount?: number
  readonly unpackedSize?: number
  /** Over `name@version:integrity`. */
  readonly signatures?: readonly ReleaseSignature[]
  /** `dist.attestations` as served: where they are and what they state. */
  readonly attestations?: { readonly url: string; readonly provenance?: { readonly predicateType: string } | undefined }
  readonly deprecated?: string
  /** All tags of the name. No prototype. */
  readonly distTags?: Readonly<Record<string, string>>
  /** When the document of the name was last changed, ISO 8601, UTC. */
  readonly modified?: string
  /** The ETag that the document had, for asking whether it changed. */
  readonly etag?: string
}

export interface ReleaseSignature {
  readonly keyid: string
  /** Base64, DER. */
  readonly sig: string
}

// releases/ab/cdef….json: { "format": 1, "id", "release" }, the name is the sha256 of the id. Beside it, where they were
// fetched, cdef….attestations.json: { "format": 1, "id", "attestations" } as served.
const FORMAT = 1

/** What the registry said of a pin when it was recorded; undefined if nothing was, or if the record is damaged. */
export function readRelease(store: Store, id: PackageId): Release | undefined {
  return parseRelease(releaseText(store, id), id)
}

/** The record as it is on disk; empty if there is none. */
export function releaseText(store: Store, id: PackageId): string {
  return textOf(releasePath(store, id))
}

/** What {@link releaseText} says. */
export function parseRelease(text: string, id: PackageId): Release | undefined {
  const release = parseRecord(text, id)?.['release']
  if (!isObject(release) || typeof release['name'] !== 'string' || typeof release['registry'] !== 'string')
    return undefined
  // Looked up by tags from outside.
  if (isObject(release['distTags'])) Object.setPrototypeOf(release['distTags'], null)
  return release as unknown as Release
}

/** The answer to `/-/npm/v1/attestations/NAME@VERSION` for a pin, as the registry gave it; undefined if there is none. */
export function readAttestations(store: Store, id: PackageId): unknown {
  return parseRecord(textOf(attestationsPath(store, id)), id)?.['attestations']
}

/** A record as a file of the store, for `writeFiles`. */
export function releaseFile(store: Store, id: PackageId, release: Release): FileToWrite {
  return { path: releasePath(store, id), text: `${JSON.stringify({ format: FORMAT, id, release })}\n` }
}

/** As {@link releaseFile}. */
export function attestationsFile(store: Store, id: PackageId, attestations: unknown): FileToWrite {
  return { path: attestationsPath(store, id), text: `${JSON.stringify({ format: FORMAT, id, attestations })}\n` }
}

/**
 * Durable before it returns: what was published when cannot be asked of a registry that no longer has it.
 * @throws PolderError `DISK_FULL`, `STORE_UNWRITABLE`
 */
export function writeRelease(store: Store, id: PackageId, release: Release): void {
  write(releaseFile(store, id, release))
}

/** As {@link writeRelease}. */
export function writeAttestations(store: Store, id: PackageId, attestations: unknown): void {
  write(attestationsFile(store, id, attestations))
}

function write({ path, text }: FileToWrite): void {
  try {
    mkdirSync(dirname(path), { recursive: true })
  } catch (error) {
    throw writeFailure(error, 'writing a release record', path)
  }
  atomicWrite(path, text)
}

/** Takes a record away that cannot be believed, so that the registry is asked again. */
export function removeRelease(store: Store, id: PackageId): void {
  rmSync(releasePath(store, id), { force: true })
  rmSync(attestationsPath(store, id), { force: true })
}

/** True if there may be attestations: whether they can be read is not looked at. */
export function hasAttestationsFile(store: Store, id: PackageId): boolean {
  return existsSync(attestationsPath(store, id))
}

/** True if there is a record, whether it can be read or not. */
export function hasReleaseFile(store: Store, id: PackageId): boolean {
  return existsSync(releasePath(store, id))
}

function textOf(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENOTDIR')) return ''
    throw error
  }
}

/** Our own file, so only what would go unnoticed is checked: that it is whole, and of this id. */
function parseRecord(text: string, id: PackageId): Record<string, unknown> | undefined {
  if (text === '') return undefined
  let record: unknown
  try {
    record = JSON.parse(text)
  } catch {
    return undefined
  }
  return isObject(record) && record['format'] === FORMAT && record['id'] === id ? record : undefined
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function releasePath(store: Store, id: PackageId): string {
  return `${recordPath(store, id)}.json`
}

function attestationsPath(store: Store, id: PackageId): string {
  return `${recordPath(store, id)}.attestations.json`
}

function recordPath(store: Store, id: PackageId): string {
  const hex = createHash('sha256').update(id).digest('hex')
  return join(store.home, 'releases', hex.slice(0, 2), hex.slice(2))
}
