import { compareText, type PackageId, PolderError } from '@polder/spec'
import { RangeCache } from '@polder/spec/semver-ranges'
import type { Store } from '@polder/store'

import { type Attestations, type AttestationState, fetchAttestations, openAttestations } from './attestations.ts'
import { type Clock, systemClock } from './backoff.ts'
import { concurrently } from './concurrently.ts'
import { type Drift, driftOf, driftOfKeys, pinnedHash, sortDrift } from './drift.ts'
import { type NpmConfig, redactUrl, registryOf } from './npm-config.ts'
import { attributed } from './pin.ts'
import { type Documents, openDocuments } from './release-document.ts'
import { readRelease, type Release, writeAttestations, writeRelease } from './releases.ts'
import { type SignatureState, verifySignatures } from './signatures.ts'
import type { SigningKeys } from './remembered-keys.ts'
import type { KeyChange } from './signing-keys.ts'
import { type TrustedKeys, trustedKeys } from './trusted-keys.ts'
import { openUpstream, type Upstream } from './upstream.ts'
import { byName, type Known, knownOf, unrecorded, type WantedRelease } from './wanted-releases.ts'

export interface ReleaseOptions {
  readonly npm: () => Promise<NpmConfig>
  /** Those that the lock pins; empty if it pins none. */
  readonly keys: SigningKeys
  /** Believe the keys that the registries have now. */
  readonly acceptKeys?: boolean
  /** Whether signatures are checked, and whether every release needs one. */
  readonly signatures: 'verify' | 'required' | 'off'
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
const FATAL = ['NPMRC_INVALID', 'DISK_FULL', 'STORE_UNWRITABLE', 'CONFIG_INVALID']

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
  readonly #trust = new Map<string, Promise<TrustedKeys | null>>()
  readonly #keyChanges: KeyChange[] = []
  readonly #unsigned: PackageId[] = []
  readonly #unverifiable: ReleaseReport['unverifiable'][number][] = []
  readonly #attested = { verified: 0, key: 0, unverified: 0 }
  readonly #drift: Drift[] = []
  readonly #failures: PolderError[] = []
  readonly #warnings = new Set<string>()
  #keys: SigningKeys
  #attestations: Promise<Attestations> | undefined
  #recorded = 0
  #verified = 0

  constructor(store: Store, options: ReleaseOptions) {
    this.#store = store
    this.#options = options
    this.#keys = options.keys
  }

  async run(pins: readonly WantedRelease[], lacking: Set<WantedRelease>): Promise<void> {
    const config = await this.#options.npm()
    const upstream = await openUpstream(config, this.#options.clock ?? systemClock)
    const open = { config, upstream, documents: openDocuments(config, upstream) }
    let done = 0
    try {
      if (this.#options.acceptKeys === true)
        for (const pin of await this.#staleUnderAcceptedKeys(open, pins)) lacking.add(pin)
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
    }
  }

  report(): ReleaseReport {
    const byId = (a: { readonly id: string }, b: { readonly id: string }): number => compareText(a.id, b.id)
    return {
      recorded: this.#recorded,
      keys: this.#keys,
      keyChanges: this.#keyChanges.sort((a, b) => compareText(a.keyid, b.keyid)),
      verified: this.#verified,
      unsigned: this.#unsigned.sort(compareText),
      unverifiable: this.#unverifiable.sort(byId),
      attestations: this.#attested,
      drift: sortDrift(this.#drift),
      failures: this.#failures.sort((a, b) => compareText(a.message, b.message)),
      warnings: [...this.#warnings].sort(compareText),
    }
  }

  async #name(
    open: Open,
    name: string,
    all: readonly WantedRelease[],
    lacking: ReadonlySet<WantedRelease>,
  ): Promise<void> {
    try {
      const trusted = await this.#trusted(open, name)
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

  /** Those whose recorded signature is by a key that was another one: a registry that swaps a key signs everything anew. */
  async #staleUnderAcceptedKeys(open: Open, pins: readonly WantedRelease[]): Promise<readonly WantedRelease[]> {
    const stale: WantedRelease[] = []
    for (const pin of pins) {
      if (pin.source.kind !== 'registry') continue
      const trusted = await this.#trusted(open, pin.name)
      const release = readRelease(this.#store, pin.id)
      if (trusted?.keys == null || release === undefined) continue
      try {
        verifySignatures(pin.id, release, trusted.keys)
      } catch (error) {
        if (!(error instanceof PolderError)) throw error
        stale.push(pin)
      }
    }
    return stale
  }

  /** Null for a private name, and where the keys are not those that they were: that is one failure, not one a pin. */
  async #trusted({ config, upstream }: Open, name: string): Promise<TrustedKeys | null> {
    let registry: string
    try {
      registry = registryOf(config, name)
    } catch (error) {
      if (error instanceof PolderError && error.code === 'PRIVATE_NAME') return null
      throw error
    }
    let asked = this.#trust.get(registry)
    if (asked === undefined) this.#trust.set(registry, (asked = this.#ask(upstream, registry)))
    return asked
  }

  async #ask(upstream: Upstream, registry: string): Promise<TrustedKeys | null> {
    const { keys: pinned, acceptKeys: accept = false, signatures } = this.#options
    if (signatures === 'off') return { keys: null, changes: [], served: false }
    try {
      const trusted = await trustedKeys(this.#store, upstream, registry, { pinned, accept })
      if (accept || Object.keys(pinned).length === 0) this.#keys = { ...this.#keys, ...trusted.keys }
      this.#keyChanges.push(...trusted.changes)
      if (!accept) this.#drift.push(...driftOfKeys(redactUrl(registry), trusted.changes))
      return trusted
    } catch (error) {
      if (!(error instanceof PolderError) || FATAL.includes(error.code)) throw error
      if (error.code === 'SIGNING_KEY_SWAPPED') {
        this.#failures.push(error)
        return null
      }
      // Nothing is pinned yet, so nothing could have been refused either.
      this.#warnings.add(`signatures of ${redactUrl(registry)} were not verified: ${error.message}`)
      return { keys: null, changes: [], served: false }
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
        this.#write(pin, { name: pin.name, version: pin.reference, registry: redactUrl(registry), unlisted: true })
      return
    }
    const state: SignatureState | null = trusted.keys === null ? null : verifySignatures(pin.id, found, trusted.keys)
    // Of other bytes than the pinned ones: reported as drift, and nothing to record of the pin.
    if (found.integrity === undefined || found.integrity !== pinnedHash(found.integrity, pin.integrity, sha1)) return
    if (state !== null) this.#note(pin, state, trusted)
    if (this.#options.scope === 'all' && found.attestations !== undefined)
      await this.#attest(open, pin, registry, found.attestations, trusted)
    if (release === undefined || release.unlisted === true || this.#options.acceptKeys === true) this.#write(pin, found)
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
    writeAttestations(this.#store, id, answer)
  }

  #write({ id }: WantedRelease, release: Release): void {
    writeRelease(this.#store, id, release)
    this.#recorded += 1
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
