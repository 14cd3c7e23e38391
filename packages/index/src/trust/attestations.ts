import { verify } from 'node:crypto'
import { readFileSync } from 'node:fs'

import type { Bundle, BundleWithDsseEnvelope } from '@sigstore/bundle'
import { hexDigest, type Integrity, type PackageId, PolderError } from '@polder/spec'
import { z } from 'zod'

import type { Release } from './releases.ts'
import type { SigningKeys } from './remembered-keys.ts'
import { pinnedKey, publicKeyOf } from './signing-keys.ts'
import type { Upstream } from '../upstream/upstream.ts'

/**
 * How far an attestation was checked: all of it, with Sigstore's trusted root (who signed it, and that it is in the
 * transparency log); only that a pinned key of the registry signed it; or only what it is about.
 */
export type AttestationState = 'verified' | 'key' | 'unverified'

/** Checks the attestations of one release; see {@link openAttestations}. */
export interface Attestations {
  /** One state an attestation. @throws PolderError `ATTESTATION_INVALID` */
  check(id: PackageId, integrity: Integrity, answer: unknown, keys: SigningKeys): readonly AttestationState[]
}

const PATH = '/-/npm/v1/attestations/'
const MAX_ATTESTATION_BYTES = 10 * 1024 * 1024

/**
 * What a release's document points at, always asked of its own registry, whatever host the document names, as npm does.
 * @throws PolderError `FETCH_FAILED`
 */
export async function fetchAttestations(
  upstream: Upstream,
  registry: string,
  attestations: NonNullable<Release['attestations']>,
): Promise<unknown> {
  const path = URL.parse(attestations.url, registry)?.pathname ?? '/'
  const known = path.indexOf(PATH)
  const request = {
    // A mirror may have a path of its own in front, and pass on documents that don't know of it.
    url: known < 0 ? new URL(path.replace(/^\/+/, '/'), registry).href : `${registry}${path.slice(known + 1)}`,
    registry,
    accept: 'application/json',
    maxBytes: MAX_ATTESTATION_BYTES,
    compressed: true,
  }
  return upstream.download(request, async (body) => {
    const chunks: Uint8Array[] = []
    for await (const chunk of body) chunks.push(chunk)
    try {
      return JSON.parse(Buffer.concat(chunks).toString('utf8')) as unknown
    } catch (cause) {
      throw new PolderError('FETCH_FAILED', `the attestations at ${path} are not JSON`, { cause })
    }
  })
}

const ANSWER = z.object({
  attestations: z.array(z.object({ predicateType: z.string(), bundle: z.record(z.string(), z.unknown()) })).max(50),
})
const STATEMENT = z.object({
  subject: z
    .array(z.object({ name: z.string(), digest: z.object({ sha512: z.string() }) }))
    .min(1)
    .max(100),
})

/**
 * Loads what reads Sigstore bundles, so call it only where there are attestations.
 * @param trustedRoot the path of a Sigstore trusted root (`trusted_root.json`, Sigstore's protobuf-specs), or null
 * @throws PolderError `CONFIG_INVALID` if that file is none
 */
export async function openAttestations(trustedRoot: string | null): Promise<Attestations> {
  const { bundleFromJSON, isBundleWithDsseEnvelope } = await import('@sigstore/bundle')
  const verifier = trustedRoot === null ? undefined : await openVerifier(trustedRoot)

  function checkOne(id: PackageId, integrity: Integrity, json: unknown, keys: SigningKeys): AttestationState {
    const bundle: Bundle = bundleFromJSON(json)
    if (!isBundleWithDsseEnvelope(bundle)) throw new Error('it has no DSSE envelope')
    checkSubject(id, integrity, bundle)
    const { payload, payloadType, signatures } = bundle.content.dsseEnvelope
    const [signature, ...more] = signatures
    if (signature === undefined || more.length > 0) throw new Error('it has not just one signature')
    const keyed = bundle.verificationMaterial.content.$case === 'publicKey'
    if (keyed) {
      const key = pinnedKey(keys, signature.keyid)
      if (key === undefined) throw new Error(`it is signed by ${signature.keyid}, which is no pinned key`)
      const signed = Number(bundle.verificationMaterial.tlogEntries[0]?.integratedTime ?? 0) * 1000
      if (key.expires !== undefined && signed >= Date.parse(key.expires))
        throw new Error(`it was signed after ${signature.keyid} had expired`)
      const publicKey = publicKeyOf(key)
      if (publicKey === undefined) return 'unverified'
      if (!verify('sha256', preAuthEncoding(payloadType, payload), publicKey, signature.sig))
        throw new Error(`it is not signed by ${signature.keyid}`)
    }
    if (verifier === undefined) return keyed ? 'key' : 'unverified'
    verifier(bundle, signature.keyid, keys)
    return 'verified'
  }

  return {
    check(id, integrity, answer, keys) {
      const parsed = ANSWER.safeParse(answer)
      if (!parsed.success) throw invalid(id, 'the answer of the registry is no list of attestations', parsed.error)
      return parsed.data.attestations.map(({ predicateType, bundle }) => {
        try {
          return checkOne(id, integrity, bundle, keys)
        } catch (error) {
          throw invalid(id, `${predicateType}: ${error instanceof Error ? error.message : String(error)}`, error)
        }
      })
    },
  }
}

/** The statement has to be about this version and these bytes (in-toto Statement; package URL). */
function checkSubject(id: PackageId, integrity: Integrity, bundle: BundleWithDsseEnvelope): void {
  const { subject } = STATEMENT.parse(JSON.parse(bundle.content.dsseEnvelope.payload.toString('utf8')))
  const [{ name, digest } = { name: '', digest: { sha512: '' } }] = subject
  const purl = `pkg:npm/${id.replace(/^@/, '%40')}`
  if (name !== purl) throw new Error(`it is about ${name}, not about ${purl}`)
  if (digest.sha512 !== hexDigest(integrity)) throw new Error('it is about other bytes')
}

/** What a DSSE signature is over (DSSE v1.0.2, "Protocol"). */
function preAuthEncoding(type: string, payload: Buffer): Buffer {
  return Buffer.concat([Buffer.from(`DSSEv1 ${Buffer.byteLength(type)} ${type} ${payload.length} `), payload])
}

async function openVerifier(path: string): Promise<(bundle: Bundle, keyid: string, keys: SigningKeys) => void> {
  const { TrustedRoot } = await import('@sigstore/protobuf-specs')
  const { toSignedEntity, toTrustMaterial, Verifier } = await import('@sigstore/verify')
  let root: ReturnType<typeof TrustedRoot.fromJSON>
  try {
    root = TrustedRoot.fromJSON(JSON.parse(readFileSync(path, 'utf8')))
    // Whatever is wrong with its keys shows here.
    toTrustMaterial(root)
  } catch (cause) {
    throw new PolderError(
      'CONFIG_INVALID',
      `index.trustedRoot: ${path} is no trusted root: ${(cause as Error).message}`,
      {
        path,
        cause,
        hint: 'it is the trusted_root.json that Sigstore distributes',
      },
    )
  }
  return (bundle, keyid, keys) => {
    const material = toTrustMaterial(root, () => {
      const key = pinnedKey(keys, keyid)
      const publicKey = key === undefined ? undefined : publicKeyOf(key)
      if (key === undefined || publicKey === undefined) throw new Error(`${keyid} is no pinned key`)
      return { publicKey, validFor: (date) => key.expires === undefined || date.getTime() < Date.parse(key.expires) }
    })
    new Verifier(material).verify(toSignedEntity(bundle))
  }
}

function invalid(id: PackageId, problem: string, cause: unknown): PolderError {
  return new PolderError('ATTESTATION_INVALID', `an attestation of ${id} is not valid: ${problem}`, {
    spec: id,
    cause,
    hint: 'the package may have been tampered with; trust neither until you know which is right',
  })
}
