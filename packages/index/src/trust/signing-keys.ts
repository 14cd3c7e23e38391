import { createPublicKey, type KeyObject } from 'node:crypto'

import type { LockedKey } from '@polder/lock'
import { compareText, PolderError, sortKeys } from '@polder/spec'
import { z } from 'zod'

import { redactUrl } from '../upstream/npm-config.ts'
import type { SigningKeys } from './remembered-keys.ts'
import type { Upstream } from '../upstream/upstream.ts'

/** A difference between the keys that are pinned and those that a registry has now. */
export interface KeyChange {
  readonly keyid: string
  readonly kind: 'new' | 'swapped' | 'expires'
  readonly before: LockedKey | null
  readonly after: LockedKey
}

const MAX_KEYS_BYTES = 1024 * 1024
// What registries answer that have no keys.
const NONE = ['400', '401', '403', '404', '405', '410', '501']

/**
 * The keys that a registry signs releases with, from `/-/npm/v1/keys`; null if it has none.
 * @throws PolderError `FETCH_FAILED`, also for an answer that is no list of keys
 */
export async function fetchKeys(upstream: Upstream, registry: string): Promise<SigningKeys | null> {
  const url = `${registry}-/npm/v1/keys`
  let text: string
  try {
    const request = { url, registry, accept: 'application/json', maxBytes: MAX_KEYS_BYTES, compressed: true }
    text = await upstream.download(request, async (body) => {
      const chunks: Uint8Array[] = []
      for await (const chunk of body) chunks.push(chunk)
      return Buffer.concat(chunks).toString('utf8')
    })
  } catch (error) {
    if (error instanceof PolderError && NONE.includes(error.details.found ?? '')) return null
    throw error
  }
  const keys = parseKeys(text)
  if (keys !== undefined) return Object.keys(keys).length === 0 ? null : keys
  throw new PolderError('FETCH_FAILED', `${redactUrl(url)} is no list of keys`)
}

const KEY = z.object({
  keyid: z.string().regex(/^[\x21-\x7e]{1,200}$/),
  keytype: z.string().max(100),
  scheme: z.string().max(100),
  key: z
    .string()
    .max(4000)
    .regex(/^[A-Za-z0-9+/]+={0,2}$/),
  expires: z
    .string()
    .refine((text) => !Number.isNaN(Date.parse(text)))
    .nullish(),
})
const ANSWER = z.object({ keys: z.array(KEY).max(100) })

function parseKeys(text: string): SigningKeys | undefined {
  let json: unknown
  try {
    json = JSON.parse(text)
  } catch {
    return undefined
  }
  const answer = ANSWER.safeParse(json)
  if (!answer.success) return undefined
  const keys: Record<string, LockedKey> = {}
  for (const { keyid, expires, ...key } of answer.data.keys) {
    // Two keys of one id would leave it open which one was pinned.
    if (Object.hasOwn(keys, keyid)) return undefined
    keys[keyid] = expires === undefined || expires === null ? key : { ...key, expires: new Date(expires).toISOString() }
  }
  return sortKeys(keys)
}

/** How the keys that a registry has now differ from those that are pinned. A key that is no longer listed stays pinned. */
export function keyChanges(pinned: SigningKeys, served: SigningKeys): readonly KeyChange[] {
  const changes: KeyChange[] = []
  for (const [keyid, after] of Object.entries(served)) {
    const before = pinnedKey(pinned, keyid)
    if (before === undefined) changes.push({ keyid, kind: 'new', before: null, after })
    else if (before.key !== after.key || before.keytype !== after.keytype || before.scheme !== after.scheme)
      changes.push({ keyid, kind: 'swapped', before, after })
    else if (before.expires !== after.expires) changes.push({ keyid, kind: 'expires', before, after })
  }
  return changes.sort((a, b) => compareText(a.keyid, b.keyid))
}

/** A key id that is no key's own property, such as `constructor`, is none. */
export function pinnedKey(keys: SigningKeys, keyid: string): LockedKey | undefined {
  return Object.hasOwn(keys, keyid) ? keys[keyid] : undefined
}

/** The key for `node:crypto`; undefined for one that is not ECDSA over P-256, the only kind that npm's registries use. */
export function publicKeyOf({ key, keytype }: LockedKey): KeyObject | undefined {
  if (keytype !== 'ecdsa-sha2-nistp256') return undefined
  try {
    const found = createPublicKey({ key: Buffer.from(key, 'base64'), format: 'der', type: 'spki' })
    return found.asymmetricKeyType === 'ec' && found.asymmetricKeyDetails?.namedCurve === 'prime256v1'
      ? found
      : undefined
  } catch {
    return undefined
  }
}
