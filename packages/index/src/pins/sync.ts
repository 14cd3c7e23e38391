import { Readable } from 'node:stream'
import { setFlagsFromString } from 'node:v8'

import { type ErrorCode, type Integrity, type Manifest, type PackageId, PolderError } from '@polder/spec'
import { hasArtifact, type Intake, openIntake, readArtifact, type Store } from '@polder/store'
import { manifestOf } from '@polder/store/archive'
import { type ArchiveReaders, openArchiveReaders } from '@polder/store/archive-readers'

import {
  type Consumer,
  fromFile,
  fromRegistry,
  fromUrl,
  hashFromDocument,
  type Network,
} from '../upstream/artifact-source.ts'
import { type Clock, systemClock } from '../upstream/backoff.ts'
import { turns } from './concurrently.ts'
import { writeManifest } from './manifests.ts'
import { needsBuild } from './needs-build.ts'
import { type NpmConfig, redactUrl } from '../upstream/npm-config.ts'
import { attributed, type PinnedPackage, type PinRequest } from './pin.ts'
import { readPinned } from './pinned.ts'
import { recordedHash, recordHash } from './recorded-hashes.ts'
import { openUpstream } from '../upstream/upstream.ts'

export interface SyncOptions {
  /** The repository, absolute: where tarballs of kind `file` are. */
  readonly root: string
  /** The user's configuration; asked for only if something has to be fetched. */
  readonly npm: () => Promise<NpmConfig>
  /** Names that may come without any hash in the lockfile; the hash of what comes first is recorded and holds from then on. */
  readonly allowWeakIntegrity?: readonly string[]
  /** The largest artifact that is accepted, 1 GiB unless told. */
  readonly maxBytes?: number
  /** What has to be done before anything that comes gets its name, while it comes. */
  readonly first?: () => Promise<void>
  /** Whether what comes is to be unpacked at once, for an installation on this machine. */
  readonly unpack?: (manifest: Manifest) => boolean
  readonly onProgress?: (progress: SyncProgress) => void
  readonly clock?: Clock
}

/** Pins, and the bytes that came over the network or from the repository so far. */
export interface SyncProgress {
  readonly done: number
  readonly total: number
  readonly bytes: number
}

/** What a sync brought, and what it could not. */
export interface SyncReport {
  readonly pinned: Map<PackageId, PinnedPackage>
  /** How many artifacts came, how many were in the store already, and the bytes of those that came. */
  readonly fetched: number
  readonly reused: number
  readonly bytes: number
  /** One for each pin that is not in `pinned`, sorted by id: FETCH_FAILED, INTEGRITY_MISMATCH, INTEGRITY_MISSING, SOURCE_UNSUPPORTED, or what is wrong with its archive. */
  readonly failures: readonly PolderError[]
  /** Sentences for the user, sorted. */
  readonly warnings: readonly string[]
}

// More than the connections to a host: they stay busy while other artifacts are being unpacked.
const CONCURRENCY = 24
// Archives that are in memory at a time: some being read, by no more than four threads, and some that wait there.
const UNPACKING = 6
// Larger ones, which may come to a hundred megabytes each, are in memory one at a time.
const LARGE_BYTES = 4 * 1024 * 1024
const MAX_ARTIFACT_BYTES = 1024 ** 3
// What every other pin would fail with too.
const FATAL: readonly ErrorCode[] = ['NPMRC_INVALID', 'DISK_FULL', 'STORE_UNWRITABLE']

/**
 * Brings every pin's artifact into the store, verified against its lockfile's hash, and records its manifest. What is
 * there is not asked for again, so a sync that was killed goes on where it was; nothing that failed hides the rest.
 * @throws PolderError only for what ends everything: `NPMRC_INVALID`, `DISK_FULL`, `STORE_UNWRITABLE`, and what `first`
 *   throws
 */
export async function syncPins(store: Store, pins: readonly PinRequest[], options: SyncOptions): Promise<SyncReport> {
  const { report, durable } = await fetchPins(store, pins, options)
  await durable
  return report
}

/**
 * As {@link syncPins}, but ends when everything is known of what came.
 * @returns also what resolves when it is on the disk, under its name: until then no artifact can be read. Has to be waited for
 */
export async function fetchPins(
  store: Store,
  pins: readonly PinRequest[],
  options: SyncOptions,
): Promise<{ readonly report: SyncReport; readonly durable: Promise<void> }> {
  const { pinned, missing } = readPinned(store, pins)
  if (missing.length > 0) collectGarbageLess()
  const first = missing.length > 0 && options.first !== undefined ? options.first() : Promise.resolve()
  const sync = new Sync(store, options, pins.length, { pinned, first })
  const queue = missing.values()
  const workers = Array.from({ length: Math.min(CONCURRENCY, missing.length) }, () => sync.work(queue))
  try {
    await Promise.all([first, ...workers])
  } catch (error) {
    // If one ended it all, nothing may be writing any more when the caller hears of it; what came is kept if it can be.
    sync.stop()
    await sync.disconnect()
    await Promise.allSettled(workers)
    await sync.settle().catch(() => undefined)
    throw error
  }
  const durable = sync.settle()
  durable.catch(() => undefined)
  await sync.disconnect()
  return { report: sync.report(), durable }
}

/**
 * Archives come and go by the megabyte beside a heap of twenty, and each such tide would start a collection: twenty of
 * them, a tenth of the CPU of a sync of 500 packages. V8 reads this flag whenever it decides how far the heap may grow,
 * so it holds from the next collection on; it costs 20 MB.
 */
function collectGarbageLess(): void {
  setFlagsFromString('--heap-growing-percent=400')
}

/** One running sync: its connections and its counts. */
class Sync {
  reused: number
  done: number
  readonly #store: Store
  readonly #options: SyncOptions
  readonly #total: number
  readonly #pinned: Map<PackageId, PinnedPackage>
  readonly #intake: Intake
  readonly #readers: ArchiveReaders
  readonly #unpacking = turns(UNPACKING)
  readonly #unpackingLarge = turns(1)
  readonly #failures: { readonly id: PackageId; readonly error: PolderError }[] = []
  readonly #warnings = new Set<string>()
  #fetched = 0
  #bytes = 0
  #trusted = 0
  #network: Promise<Network> | undefined
  #stopped = false

  constructor(
    store: Store,
    options: SyncOptions,
    total: number,
    { pinned, first }: { readonly pinned: Map<PackageId, PinnedPackage>; readonly first: Promise<void> },
  ) {
    this.#store = store
    this.#options = options
    this.#total = total
    this.#pinned = pinned
    this.#intake = openIntake(store, first)
    this.reused = this.done = pinned.size
    this.#readers = openArchiveReaders(total - pinned.size)
  }

  /** Takes pins until there are none left, or until something ended the whole sync. */
  async work(queue: Iterator<PinRequest>): Promise<void> {
    for (let next = queue.next(); next.done !== true && !this.#stopped; next = queue.next()) {
      try {
        await this.#pin(next.value)
      } catch (error) {
        this.stop()
        throw error
      }
    }
  }

  /** Begins no more pins. */
  stop(): void {
    this.#stopped = true
  }

  report(): SyncReport {
    if (this.#trusted > 0) {
      const pins = this.#trusted === 1 ? '1 pin has' : `${this.#trusted} pins have`
      this.#warnings.add(
        `${pins} no hash in any lockfile (yarn 2 and newer only hash archives of their own): what the registry says now was trusted, and is recorded so that it has to stay the same`,
      )
    }
    return {
      pinned: this.#pinned,
      fetched: this.#fetched,
      reused: this.reused,
      bytes: this.#bytes,
      failures: this.#failures.sort((a, b) => (a.id < b.id ? -1 : 1)).map(({ error }) => error),
      warnings: [...this.#warnings].sort(),
    }
  }

  /** Gives what came its name, durably. */
  async settle(): Promise<void> {
    this.#readers.close()
    await this.#intake.close()
  }

  async disconnect(): Promise<void> {
    // Whoever needed the network has seen why it could not be opened.
    const network = await this.#network?.catch(() => undefined)
    await network?.upstream.close()
  }

  async #pin(pin: PinRequest): Promise<void> {
    try {
      this.#pinned.set(pin.id, await this.#bring(pin))
    } catch (error) {
      if (!(error instanceof PolderError) || FATAL.includes(error.code)) throw error
      this.#failures.push({ id: pin.id, error })
    }
    this.done += 1
    this.#tell()
  }

  async #bring(pin: PinRequest): Promise<PinnedPackage> {
    const known = recordedHash(this.#store, pin)
    const stored = known === undefined ? undefined : await this.#fromStore(pin, known)
    if (stored !== undefined) {
      this.reused += 1
      return stored
    }
    const { integrity, bytes, contents } = await this.#fetch(pin, known ?? pin.integrity)
    this.#fetched += 1
    const unpacking = bytes > LARGE_BYTES ? this.#unpackingLarge : this.#unpacking
    return unpacking(() => this.#describe(pin, integrity, contents))
  }

  /** An artifact that is there without its manifest: written by another version, or the last run was killed in between. */
  async #fromStore(pin: PinRequest, known: Integrity): Promise<PinnedPackage | undefined> {
    if (!hasArtifact(this.#store, known)) return undefined
    try {
      return await this.#unpacking(() => this.#describe(pin, known, () => readArtifact(this.#store, known, pin.id)))
    } catch (error) {
      // It is in quarantine now; fetch it again.
      if (error instanceof PolderError && error.code === 'ARTIFACT_CORRUPT') return undefined
      throw error
    }
  }

  async #fetch(pin: PinRequest, known: Integrity | null): Promise<Received> {
    const { root, maxBytes = MAX_ARTIFACT_BYTES, allowWeakIntegrity = [] } = this.#options
    const { source } = pin
    const expected = known ?? (await this.#fromRegistrysDocument(pin))
    // A commit is its own hash, and a tarball in the repository is what the repository has.
    const isPinned = expected !== null || source.kind === 'file' || source.kind === 'git'
    if (!isPinned && !allowWeakIntegrity.includes(pin.name)) {
      throw attributed(
        new PolderError(
          'INTEGRITY_MISSING',
          `${pin.id} has no hash in its lockfile, so what comes cannot be verified`,
          {
            hint: `lock it with a package manager that records hashes, or list ${pin.name} under index.allowWeakIntegrity in polder.yaml`,
          },
        ),
        pin,
      )
    }
    let origin = ''
    const consume: Consumer<Received> = async (body, from, announced = 0) => {
      origin = from
      return this.#intake.receive(this.#counted(body), { expected, maxBytes, label: pin.id, announced })
    }
    let received: Received
    try {
      received =
        source.kind === 'file'
          ? await fromFile(root, source.path, consume)
          : source.kind === 'git'
            ? await this.#fromGit(pin, source, maxBytes, consume)
            : source.kind === 'tarball'
              ? await fromUrl(await this.#open(), pin.name, source.url, maxBytes, consume)
              : await fromRegistry(await this.#open(), pin, expected, maxBytes, consume)
    } catch (error) {
      throw error instanceof PolderError ? attributed(error, pin, origin) : error
    }
    recordHash(this.#store, pin, received.integrity)
    if (known === null && expected !== null) this.#trusted += 1
    return received
  }

  async #fromGit(
    { id }: PinRequest,
    { url, commit, path }: { readonly url: string; readonly commit: string; readonly path?: string },
    maxBytes: number,
    consume: Consumer<Received>,
  ): Promise<Received> {
    const { fromGit } = await import('../upstream/git-source.ts')
    const { tarball, warnings } = await fromGit(url, commit, maxBytes, path)
    for (const warning of warnings) this.#warnings.add(`${id} ${warning}`)
    return consume(Readable.from([tarball]), `${redactUrl(url)}#${commit}`)
  }

  /** What the registry says of a pin whose lockfile cannot say it; null for every other pin. */
  async #fromRegistrysDocument(pin: PinRequest): Promise<Integrity | null> {
    if (pin.hashFromRegistry !== true || pin.integrity !== null || pin.source.kind !== 'registry') return null
    try {
      return await hashFromDocument(await this.#open(), pin)
    } catch (error) {
      throw error instanceof PolderError ? attributed(error, pin) : error
    }
  }

  /** Reads the manifest out of the artifact and records it, and unpacks the rest while it is at it. */
  async #describe(pin: PinRequest, integrity: Integrity, contents: () => Buffer): Promise<PinnedPackage> {
    return this.#readers.use(contents, pin.id, async (archive) => {
      const read = manifestOf(archive.packageJson, archive.hasBindingGyp, pin.id)
      const { manifest } = read
      this.#check(pin, manifest)
      if (this.#options.unpack?.(manifest) === true) await this.#intake.unpack(integrity, archive, manifest.bin, pin.id)
      const isBuilt = needsBuild(read, pin.source.kind === 'git')
      const described = { integrity, manifest, needsBuild: isBuilt, shasum: archive.shasum }
      writeManifest(this.#store, described)
      return described
    })
  }

  #check(pin: PinRequest, manifest: Manifest): void {
    if (manifest.name !== undefined && manifest.name !== pin.name) {
      const problem = `the tarball of ${pin.id} is another package: its package.json says ${manifest.name}@${manifest.version ?? '?'}`
      if (pin.source.kind === 'registry') {
        throw attributed(
          new PolderError('INTEGRITY_MISMATCH', problem, {
            found: manifest.name,
            wanted: pin.name,
            hint: 'the lockfile may have been tampered with; lock it again',
          }),
          pin,
        )
      }
      this.#warnings.add(problem)
    }
    if (pin.source.kind === 'registry' && plainVersion(manifest.version ?? '') !== plainVersion(pin.reference)) {
      this.#warnings.add(`the package.json of ${pin.id} has the version ${manifest.version ?? 'left out'}`)
    }
  }

  async #open(): Promise<Network> {
    this.#network ??= (async () => {
      const config = await this.#options.npm()
      for (const warning of config.warnings) this.#warnings.add(warning)
      return {
        config,
        upstream: await openUpstream(config, this.#options.clock ?? systemClock),
        documents: new Map<string, Promise<unknown>>(),
      }
    })()
    return this.#network
  }

  async *#counted(body: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array, void, undefined> {
    for await (const chunk of body) {
      this.#bytes += chunk.byteLength
      this.#tell()
      yield chunk
    }
  }

  #tell(): void {
    this.#options.onProgress?.({ done: this.done, total: this.#total, bytes: this.#bytes })
  }
}

type Received = Awaited<ReturnType<Intake['receive']>>

/** Without the `v` in front and the build metadata behind, which registries drop. */
function plainVersion(version: string): string {
  return version
    .trim()
    .replace(/^[v=\s]+/, '')
    .replace(/\+.*$/, '')
}
