import { createHash, type Hash } from 'node:crypto'

import { PolderError } from './error.ts'

/** One Subresource Integrity hash, `sha512-<base64>` (W3C SRI; the algorithms npm uses). */
export type Integrity = `${Algorithm}-${string}` & { readonly __brand: 'Integrity' }

export type Algorithm = 'sha1' | 'sha256' | 'sha384' | 'sha512'

const STRENGTH: Readonly<Record<Algorithm, number>> = { sha1: 0, sha256: 1, sha384: 2, sha512: 3 }
const BASE64_LENGTH: Readonly<Record<Algorithm, number>> = { sha1: 28, sha256: 44, sha384: 64, sha512: 88 }

/**
 * The strongest hash of an SRI text such as `sha1-… sha512-…`.
 * @throws PolderError `INTEGRITY_MISSING` if no hash in it is well formed.
 */
export function strongestIntegrity(text: string): Integrity {
  let best: Integrity | undefined
  for (const part of text.trim().split(/\s+/)) {
    const [algorithm, rest = ''] = splitAtDash(part)
    const digest = rest.split('?')[0] ?? ''
    if (!isAlgorithm(algorithm) || digest.length !== BASE64_LENGTH[algorithm] || !/^[A-Za-z0-9+/]+=*$/.test(digest))
      continue
    const hash = `${algorithm}-${digest}` as Integrity
    if (best === undefined || STRENGTH[algorithm] > STRENGTH[algorithmOf(best)]) best = hash
  }
  if (best === undefined)
    throw new PolderError('INTEGRITY_MISSING', `no usable hash in "${text}"`, {
      found: text,
      wanted: 'sha512-<base64>',
    })
  return best
}

/** `sha1` as a hex text (npm's `shasum`, the fragment of yarn 1's URLs) as an Integrity. */
export function integrityFromHex(algorithm: Algorithm, hex: string): Integrity {
  return `${algorithm}-${Buffer.from(hex, 'hex').toString('base64')}` as Integrity
}

export function integrityOf(algorithm: Algorithm, bytes: Uint8Array): Integrity {
  return integrityFromHash(algorithm, createHash(algorithm).update(bytes))
}

/** Ends the hash. */
export function integrityFromHash(algorithm: Algorithm, hash: Hash): Integrity {
  return `${algorithm}-${hash.digest('base64')}` as Integrity
}

export function algorithmOf(integrity: Integrity): Algorithm {
  return splitAtDash(integrity)[0] as Algorithm
}

/** The digest as lower-case hex, for use in paths. */
export function hexDigest(integrity: Integrity): string {
  return Buffer.from(integrity.slice(integrity.indexOf('-') + 1), 'base64').toString('hex')
}

function isAlgorithm(text: string): text is Algorithm {
  return Object.hasOwn(STRENGTH, text)
}

function splitAtDash(text: string): [string, string?] {
  const dash = text.indexOf('-')
  return dash < 0 ? [text] : [text.slice(0, dash), text.slice(dash + 1)]
}
