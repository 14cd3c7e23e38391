import { hash } from 'node:crypto'
import { readFileSync } from 'node:fs'

import { type ErrorCode, type Integrity, PolderError } from '@polder/spec'
import {
  discardStaged,
  discardStagedTrees,
  hasArtifact,
  hasTree,
  publishStaged,
  publishStagedTrees,
  type StagedArtifact,
  type StagedTree,
  stageArtifact,
  stageTree,
  type Store,
} from '@polder/store'
import { readArchiveManifest } from '@polder/store/archive'

import { bundleInvalid, type Member, treeOf } from './bundle-format.ts'
import { writeManifest } from '../pins/manifests.ts'
import { needsBuild } from '../pins/needs-build.ts'
import type { PinnedPackage } from '../pins/pin.ts'

// Larger ones come alone, and are not held in memory while they come.
const SMALL_BYTES = 1024 ** 2
const AT_ONCE = 8

const OF_AN_ARCHIVE: readonly ErrorCode[] = ['ARCHIVE_REFUSED', 'MANIFEST_INVALID']

/** Artifacts, built trees and files on their way: verified and in `tmp/`, where nobody sees them before all of them are there. */
export class Arrival {
  readonly #store: Store
  readonly #bundle: string
  readonly #staged: StagedArtifact[] = []
  readonly #trees: StagedTree[] = []
  readonly #manifests: PinnedPackage[] = []
  readonly #sha1 = new Map<Integrity, string>()
  readonly #running = new Set<Promise<void>>()

  constructor(store: Store, bundle: string) {
    this.#store = store
    this.#bundle = bundle
  }

  /**
   * Returns when the body was read, which is not when it was verified.
   * @param isCommit true for what was packed of a commit
   */
  async take(member: Member, body: AsyncIterable<Buffer>, label: string, isCommit: boolean): Promise<void> {
    if (member.bytes > SMALL_BYTES) {
      const { path } = await this.#stage(member, body, label)
      if (member.kind !== 'file') await this.#describe(member.integrity, readFileSync(path), label, isCommit)
      return
    }
    const pieces: Buffer[] = []
    for await (const piece of body) pieces.push(piece)
    const bytes = Buffer.concat(pieces)
    const work = (async () => {
      await this.#stage(member, [bytes], label)
      if (member.kind !== 'file') await this.#describe(member.integrity, bytes, label, isCommit)
    })()
    this.#running.add(work)
    // The loop that waits hears of a failure, whichever it is.
    work.then(
      () => this.#running.delete(work),
      () => undefined,
    )
    if (this.#running.size >= AT_ONCE) await Promise.race(this.#running)
  }

  /**
   * What a package was built to.
   * @param body verified
   * @returns what it was built from
   */
  takeTree(member: Member, body: Buffer): Promise<string> {
    return this.#naming(() => {
      const staged = stageTree(this.#store, body, treeOf(member), member.path)
      this.#trees.push(staged)
      return staged.recipe
    })
  }

  /** Of every artifact, hex, when all are verified. */
  async sha1(): Promise<ReadonlyMap<Integrity, string>> {
    await Promise.all(this.#running)
    return this.#sha1
  }

  /** Only after {@link sha1}. */
  publish(): { readonly added: number; readonly artifacts: number } {
    const added =
      this.#staged.filter(({ integrity }) => !hasArtifact(this.#store, integrity)).length +
      this.#trees.filter(({ id }) => !hasTree(this.#store, id)).length
    publishStaged(this.#store, this.#staged.splice(0))
    publishStagedTrees(this.#store, this.#trees)
    for (const manifest of this.#manifests) writeManifest(this.#store, manifest)
    return { added, artifacts: this.#manifests.length }
  }

  /** Removes what was not published, when nothing is being written any more. */
  async discard(): Promise<void> {
    await Promise.allSettled(this.#running)
    discardStaged(this.#staged)
    discardStagedTrees(this.#trees)
  }

  async #stage(
    { path, bytes, integrity }: Member,
    body: AsyncIterable<Uint8Array> | readonly Uint8Array[],
    label: string,
  ): Promise<StagedArtifact> {
    try {
      const staged = await stageArtifact(this.#store, chunks(body), { expected: integrity, maxBytes: bytes, label })
      this.#staged.push(staged)
      return staged
    } catch (error) {
      if (!(error instanceof PolderError) || error.code !== 'INTEGRITY_MISMATCH') throw error
      const { found, wanted } = error.details
      throw bundleInvalid(this.#bundle, `its member ${path} (${label}) is not what its list says`, {
        spec: label,
        cause: error,
        ...(found === undefined ? {} : { found }),
        ...(wanted === undefined ? {} : { wanted }),
      })
    }
  }

  /** From the archive itself, which is thereby checked: what a bundle said of it would have to be checked by it. */
  async #describe(integrity: Integrity, bytes: Buffer, label: string, isCommit: boolean): Promise<void> {
    await this.#naming(async () => {
      const read = await readArchiveManifest(bytes, label)
      const shasum = hash('sha1', bytes, 'hex')
      this.#sha1.set(integrity, shasum)
      this.#manifests.push({ integrity, manifest: read.manifest, needsBuild: needsBuild(read, isCommit), shasum })
    })
  }

  /** Says of which bundle the archive is that is refused. */
  async #naming<T>(read: () => T | Promise<T>): Promise<T> {
    try {
      return await read()
    } catch (error) {
      if (!(error instanceof PolderError) || !OF_AN_ARCHIVE.includes(error.code)) throw error
      throw new PolderError(error.code, `${this.#bundle} is refused: ${error.message}`, {
        ...error.details,
        path: this.#bundle,
      })
    }
  }
}

async function* chunks(
  parts: AsyncIterable<Uint8Array> | readonly Uint8Array[],
): AsyncGenerator<Uint8Array, void, undefined> {
  yield* parts
}
