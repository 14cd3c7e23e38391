import { PolderError } from '@polder/spec'
import type { RangeCache } from '@polder/spec/semver-ranges'
import { readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'

import type { LockfileInput, LockfileReader, ReadLockfile, ReadService } from './lockfiles/reader.ts'
import type { Manifests } from './manifests.ts'
import type { LockfileKind, LockfileLocation } from './services.ts'

/** A lockfile, read. */
export interface Read {
  readonly location: LockfileLocation
  readonly bytes: Buffer
  readonly content: ReadLockfile
}

/** Which lockfile speaks for a directory. */
export interface Claim {
  readonly service: ReadService
  readonly lockfile: string
}

/** Loaded when there is a lockfile of its kind: pnpm's library alone takes a fifth of a second. */
const READERS: Readonly<Record<LockfileKind, (text: string) => Promise<LockfileReader>>> = {
  pnpm: async () => (await import('./lockfiles/pnpm.ts')).readPnpmLockfile,
  rush: async () => (await import('./lockfiles/rush.ts')).readRushLockfile,
  npm: async () => (await import('./lockfiles/npm.ts')).readNpmLockfile,
  yarn: async (text) =>
    /^__metadata:/m.test(text)
      ? (await import('./lockfiles/berry.ts')).readBerryLockfile
      : (await import('./lockfiles/yarn.ts')).readYarnLockfile,
  bun: async () => (await import('./lockfiles/bun.ts')).readBunLockfile,
}

/**
 * Reads every lockfile, each with its own reader.
 * @returns what they say; for each directory the lockfile that speaks for it; sentences about those that were left out
 */
export async function readLockfiles(
  locations: readonly LockfileLocation[],
  manifests: Manifests,
  ranges: RangeCache,
): Promise<{ read: Read[]; claims: Map<string, Claim>; ignored: string[] }> {
  const read: Read[] = []
  const ignored: string[] = []
  const claims = new Map<string, Claim>()
  // Workspaces come before what is inside them, so a member's own lockfile is known for what it is when it comes.
  for (const location of locations) {
    const { path, directory, kind } = location
    const owner = claims.get(directory)
    if (owner !== undefined && kind !== 'rush') {
      ignored.push(`${path} is ignored: ${directory} is part of the workspace that ${owner.lockfile} locks`)
      continue
    }
    const bytes = readBytes(manifests.root, path)
    const input: LockfileInput = {
      root: manifests.root,
      path,
      directory,
      text: bytes.toString('utf8').replace(/^\uFEFF/, ''),
      manifests,
      ranges,
    }
    const content = await (await READERS[kind](input.text))(input)
    read.push({ location, bytes, content })
    for (const service of content.services) {
      if (!service.linked && !claims.has(service.path)) claims.set(service.path, { service, lockfile: path })
    }
  }
  // A directory that is only linked to belongs to its own lockfile, if it has one.
  for (const { location, content } of read) {
    for (const service of content.services)
      if (!claims.has(service.path)) claims.set(service.path, { service, lockfile: location.path })
  }
  return { read, claims, ignored }
}

// Lockfiles of the largest repositories are of some 10 MB; 50 MB take ten seconds and 1.5 GB at most.
const MAX_LOCKFILE_MB = 200

function readBytes(root: string, path: string): Buffer {
  try {
    const { size } = statSync(join(root, path))
    if (size <= MAX_LOCKFILE_MB * 1e6) return readFileSync(join(root, path))
    const found = `${Math.ceil(size / 1e6)} MB`
    throw new PolderError('LOCKFILE_INVALID', `${path} has ${found}; polder reads up to ${MAX_LOCKFILE_MB} MB`, {
      path,
      found,
    })
  } catch (cause) {
    if (cause instanceof PolderError) throw cause
    throw new PolderError('LOCKFILE_INVALID', `${path} cannot be read: ${(cause as Error).message}`, { path, cause })
  }
}
