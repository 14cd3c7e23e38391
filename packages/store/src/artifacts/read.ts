import { integrityFromHash, integrityOf, isErrno, PolderError, type Integrity } from '@polder/spec'
import { randomBytes } from 'node:crypto'
import { mkdirSync, readFileSync, renameSync, statSync } from 'node:fs'
import { join } from 'node:path'

import { artifactPath, treeId, type Store } from '../content-path.ts'
import { type FileState, hashFile, type OpenFile, openVerified } from './open-file.ts'

/** True if the artifact is there and not empty: one `stat`, no hashing ({@link readArtifact} verifies). */
export function hasArtifact(store: Store, integrity: Integrity): boolean {
  const found = statSync(artifactPath(store, integrity), { throwIfNoEntry: false })
  return found !== undefined && found.isFile() && found.size > 0
}

/**
 * The artifact's bytes, verified against its hash. One that does not match is moved to `quarantine/`, so that the
 * next sync fetches it again and nobody installs it meanwhile.
 * @param label the package, for messages
 * @throws PolderError `ARTIFACT_MISSING`, `ARTIFACT_CORRUPT`
 */
export function readArtifact(store: Store, integrity: Integrity, label: string): Buffer {
  const path = artifactPath(store, integrity)
  let bytes: Buffer
  try {
    bytes = readFileSync(path)
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENOTDIR')) throw artifactMissing(integrity, label)
    throw error
  }
  const found = integrityOf('sha512', bytes)
  if (found === integrity) return bytes
  throw artifactCorrupt(store, integrity, label, { found, bytes: bytes.length })
}

/**
 * Opens an artifact that is to be sent from its file. It is read once to verify it, unless it is in the state that
 * `verified` says. The caller closes the file.
 * @param verified what an earlier call found
 * @param label the package, for messages
 * @throws PolderError `ARTIFACT_MISSING`; `ARTIFACT_CORRUPT` after moving it to quarantine
 */
export async function openArtifact(
  store: Store,
  integrity: Integrity,
  label: string,
  verified?: FileState,
): Promise<OpenFile> {
  try {
    return await openVerified(artifactPath(store, integrity), verified, async (file, { size }) => {
      const found = integrityFromHash('sha512', await hashFile('sha512', file, 0, size))
      if (found !== integrity) throw artifactCorrupt(store, integrity, label, { found, bytes: size })
    })
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENOTDIR')) throw artifactMissing(integrity, label)
    throw error
  }
}

function artifactCorrupt(
  store: Store,
  integrity: Integrity,
  label: string,
  { found, bytes }: { readonly found: Integrity; readonly bytes: number },
): PolderError {
  const path = artifactPath(store, integrity)
  const moved = quarantine(store, path, integrity)
  const state = bytes === 0 ? 'is empty' : `has the hash ${found} (${bytes} bytes)`
  return new PolderError(
    'ARTIFACT_CORRUPT',
    `the stored artifact of ${label} is damaged: it ${state} instead of ${integrity}`,
    {
      spec: label,
      path: moved ?? path,
      found,
      wanted: integrity,
      hint:
        moved === undefined
          ? 'it could not be moved away; delete it and run `polder index sync`'
          : 'it was moved to quarantine; run `polder index sync` to fetch it again',
    },
  )
}

export function artifactMissing(integrity: Integrity, label: string): PolderError {
  return new PolderError('ARTIFACT_MISSING', `the artifact of ${label} is not in the store`, {
    spec: label,
    wanted: integrity,
    hint: 'run `polder index sync` to fetch it',
  })
}

/** Where it was moved to; undefined if the store cannot be written or another process moved it first. */
function quarantine(store: Store, path: string, integrity: Integrity): string | undefined {
  const moved = join(store.home, 'quarantine', `${treeId(integrity)}-${randomBytes(4).toString('hex')}`)
  try {
    mkdirSync(join(store.home, 'quarantine'), { recursive: true })
    renameSync(path, moved)
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'EROFS', 'EACCES', 'EPERM', 'ENOSPC', 'EDQUOT')) return undefined
    throw error
  }
  return moved
}
