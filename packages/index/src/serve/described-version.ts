import { hash } from 'node:crypto'
import { closeSync } from 'node:fs'

import { algorithmOf, hexDigest, type Integrity, isErrno, PolderError } from '@polder/spec'
import { hashFile, openArtifact, readArtifact, type Store } from '@polder/store'

import { manifestText, parseManifest, writeManifest } from '../pins/manifests.ts'
import type { DescribedVersion } from './npm-documents.ts'
import type { PinnedPackage } from '../pins/pin.ts'
import { hasAttestationsFile, parseRelease, readAttestations, type Release, releaseText } from '../trust/releases.ts'
import type { PinnedVersion } from './locked-pins.ts'

/** What of the store's records counts for a pin, as it is on disk. */
interface Records {
  readonly manifest: string
  readonly release: string
  readonly attested: boolean
}

/**
 * Everything that is known of a pin: the manifest out of its artifact, and what the registry's document said, as far as that was about the bytes that are pinned.
 * What had to be read from the artifact is recorded, so that it is not read again.
 * @param shasums sha1 by integrity, of those that cannot be recorded; filled here
 */
export async function describeVersion(
  store: Store,
  pin: PinnedVersion,
  shasums: Map<Integrity, string | undefined>,
): Promise<DescribedVersion> {
  const records = readRecords(store, pin)
  const known = parseManifest(records.manifest, pin.integrity)
  const stored = known ?? (await manifestOf(store, pin))
  const { manifest, needsBuild } = stored
  const recorded = parseRelease(records.release, pin.id)
  const ofRecord = recordedShasum(pin, recorded) ?? stored.shasum
  const shasum = ofRecord ?? (await computedShasum(store, pin, shasums))
  const release = recorded === undefined || isAbout(recorded, pin, shasum) ? recorded : withoutHashes(recorded)
  const isNew = known === undefined || shasum !== ofRecord
  if (isNew) keep(store, { ...stored, ...(shasum === undefined ? {} : { shasum }) })
  return {
    pin,
    manifest,
    needsBuild,
    ...(release === undefined ? {} : { release }),
    ...(shasum === undefined ? {} : { shasum }),
    attested: release?.attestations !== undefined && readAttestations(store, pin.id) !== undefined,
    inputs: digestInputs(pin, isNew ? readRecords(store, pin) : records),
  }
}

/**
 * A digest of everything that {@link describeVersion} reads of a pin, but for the artifact, which is what its hash says.
 * While it is the same, so is what it finds.
 */
export function inputsOf(store: Store, pin: PinnedVersion): string {
  return digestInputs(pin, readRecords(store, pin))
}

/** That of several pins, from that of each. */
export function joinInputs(inputs: readonly string[]): string {
  return inputs.length === 1 ? (inputs[0] ?? '') : hash('sha256', inputs.join(), 'base64url')
}

function digestInputs({ id, name, version, integrity, deprecated }: PinnedVersion, records: Records): string {
  const { manifest, release, attested } = records
  const text = JSON.stringify([id, name, version, integrity, deprecated, attested, manifest.length])
  return hash('sha256', `${text}${manifest}${release}`, 'base64url')
}

function readRecords(store: Store, { id, integrity }: PinnedVersion): Records {
  return {
    manifest: manifestText(store, integrity),
    release: releaseText(store, id),
    attested: hasAttestationsFile(store, id),
  }
}

/** The registry's, where it is sure to be about these bytes. */
function recordedShasum({ integrity }: PinnedVersion, release: Release | undefined): string | undefined {
  return release?.integrity === integrity ? release.shasum : undefined
}

async function computedShasum(
  store: Store,
  { id, integrity }: PinnedVersion,
  shasums: Map<Integrity, string | undefined>,
): Promise<string | undefined> {
  if (!shasums.has(integrity)) shasums.set(integrity, await computeShasum(store, integrity, id))
  return shasums.get(integrity)
}

async function computeShasum(store: Store, integrity: Integrity, label: string): Promise<string | undefined> {
  try {
    const { file, state } = await openArtifact(store, integrity, label)
    try {
      return (await hashFile('sha1', file, 0, state.size)).digest('hex')
    } finally {
      closeSync(file)
    }
  } catch (error) {
    // Whoever asks for the tarball is told. The document is complete without.
    if (error instanceof PolderError || isErrno(error, 'EIO')) return undefined
    throw error
  }
}

function isAbout(release: Release, { integrity }: PinnedVersion, shasum: string | undefined): boolean {
  if (release.integrity === undefined) return release.shasum === undefined || release.shasum === shasum
  if (algorithmOf(release.integrity) === 'sha512') return release.integrity === integrity
  return algorithmOf(release.integrity) === 'sha1' && hexDigest(release.integrity) === shasum
}

/** The registry served other bytes: its signatures are not of these. */
function withoutHashes({ name, version, registry, published, deprecated, distTags }: Release): Release {
  return {
    name,
    version,
    registry,
    ...(published === undefined ? {} : { published }),
    ...(deprecated === undefined ? {} : { deprecated }),
    ...(distTags === undefined ? {} : { distTags }),
  }
}

/** The artifact's manifest: the record of it is gone, or of another format. */
async function manifestOf(store: Store, { id, integrity, commit }: PinnedVersion): Promise<PinnedPackage> {
  // Hardly ever needed, and what reads archives takes long to load.
  const [{ readArchiveManifest }, { needsBuild }] = await Promise.all([
    import('@polder/store/archive'),
    import('../pins/needs-build.ts'),
  ])
  const read = await readArchiveManifest(readArtifact(store, integrity, id), id)
  return { integrity, manifest: read.manifest, needsBuild: needsBuild(read, commit === true) }
}

/** A store that cannot be written to still serves. */
function keep(store: Store, described: PinnedPackage): void {
  try {
    writeManifest(store, described)
  } catch (error) {
    if (!(error instanceof PolderError)) throw error
  }
}
