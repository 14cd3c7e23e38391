import { PolderError } from '@polder/spec'
import type { Store } from '@polder/store'

import { type Clock, systemClock } from '../upstream/backoff.ts'
import { type NpmConfig, redactUrl, registryOf } from '../upstream/npm-config.ts'
import type { PinRequest } from '../pins/pin.ts'
import { rememberedKeys, rememberKeys, type SigningKeys } from './remembered-keys.ts'
import { fetchKeys, type KeyChange, keyChanges, pinnedKey } from './signing-keys.ts'
import { openUpstream, type Upstream } from '../upstream/upstream.ts'

/** The keys that a registry's signatures are checked with, and how they came to be trusted. */
export interface TrustedKeys {
  /** Null if nothing can be checked: the registry has no keys, and none are pinned. */
  readonly keys: SigningKeys | null
  /** What the registry has other than what is pinned. */
  readonly changes: readonly KeyChange[]
  /** True if the registry has keys now, so that every release of it should be signed. */
  readonly served: boolean
}

/** Registry → the keys that it was found to have, none if it has none. */
export type AskedKeys = ReadonlyMap<string, SigningKeys>

/**
 * Asks registries that were never asked before for their keys and remembers them, before anything comes from there: so
 * that whatever interrupts what follows, it is known that there are signatures to be verified. Whoever cannot be asked
 * is left out; that shows when signatures are verified.
 * @throws PolderError `NPMRC_INVALID`, `DISK_FULL`, `STORE_UNWRITABLE`
 */
export async function askFirstKeys(
  store: Store,
  pins: readonly PinRequest[],
  npm: () => Promise<NpmConfig>,
  clock: Clock = systemClock,
): Promise<AskedKeys> {
  const config = await npm()
  const registries = new Set<string>()
  for (const { name, source } of pins) {
    if (source.kind !== 'registry') continue
    try {
      registries.add(registryOf(config, name))
    } catch (error) {
      if (!(error instanceof PolderError && error.code === 'PRIVATE_NAME')) throw error
    }
  }
  const asked = new Map<string, SigningKeys>()
  const unknown = [...registries].filter((registry) => rememberedKeys(store, registry) === undefined)
  if (unknown.length === 0) return asked
  const upstream = await openUpstream(config, clock)
  try {
    for (const registry of unknown) {
      try {
        const keys = (await fetchKeys(upstream, registry)) ?? {}
        rememberKeys(store, registry, keys)
        asked.set(registry, keys)
      } catch (error) {
        if (!(error instanceof PolderError && error.code === 'FETCH_FAILED')) throw error
      }
    }
  } finally {
    await upstream.close()
  }
  return asked
}

/**
 * Decides which keys of a registry are believed: those that the lock pins or, until there are any, those that were
 * remembered when they first came. What the registry has now counts only where nothing is pinned yet, or if the user
 * accepts it; an expiry that it announces for a pinned key counts as soon as it is the earlier one.
 * @throws PolderError `SIGNING_KEY_SWAPPED`; `FETCH_FAILED` if the registry cannot be asked and nothing is pinned
 */
export async function trustedKeys(
  store: Store,
  upstream: Upstream,
  registry: string,
  {
    pinned: locked,
    accept,
    asked,
  }: { readonly pinned: SigningKeys; readonly accept: boolean; readonly asked?: AskedKeys },
): Promise<TrustedKeys> {
  const remembered = rememberedKeys(store, registry)
  const pinned = Object.keys(locked).length > 0 ? locked : (remembered ?? {})
  const isPinned = Object.keys(pinned).length > 0
  let served: SigningKeys | null
  try {
    const known = asked?.get(registry)
    served = known === undefined ? await fetchKeys(upstream, registry) : Object.keys(known).length === 0 ? null : known
  } catch (error) {
    // Who keeps the keys from being asked for must not keep signatures from being checked.
    if (!isPinned || !(error instanceof PolderError)) throw error
    served = null
  }
  if (served === null) {
    if (remembered === undefined) rememberKeys(store, registry, {})
    return { keys: isPinned ? pinned : null, changes: [], served: false }
  }
  if (!isPinned) {
    rememberKeys(store, registry, served)
    return { keys: served, changes: [], served: true }
  }
  const changes = keyChanges(pinned, served)
  if (accept) {
    const accepted = { ...pinned, ...served }
    rememberKeys(store, registry, accepted)
    return { keys: accepted, changes, served: true }
  }
  const swapped = changes.filter(({ kind }) => kind === 'swapped').map(({ keyid }) => keyid)
  if (swapped.length > 0) {
    throw new PolderError(
      'SIGNING_KEY_SWAPPED',
      `${redactUrl(registry)} has another key under the id of a pinned one: ${swapped.join(', ')}`,
      {
        found: swapped.join(', '),
        hint: 'a new key gets a new id, so this is no rotation; ask who runs the registry, and only then `polder lock --accept-keys`',
      },
    )
  }
  return { keys: withEarlierExpiry(pinned, changes), changes, served: true }
}

function withEarlierExpiry(pinned: SigningKeys, changes: readonly KeyChange[]): SigningKeys {
  const keys = { ...pinned }
  for (const { keyid, kind, after } of changes) {
    const key = pinnedKey(pinned, keyid)
    if (kind !== 'expires' || key === undefined || after.expires === undefined) continue
    if (key.expires === undefined || after.expires < key.expires) keys[keyid] = { ...key, expires: after.expires }
  }
  return keys
}
