import { hash } from 'node:crypto'
import { readFileSync } from 'node:fs'

import { type Lock, parseLock } from '@polder/lock'
import { type Integrity, PolderError } from '@polder/spec'
import { installScripts } from '@polder/spec/manifest'
import {
  discardStaged,
  hasArtifact,
  publishStaged,
  type StagedArtifact,
  stageArtifact,
  type Store,
  withLease,
} from '@polder/store'
import { readArchiveManifest } from '@polder/store/archive'

import { type Content, contentsOf } from './bundle-contents.ts'
import { bundleInvalid, contentPath, type Member } from './bundle-format.ts'
import { Bundle, type BundleProgress } from './bundle-reader.ts'
import { writeManifest } from './manifests.ts'
import type { PinnedPackage } from './pin.ts'
import { type CarriedRecords, checkShasums, parseReleases, writeReleases } from './release-records.ts'

export interface ImportReport {
  readonly lock: Lock
  /** Byte by byte as it was exported. */
  readonly lockText: string
  /** The services that it was exported for; absent if it is for all. */
  readonly services?: readonly string[]
  /** Digest of the lock that it was exported against. */
  readonly since?: string
  readonly artifacts: number
  readonly files: number
  readonly releases: number
  /** Of the bundle. */
  readonly bytes: number
  /** How many of its artifacts and files the store did not have. */
  readonly added: number
  /** What the lock pins (for those services) and neither the bundle nor the store has: names of packages, URLs. */
  readonly missing: readonly string[]
}

/**
 * Brings a bundle into the store. All of it is verified before anything is visible: the archive has to be, byte by byte,
 * what {@link exportBundle} makes of its list; the list has to be what its lock pins; every hash, every archive in it
 * and every signature by a key of the lock has to be right. Killed before the end it leaves nothing visible but, at
 * most, some of the artifacts, each of them verified; the same import again completes it. Several may run at once.
 * @param path of the bundle, also named in errors
 * @throws PolderError `BUNDLE_INVALID` with the member; `ARCHIVE_REFUSED`, `LOCK_INVALID`, `SIGNATURE_INVALID`,
 *   `SIGNING_KEY_UNKNOWN`, `SIGNING_KEY_EXPIRED`; `DISK_FULL`, `STORE_UNWRITABLE`
 */
export async function importBundle(
  store: Store,
  path: string,
  options: { readonly onProgress?: BundleProgress } = {},
): Promise<ImportReport> {
  const bundle = await Bundle.open(path, options.onProgress)
  try {
    return await withLease(store, () => bring(store, bundle))
  } finally {
    await bundle.close()
  }
}

async function bring(store: Store, bundle: Bundle): Promise<ImportReport> {
  const { path, list } = bundle
  const arrival = new Arrival(store, path)
  try {
    let lock: { readonly value: Lock; readonly text: string } | undefined
    let wanted: ReadonlyMap<string, Content> = new Map()
    let records: CarriedRecords = new Map()
    for (const member of list.members) {
      await bundle.header(member)
      if (member.kind === 'lock') {
        const text = (await bundle.text(member)).toString('utf8')
        lock = { text, value: parseLock(text, `polder.lock in ${path}`) }
        wanted = checkContents(bundle, lock.value)
      } else if (lock === undefined) throw bundleInvalid(path, 'its lock does not come first')
      else if (member.kind === 'releases') records = parseReleases(await bundle.text(member), lock.value, path)
      else await arrival.take(member, bundle.body(member), wanted.get(member.path)?.names[0] ?? member.path)
    }
    await bundle.end()
    if (lock === undefined) throw bundleInvalid(path, 'it holds no lock')
    checkShasums(records, lock.value, await arrival.sha1(), path)
    const { added, artifacts } = arrival.publish()
    await writeReleases(store, records)
    return {
      lock: lock.value,
      lockText: lock.text,
      ...(list.services === undefined ? {} : { services: list.services }),
      ...(list.since === undefined ? {} : { since: list.since }),
      artifacts,
      files: list.members.filter(({ kind }) => kind === 'file').length,
      releases: records.size,
      bytes: bundle.bytes,
      added,
      missing: [...wanted.values()]
        .filter(({ integrity }) => !hasArtifact(store, integrity))
        .flatMap(({ names }) => names),
    }
  } finally {
    await arrival.discard()
  }
}

/**
 * The list against the lock: nothing that the lock does not pin, and, in a bundle that is not made against an older
 * lock, all that it does.
 * @returns what the lock pins, by path
 */
function checkContents({ path, list }: Bundle, lock: Lock): ReadonlyMap<string, Content> {
  for (const service of list.services ?? []) {
    if (!Object.hasOwn(lock.npm.services, service))
      throw bundleInvalid(path, `it is for ${service}, which its lock does not have`, { spec: service })
  }
  const wanted = new Map(
    contentsOf(lock, list.services).map((content) => [contentPath(content.kind, content.integrity), content]),
  )
  const carried = new Set<string>()
  for (const member of list.members) {
    if (member.kind !== 'artifact' && member.kind !== 'file') continue
    carried.add(member.path)
    if (wanted.get(member.path)?.integrity !== member.integrity)
      throw bundleInvalid(path, `it holds ${member.path}, which its lock does not pin`, { spec: member.path })
  }
  if (list.since !== undefined) return wanted
  for (const [name, { names }] of wanted)
    if (!carried.has(name)) throw bundleInvalid(path, `it lacks ${name}, ${names.join(', ')}`, { spec: names[0] })
  return wanted
}

// Larger ones come alone, and are not held in memory while they come.
const SMALL_BYTES = 1024 ** 2
const AT_ONCE = 8

/** Artifacts and files on their way: verified and in `tmp/`, where nobody sees them before all of them are there. */
class Arrival {
  readonly #store: Store
  readonly #bundle: string
  readonly #staged: StagedArtifact[] = []
  readonly #manifests: PinnedPackage[] = []
  readonly #sha1 = new Map<Integrity, string>()
  readonly #running = new Set<Promise<void>>()

  constructor(store: Store, bundle: string) {
    this.#store = store
    this.#bundle = bundle
  }

  /** Returns when the body was read, which is not when it was verified. */
  async take(member: Member, body: AsyncIterable<Buffer>, label: string): Promise<void> {
    if (member.bytes > SMALL_BYTES) {
      const { path } = await this.#stage(member, body, label)
      if (member.kind === 'artifact') await this.#describe(member.integrity, readFileSync(path), label)
      return
    }
    const pieces: Buffer[] = []
    for await (const piece of body) pieces.push(piece)
    const bytes = Buffer.concat(pieces)
    const work = (async () => {
      await this.#stage(member, [bytes], label)
      if (member.kind === 'artifact') await this.#describe(member.integrity, bytes, label)
    })()
    this.#running.add(work)
    // The loop that waits hears of a failure, whichever it is.
    work.then(
      () => this.#running.delete(work),
      () => undefined,
    )
    if (this.#running.size >= AT_ONCE) await Promise.race(this.#running)
  }

  /** Of every artifact, hex, when all are verified. */
  async sha1(): Promise<ReadonlyMap<Integrity, string>> {
    await Promise.all(this.#running)
    return this.#sha1
  }

  /** Only after {@link sha1}. */
  publish(): { readonly added: number; readonly artifacts: number } {
    const added = this.#staged.filter(({ integrity }) => !hasArtifact(this.#store, integrity)).length
    publishStaged(this.#store, this.#staged.splice(0))
    for (const manifest of this.#manifests) writeManifest(this.#store, manifest)
    return { added, artifacts: this.#manifests.length }
  }

  /** Removes what was not published, when nothing is being written any more. */
  async discard(): Promise<void> {
    await Promise.allSettled(this.#running)
    discardStaged(this.#staged)
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
  async #describe(integrity: Integrity, bytes: Buffer, label: string): Promise<void> {
    try {
      const { manifest, hasBindingGyp } = await readArchiveManifest(bytes, label)
      this.#sha1.set(integrity, hash('sha1', bytes, 'hex'))
      this.#manifests.push({ integrity, manifest, needsBuild: installScripts(manifest, hasBindingGyp).length > 0 })
    } catch (error) {
      if (!(error instanceof PolderError)) throw error
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
