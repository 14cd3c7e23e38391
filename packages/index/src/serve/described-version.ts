import { createHash } from 'node:crypto'

import { algorithmOf, hexDigest, type Integrity, isErrno, PolderError } from '@polder/spec'
import { openArtifact, readArtifact, type Store } from '@polder/store'

import { readManifest, writeManifest } from '../pins/manifests.ts'
import type { DescribedVersion } from './npm-documents.ts'
import type { PinnedPackage } from '../pins/pin.ts'
import { readAttestations, readRelease, type Release } from '../trust/releases.ts'
import type { PinnedVersion } from './locked-pins.ts'

/**
 * Everything that is known of a pin: the manifest out of its artifact, and what the registry's document said, as far as that was about the bytes that are pinned.
 * @param shasums sha1 by integrity, of those for which no record has it; filled here
 */
export async function describeVersion(
  store: Store,
  pin: PinnedVersion,
  shasums: Map<Integrity, string | undefined>,
): Promise<DescribedVersion> {
  const { manifest, needsBuild } = await manifestOf(store, pin)
  const recorded = readRelease(store, pin.id)
  const shasum = await shasumOf(store, pin, recorded, shasums)
  const release = recorded === undefined || isAbout(recorded, pin, shasum) ? recorded : withoutHashes(recorded)
  return {
    pin,
    manifest,
    needsBuild,
    ...(release === undefined ? {} : { release }),
    ...(shasum === undefined ? {} : { shasum }),
    attested: release?.attestations !== undefined && readAttestations(store, pin.id) !== undefined,
  }
}

/** The record's, where it is sure to be about these bytes; else computed, which takes the artifact. */
async function shasumOf(
  store: Store,
  { id, integrity }: PinnedVersion,
  release: Release | undefined,
  shasums: Map<Integrity, string | undefined>,
): Promise<string | undefined> {
  if (release?.shasum !== undefined && release.integrity === integrity) return release.shasum
  if (!shasums.has(integrity)) shasums.set(integrity, await computeShasum(store, integrity, id))
  return shasums.get(integrity)
}

async function computeShasum(store: Store, integrity: Integrity, label: string): Promise<string | undefined> {
  try {
    const { file } = await openArtifact(store, integrity, label)
    const sha1 = createHash('sha1')
    for await (const chunk of file.createReadStream()) sha1.update(chunk as Buffer)
    return sha1.digest('hex')
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

/** The recorded manifest; if that is gone or of another format, the artifact's, which is recorded again. */
async function manifestOf(store: Store, { id, integrity }: PinnedVersion): Promise<PinnedPackage> {
  const stored = readManifest(store, integrity)
  if (stored !== undefined) return stored
  // Hardly ever needed, and what reads archives takes long to load.
  const [{ readArchiveManifest }, { installScripts }] = await Promise.all([
    import('@polder/store/archive'),
    import('@polder/spec/manifest'),
  ])
  const { manifest, hasBindingGyp } = await readArchiveManifest(readArtifact(store, integrity, id), id)
  const described = { integrity, manifest, needsBuild: installScripts(manifest, hasBindingGyp).length > 0 }
  keep(store, described)
  return described
}

/** A store that cannot be written to still serves. */
function keep(store: Store, described: PinnedPackage): void {
  try {
    writeManifest(store, described)
  } catch (error) {
    if (!(error instanceof PolderError)) throw error
  }
}
