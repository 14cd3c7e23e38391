import { createReadStream, readFileSync } from 'node:fs'

import {
  type AddedPackage,
  type Additions,
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
  readArtifact,
  stageArtifact,
  type Store,
  withLease,
  writeArtifact,
} from '@polder/store'
import { readArchiveManifest } from '@polder/store/archive'

import { fromFile } from './artifact-source.ts'
import { systemClock } from './backoff.ts'
import { readManifest, writeManifest } from './manifests.ts'
import { type NpmConfig, redactUrl } from './npm-config.ts'
import { openUpstream } from './upstream.ts'

const MAX_TARBALL_BYTES = 1024 ** 3
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
    await file.close()
    return state.size
  } catch (error) {
    // It is in quarantine now.
    if (error instanceof PolderError && error.code === 'ARTIFACT_CORRUPT') return undefined
    throw error
  }
}

export interface AdditionSync {
  /** How many came, and their bytes. */
  readonly fetched: number
  readonly bytes: number
  /** One for each that is missing still. */
  readonly failures: readonly PolderError[]
}

export interface AdditionSources {
  /** The repository, absolute. */
  readonly root: string
  /** Null if no upstream may be asked. */
  readonly npm: (() => Promise<NpmConfig>) | null
  /** Packs a workspace package again; undefined if the repository has none of that name and version. */
  readonly pack: (id: PackageId) => Promise<Uint8Array | undefined>
}

/**
 * Brings what was pinned by hand and is not in the store: vendored tarballs from the repository, workspace packages by
 * packing them again, files from their URLs. What has other bytes than were pinned is a failure, never a new pin.
 * @throws PolderError only for what ends everything: `NPMRC_INVALID`, `DISK_FULL`, `STORE_UNWRITABLE`
 */
export async function syncAdditions(
  store: Store,
  { packages, files }: Additions,
  { root, npm, pack }: AdditionSources,
): Promise<AdditionSync> {
  let fetched = 0
  let bytes = 0
  const failures: PolderError[] = []
  const bring = async (spec: string, integrity: Integrity, run: () => Promise<number>): Promise<void> => {
    try {
      bytes += await run()
      fetched += 1
    } catch (error) {
      if (!(error instanceof PolderError) || FATAL.has(error.code)) throw error
      failures.push(new PolderError(error.code, error.message, { ...error.details, spec, wanted: integrity }))
    }
  }
  for (const [key, entry] of Object.entries(packages)) {
    const id = key as PackageId
    if (hasArtifact(store, entry.integrity) && readManifest(store, entry.integrity) !== undefined) continue
    await bring(id, entry.integrity, () => bringPackage(store, id, entry, root, pack))
  }
  for (const [url, { integrity }] of Object.entries(files)) {
    if (hasArtifact(store, integrity)) continue
    await bring(url, integrity, async () => {
      if (npm === null)
        throw missing(redactUrl(url), 'where there is a network, `polder index sync`; or `polder index import`')
      return (await addFile(store, url, integrity, { npm })).bytes
    })
  }
  return { fetched, bytes, failures }
}

const FATAL: ReadonlySet<string> = new Set(['NPMRC_INVALID', 'DISK_FULL', 'STORE_UNWRITABLE'])

async function bringPackage(
  store: Store,
  id: PackageId,
  { integrity, file, workspace }: AddedPackage,
  root: string,
  pack: AdditionSources['pack'],
): Promise<number> {
  const take = async (chunks: AsyncIterable<Uint8Array>): Promise<number> => {
    const { bytes } = await writeArtifact(store, chunks, {
      expected: integrity,
      maxBytes: MAX_TARBALL_BYTES,
      label: id,
    })
    await describe(store, id, integrity)
    return bytes
  }
  if (hasArtifact(store, integrity)) {
    await describe(store, id, integrity)
    return 0
  }
  if (file !== undefined) return fromFile(root, file, take)
  const packed = workspace === true ? await pack(id) : undefined
  if (packed === undefined)
    throw missing(id, `\`polder index add\` the file, or \`polder index import\` a bundle that has it`)
  try {
    return await take(once(packed))
  } catch (error) {
    if (!(error instanceof PolderError) || error.code !== 'INTEGRITY_MISMATCH') throw error
    throw new PolderError(error.code, `the workspace package ${id} is not what it was when it was pinned`, {
      ...error.details,
      hint: `\`polder index add --workspace\` pins it as it is; a bundle has it as it was`,
    })
  }
}

async function describe(store: Store, id: PackageId, integrity: Integrity): Promise<void> {
  const { manifest, hasBindingGyp } = await readArchiveManifest(readArtifact(store, integrity, id), id)
  writeManifest(store, { integrity, manifest, needsBuild: installScripts(manifest, hasBindingGyp).length > 0 })
}

function missing(spec: string, hint: string): PolderError {
  return new PolderError('ARTIFACT_MISSING', `${spec} was added by hand and is not in the store`, { spec, hint })
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

async function* once(bytes: Uint8Array): AsyncGenerator<Uint8Array, void, undefined> {
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
