import { closeSync, createReadStream, readFileSync } from 'node:fs'

import {
  algorithmOf,
  type Integrity,
  integrityFromHex,
  isPackageName,
  packageId,
  type PackageId,
  PolderError,
  strongestIntegrity,
} from '@polder/spec'
import { installScripts } from '@polder/spec/manifest'
import {
  discardStaged,
  hasArtifact,
  openArtifact,
  publishStaged,
  stageArtifact,
  type Store,
  withLease,
  writeArtifact,
} from '@polder/store'
import { readArchiveManifest } from '@polder/store/archive'

import { systemClock } from '../upstream/backoff.ts'
import { writeManifest } from './manifests.ts'
import { type NpmConfig, redactUrl } from '../upstream/npm-config.ts'
import { openUpstream } from '../upstream/upstream.ts'

export const MAX_TARBALL_BYTES: number = 1024 ** 3
/** Browsers have some hundred megabytes; a bundle takes no more than this. */
const MAX_FILE_BYTES = 4 * 1024 ** 3

/** A tarball that is in the store now, and which package it says it is. */
export interface AddedTarball {
  readonly id: PackageId
  readonly integrity: Integrity
  readonly bytes: number
}

/**
 * Brings a package's tarball into the store: checked as every archive is, named by the manifest in it.
 * @param source its bytes, or the path of a file
 * @param label for messages
 * @throws PolderError `ARCHIVE_REFUSED`, `MANIFEST_INVALID` if it does not say which version of what it is; `FETCH_FAILED`
 *   if the file cannot be read; `DISK_FULL`, `STORE_UNWRITABLE`
 */
export async function addTarball(store: Store, source: string | Uint8Array, label: string): Promise<AddedTarball> {
  return withLease(store, async () => {
    const chunks = typeof source === 'string' ? fileChunks(source) : once(source)
    const staged = await stageArtifact(store, chunks, { expected: null, maxBytes: MAX_TARBALL_BYTES, label })
    try {
      const { manifest, hasBindingGyp } = await readArchiveManifest(readFileSync(staged.path), label)
      const { name = '', version = '' } = manifest
      if (!isPackageName(name) || !VERSION.test(version)) {
        throw new PolderError('MANIFEST_INVALID', `${label} says it is ${JSON.stringify(`${name}@${version}`)}`, {
          path: label,
          found: `${name}@${version}`,
          wanted: 'a name and a version',
        })
      }
      publishStaged(store, [staged])
      writeManifest(store, {
        integrity: staged.integrity,
        manifest,
        needsBuild: installScripts(manifest, hasBindingGyp).length > 0,
      })
      return { id: packageId(name, version), integrity: staged.integrity, bytes: staged.bytes }
    } finally {
      discardStaged([staged])
    }
  })
}

const VERSION = /^\d+\.\d+\.\d+(?:[-+][0-9A-Za-z.+-]+)?$/

/** Where a file that is on no registry comes from: the disk, or its URL by way of the user's configuration. */
export type FileOrigin = { readonly path: string } | { readonly npm: () => Promise<NpmConfig> }

/**
 * Brings a file that is on no registry into the store. What is there already, by its hash, is not fetched.
 * @param expected null if nobody knows its hash: the caller decides whether what comes is trusted
 * @throws PolderError `FETCH_FAILED`, `INTEGRITY_MISMATCH`, `SOURCE_UNSUPPORTED`, `NPMRC_INVALID`; `DISK_FULL`,
 *   `STORE_UNWRITABLE`
 */
export async function addFile(
  store: Store,
  url: string,
  expected: Integrity | null,
  origin: FileOrigin,
  onBytes?: (bytes: number) => void,
): Promise<{ readonly integrity: Integrity; readonly bytes: number }> {
  const expectation = { expected, maxBytes: MAX_FILE_BYTES, label: redactUrl(url) }
  if ('path' in origin) return writeArtifact(store, fileChunks(origin.path), expectation)
  const bytes = expected === null ? undefined : await storedBytes(store, expected, expectation.label)
  if (expected !== null && bytes !== undefined) return { integrity: expected, bytes }
  const upstream = await openUpstream(await origin.npm(), systemClock)
  try {
    return await upstream.download({ url, maxBytes: MAX_FILE_BYTES }, (body) =>
      writeArtifact(store, counted(body, onBytes), expectation),
    )
  } finally {
    await upstream.close()
  }
}

/** The size of an artifact that is in the store and sound. */
async function storedBytes(store: Store, integrity: Integrity, label: string): Promise<number | undefined> {
  if (!hasArtifact(store, integrity)) return undefined
  try {
    const { file, state } = await openArtifact(store, integrity, label)
    closeSync(file)
    return state.size
  } catch (error) {
    // It is in quarantine now.
    if (error instanceof PolderError && error.code === 'ARTIFACT_CORRUPT') return undefined
    throw error
  }
}

/**
 * `--sha512`: 128 hex digits, or `sha512-<base64>`.
 * @throws PolderError `USAGE`
 */
export function parseSha512(text: string): Integrity {
  if (/^[0-9a-f]{128}$/i.test(text)) return integrityFromHex('sha512', text)
  try {
    const integrity = strongestIntegrity(text)
    if (algorithmOf(integrity) === 'sha512') return integrity
  } catch (error) {
    if (!(error instanceof PolderError)) throw error
  }
  throw new PolderError('USAGE', `${JSON.stringify(text)} is no sha512`, {
    found: text,
    wanted: '128 hex digits, or sha512-<base64>',
  })
}

/** Bytes that are all there, for what takes them as they come. */
export async function* once(bytes: Uint8Array): AsyncGenerator<Uint8Array, void, undefined> {
  yield bytes
}

async function* counted(
  body: AsyncIterable<Uint8Array>,
  onBytes: ((bytes: number) => void) | undefined,
): AsyncGenerator<Uint8Array, void, undefined> {
  let bytes = 0
  for await (const chunk of body) {
    bytes += chunk.byteLength
    onBytes?.(bytes)
    yield chunk
  }
}

async function* fileChunks(path: string): AsyncGenerator<Uint8Array, void, undefined> {
  try {
    for await (const chunk of createReadStream(path)) yield chunk as Buffer
  } catch (cause) {
    throw new PolderError('FETCH_FAILED', `${path} cannot be read: ${(cause as Error).message}`, { path, cause })
  }
}
