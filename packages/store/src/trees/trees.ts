import { isErrno, PolderError, type ErrorCode, type Integrity } from '@polder/spec'
import { existsSync, mkdirSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'

import { treePath, type Store, type TreeId } from '../content-path.ts'
import type { Patch } from '../archives/patch.ts'
import { publish, temporaryPath, type Publication } from '../durable/publish.ts'
import { artifactMissing, hasArtifact, readArtifact } from '../artifacts/read.ts'
import { writeFailure } from '../durable/write-failure.ts'
import { TREE_LIST, writeTree } from './write-tree.ts'

/** An unpacked package. Its files are read-only and have one fixed, old modification time: link them, never write. */
export interface Tree {
  readonly id: TreeId
  /** Absolute: the directory that becomes `node_modules/<name>`. */
  readonly path: string
  /** Relative to `path`, POSIX, parents first. */
  readonly directories: readonly string[]
  /** Relative to `path`, POSIX, sorted. */
  readonly files: readonly string[]
  /** Indices into `files`. */
  readonly executable: readonly number[]
  /** In bytes, one a file. */
  readonly sizes: readonly number[]
}

/** A package to unpack. */
export interface WantedTree {
  readonly id: TreeId
  readonly integrity: Integrity
  /** For messages: `react@19.0.0`. */
  readonly label: string
  /** The manifest's commands: their files become executable and lose the carriage return of their `#!` line. */
  readonly bin: Readonly<Record<string, string>>
  /** What the artifact's files are changed by; the id is then {@link patchedTreeId}'s. */
  readonly patch?: Patch
}

/** How far an operation is: `done` of `total`, the last one being `label`. */
export interface Progress {
  readonly done: number
  readonly total: number
  readonly label: string
}

/** How many archives are open at once: they are inflated in other threads, and each is in memory as a whole. */
const AT_ONCE = 3

/** What keeps one package from being unpacked, and no other. */
const OF_ONE_ARTIFACT: readonly ErrorCode[] = [
  'ARTIFACT_MISSING',
  'ARTIFACT_CORRUPT',
  'ARCHIVE_REFUSED',
  'PATCH_FAILED',
]

/** What is published in one go; a crash loses at most this much work. */
const BATCH_BYTES = 256 * 1024 * 1024

/** True if the tree is there: one `stat`. */
export function hasTree(store: Store, id: TreeId): boolean {
  return existsSync(join(treePath(store, id), TREE_LIST))
}

/**
 * A tree, from its list of files; no file of the package is looked at.
 * @throws PolderError `ARTIFACT_MISSING` if it is not there
 */
export function readTree(store: Store, id: TreeId): Tree {
  const directory = treePath(store, id)
  let text: string
  try {
    text = readFileSync(join(directory, TREE_LIST), 'utf8')
  } catch (error) {
    if (!isErrno(error, 'ENOENT', 'ENOTDIR')) throw error
    throw new PolderError('ARTIFACT_MISSING', `the tree ${id} is not in the store`, {
      path: directory,
      hint: 'run `polder install` to unpack it',
    })
  }
  const list = JSON.parse(text) as Omit<Tree, 'id' | 'path'>
  return {
    id,
    path: join(directory, 'package'),
    directories: list.directories,
    files: list.files,
    executable: list.executable,
    sizes: list.sizes,
  }
}

/**
 * Unpacks those artifacts that are not unpacked yet. A tree appears under its name complete or not at all; being
 * killed loses the current batch only, and several processes may unpack the same artifacts at once. What one refused
 * or damaged artifact keeps from being installed does not keep the others from being unpacked.
 * @throws PolderError `ARTIFACT_MISSING` (all that are missing, before anything is written), `ARTIFACT_CORRUPT` and
 *   `ARCHIVE_REFUSED` or `PATCH_FAILED` (the first, further ones in `details.others`), `DISK_FULL`, `STORE_UNWRITABLE`
 */
export async function unpackTrees(
  store: Store,
  wanted: readonly WantedTree[],
  { onProgress }: { readonly onProgress?: (progress: Progress) => void } = {},
): Promise<void> {
  const missing = missingTrees(store, wanted)
  const failures: PolderError[] = []
  for (let start = 0; start < missing.length;) start = await unpackBatch(store, missing, start, failures, onProgress)
  throwAll(failures)
}

/**
 * Those that are not unpacked yet, each once.
 * @throws PolderError `ARTIFACT_MISSING` (if several, each in `details.others`) if what they are unpacked from is not there
 */
export function missingTrees(store: Store, wanted: readonly WantedTree[]): readonly WantedTree[] {
  const byId = new Map<TreeId, WantedTree>()
  for (const tree of wanted) if (!hasTree(store, tree.id)) byId.set(tree.id, tree)
  const missing = [...byId.values()]
  const gone = missing
    .filter(({ integrity }) => !hasArtifact(store, integrity))
    .map(({ integrity, label }) => artifactMissing(integrity, label))
  if (gone.length > 1) {
    throw new PolderError('ARTIFACT_MISSING', `${gone.length} artifacts are not in the store`, {
      others: gone,
      hint: 'run `polder index sync` to fetch them',
    })
  }
  throwAll(gone)
  return missing
}

/** @returns the index of the first tree that is not in this batch */
async function unpackBatch(
  store: Store,
  missing: readonly WantedTree[],
  start: number,
  failures: PolderError[],
  onProgress?: (progress: Progress) => void,
): Promise<number> {
  const batch = temporaryPath(store, 'trees')
  const publications: Publication[] = []
  let [next, done, bytes] = [start, start, 0]
  const work = async (): Promise<void> => {
    while (next < missing.length && bytes < BATCH_BYTES) {
      const wanted = missing[next] as WantedTree
      next += 1
      try {
        bytes += await unpack(store, wanted, join(batch, wanted.id))
        publications.push({ from: join(batch, wanted.id), to: treePath(store, wanted.id) })
      } catch (error) {
        if (!(error instanceof PolderError) || !OF_ONE_ARTIFACT.includes(error.code)) {
          bytes = Infinity
          throw error
        }
        failures.push(error)
      }
      done += 1
      onProgress?.({ done, total: missing.length, label: wanted.label })
    }
  }
  try {
    writing(store, 'packages', () => mkdirSync(batch))
    const workers = Array.from({ length: AT_ONCE }, work)
    // Nothing may be written any more when the batch is thrown away.
    await Promise.allSettled(workers)
    await Promise.all(workers)
    writing(store, 'packages', () => publish(store, publications, TREE_LIST))
  } finally {
    rmSync(batch, { recursive: true, force: true })
  }
  return next
}

/** @returns the bytes written */
async function unpack(store: Store, { integrity, label, patch, bin }: WantedTree, directory: string): Promise<number> {
  // Only now: an installation with nothing to unpack does not load what reads archives.
  const { useArchive } = await import('../archives/use-archive.ts')
  const applied = patch === undefined ? undefined : { patch, ...(await import('../archives/patch.ts')) }
  return useArchive(readArtifact(store, integrity, label), label, (archive) => {
    const changed = applied?.applyPackagePatch(archive, applied.patch, label)
    return writing(store, label, () => writeTree(directory, changed ?? archive, bin, { hashes: changed !== undefined }))
  })
}

function writing<T>(store: Store, what: string, write: () => T): T {
  try {
    return write()
  } catch (error) {
    throw writeFailure(error, `unpacking ${what}`, store.home)
  }
}

function throwAll([first, ...others]: readonly PolderError[]): void {
  if (first === undefined) return
  throw others.length === 0 ? first : new PolderError(first.code, first.message, { ...first.details, others })
}
