import fc from 'fast-check'
import { expect, test } from 'vitest'

import { readAnyTar, type TarEntry } from '../src/archives/any-tar.ts'
import { readPlainTar } from '../src/archives/plain-tar.ts'
import { block, longName, pax, tar, type Entry } from './support/tar-writer.ts'

type Read = readonly (Omit<TarEntry, 'linkpath'> & { linkpath?: unknown })[]

/** What node-tar makes of it, or 'refused'. */
function asNodeTar(bytes: Buffer): Read | 'refused' {
  const entries: TarEntry[] = []
  try {
    readAnyTar(bytes, 'foo@1.0.0', (entry) => entries.push(entry))
  } catch {
    return 'refused'
  }
  return entries.map(({ path, type, mode, bytes: data }) => ({ path, type, mode, bytes: data }))
}

const file = (path: string, data = 'x'): Entry => ({ path, data })

const anyEntry: fc.Arbitrary<Entry> = fc.record(
  {
    path: fc.oneof(
      fc.constantFrom('package/a', 'package/lib/b.js', 'package/d/', 'x', 'package/é', 'package/a\0b\nc', '', '/'),
      fc.string({ maxLength: 110 }),
    ),
    data: fc.string({ maxLength: 1100 }),
    type: fc.constantFrom('0', '0', '0', '0', '0', '5', '\0', '7', '1', 'x', 'L'),
    mode: fc.constantFrom(0o644, 0o755, 0o100644, 0o4755, 0),
  },
  { requiredKeys: ['path'] },
)

/** Bytes of a header that are changed after it was written, with a checksum that is right nevertheless, or not. */
const change = fc.record({
  at: fc.integer({ min: 0, max: 511 }),
  to: fc.constantFrom(0, 0x20, 0x30, 0x35, 0x37, 0x38, 0x80, 0xff, 0x0a),
  mended: fc.boolean(),
})

function changed(header: Buffer, { at, to, mended }: { at: number; to: number; mended: boolean }): void {
  header.writeUInt8(to, at)
  if (!mended || (at >= 148 && at < 156)) return
  header.fill(' ', 148, 156)
  const sum = header.subarray(0, 512).reduce((total, byte) => total + byte, 0)
  header.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148)
}

test('what is read as plain is read as node-tar reads it', () => {
  let plain = 0
  fc.assert(
    fc.property(
      fc.array(anyEntry, { minLength: 1, maxLength: 4 }),
      fc.array(change, { maxLength: 2 }),
      fc.constantFrom(1024, 1024, 1024, 10_240, 512, 0, 100),
      (entries, changes, end) => {
        const blocks = entries.map(block)
        for (const each of changes) changed(blocks[0] as Buffer, each)
        const bytes = Buffer.concat([...blocks, Buffer.alloc(end)])
        const read = readPlainTar(bytes)
        if (read === undefined) return
        plain += 1
        expect(read).toEqual(asNodeTar(bytes))
      },
    ),
    { numRuns: 3000 },
  )
  expect(plain).toBeGreaterThan(50)
})

test('cut anywhere, a plain archive is none any more', () => {
  const bytes = tar([file('package/a', 'a'.repeat(700)), { path: 'package/d/', type: '5' }, file('package/d/b')])
  expect(readPlainTar(bytes)).toHaveLength(3)
  for (let end = 0; end < bytes.length; end += 1)
    expect(readPlainTar(bytes.subarray(0, end)), String(end)).toBeUndefined()
})

test.each([
  ['no entry', []],
  ['an extended header', [pax({ path: 'package/b' }), file('package/a')]],
  ['a long name of GNU', [longName(`package/${'x'.repeat(120)}`), file('package/a')]],
  ['a link', [{ path: 'package/l', type: '2', link: 'a' }]],
  ['a link’s target in a file', [{ ...file('package/a'), link: 'b' }]],
  ['a device', [{ path: 'package/d', type: '3' }]],
  ['a wrong checksum', [{ ...file('package/a'), checksum: 1 }]],
  ['a file that is called like a directory', [file('package/a/')]],
  ['a directory with contents', [{ path: 'package/d/', type: '5', data: 'x' }]],
  ['more contents than there are', [{ ...file('package/a'), size: 2 ** 33 - 1 }]],
] as const)('left to node-tar: %s', (_, entries) => {
  expect(readPlainTar(tar(entries))).toBeUndefined()
})
