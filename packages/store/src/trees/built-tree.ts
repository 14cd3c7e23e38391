import { chmodSync, lstatSync, mkdirSync, readdirSync, readFileSync, realpathSync, rmSync } from 'node:fs'
import { join, sep } from 'node:path'

import { compareText } from '@polder/spec'
import { hash } from 'node:crypto'

import type { ArchivedFile } from '../archives/read-tar.ts'
import { type Store, type TreeId, treePath } from '../content-path.ts'
import { publish, temporaryPath } from '../durable/publish.ts'
import { readTree } from './trees.ts'
import { type Difference, readTreeHashes } from '../verify.ts'
import { writeFailure } from '../durable/write-failure.ts'
import { withUnixInterpreterLine, writeTree } from './write-tree.ts'

/** What became a tree, and what did not: links out of the directory, devices, sockets. Sorted. */
export interface PublishedTree {
  readonly files: number
  readonly bytes: number
  readonly leftOut: readonly string[]
}

/**
 * Makes a tree of a directory, such as a build left it: read-only copies of its files, complete under their name or not
 * at all. A link that stays inside the directory becomes a copy of what it leads to, since trees hold files only. If the
 * tree is there already, that one stays.
 * @param bin the manifest's commands, as when an artifact is unpacked
 * @throws PolderError `DISK_FULL`, `STORE_UNWRITABLE`
 */
export function publishTree(
  store: Store,
  id: TreeId,
  directory: string,
  bin: Readonly<Record<string, string>>,
): PublishedTree {
  const found = readDirectory(directory)
  const batch = temporaryPath(store, 'built')
  try {
    mkdirSync(batch)
    const bytes = writeTree(join(batch, id), { ...found, skipped: [] }, bin)
    publish(store, [{ from: join(batch, id), to: treePath(store, id) }], 'files.json')
    return { files: found.files.size, bytes, leftOut: found.leftOut.sort() }
  } catch (error) {
    throw writeFailure(error, `keeping what was built in ${directory}`, store.home)
  } finally {
    rmSync(batch, { recursive: true, force: true })
  }
}

/**
 * Compares a directory with the tree that an earlier build of the same made of it: the same files with the same bytes,
 * and those executable that were.
 * @param bin as it was published with
 * @returns what differs, by path
 * @throws PolderError `ARTIFACT_MISSING` if the tree is not there
 */
export async function compareWithTree(
  store: Store,
  id: TreeId,
  directory: string,
  bin: Readonly<Record<string, string>>,
): Promise<readonly Difference[]> {
  const tree = readTree(store, id)
  const hashes = await readTreeHashes(store, id)
  const runs = new Set(tree.executable.map((index) => tree.files[index]))
  const commands = new Set(Object.values(bin))
  const { files } = readDirectory(directory)
  const differences: Difference[] = []
  for (const [path, { bytes, executable }] of files) {
    const isCommand = commands.has(path)
    const written = isCommand ? withUnixInterpreterLine(bytes) : bytes
    const expected = hashes.get(path)
    if (expected === undefined) differences.push({ path, kind: 'added' })
    else if (hash('sha256', written, 'hex') !== expected || (isCommand || executable) !== runs.has(path))
      differences.push({ path, kind: 'differs' })
  }
  for (const path of tree.files) if (!files.has(path)) differences.push({ path, kind: 'missing' })
  return differences.sort((a, b) => compareText(a.path, b.path))
}

function readDirectory(root: string): {
  readonly directories: string[]
  readonly files: Map<string, ArchivedFile>
  readonly leftOut: string[]
} {
  const directories: string[] = []
  const files = new Map<string, ArchivedFile>()
  const leftOut: string[] = []
  const inside = `${realpathSync(root)}${sep}`
  const visit = (path: string): void => {
    for (const name of readdirSync(join(root, path)).sort()) {
      const below = path === '' ? name : `${path}/${name}`
      const absolute = join(root, below)
      let state = lstatSync(absolute)
      if (state.isSymbolicLink()) {
        const target = leadsTo(absolute)
        // A link to a directory would be a copy of all of it, or of itself.
        if (target === undefined || !target.startsWith(inside) || !lstatSync(target).isFile()) {
          leftOut.push(below)
          continue
        }
        state = lstatSync(target)
      }
      if (state.isDirectory()) {
        directories.push(below)
        visit(below)
      } else if (state.isFile()) {
        // A build may have taken away the right to read what it made.
        if ((state.mode & 0o400) === 0) chmodSync(absolute, state.mode | 0o400)
        const executable = (state.mode & 0o111) !== 0
        // Read one at a time, when they are written: a build may leave browsers.
        files.set(below, {
          executable,
          get bytes() {
            return readFileSync(absolute)
          },
        })
      } else leftOut.push(below)
    }
  }
  visit('')
  return { directories, files, leftOut }
}

function leadsTo(link: string): string | undefined {
  try {
    return realpathSync(link)
  } catch {
    return undefined
  }
}
