import { writeFileSync } from 'node:fs'
import { join } from 'node:path'

import { packageId } from '@polder/spec'
import { describe, expect, test } from 'vitest'

import type { ServedVersion } from '../../../test/support/registry.ts'
import { attestationOf, makeSigningKey, trustedRoot } from '../../../test/support/signing-key.ts'
import { readAttestations, readRelease } from '../src/trust/releases.ts'
import { failures, useWorld } from './release-world.ts'

const world = useWorld()
const key = makeSigningKey()
const log = makeSigningKey()
const id = packageId('@sea/tide', '1.0.0')

/** A signed release with an attestation; `changes` to what is attested. */
function served(answer: (integrity: string) => unknown): ServedVersion {
  world.registry.signWith(key)
  const tide = world.registry.serve('@sea/tide', '1.0.0')
  world.registry.attest('@sea/tide', '1.0.0', answer(tide.integrity))
  return tide
}

function rootOf(...logs: Parameters<typeof trustedRoot>): string {
  const path = join(world.directory, 'trusted_root.json')
  writeFileSync(path, JSON.stringify(trustedRoot(...logs)))
  return path
}

const attested = (integrity: string): ReturnType<typeof attestationOf> =>
  attestationOf(key, '@sea/tide', '1.0.0', integrity, { log })

describe('an attestation of the registry', () => {
  test('is verified by its pinned key alone where there is no trusted root, and recorded as it was served', async () => {
    const tide = served(attested)
    expect(await world.sync([tide])).toMatchObject({
      attestations: { verified: 0, key: 1, unverified: 0 },
      failures: [],
    })
    expect(readAttestations(world.store, id)).toMatchObject({ attestations: [{ bundle: { dsseEnvelope: {} } }] })
    const before = world.registry.requests.length
    await world.sync([tide])
    expect(world.registry.requests.length).toBe(before)
  })

  test('is verified in the transparency log as well with a trusted root', async () => {
    const tide = served(attested)
    expect(await world.sync([tide], { trustedRoot: rootOf(log) })).toMatchObject({
      attestations: { verified: 1, key: 0, unverified: 0 },
      failures: [],
    })
  })

  test('in a log that the trusted root does not know is refused, and nothing is recorded', async () => {
    const tide = served(attested)
    const report = await world.sync([tide], { trustedRoot: rootOf(makeSigningKey()) })
    expect(failures(report)).toEqual([
      expect.stringMatching(
        /^ATTESTATION_INVALID: an attestation of @sea\/tide@1\.0\.0 is not valid: .*inclusion promise/,
      ),
    ])
    expect([readRelease(world.store, id), readAttestations(world.store, id)]).toEqual([undefined, undefined])
  })

  test.each<[string, (integrity: string) => unknown, string]>([
    [
      'about another version',
      (integrity) => attestationOf(key, '@sea/tide', '1.0.1', integrity),
      'it is about pkg:npm/%40sea/tide@1.0.1, not about pkg:npm/%40sea/tide@1.0.0',
    ],
    [
      'about other bytes',
      () => attestationOf(key, '@sea/tide', '1.0.0', `sha512-${'A'.repeat(86)}==`),
      'it is about other bytes',
    ],
    [
      'by another key under the same id',
      (integrity) => attestationOf(makeSigningKey({ keyid: key.listed.keyid }), '@sea/tide', '1.0.0', integrity),
      `it is not signed by ${key.listed.keyid}`,
    ],
    [
      'by a key that is not pinned',
      (integrity) => attestationOf(makeSigningKey({ keyid: 'other' }), '@sea/tide', '1.0.0', integrity),
      'it is signed by other, which is no pinned key',
    ],
    ['that is none', () => ({ attestations: [{ predicateType: 'x', bundle: { mediaType: 'y' } }] }), 'x: '],
    ['that is no list', () => ({ attestations: 'none' }), 'the answer of the registry is no list of attestations'],
  ])('%s is refused', async (_, answer, problem) => {
    const report = await world.sync([served(answer)])
    expect(failures(report)).toEqual([
      expect.stringContaining(`ATTESTATION_INVALID: an attestation of @sea/tide@1.0.0 is not valid: `),
    ])
    expect(failures(report)[0]).toContain(problem)
    expect(readRelease(world.store, id)).toBeUndefined()
  })

  test('made after its key had expired is refused', async () => {
    const expiring = makeSigningKey({ expires: '2024-06-01T00:00:00.000Z' })
    world.registry.signWith(expiring)
    const tide = world.registry.serve('@sea/tide', '1.0.0')
    const at = Date.parse('2024-07-01')
    world.registry.attest('@sea/tide', '1.0.0', attestationOf(expiring, '@sea/tide', '1.0.0', tide.integrity, { at }))
    expect(failures(await world.sync([tide]))[0]).toContain(`it was signed after ${expiring.listed.keyid} had expired`)
  })
})

test('attestations are asked of the own registry below its path, whatever host and path the document names', async () => {
  world.registry = await world.start({ basePath: '/mirror/npm/' })
  world.registry.signWith(key)
  const plain = world.registry.serve('@sea/tide', '1.0.0')
  world.registry.attest('@sea/tide', '1.0.0', attested(plain.integrity))
  const url = 'https://elsewhere.example/-/npm/v1/attestations/@sea/tide@1.0.0'
  const tide = world.registry.serve('@sea/tide', '1.0.0', { dist: { attestations: { url } } })
  expect(await world.sync([tide])).toMatchObject({ attestations: { key: 1 }, failures: [], warnings: [] })
})

test('attestations that a mirror does not have are a warning, and are asked for again', async () => {
  const tide = served(attested)
  world.registry.fault('/-/npm/v1/attestations/@sea/tide@1.0.0', { kind: 'status', status: 404, times: 1 })
  const report = await world.sync([tide])
  expect(report).toMatchObject({ recorded: 1, failures: [], attestations: { verified: 0, key: 0, unverified: 0 } })
  expect(report.warnings).toEqual([expect.stringContaining('the attestations of @sea/tide@1.0.0 cannot be had: ')])
  expect(await world.sync([tide])).toMatchObject({ attestations: { key: 1 } })
})

test('a bundle signed with a certificate that no trusted root has is told as unverified, and refused with one', async () => {
  const tide = served((integrity) => {
    const { attestations } = attested(integrity)
    const [{ bundle } = { bundle: {} }] = attestations
    const material = (bundle as { verificationMaterial: Record<string, unknown> }).verificationMaterial
    delete material['publicKey']
    material['x509CertificateChain'] = { certificates: [{ rawBytes: CERTIFICATE }] }
    return { attestations }
  })
  expect(await world.sync([tide])).toMatchObject({ attestations: { verified: 0, key: 0, unverified: 1 }, failures: [] })
  world.store = { home: join(world.directory, 'other') }
  expect(failures(await world.sync([tide], { trustedRoot: rootOf(log) }))[0]).toContain('ATTESTATION_INVALID')
})

test('a trusted root that is none is a mistake of the configuration', async () => {
  const path = join(world.directory, 'trusted_root.json')
  writeFileSync(path, '{"tlogs":[{}]}')
  await expect(world.sync([served(attested)], { trustedRoot: path })).rejects.toMatchObject({
    code: 'CONFIG_INVALID',
    message: expect.stringContaining(`index.trustedRoot: ${path} is no trusted root: `) as unknown,
  })
})

// Self-signed by `CN=polder`, P-256.
const CERTIFICATE =
  'MIIBdzCCAR2gAwIBAgIUUd1x//kDpzgQrWq6RwSC8YblQWcwCgYIKoZIzj0EAwIwETEPMA0GA1UEAwwGcG9sZGVyMB4XDTI2MTEyMzE1MTA1OVoXDTM2MTEyMDE1MTA1OVowETEPMA0GA1UEAwwGcG9sZGVyMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEcRcAAn1DZbwLVs+wlQir6CPN26CYAd/x3xQYb9tVxcljeI74/HoJ42wOnuX9T0GV3eK2HTZbMLP3Kld5FSMdZaNTMFEwHQYDVR0OBBYEFLdiotk/IlPuDfnDoedqGr0/JVNYMB8GA1UdIwQYMBaAFLdiotk/IlPuDfnDoedqGr0/JVNYMA8GA1UdEwEB/wQFMAMBAf8wCgYIKoZIzj0EAwIDSAAwRQIgF0prlXSwsFUZTQMw4QcSs/sH1ScI5yVaQ0CCc2SzpssCIQDKYiQRFpoG/a7KLaw3kEg5248w33pRJzJ49b35TWYMAg=='
