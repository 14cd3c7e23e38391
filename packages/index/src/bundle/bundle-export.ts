import { randomBytes } from 'node:crypto'
import { closeSync, readSync, statSync } from 'node:fs'
import { open, rename, rm } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'

import type { InstanceId, Lock } from '@polder/lock'
import { hexDigest, type Integrity, integrityOf, type PackageId, PolderError, unpatchedId } from '@polder/spec'
import {
  artifactPath,
  hasArtifact,
  openArtifact,
  type PackedTree,
  packedTreeBytes,
  packTree,
  readArtifact,
  type Store,
  type TreeId,
  writeFailure,
} from '@polder/store'

import { candidatesBeside, type Content, contentsOf, instancesOf } from './bundle-contents.ts'
import {
  bundleBytes,
  type BundleList,
  contentPath,
  END_BYTES,
  LIST_PATH,
  type Member,
  memberHeader,
  paddingOf,
  serializeList,
  sortMembers,
  treePath,
} from './bundle-format.ts'
import { collectReleases } from './release-records.ts'

export interface ExportRequest {
  readonly lock: Lock
  /** As it stands in the file: it is carried byte by byte. */
  readonly lockText: string
  /** Paths of services: only what they need. */
  readonly services?: readonly string[]
  /** An older lock: what it has is left out. */
  readonly since?: { readonly lock: Lock; readonly text: string }
  /** What the lockfiles have, so that a lock can be made anew from it: carried where the lock did not choose it. */
  readonly candidates?: Iterable<{ readonly id: PackageId; readonly integrity: Integrity }>
  /** What packages of the lock were built to, in this store: those that its services need are carried. */
  readonly builtTrees?: readonly BuiltTree[]
  /** In bytes of the bundle. */
  readonly onProgress?: (progress: { readonly done: number; readonly total: number }) => void
}

/** A tree of the store, and which instance of a lock it is. */
export interface BuiltTree {
  readonly id: TreeId
  readonly instance: InstanceId
  /** What its id is the hash of. */
  readonly recipe: string
}

export interface ExportReport {
  /** Of the bundle. */
  readonly bytes: number
  readonly artifacts: number
  /** Besides: what the lock did not choose. */
  readonly candidates: number
  readonly files: number
  readonly trees: number
  readonly releases: number
  /** Packages of which the store has no record of what their registry says. */
  readonly withoutRelease: readonly PackageId[]
}

// Larger artifacts are copied in pieces.
const WHOLE_BYTES = 16 * 1024 ** 2
const PIECE_BYTES = 1024 ** 2

/**
 * Writes what a lock pins into one file, which appears complete or not at all. The same lock, options and release
 * records give the same bytes on any machine: nothing is compressed here. Every artifact is verified on its way.
 * @throws PolderError `ARTIFACT_MISSING` with all that are, `ARTIFACT_CORRUPT`, `DISK_FULL`, `STORE_UNWRITABLE`
 */
export async function exportBundle(store: Store, path: string, request: ExportRequest): Promise<ExportReport> {
  const { lock, lockText, services, since, candidates = [], builtTrees = [], onProgress } = request
  const known = new Set(since === undefined ? [] : contentsOf(since.lock).map(({ integrity }) => integrity))
  const all = contentsOf(lock, services)
  const contents = [...all, ...candidatesBeside(all, candidates)].filter(({ integrity }) => !known.has(integrity))
  refuseMissing(store, contents)
  const ids = contents
    .flatMap(({ kind, names }) => (kind === 'artifact' ? names : []))
    .filter((id) => Object.hasOwn(lock.npm.packages, id)) as PackageId[]
  // What registries say is of the package as it is published, not as a patch leaves it.
  const packages = [...new Set(ids.map(unpatchedId))]
  const releases = collectReleases(store, packages)
  const bodies = new Map<string, Body>([['polder.lock', { kind: 'lock', text: Buffer.from(lockText) }]])
  if (releases.text !== undefined) bodies.set('releases.json', { kind: 'releases', text: releases.text })
  for (const content of contents) bodies.set(contentPath(content.kind, content.integrity), content)
  const trees = await packTrees(store, builtTrees, services === undefined ? undefined : instancesOf(lock, services))
  for (const tree of trees) bodies.set(treePath(tree.id), { kind: 'tree', tree })
  const list: BundleList = {
    format: 1,
    ...(services === undefined ? {} : { services }),
    ...(since === undefined ? {} : { since: `sha256-${hexDigest(integrityOf('sha256', Buffer.from(since.text)))}` }),
    members: sortMembers([...bodies].map(([name, body]) => memberOf(store, name, body))),
  }
  const total = bundleBytes(list)
  await writeWhole(path, chunksOf(store, list, bodies), (done) => onProgress?.({ done, total }))
  return {
    bytes: total,
    artifacts: contents.filter(({ kind }) => kind === 'artifact').length,
    candidates: contents.filter(({ kind }) => kind === 'candidate').length,
    files: contents.filter(({ kind }) => kind === 'file').length,
    trees: trees.length,
    releases: packages.length - releases.without.length,
    withoutRelease: releases.without,
  }
}

type Body =
  | Content
  | { readonly kind: 'lock' | 'releases'; readonly text: Buffer }
  | { readonly kind: 'tree'; readonly tree: PackedTree }

/** Several instances may be one tree. */
async function packTrees(
  store: Store,
  builtTrees: readonly BuiltTree[],
  needed: ReadonlySet<InstanceId> | undefined,
): Promise<readonly PackedTree[]> {
  const packed = new Map<TreeId, PackedTree>()
  for (const { id, instance, recipe } of builtTrees)
    if (needed?.has(instance) !== false && !packed.has(id)) packed.set(id, await packTree(store, id, recipe, instance))
  return [...packed.values()]
}

function refuseMissing(store: Store, contents: readonly Content[]): void {
  const missing = contents.filter(({ integrity }) => !hasArtifact(store, integrity))
  const [first] = missing
  if (first === undefined) return
  const others = missing.map(
    ({ names, integrity }) =>
      new PolderError('ARTIFACT_MISSING', names.join(', '), { spec: names[0], wanted: integrity }),
  )
  throw new PolderError(
    'ARTIFACT_MISSING',
    missing.length === 1
      ? `the artifact of ${first.names[0]} is not in the store`
      : `${missing.length} artifacts of the lock are not in the store`,
    { ...(missing.length === 1 ? {} : { others }), hint: 'run `polder index sync` to fetch what is missing' },
  )
}

function memberOf(store: Store, path: string, body: Body): Member {
  if ('text' in body)
    return { kind: body.kind, path, bytes: body.text.length, integrity: integrityOf('sha512', body.text) }
  if (body.kind === 'tree') return { kind: 'tree', path, bytes: body.tree.bytes, integrity: body.tree.integrity }
  const { kind, integrity } = body
  return { kind, path, bytes: statSync(artifactPath(store, integrity)).size, integrity }
}

/** The bytes of the whole archive, in order. */
async function* chunksOf(
  store: Store,
  list: BundleList,
  bodies: ReadonlyMap<string, Body>,
): AsyncGenerator<Uint8Array, void, undefined> {
  const text = serializeList(list)
  yield* framed(LIST_PATH, text.length, [text])
  for (const { path, bytes } of list.members) {
    const body = bodies.get(path)
    if (body !== undefined) yield* framed(path, bytes, bodyOf(store, body, bytes))
  }
  yield Buffer.alloc(END_BYTES)
}

function bodyOf(store: Store, body: Body, bytes: number): Iterable<Uint8Array> | AsyncIterable<Uint8Array> {
  if ('text' in body) return [body.text]
  return body.kind === 'tree' ? packedTreeBytes(store, body.tree) : piecesOf(store, body, bytes)
}

async function* framed(
  path: string,
  bytes: number,
  body: Iterable<Uint8Array> | AsyncIterable<Uint8Array>,
): AsyncGenerator<Uint8Array, void, undefined> {
  yield memberHeader(path, bytes)
  yield* body
  yield Buffer.alloc(paddingOf(bytes))
}

async function* piecesOf(
  store: Store,
  { integrity, names }: Content,
  bytes: number,
): AsyncGenerator<Uint8Array, void, undefined> {
  if (bytes <= WHOLE_BYTES) {
    yield readArtifact(store, integrity, names[0])
    return
  }
  const { file } = await openArtifact(store, integrity, names[0])
  try {
    for (let position = 0; position < bytes;) {
      const piece = Buffer.allocUnsafe(Math.min(PIECE_BYTES, bytes - position))
      const bytesRead = readSync(file, piece, 0, piece.length, position)
      if (bytesRead === 0) throw new Error(`the artifact of ${names[0]} became shorter while it was read`)
      yield piece.subarray(0, bytesRead)
      position += bytesRead
    }
  } finally {
    closeSync(file)
  }
}

/** Temporary file beside it → fsync → rename. */
async function writeWhole(
  path: string,
  chunks: AsyncIterable<Uint8Array>,
  onProgress: (done: number) => void,
): Promise<void> {
  const temporary = join(dirname(path), `.${basename(path)}.${process.pid}-${randomBytes(6).toString('hex')}.tmp`)
  const writing = async <T>(operation: Promise<T>): Promise<T> => {
    try {
      return await operation
    } catch (error) {
      throw writeFailure(error, 'writing the bundle', path)
    }
  }
  try {
    const file = await writing(open(temporary, 'wx', 0o644))
    try {
      let done = 0
      for await (const chunk of chunks) {
        for (let offset = 0; offset < chunk.length;) offset += (await writing(file.write(chunk, offset))).bytesWritten
        done += chunk.length
        onProgress(done)
      }
      await writing(file.sync())
    } finally {
      await file.close()
    }
    await writing(rename(temporary, path))
  } catch (error) {
    await rm(temporary, { force: true })
    throw error
  }
}
