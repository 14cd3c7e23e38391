import { compareText, type PackageId, PolderError } from '@polder/spec'
import { RangeCache } from '@polder/spec/semver-ranges'
import { type FileToWrite, type Store, writeFiles } from '@polder/store'

import { type Attestations, type AttestationState, fetchAttestations, openAttestations } from './attestations.ts'
import { type Clock, systemClock } from '../upstream/backoff.ts'
import { concurrently } from '../pins/concurrently.ts'
import { type Drift, driftOf, pinnedHash, sortDrift } from './drift.ts'
import { type NpmConfig, redactUrl, registryOf } from '../upstream/npm-config.ts'
import { attributed } from '../pins/pin.ts'
import { type Documents, openDocuments } from './release-document.ts'
import { FATAL, RegistryTrust, type TrustOptions } from './registry-trust.ts'
import { attestationsFile, type Release, releaseFile } from './releases.ts'
import { type SignatureState, verifySignatures } from './signatures.ts'
import type { SigningKeys } from './remembered-keys.ts'
import type { KeyChange } from './signing-keys.ts'
import type { TrustedKeys } from './trusted-keys.ts'
import { openUpstream, type Upstream } from '../upstream/upstream.ts'
import { byName, type Known, knownOf, unrecorded, type WantedRelease } from './wanted-releases.ts'

export interface ReleaseOptions extends TrustOptions {
  readonly npm: () => Promise<NpmConfig>
  /** `signed`: only of registries that sign, and without attestations. */
  readonly scope: 'all' | 'signed'
  /** Path of Sigstore's trusted root, or null. */
  readonly trustedRoot: string | null
  readonly onProgress?: (progress: { readonly done: number; readonly total: number }) => void
  readonly clock?: Clock
}

/** What registries said of pins of which nothing was recorded yet. All lists are sorted. */
export interface ReleaseReport {
  /** How many releases were recorded. */
  readonly recorded: number
  /** The keys to pin: those given, or those that were trusted as they came, or were accepted. */
  readonly keys: SigningKeys
  readonly keyChanges: readonly KeyChange[]
  readonly verified: number
  /** Releases without signature of registries that sign. */
  readonly unsigned: readonly PackageId[]
  readonly unverifiable: readonly { readonly id: PackageId; readonly reason: string }[]
  readonly attestations: Readonly<Record<AttestationState, number>>
  readonly drift: readonly Drift[]
  /** Nothing was recorded of these. */
  readonly failures: readonly PolderError[]
  /** Sentences for the user. */
  readonly warnings: readonly string[]
}

const CONCURRENCY = 16
// What a killed sync loses, at most.
const BATCH = 200

/**
 * Asks the registries for their full documents, one a name, and records what they say of each pin that nothing is
 * recorded of: durably, and only after its signatures were verified. What is recorded is never replaced. Private names
 * whose scope has no registry are left out.
 * @throws PolderError only for what ends everything: `NPMRC_INVALID`, `CONFIG_INVALID`, `DISK_FULL`, `STORE_UNWRITABLE`
 */
export async function syncReleases(
  store: Store,
  pins: readonly WantedRelease[],
  options: ReleaseOptions,
): Promise<ReleaseReport> {
  const lacking = new Set(unrecorded(store, pins, options.scope))
  const sync = new ReleaseSync(store, options)
  if (lacking.size > 0 || options.acceptKeys === true) await sync.run(pins, lacking)
  return sync.report()
}

interface Open {
  readonly config: NpmConfig
  readonly upstream: Upstream
  readonly documents: Documents
}

/** One running sync: what it counts and collects. */
class ReleaseSync {
  readonly #store: Store
  readonly #options: ReleaseOptions
  readonly #ranges = new RangeCache()
  readonly #trust: RegistryTrust
  readonly #unsigned: PackageId[] = []
  readonly #unverifiable: ReleaseReport['unverifiable'][number][] = []
  readonly #attested = { verified: 0, key: 0, unverified: 0 }
  readonly #drift: Drift[] = []
  readonly #failures: PolderError[] = []
  readonly #warnings = new Set<string>()
  readonly #pending: FileToWrite[] = []
  #attestations: Promise<Attestations> | undefined
  #recorded = 0
  #verified = 0

  constructor(store: Store, options: ReleaseOptions) {
    this.#store = store
    this.#options = options
    this.#trust = new RegistryTrust(store, options)
  }

  async run(pins: readonly WantedRelease[], lacking: Set<WantedRelease>): Promise<void> {
    const config = await this.#options.npm()
    const upstream = await openUpstream(config, this.#options.clock ?? systemClock)
    const open = { config, upstream, documents: openDocuments(config, upstream) }
    let done = 0
    try {
      if (this.#options.acceptKeys === true)
        for (const pin of await this.#trust.stale(config, upstream, pins)) lacking.add(pin)
      // All pins of a name are compared with its document once that is there.
      const names = [...byName(pins)].filter(([, own]) => own.some((pin) => lacking.has(pin)))
      const total = names.length
      await concurrently(names, CONCURRENCY, async ([name, pins]) => {
        await this.#name(open, name, pins, lacking)
        done += 1
        this.#options.onProgress?.({ done, total })
      })
    } finally {
      await upstream.close()
      await this.#flush()
    }
  }

  report(): ReleaseReport {
    const byId = (a: { readonly id: string }, b: { readonly id: string }): number => compareText(a.id, b.id)
    return {
      recorded: this.#recorded,
      keys: this.#trust.keys,
      keyChanges: this.#trust.keyChanges.sort((a, b) => compareText(a.keyid, b.keyid)),
      verified: this.#verified,
      unsigned: this.#unsigned.sort(compareText),
      unverifiable: this.#unverifiable.sort(byId),
      attestations: this.#attested,
      drift: sortDrift([...this.#drift, ...this.#trust.drift]),
      failures: [...this.#failures, ...this.#trust.failures].sort((a, b) => compareText(a.message, b.message)),
      warnings: [...this.#warnings, ...this.#trust.warnings].sort(compareText),
    }
  }

  async #name(
    open: Open,
    name: string,
    all: readonly WantedRelease[],
    lacking: ReadonlySet<WantedRelease>,
  ): Promise<void> {
    try {
      const trusted = await this.#trust.of(open.config, open.upstream, name)
      if (trusted === null || (this.#options.scope === 'signed' && trusted.keys === null)) return
      const pins = all.filter(({ source }) => source.kind === 'registry')
      const document = await open.documents.get(name, new Set(pins.map(({ reference }) => reference)))
      if (document === 'unchanged') return
      const known = pins.map((pin) => knownOf(this.#store, pin))
      const { now } = this.#options.clock ?? systemClock
      const compare = (a: string, b: string): number => this.#ranges.compare(a, b)
      this.#drift.push(...driftOf(name, document, known, { now: now(), compare }))
      const releases = document === 'missing' ? new Map<string, Release>() : document.releases
      for (const one of known.filter(({ pin }) => lacking.has(pin))) {
        await this.#attempt(one.pin, () => this.#record(open, one, releases.get(one.pin.reference), trusted))
      }
    } catch (error) {
      this.#collect(
        error,
        all.find((pin) => lacking.has(pin)),
      )
    }
  }

  async #record(
    open: Open,
    { pin, release, sha1 }: Known,
    found: Release | undefined,
    trusted: TrustedKeys,
  ): Promise<void> {
    const registry = registryOf(open.config, pin.name)
    if (found === undefined) {
      if (release === undefined)
        await this.#writeRelease(pin, {
          name: pin.name,
          version: pin.reference,
          registry: redactUrl(registry),
          unlisted: true,
        })
      return
    }
    const state: SignatureState | null = trusted.keys === null ? null : verifySignatures(pin.id, found, trusted.keys)
    // Of other bytes than the pinned ones: reported as drift, and nothing to record of the pin.
    if (found.integrity === undefined || found.integrity !== pinnedHash(found.integrity, pin.integrity, sha1)) return
    if (state !== null) this.#note(pin, state, trusted)
    if (this.#options.scope === 'all' && found.attestations !== undefined)
      await this.#attest(open, pin, registry, found.attestations, trusted)
    if (release === undefined || release.unlisted === true || this.#options.acceptKeys === true)
      await this.#writeRelease(pin, found)
  }

  #note({ id }: WantedRelease, state: SignatureState, { served }: TrustedKeys): void {
    if (state.kind === 'verified') this.#verified += 1
    else if (this.#options.signatures === 'required') {
      const reason = state.kind === 'unsigned' ? 'it has none' : state.reason
      throw new PolderError('SIGNATURE_MISSING', `no signature of ${id} could be verified: ${reason}`, {
        spec: id,
        hint: 'index.signatures in polder.yaml is `required`; pin another version, or set it to `verify`',
      })
    } else if (state.kind === 'unverifiable') this.#unverifiable.push({ id, reason: state.reason })
    else if (served) this.#unsigned.push(id)
  }

  async #attest(
    { upstream }: Open,
    { id, integrity }: WantedRelease,
    registry: string,
    attestations: NonNullable<Release['attestations']>,
    { keys }: TrustedKeys,
  ): Promise<void> {
    this.#attestations ??= openAttestations(this.#options.trustedRoot)
    const checker = await this.#attestations
    let answer: unknown
    try {
      answer = await fetchAttestations(upstream, registry, attestations)
    } catch (error) {
      // Mirrors pass documents on and not what they point at.
      if (!(error instanceof PolderError) || error.details.found === undefined) throw error
      this.#warnings.add(`the attestations of ${id} cannot be had: ${error.message}`)
      return
    }
    if (this.#options.signatures !== 'off')
      for (const state of checker.check(id, integrity, answer, keys ?? {})) this.#attested[state] += 1
    await this.#write(attestationsFile(this.#store, id, answer))
  }

  async #writeRelease({ id }: WantedRelease, release: Release): Promise<void> {
    await this.#write(releaseFile(this.#store, id, release))
    this.#recorded += 1
  }

  /** Many at a time, since each batch waits for the disk. */
  async #write(file: FileToWrite): Promise<void> {
    this.#pending.push(file)
    if (this.#pending.length >= BATCH) await this.#flush()
  }

  async #flush(): Promise<void> {
    await writeFiles(this.#store, this.#pending.splice(0))
  }

  async #attempt(pin: WantedRelease, work: () => Promise<void>): Promise<void> {
    try {
      await work()
    } catch (error) {
      this.#collect(error, pin)
    }
  }

  #collect(error: unknown, pin: WantedRelease | undefined): void {
    if (!(error instanceof PolderError) || FATAL.includes(error.code)) throw error
    this.#failures.push(pin === undefined ? error : attributed(error, pin))
  }
}
