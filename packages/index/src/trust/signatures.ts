import { verify } from 'node:crypto'

import type { LockedKey } from '@polder/lock'
import { type PackageId, PolderError } from '@polder/spec'

import type { Release } from './releases.ts'
import type { SigningKeys } from './remembered-keys.ts'
import { pinnedKey, publicKeyOf } from './signing-keys.ts'

/** What is known of a release's signatures: by which pinned key it is signed, or why that cannot be said. */
export type SignatureState =
  | { readonly kind: 'verified'; readonly keyid: string }
  | { readonly kind: 'unsigned' }
  /** A sentence. */
  | { readonly kind: 'unverifiable'; readonly reason: string }

/**
 * Checks what the registry signed, `name@version:integrity` (npm's "ECDSA registry signatures"), with keys that were
 * pinned before. One signature of a pinned key is enough, and every signature of a pinned key has to be right.
 * @throws PolderError `SIGNATURE_INVALID`, `SIGNING_KEY_UNKNOWN` if no pinned key signed it, `SIGNING_KEY_EXPIRED`
 */
export function verifySignatures(id: PackageId, release: Release, keys: SigningKeys): SignatureState {
  const { integrity, published, signatures = [] } = release
  if (signatures.length === 0) return { kind: 'unsigned' }
  if (integrity === undefined) return { kind: 'unverifiable', reason: 'its document has no hash' }
  const message = Buffer.from(`${id}:${integrity}`)
  let state: SignatureState | undefined
  for (const { keyid, sig } of signatures) {
    const key = pinnedKey(keys, keyid)
    if (key === undefined) continue
    const publicKey = publicKeyOf(key)
    if (publicKey === undefined) {
      state ??= { kind: 'unverifiable', reason: `${keyid} is a ${key.keytype} key, which polder does not know` }
      continue
    }
    if (!verify('sha256', message, publicKey, Buffer.from(sig, 'base64'))) {
      throw new PolderError('SIGNATURE_INVALID', `the signature of ${id} by ${keyid} does not match ${integrity}`, {
        spec: id,
        found: keyid,
        hint: 'somebody may have changed what the registry says of it; trust neither until you know which is right',
      })
    }
    if (state?.kind !== 'verified') state = withinValidity(id, keyid, key, published)
  }
  if (state !== undefined) return state
  const unknown = signatures.map(({ keyid }) => keyid).join(', ')
  throw new PolderError('SIGNING_KEY_UNKNOWN', `${id} is signed by ${unknown}, which is no pinned key`, {
    spec: id,
    found: unknown,
    wanted: Object.keys(keys).join(', '),
    hint: 'if the registry announced a new key, `polder lock --accept-keys` pins it and shows what changed',
  })
}

/** A key may be leaked once it expired, so a date of publication behind that is no proof of anything. */
function withinValidity(
  id: PackageId,
  keyid: string,
  { expires }: LockedKey,
  published: string | undefined,
): SignatureState {
  if (expires === undefined) return { kind: 'verified', keyid }
  if (published === undefined)
    return {
      kind: 'unverifiable',
      reason: `${keyid} expired at ${expires}, and the registry does not say when it was published`,
    }
  if (Date.parse(published) < Date.parse(expires)) return { kind: 'verified', keyid }
  throw new PolderError(
    'SIGNING_KEY_EXPIRED',
    `${id} was published at ${published} and is signed by ${keyid}, which expired at ${expires}`,
    {
      spec: id,
      found: keyid,
      hint: 'ask who runs the registry; if the key was prolonged, `polder lock --accept-keys` pins its new date',
    },
  )
}
