import { compareText, integrityOf, isErrno, type Integrity } from '@polder/spec'
import { hash } from 'node:crypto'
import { lstatSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

import { artifactPath, treePath, type Store, type TreeId } from './content-path.ts'
import { readTree, type Tree } from './trees.ts'

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
 * Compares every file of an unpacked tree with the hash it was unpacked with.
 * @returns what differs, by path; empty if all is well
 * @throws PolderError `ARTIFACT_MISSING` if it is not unpacked
 */
export async function verifyTree(store: Store, id: TreeId): Promise<readonly Difference[]> {
  const tree = readTree(store, id)
  const hashes = readTreeHashes(store, id)
  const differences: Difference[] = []
  for (const [index, path] of tree.files.entries()) {
    const kind = compareFile(join(tree.path, path), hashes.get(path), tree.executable.includes(index))
    if (kind !== undefined) differences.push({ path, kind })
    if (index % 64 === 63) await new Promise((resolve) => setImmediate(resolve))
  }
  differences.push(...directoryDifferences(tree))
  return differences.sort((a, b) => compareText(a.path, b.path))
}

/** Path inside the package → the sha256 (hex) it was unpacked with. */
export function readTreeHashes(store: Store, id: TreeId): ReadonlyMap<string, string> {
  const { files } = readTree(store, id)
  const { sha256 } = JSON.parse(readFileSync(join(treePath(store, id), 'hashes.json'), 'utf8')) as {
    sha256: readonly string[]
  }
  return new Map(files.map((path, index) => [path, sha256[index] ?? '']))
}

function compareFile(path: string, expected: string | undefined, executable: boolean): Difference['kind'] | undefined {
  const found = lstatSync(path, { throwIfNoEntry: false })
  if (found === undefined) return 'missing'
  if (!found.isFile() || ((found.mode & 0o100) !== 0) !== executable) return 'differs'
  return hash('sha256', readFileSync(path), 'hex') === expected ? undefined : 'differs'
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
