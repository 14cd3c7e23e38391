import { compareText, integrityOf, isErrno, type Integrity } from '@polder/spec'
import { hash } from 'node:crypto'
import { lstatSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

import { artifactPath, treePath, type Store, type TreeId } from './content-path.ts'
import { readTree, type Tree } from './trees/trees.ts'
import { TREE_HASHES, withUnixInterpreterLine } from './trees/write-tree.ts'

/** A file that is not as it was unpacked. */
export interface Difference {
  /** Inside the package, POSIX. */
  readonly path: string
  readonly kind: 'differs' | 'missing' | 'added'
}

/** An artifact that is not as it was downloaded. */
export interface ArtifactDifference {
  readonly label: string
  readonly integrity: Integrity
  readonly kind: 'differs' | 'missing'
}

/**
 * Hashes artifacts again. Nothing is moved or changed.
 * @param onProgress called after each
 */
export async function verifyArtifacts(
  store: Store,
  wanted: readonly { readonly integrity: Integrity; readonly label: string }[],
  { onProgress }: { readonly onProgress?: (progress: { done: number; total: number; label: string }) => void } = {},
): Promise<readonly ArtifactDifference[]> {
  const differences: ArtifactDifference[] = []
  for (const [index, { integrity, label }] of wanted.entries()) {
    const bytes = readIfThere(artifactPath(store, integrity))
    if (bytes === undefined) differences.push({ label, integrity, kind: 'missing' })
    else if (integrityOf('sha512', bytes) !== integrity) differences.push({ label, integrity, kind: 'differs' })
    onProgress?.({ done: index + 1, total: wanted.length, label })
    await new Promise((resolve) => setImmediate(resolve))
  }
  return differences
}

/**
 * Compares every file of an unpacked tree with what must be in it.
 * @param hashes what {@link readTreeHashes} found, if it was asked already
 * @returns what differs, by path; empty if all is well
 * @throws PolderError `ARTIFACT_MISSING` if it is not unpacked
 */
export async function verifyTree(store: Store, id: TreeId, hashes?: TreeHashes): Promise<readonly Difference[]> {
  const tree = readTree(store, id)
  const expected = hashes ?? (await readTreeHashes(store, id))
  const runs = new Set(tree.executable)
  const differences: Difference[] = []
  for (const [index, path] of tree.files.entries()) {
    const kind = compareFile(join(tree.path, path), {
      executable: runs.has(index),
      size: tree.sizes[index],
      sha256: expected.get(path),
    })
    if (kind !== undefined) differences.push({ path, kind })
    if (index % 64 === 63) await new Promise((resolve) => setImmediate(resolve))
  }
  differences.push(...directoryDifferences(tree))
  return differences.sort((a, b) => compareText(a.path, b.path))
}

/** Path inside the package → sha256 (hex) of what must be there. */
export type TreeHashes = ReadonlyMap<string, string>

/**
 * What must be in the files of a tree: as its artifact has them, or as they were recorded where more was done than to
 * unpack it. Empty if the artifact is missing or damaged, which is for {@link verifyArtifacts} to say: then only the
 * kinds and sizes of the files are known.
 * @throws PolderError `ARTIFACT_MISSING` if the tree is not there
 */
export async function readTreeHashes(store: Store, id: TreeId): Promise<TreeHashes> {
  const tree = readTree(store, id)
  const recorded = readIfThere(join(treePath(store, id), TREE_HASHES))
  if (recorded !== undefined) {
    const { sha256 } = JSON.parse(recorded.toString('utf8')) as { sha256: readonly string[] }
    return new Map(tree.files.map((path, index) => [path, sha256[index] ?? '']))
  }
  const artifact = readArtifactOf(store, id)
  if (artifact === undefined) return new Map()
  const { files } = await (await import('./archives/archive.ts')).openArchive(artifact, id)
  const hashes = new Map<string, string>()
  for (const [index, path] of tree.files.entries()) {
    const bytes = files.get(path)?.bytes ?? Buffer.alloc(0)
    // Only what was changed when it was unpacked has another size.
    const written = bytes.length === tree.sizes[index] ? bytes : withUnixInterpreterLine(bytes)
    hashes.set(path, hash('sha256', written, 'hex'))
  }
  return hashes
}

/** The artifact that a tree was unpacked from, which has its id as the beginning of its name, if it is there and sound. */
function readArtifactOf(store: Store, id: TreeId): Buffer | undefined {
  const directory = join(store.home, 'artifacts', 'sha512', id.slice(0, 2))
  let name: string | undefined
  try {
    name = readdirSync(directory).find((entry) => entry.startsWith(id.slice(2)))
  } catch (error) {
    if (!isErrno(error, 'ENOENT', 'ENOTDIR')) throw error
  }
  const bytes = name === undefined ? undefined : readIfThere(join(directory, name))
  return bytes !== undefined && hash('sha512', bytes, 'hex') === `${id.slice(0, 2)}${name}` ? bytes : undefined
}

function compareFile(
  path: string,
  expected: { readonly executable: boolean; readonly size: number | undefined; readonly sha256: string | undefined },
): Difference['kind'] | undefined {
  const found = lstatSync(path, { throwIfNoEntry: false })
  if (found === undefined) return 'missing'
  if (!found.isFile() || ((found.mode & 0o100) !== 0) !== expected.executable || found.size !== expected.size)
    return 'differs'
  if (expected.sha256 === undefined) return undefined
  return hash('sha256', readFileSync(path), 'hex') === expected.sha256 ? undefined : 'differs'
}

function directoryDifferences(tree: Tree): readonly Difference[] {
  const files = new Set(tree.files)
  const directories = new Set(tree.directories)
  const differences: Difference[] = []
  const seen = new Set<string>()
  const visit = (directory: string): void => {
    for (const entry of readdirSync(join(tree.path, directory), { withFileTypes: true })) {
      const path = directory === '' ? entry.name : `${directory}/${entry.name}`
      if (entry.isDirectory()) {
        seen.add(path)
        visit(path)
      }
      if (!(entry.isDirectory() ? directories : files).has(path) && !files.has(path))
        differences.push({ path, kind: 'added' })
    }
  }
  visit('')
  for (const path of tree.directories) if (!seen.has(path)) differences.push({ path, kind: 'missing' })
  return differences
}

function readIfThere(path: string): Buffer | undefined {
  try {
    return readFileSync(path)
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENOTDIR')) return undefined
    throw error
  }
}
