import { isErrno, type Integrity } from '@polder/spec'
import { mkdirSync, readFileSync, rmSync } from 'node:fs'
import { dirname, join } from 'node:path'

import type { CheckedArchive } from '../archives/archive-readers.ts'
import { syncDirectory } from '../durable/atomic-write.ts'
import { treeId, treePath, type Store, type TreeId } from '../content-path.ts'
import { place, syncFile, temporaryPath, type Publication } from '../durable/publish.ts'
import { readArtifact } from './read.ts'
import { discardStaged } from './staging.ts'
import { startSyncer, type Syncer } from '../durable/syncer.ts'
import { hasTree } from '../trees/trees.ts'
import { placeArtifacts, receiveArtifact, type ArtifactExpectation, type StagedArtifact } from './write.ts'
import { writeFailure } from '../durable/write-failure.ts'
import { TREE_LIST } from '../trees/write-tree.ts'

/** A batch is published when it has so many bytes or is so old: what a killed process loses. */
const BATCH_BYTES = 256 * 1024 * 1024
const BATCH_MS = 200

/**
 * What comes in while many artifacts are fetched. They are written to `tmp/`, made durable a batch at a time by one
 * syncfs, while the next ones come, and only then get their names: a power cut leaves an artifact that is whole or none.
 *
 *     const intake = openIntake(store)
 *     const { integrity, contents } = await intake.receive(chunks, expectation)
 *     await readers.use(contents, label, (archive) => intake.unpack(integrity, archive, bin, label))
 *     await intake.close()
 */
export interface Intake {
  /**
   * Streams an artifact in, verified; it is visible to others after {@link close} at the latest. Many may run at once.
   * @returns our own sha512, its size, and its contents in new memory, to use instead of reading and verifying it again
   * @throws PolderError as `writeArtifact`
   */
  receive(
    chunks: AsyncIterable<Uint8Array>,
    expectation: ArtifactExpectation,
  ): Promise<{ readonly integrity: Integrity; readonly bytes: number; readonly contents: () => Buffer }>
  /**
   * Writes the tree of an artifact whose archive is read anyway, unless it is there.
   * @throws PolderError `DISK_FULL`, `STORE_UNWRITABLE`
   */
  unpack(
    integrity: Integrity,
    archive: CheckedArchive,
    bin: Readonly<Record<string, string>>,
    label: string,
  ): Promise<void>
  /**
   * Publishes the rest. Nothing may be received any more.
   * @throws PolderError `DISK_FULL`, `STORE_UNWRITABLE`
   */
  close(): Promise<void>
}

/** @param ready nothing gets its name before that; if it fails, nothing ever does */
export function openIntake(store: Store, ready: Promise<void> = Promise.resolve()): Intake {
  const unpacked = new Set<TreeId>()
  let syncer: Syncer | undefined
  let batch: Batch | undefined
  let publishing = ready
  publishing.catch(() => undefined)
  /** Where something got a name that is not durable yet. */
  const directories = new Set<string>()
  /** Where the trees are written. */
  const directory = temporaryPath(store, 'trees')

  function current(): Batch {
    syncer ??= startSyncer(store)
    batch ??= newBatch(() => void publishBatch())
    return batch
  }

  async function publish({ artifacts, trees }: Batch): Promise<void> {
    try {
      if (!(await syncer?.sync())) for (const { path } of artifacts) syncFile(path)
      for (const directory of placeArtifacts(store, artifacts)) directories.add(directory)
      for (const tree of trees) {
        place(store, tree, TREE_LIST)
        directories.add(dirname(tree.to))
      }
    } catch (error) {
      throw writeFailure(error, 'placing artifacts', store.home)
    }
  }

  /**
   * One batch after the other: what comes while one is published belongs to the next. The first failure is that of all
   * which follow, and is heard of by who waits next.
   */
  function publishBatch(): Promise<void> {
    publishing = publishing.then(async () => {
      const full = batch
      batch = undefined
      if (full === undefined) return
      clearTimeout(full.timer)
      try {
        await publish(full)
      } finally {
        discardStaged(full.artifacts)
      }
    })
    publishing.catch(() => undefined)
    return publishing
  }

  return {
    async receive(chunks, expectation) {
      const { staged, contents } = await receiveArtifact(store, chunks, expectation)
      const { integrity, bytes } = staged
      const { artifacts } = current()
      artifacts.push(staged)
      if ((current().bytes += bytes) > BATCH_BYTES) {
        // Where the disk is slower than the network, no more than two batches are held back.
        const before = publishing
        void publishBatch()
        await before
      }
      return { integrity, bytes, contents: () => contents() ?? readStaged(store, staged, expectation.label) }
    },

    async unpack(integrity, archive, bin, label) {
      const id = treeId(integrity)
      if (unpacked.has(id) || hasTree(store, id)) return
      unpacked.add(id)
      const from = join(directory, id)
      try {
        mkdirSync(directory, { recursive: true })
        const bytes = await archive.write(from, bin)
        const { trees } = current()
        trees.push({ from, to: treePath(store, id) })
        current().bytes += bytes
      } catch (error) {
        throw writeFailure(error, `unpacking ${label}`, store.home)
      }
    },

    async close() {
      try {
        await publishBatch()
        // Names are made durable once.
        if (directories.size > 0 && !(await syncer?.sync())) directories.forEach(syncDirectory)
      } catch (error) {
        throw writeFailure(error, 'placing artifacts', store.home)
      } finally {
        syncer?.close()
        if (batch !== undefined) discardStaged(batch.artifacts)
        rmSync(directory, { recursive: true, force: true })
      }
    },
  }
}

interface Batch {
  readonly artifacts: StagedArtifact[]
  readonly trees: Publication[]
  readonly timer: NodeJS.Timeout
  bytes: number
}

function newBatch(onOld: () => void): Batch {
  return {
    artifacts: [],
    trees: [],
    timer: setTimeout(onOld, BATCH_MS),
    bytes: 0,
  }
}

/** One that is too large to be held in memory. It may have got its name meanwhile. */
function readStaged(store: Store, { path, integrity }: StagedArtifact, label: string): Buffer {
  try {
    return readFileSync(path)
  } catch (error) {
    if (!isErrno(error, 'ENOENT')) throw error
    return readArtifact(store, integrity, label)
  }
}
