import type { Lock } from '@polder/lock'
import { algorithmOf, compareText, type Integrity, type PackageId, sortKeys, unpatchedId } from '@polder/spec'
import { type FileToWrite, type Store, writeFiles } from '@polder/store'
import { z } from 'zod'

import { bundleInvalid } from './bundle-format.ts'
import { attestationsFile, readAttestations, readRelease, type Release, releaseFile } from '../trust/releases.ts'
import { verifySignatures } from '../trust/signatures.ts'

/**
 * What a bundle carries of a release record: what a registry says once and for all. Its tags, the date of its last
 * change, a deprecation and its own address may differ tomorrow or at a mirror, and a bundle must not.
 */
type CarriedRelease = Omit<Release, 'registry' | 'deprecated' | 'distTags' | 'modified' | 'etag'>

interface CarriedRecord {
  readonly release: CarriedRelease
  readonly attestations?: unknown
}

/** By id. */
export type CarriedRecords = ReadonlyMap<PackageId, CarriedRecord>

/**
 * The release records of pins as the text of `releases.json`, an id a line, sorted; undefined if the store has none.
 * @returns also the ids without a record
 */
export function collectReleases(
  store: Store,
  ids: readonly PackageId[],
): { readonly text: Buffer | undefined; readonly without: readonly PackageId[] } {
  const lines: string[] = []
  const without: PackageId[] = []
  for (const id of ids.toSorted(compareText)) {
    const release = readRelease(store, id)
    if (release === undefined) {
      without.push(id)
      continue
    }
    const attestations = release.attestations === undefined ? undefined : readAttestations(store, id)
    const record = { release: carried(release), ...(attestations === undefined ? {} : { attestations }) }
    lines.push(`${JSON.stringify(id)}:${JSON.stringify(canonical(record))}`)
  }
  return { text: lines.length === 0 ? undefined : Buffer.from(`{\n${lines.join(',\n')}\n}\n`), without }
}

const ATTESTATIONS = '/-/npm/v1/attestations/'

function carried(release: Release): CarriedRelease {
  const { name, version, published, integrity, shasum, fileCount, unpackedSize, signatures, attestations } = release
  // Where they are on any registry, without saying on which.
  const url = attestations === undefined ? -1 : attestations.url.indexOf(ATTESTATIONS)
  const { provenance } = attestations ?? {}
  return {
    name,
    version,
    ...(published === undefined ? {} : { published }),
    ...(integrity === undefined ? {} : { integrity }),
    ...(shasum === undefined ? {} : { shasum }),
    ...(fileCount === undefined ? {} : { fileCount }),
    ...(unpackedSize === undefined ? {} : { unpackedSize }),
    ...(signatures === undefined ? {} : { signatures: signatures.toSorted((a, b) => compareText(a.keyid, b.keyid)) }),
    ...(attestations === undefined || url < 0
      ? {}
      : { attestations: { url: attestations.url.slice(url), ...(provenance === undefined ? {} : { provenance }) } }),
  }
}

/**
 * The records of a bundle, each of a package that the lock pins to the same bytes. A signature by a key of the lock has
 * to be right.
 * @param file the bundle, named in errors
 * @throws PolderError `BUNDLE_INVALID`, `SIGNATURE_INVALID`, `SIGNING_KEY_UNKNOWN`, `SIGNING_KEY_EXPIRED`
 */
export function parseReleases(text: Buffer, lock: Lock, file: string): CarriedRecords {
  let json: unknown
  try {
    json = JSON.parse(text.toString('utf8'))
  } catch (cause) {
    throw bundleInvalid(file, `releases.json is not JSON: ${(cause as Error).message}`, { cause })
  }
  const parsed = RECORDS.safeParse(json)
  if (!parsed.success) {
    const issue = parsed.error.issues[0]
    throw bundleInvalid(file, `releases.json is damaged: ${[...(issue?.path ?? []), issue?.message ?? ''].join(': ')}`)
  }
  const records = new Map(Object.entries(parsed.data) as unknown as [PackageId, CarriedRecord][])
  const keys = lock.index?.keys
  const pinned = pinnedIntegrities(lock)
  for (const [id, { release }] of records) {
    const locked = pinned.get(id)
    if (locked === undefined) throw bundleInvalid(file, `releases.json has ${id}, which its lock does not have`)
    const said = release.integrity
    if (said !== undefined && algorithmOf(said) === 'sha512' && said !== locked) {
      throw bundleInvalid(file, `releases.json has another hash for ${id} than its lock`, {
        spec: id,
        found: said,
        wanted: locked,
      })
    }
    if (keys !== undefined) verifySignatures(id, { ...release, registry: CARRIED }, keys)
  }
  return records
}

/**
 * What the records say of artifacts that came with them: each has to be there, and to have its sha1, which clients of
 * old lockfiles rely on.
 * @param sha1 hex, by integrity
 * @throws PolderError `BUNDLE_INVALID`
 */
export function checkShasums(
  records: CarriedRecords,
  lock: Lock,
  sha1: ReadonlyMap<Integrity, string>,
  file: string,
): void {
  const pinned = pinnedIntegrities(lock)
  for (const [id, { release }] of records) {
    const integrity = pinned.get(id)
    const found = integrity === undefined ? undefined : sha1.get(integrity)
    if (found === undefined) throw bundleInvalid(file, `releases.json has ${id}, and there is no artifact of it`)
    if (release.shasum !== undefined && release.shasum !== found) {
      throw bundleInvalid(file, `releases.json has another sha1 for ${id} than its artifact`, {
        spec: id,
        found: release.shasum,
        wanted: found,
      })
    }
  }
}

/** A patched package is, for its registry, the package as it was published. */
function pinnedIntegrities(lock: Lock): ReadonlyMap<PackageId, Integrity> {
  return new Map(
    Object.entries(lock.npm.packages).map(([id, { integrity }]) => [unpatchedId(id as PackageId), integrity]),
  )
}

/** Instead of a registry's address. */
const CARRIED = 'a bundle'

/**
 * Durable before it returns. A record that the store has says more than one that was carried, and stays.
 * @throws PolderError `DISK_FULL`, `STORE_UNWRITABLE`
 */
export async function writeReleases(store: Store, records: CarriedRecords): Promise<void> {
  const files: FileToWrite[] = []
  for (const [id, { release, attestations }] of records) {
    if (readRelease(store, id) === undefined) files.push(releaseFile(store, id, { ...release, registry: CARRIED }))
    if (attestations !== undefined && readAttestations(store, id) === undefined)
      files.push(attestationsFile(store, id, attestations))
  }
  await writeFiles(store, files)
}

const text = z.string().max(10_000)
const RECORDS = z.record(
  z.string(),
  z.strictObject({
    release: z.strictObject({
      name: text,
      version: text,
      published: text.optional(),
      integrity: z
        .string()
        .regex(/^sha(?:1|256|384|512)-[A-Za-z0-9+/]+=*$/)
        .transform((value) => value as Integrity)
        .optional(),
      shasum: z
        .string()
        .regex(/^[0-9a-f]{40}$/)
        .optional(),
      fileCount: z.int().nonnegative().optional(),
      unpackedSize: z.int().nonnegative().optional(),
      signatures: z.array(z.strictObject({ keyid: text, sig: text })).optional(),
      attestations: z
        .strictObject({ url: text, provenance: z.strictObject({ predicateType: text }).optional() })
        .optional(),
    }),
    attestations: z.unknown().optional(),
  }),
)

/** Objects with their keys in order, all the way down. */
function canonical(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(canonical)
  if (typeof value !== 'object' || value === null) return value
  return sortKeys(Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, canonical(inner)])))
}
