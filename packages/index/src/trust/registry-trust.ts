import { PolderError } from '@polder/spec'
import type { Store } from '@polder/store'

import { type Drift, driftOfKeys } from './drift.ts'
import { type NpmConfig, redactUrl, registryOf } from '../upstream/npm-config.ts'
import { readRelease } from './releases.ts'
import type { SigningKeys } from './remembered-keys.ts'
import { verifySignatures } from './signatures.ts'
import type { KeyChange } from './signing-keys.ts'
import { type AskedKeys, type TrustedKeys, trustedKeys } from './trusted-keys.ts'
import type { Upstream } from '../upstream/upstream.ts'
import type { WantedRelease } from './wanted-releases.ts'

/** Errors that end a whole sync. */
export const FATAL: readonly string[] = ['NPMRC_INVALID', 'DISK_FULL', 'STORE_UNWRITABLE', 'CONFIG_INVALID']

export interface TrustOptions {
  /** Those that the lock pins; empty if it pins none. */
  readonly keys: SigningKeys
  /** Believe the keys that the registries have now. */
  readonly acceptKeys?: boolean
  /** Whether signatures are checked, and whether every release needs one. */
  readonly signatures: 'verify' | 'required' | 'off'
  /** What registries were asked for already. */
  readonly asked?: AskedKeys
}

const NOTHING: TrustedKeys = { keys: null, changes: [], served: false }

/** The keys of the registries that one sync asks: each is asked once, and what it has otherwise is collected. */
export class RegistryTrust {
  readonly keyChanges: KeyChange[] = []
  readonly drift: Drift[] = []
  readonly failures: PolderError[] = []
  readonly warnings: Set<string> = new Set()
  /** The keys to pin. */
  keys: SigningKeys
  readonly #store: Store
  readonly #options: TrustOptions
  readonly #asked = new Map<string, Promise<TrustedKeys | null>>()

  constructor(store: Store, options: TrustOptions) {
    this.#store = store
    this.#options = options
    this.keys = options.keys
  }

  /** Null for a private name, and where the keys are not those that they were: that is one failure, not one a pin. */
  async of(config: NpmConfig, upstream: Upstream, name: string): Promise<TrustedKeys | null> {
    let registry: string
    try {
      registry = registryOf(config, name)
    } catch (error) {
      if (error instanceof PolderError && error.code === 'PRIVATE_NAME') return null
      throw error
    }
    let asked = this.#asked.get(registry)
    if (asked === undefined) this.#asked.set(registry, (asked = this.#ask(upstream, registry)))
    return asked
  }

  /** The pins whose recorded signature is by a key that was another one: a registry that swaps a key signs everything anew. */
  async stale(
    config: NpmConfig,
    upstream: Upstream,
    pins: readonly WantedRelease[],
  ): Promise<readonly WantedRelease[]> {
    const stale: WantedRelease[] = []
    for (const pin of pins) {
      if (pin.source.kind !== 'registry') continue
      const trusted = await this.of(config, upstream, pin.name)
      const release = readRelease(this.#store, pin.id)
      const keys = trusted?.keys ?? null
      if (keys === null || release === undefined) continue
      try {
        verifySignatures(pin.id, release, keys)
      } catch (error) {
        if (!(error instanceof PolderError)) throw error
        stale.push(pin)
      }
    }
    return stale
  }

  async #ask(upstream: Upstream, registry: string): Promise<TrustedKeys | null> {
    const { keys: pinned, acceptKeys: accept = false, signatures, asked = new Map() } = this.#options
    if (signatures === 'off') return NOTHING
    try {
      const trusted = await trustedKeys(this.#store, upstream, registry, { pinned, accept, asked })
      if (accept || Object.keys(pinned).length === 0) this.keys = { ...this.keys, ...trusted.keys }
      this.keyChanges.push(...trusted.changes)
      if (!accept) this.drift.push(...driftOfKeys(redactUrl(registry), trusted.changes))
      return trusted
    } catch (error) {
      if (!(error instanceof PolderError) || FATAL.includes(error.code)) throw error
      if (error.code === 'SIGNING_KEY_SWAPPED') {
        this.failures.push(error)
        return null
      }
      // Nothing is pinned yet, so nothing could have been refused either.
      this.warnings.add(`signatures of ${redactUrl(registry)} were not verified: ${error.message}`)
      return NOTHING
    }
  }
}
