import { createHash, generateKeyPairSync, type KeyObject, sign } from 'node:crypto'

/** A key that a registry of a test signs releases with, and as it lists it under `/-/npm/v1/keys`. */
export interface SigningKey {
  readonly privateKey: KeyObject
  readonly listed: ListedKey
}

export interface ListedKey {
  readonly keyid: string
  readonly keytype: string
  readonly scheme: string
  readonly key: string
  readonly expires: string | null
}

/** @param changes such as the `keyid` of another key, for one that is swapped */
export function makeSigningKey(changes: Partial<ListedKey> = {}): SigningKey {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'prime256v1' })
  const der = publicKey.export({ format: 'der', type: 'spki' })
  return {
    privateKey,
    listed: {
      keyid: `SHA256:${createHash('sha256').update(der).digest('base64').replace(/=+$/, '')}`,
      keytype: 'ecdsa-sha2-nistp256',
      scheme: 'ecdsa-sha2-nistp256',
      key: der.toString('base64'),
      expires: null,
      ...changes,
    },
  }
}

/** As npm's registry signs a release: over `name@version:integrity`. */
export function signRelease(
  { privateKey, listed }: SigningKey,
  name: string,
  version: string,
  integrity: string,
): { readonly keyid: string; readonly sig: string } {
  const sig = sign('sha256', Buffer.from(`${name}@${version}:${integrity}`), privateKey).toString('base64')
  return { keyid: listed.keyid, sig }
}

/**
 * A publish attestation as npm's registry makes one: a DSSE envelope around an in-toto statement about the version,
 * signed with the registry's key. `log` adds an entry of a transparency log of one's own, whose key the trusted root
 * from `trustedRoot` has.
 */
export function attestationOf(
  key: SigningKey,
  name: string,
  version: string,
  integrity: string,
  { log, at = Date.parse('2025-01-01') }: { readonly log?: SigningKey; readonly at?: number } = {},
): { readonly attestations: readonly { readonly predicateType: string; readonly bundle: object }[] } {
  const predicateType = 'https://github.com/npm/attestation/tree/main/specs/publish/v0.1'
  const payload = Buffer.from(
    JSON.stringify({
      _type: 'https://in-toto.io/Statement/v0.1',
      subject: [
        {
          name: `pkg:npm/${name.replace(/^@/, '%40')}@${version}`,
          digest: { sha512: Buffer.from(integrity.slice('sha512-'.length), 'base64').toString('hex') },
        },
      ],
      predicateType,
      predicate: { name, version, registry: 'https://registry.example' },
    }),
  )
  const payloadType = 'application/vnd.in-toto+json'
  const pae = Buffer.concat([Buffer.from(`DSSEv1 ${payloadType.length} ${payloadType} ${payload.length} `), payload])
  const sig = sign('sha256', pae, key.privateKey)
  const bundle = {
    mediaType: 'application/vnd.dev.sigstore.bundle+json;version=0.1',
    verificationMaterial: {
      publicKey: { hint: key.listed.keyid },
      tlogEntries: [logEntry(log ?? makeSigningKey(), key, payload, sig, Math.floor(at / 1000))],
      timestampVerificationData: { rfc3161Timestamps: [] },
    },
    dsseEnvelope: {
      payload: payload.toString('base64'),
      payloadType,
      signatures: [{ sig: sig.toString('base64'), keyid: key.listed.keyid }],
    },
  }
  return { attestations: [{ predicateType, bundle }] }
}

/** An entry of kind `dsse` 0.0.1 as Rekor makes it, with the log's signed promise to include it. */
function logEntry(log: SigningKey, key: SigningKey, payload: Buffer, sig: Buffer, integratedTime: number): object {
  const sha256 = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex')
  const pem = `-----BEGIN PUBLIC KEY-----\n${key.listed.key}\n-----END PUBLIC KEY-----\n`
  const body = Buffer.from(
    JSON.stringify({
      apiVersion: '0.0.1',
      kind: 'dsse',
      spec: {
        envelopeHash: { algorithm: 'sha256', value: sha256(payload) },
        payloadHash: { algorithm: 'sha256', value: sha256(payload) },
        signatures: [{ signature: sig.toString('base64'), verifier: Buffer.from(pem).toString('base64') }],
      },
    }),
  )
  const logId = logIdOf(log)
  const promised = JSON.stringify({
    body: body.toString('base64'),
    integratedTime,
    logID: logId.toString('hex'),
    logIndex: 7,
  })
  return {
    logIndex: '7',
    logId: { keyId: logId.toString('base64') },
    kindVersion: { kind: 'dsse', version: '0.0.1' },
    integratedTime: String(integratedTime),
    inclusionPromise: {
      signedEntryTimestamp: sign('sha256', Buffer.from(promised), log.privateKey).toString('base64'),
    },
    canonicalizedBody: body.toString('base64'),
  }
}

/** A Sigstore trusted root that trusts just this log. */
export function trustedRoot(log: SigningKey): object {
  return {
    mediaType: 'application/vnd.dev.sigstore.trustedroot+json;version=0.1',
    tlogs: [
      {
        baseUrl: 'https://log.example',
        hashAlgorithm: 'SHA2_256',
        publicKey: {
          rawBytes: log.listed.key,
          keyDetails: 'PKIX_ECDSA_P256_SHA_256',
          validFor: { start: '2020-01-01T00:00:00.000Z' },
        },
        logId: { keyId: logIdOf(log).toString('base64') },
      },
    ],
    certificateAuthorities: [],
    ctlogs: [],
    timestampAuthorities: [],
  }
}

function logIdOf({ listed }: SigningKey): Buffer {
  return createHash('sha256').update(Buffer.from(listed.key, 'base64')).digest()
}
