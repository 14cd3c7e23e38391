import { createHash } from 'node:crypto'

import { algorithmOf, hexDigest, type Integrity, isErrno, type Manifest, PolderError } from '@polder/spec'
import { openArtifact, type Store } from '@polder/store'

import { readManifest } from './manifests.ts'
import type { DescribedVersion } from './npm-documents.ts'
import { readAttestations, readRelease, type Release } from './releases.ts'
import type { PinnedVersion } from './served-versions.ts'

/**
 * Everything that is known of a pin: the manifest out of its artifact (or, if that record is gone, what the lock has of
 * it), and what the registry's document said, as far as that was about the bytes that are pinned.
 * @param shasums sha1 by integrity, of those for which no record has it; filled here
 */
export async function describeVersion(
  store: Store,
  pin: PinnedVersion,
  shasums: Map<Integrity, string | undefined>,
): Promise<DescribedVersion> {
  const stored = readManifest(store, pin.integrity)
  const recorded = readRelease(store, pin.id)
  const shasum = await shasumOf(store, pin, recorded, shasums)
  const release = recorded === undefined || isAbout(recorded, pin, shasum) ? recorded : withoutHashes(recorded)
  return {
    pin,
    manifest: stored?.manifest ?? lockedManifest(pin),
    needsBuild: stored?.needsBuild ?? pin.locked?.needsBuild === true,
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

function lockedManifest({ name, version, locked }: PinnedVersion): Manifest {
  return {
    name,
    version,
    dependencies: locked?.dependencies ?? {},
    devDependencies: {},
    optionalDependencies: locked?.optionalDependencies ?? {},
    peerDependencies: locked?.peerDependencies ?? {},
    optionalPeers: locked?.optionalPeers ?? [],
    bundled: locked?.bundled ?? [],
    engines: locked?.engines ?? {},
    bin: locked?.bin ?? {},
    scripts: {},
    ...(locked?.os === undefined ? {} : { os: locked.os }),
    ...(locked?.cpu === undefined ? {} : { cpu: locked.cpu }),
    ...(locked?.libc === undefined ? {} : { libc: locked.libc }),
  }
}
