import { mkdirSync, renameSync, rmSync } from 'node:fs'
import { dirname } from 'node:path'

import { syncDirectory } from './atomic-write.ts'
import { artifactPath, type Store } from './content-path.ts'
import { syncFileSystem } from './publish.ts'
import { type ArtifactExpectation, receiveArtifact, type StagedArtifact } from './write.ts'
import { writeFailure } from './write-failure.ts'

/**
 * Streams an artifact into the store's `tmp/`, verified, where nobody sees it: for artifacts that are to appear only
 * if all of them are sound. Give what it returns to {@link publishStaged} or {@link discardStaged}, within a lease.
 * @throws PolderError as `writeArtifact`
 */
export async function stageArtifact(
  store: Store,
  chunks: AsyncIterable<Uint8Array>,
  expectation: ArtifactExpectation,
): Promise<StagedArtifact> {
  return receiveArtifact(store, chunks, expectation, false)
}

/**
 * Makes staged artifacts visible: all of them reach the disk before the first gets its name. One that is there already
 * is replaced by the same bytes, which heals it if it was damaged. Killed in between, some are there, each of them
 * whole, and the rest is in `tmp/`.
 * @throws PolderError `DISK_FULL`, `STORE_UNWRITABLE`
 */
export function publishStaged(store: Store, staged: readonly StagedArtifact[]): void {
  if (staged.length === 0) return
  syncFileSystem(store)
  const directories = new Set<string>()
  for (const { path: from, integrity } of staged) {
    const path = artifactPath(store, integrity)
    try {
      if (!directories.has(dirname(path))) mkdirSync(dirname(path), { recursive: true })
      renameSync(from, path)
    } catch (error) {
      throw writeFailure(error, 'placing an artifact', path)
    }
    directories.add(dirname(path))
  }
  for (const directory of directories) syncDirectory(directory)
}

/** Removes what was staged and is not published. */
export function discardStaged(staged: readonly StagedArtifact[]): void {
  for (const { path } of staged) rmSync(path, { force: true })
}
