import { compareText, type Integrity, integrityFromHash, PolderError } from '@polder/spec'
import { createHash, hash } from 'node:crypto'
import { readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'

import type { Archive, ArchivedFile } from '../archives/read-tar.ts'
import { ArchivePaths, LIMITS, packagePath } from '../archives/archive-paths.ts'
import { builtTreeId, type Store, type TreeId, treePath } from '../content-path.ts'
import { publish, temporaryPath } from '../durable/publish.ts'
import { refusal } from '../archives/refusal.ts'
import { readTree } from './trees.ts'
import { readTreeHashes } from '../verify.ts'
import { writeFailure } from '../durable/write-failure.ts'
import { TREE_LIST, writeTree } from './write-tree.ts'

// A built tree as one run of bytes, to be carried to another store. One line of JSON, then the bodies of the files, one
// after the other in the order of the list. There is one way to write a tree, and no way to write a link, a device, an
// owner or any mode but "executable":
//
//   {"format":1,"recipe":"[1,…]","directories":["build"],"files":[{"path":"a","bytes":3},{"path":"b","bytes":9,"executable":true}]}

/** A tree that was measured, to be written. */
export interface PackedTree {
  readonly id: TreeId
  readonly label: string
  readonly bytes: number
  /** sha512 of all that {@link packedTreeBytes} gives. */
  readonly integrity: Integrity
  readonly head: Buffer
}

/**
 * Reads a built tree through, to say how large it is packed, and what its hash is.
 * @param recipe what the tree's id is the hash of: it goes along, so that the id can be checked
 * @param label the package, for messages
 * @throws PolderError `ARTIFACT_CORRUPT` if a file is not as it was built, `ARTIFACT_MISSING` if the tree is not there
 */
export async function packTree(store: Store, id: TreeId, recipe: string, label: string): Promise<PackedTree> {
  const tree = readTree(store, id)
  const executable = new Set(tree.executable)
  const files = tree.files.map((path, index) => ({
    path,
    bytes: tree.sizes[index] ?? 0,
    ...(executable.has(index) ? { executable: true as const } : {}),
  }))
  const head = Buffer.from(headOf({ recipe, directories: tree.directories, files }))
  const sha512 = createHash('sha512').update(head)
  let bytes = head.length
  for await (const body of bodies(store, id, label)) {
    sha512.update(body)
    bytes += body.length
  }
  return { id, label, bytes, integrity: integrityFromHash('sha512', sha512), head }
}

/** The bytes of a packed tree. @throws PolderError `ARTIFACT_CORRUPT` if a file is not as it was built */
export async function* packedTreeBytes(
  store: Store,
  { id, label, head }: PackedTree,
): AsyncGenerator<Buffer, void, undefined> {
  yield head
  yield* bodies(store, id, label)
}

async function* bodies(store: Store, id: TreeId, label: string): AsyncGenerator<Buffer, void, undefined> {
  const tree = readTree(store, id)
  const hashes = await readTreeHashes(store, id)
  for (const path of tree.files) {
    const bytes = readFileSync(join(tree.path, path))
    if (hash('sha256', bytes, 'hex') !== hashes.get(path)) {
      throw new PolderError('ARTIFACT_CORRUPT', `${path} of ${label} is not as it was built`, {
        spec: label,
        path: join(tree.path, path),
        hint: 'run `polder verify --repair`, which builds it again',
      })
    }
    yield bytes
  }
}

/** A tree in the store's `tmp/`, where nobody sees it. */
export interface StagedTree {
  readonly id: TreeId
  /** What it was built from. */
  readonly recipe: string
  readonly path: string
}

/**
 * Checks a packed tree as strictly as an archive, and writes it where nobody sees it. Its id follows from the recipe in
 * it, so that it can take the place of nothing but that build: what it was built to is believed.
 * @param packed whose hash was verified
 * @throws PolderError `ARCHIVE_REFUSED` with the rule, `DISK_FULL`, `STORE_UNWRITABLE`
 */
export function stageTree(store: Store, packed: Buffer, id: TreeId, label: string): StagedTree {
  const { recipe, ...archive } = readPackedTree(packed, label)
  if (builtTreeId(recipe) !== id) throw refusal(label, 'its recipe is of another build')
  const path = temporaryPath(store, 'built')
  try {
    writeTree(path, archive, {})
  } catch (error) {
    rmSync(path, { recursive: true, force: true })
    throw writeFailure(error, `unpacking what ${label} was built to`, store.home)
  }
  return { id, recipe, path }
}

/** Makes staged trees visible; those that are there already stay. @throws PolderError `DISK_FULL`, `STORE_UNWRITABLE` */
export function publishStagedTrees(store: Store, staged: readonly StagedTree[]): void {
  try {
    publish(
      store,
      staged.map(({ id, path }) => ({ from: path, to: treePath(store, id) })),
      TREE_LIST,
    )
  } catch (error) {
    throw writeFailure(error, 'placing built packages', store.home)
  }
}

/** Removes what was staged, and was not published or was there already. */
export function discardStagedTrees(staged: readonly StagedTree[]): void {
  for (const { path } of staged) rmSync(path, { recursive: true, force: true })
}

interface Head {
  readonly recipe: string
  readonly directories: readonly string[]
  readonly files: readonly { readonly path: string; readonly bytes: number; readonly executable?: true }[]
}

/** The one way to write it. */
function headOf({ recipe, directories, files }: Head): string {
  return `${JSON.stringify({
    format: 1,
    recipe,
    directories,
    files: files.map(({ path, bytes, executable }) => ({ path, bytes, ...(executable ? { executable } : {}) })),
  })}\n`
}

function readPackedTree(packed: Buffer, label: string): Archive & { readonly recipe: string } {
  const end = packed.indexOf('\n') + 1
  const head = parseHead(packed.subarray(0, end), label)
  const paths = new ArchivePaths()
  const refuse = (path: string, problem: string | undefined): void => {
    if (problem !== undefined) throw refusal(label, `${JSON.stringify(path)} ${problem}`)
  }
  for (const path of head.directories) {
    refuse(path, pathProblem(path))
    refuse(path, paths.addDirectory(path))
  }
  if (paths.directories.length !== head.directories.length) throw refusal(label, 'it does not list all its directories')
  const files = new Map<string, ArchivedFile>()
  let position = end
  for (const { path, bytes, executable = false } of head.files) {
    refuse(path, pathProblem(path))
    refuse(path, paths.addLeaf(path))
    files.set(path, { bytes: packed.subarray(position, position + bytes), executable })
    position += bytes
  }
  if (paths.directories.length !== head.directories.length) throw refusal(label, 'it does not list all its directories')
  if (position !== packed.length) throw refusal(label, 'its files are not as long as it says')
  return { recipe: head.recipe, directories: head.directories, files, skipped: [] }
}

/** Undefined for a path that is just as it would be written. */
function pathProblem(path: string): string | undefined {
  const read = packagePath(`package/${path}`)
  if ('refused' in read) return read.refused
  return read.path === path && path !== '' ? undefined : 'is no plain path'
}

function parseHead(text: Buffer, label: string): Head {
  let head: Partial<Record<keyof Head | 'format', unknown>> | null
  try {
    head = JSON.parse(text.toString('utf8')) as typeof head
  } catch (cause) {
    throw refusal(label, 'it does not begin with a list', cause)
  }
  if (!isHead(head)) throw refusal(label, 'its list is damaged')
  const { directories, files } = head
  if (directories.length + files.length > LIMITS.entries)
    throw refusal(label, `it has more than ${LIMITS.entries} entries`)
  const isSorted = isAscending(directories) && isAscending(files.map(({ path }) => path))
  // No key twice, none that is unknown, no other way to write a number.
  if (!isSorted || !Buffer.from(headOf(head)).equals(text))
    throw refusal(label, 'its list is not in the form in which polder writes it')
  return head
}

function isHead(head: Partial<Record<keyof Head | 'format', unknown>> | null): head is Head & typeof head {
  return (
    head?.format === 1 &&
    typeof head.recipe === 'string' &&
    Array.isArray(head.directories) &&
    head.directories.every((path) => typeof path === 'string') &&
    Array.isArray(head.files) &&
    head.files.every(isFile)
  )
}

function isFile(file: unknown): boolean {
  const { path, bytes, executable } = (file ?? {}) as Partial<Record<string, unknown>>
  return (
    typeof path === 'string' &&
    Number.isSafeInteger(bytes) &&
    (bytes as number) >= 0 &&
    (executable === undefined || executable === true)
  )
}

function isAscending(names: readonly string[]): boolean {
  return names.every((name, index) => index === 0 || compareText(names[index - 1] ?? '', name) < 0)
}
