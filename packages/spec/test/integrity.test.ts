import { createHash } from 'node:crypto'

import { describe, expect, test } from 'vitest'

import {
  algorithmOf,
  hexDigest,
  integrityFromHash,
  integrityFromHex,
  integrityOf,
  strongestIntegrity,
} from '../src/index.ts'

const bytes = Buffer.from('harbour')
const sha1 = integrityOf('sha1', bytes)
const sha256 = integrityOf('sha256', bytes)
const sha512 = integrityOf('sha512', bytes)

describe('strongestIntegrity', () => {
  test('takes the strongest hash wherever it stands', () => {
    expect(strongestIntegrity(`${sha1} ${sha512} ${sha256}`)).toBe(sha512)
    expect(strongestIntegrity(`${sha512}\n${sha1}`)).toBe(sha512)
    expect(strongestIntegrity(sha1)).toBe(sha1)
  })

  test('ignores what is not a whole hash of a known algorithm, and options behind a question mark', () => {
    expect(strongestIntegrity(`md5-abc sha512-abc ${sha256}?foo sha512-${'!'.repeat(88)}`)).toBe(sha256)
  })

  test.each([
    '',
    '   ',
    'sha512',
    'sha512-',
    'sha512-abc',
    'md5-1B2M2Y8AsgTpgAmY7PhCfg==',
    'constructor-x',
    '__proto__-x',
  ])('refuses %j, which has no usable hash', (text) => {
    expect(() => strongestIntegrity(text)).toThrow(
      expect.objectContaining({ code: 'INTEGRITY_MISSING', message: `no usable hash in "${text}"` }),
    )
  })
})

test('a hash is the same from bytes, from hex, and from a running hash', () => {
  const hex = createHash('sha1').update(bytes).digest('hex')
  expect(integrityFromHex('sha1', hex)).toBe(sha1)
  expect(integrityFromHash('sha1', createHash('sha1').update(bytes))).toBe(sha1)
  expect(hexDigest(sha1)).toBe(hex)
  expect(hexDigest(sha512)).toBe(createHash('sha512').update(bytes).digest('hex'))
})

test('the algorithm of a hash is read from its front', () => {
  expect([sha1, sha256, sha512].map(algorithmOf)).toEqual(['sha1', 'sha256', 'sha512'])
})
