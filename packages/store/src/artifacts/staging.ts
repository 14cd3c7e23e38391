import { rmSync } from 'node:fs'

import { syncDirectory } from '../durable/atomic-write.ts'
import type { Store } from '../content-path.ts'
import { syncFile, syncFileSystem } from '../durable/publish.ts'
import { type ArtifactExpectation, placeArtifacts, receiveArtifact, type StagedArtifact } from './write.ts'
import { writeFailure } from '../durable/write-failure.ts'

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
  return (await receiveArtifact(store, chunks, expectation)).staged
}

/**
 * Makes staged artifacts visible: all of them reach the disk before the first gets its name. One that is there already
 * is replaced by the same bytes, which heals it if it was damaged. Killed in between, some are there, each of them
 * whole, and the rest is in `tmp/`.
 * @throws PolderError `DISK_FULL`, `STORE_UNWRITABLE`
 */
export function publishStaged(store: Store, staged: readonly StagedArtifact[]): void {
  if (staged.length === 0) return
  try {
    if (!syncFileSystem(store)) for (const { path } of staged) syncFile(path)
    for (const directory of placeArtifacts(store, staged)) syncDirectory(directory)
  } catch (error) {
    throw writeFailure(error, 'placing artifacts', store.home)
  }
}

/** Removes what was staged and is not published. */
export function discardStaged(staged: readonly StagedArtifact[]): void {
  for (const { path } of staged) rmSync(path, { force: true })
}
