import fc from 'fast-check'
import { describe, expect, test } from 'vitest'

import { membersOf, valueOf } from '../src/trust/json-members.ts'

describe('the members of a JSON object', () => {
  test('are those that JSON.parse finds, whatever is in it', () => {
    const indented = fc.constantFrom(0, 1, 4)
    fc.assert(
      fc.property(
        fc.dictionary(fc.string({ unit: 'grapheme' }), fc.jsonValue({ maxDepth: 4 })),
        indented,
        (value, indent) => {
          const bytes = Buffer.from(JSON.stringify(value, null, indent))
          const found = [...membersOf(bytes)].map((member) => [member.name, valueOf(bytes, member)])
          const parsed = JSON.parse(bytes.toString('utf8')) as Record<string, unknown>
          expect(found).toEqual(Object.entries(parsed).sort(byPlace(found)))
        },
      ),
      { numRuns: 300 },
    )
  })

  test('of a text that was cut off or changed are refused or fewer, and always come to an end', () => {
    const text = JSON.stringify({ a: [1, { b: '\\"]}' }], c: { d: [] }, e: 'é"', f: -1.5e3, g: null })
    const parts = (bytes: Buffer): number => {
      try {
        return [...membersOf(bytes)].length
      } catch (error) {
        expect(error).toBeInstanceOf(SyntaxError)
        return -1
      }
    }
    for (let length = 0; length < text.length; length += 1) expect(parts(Buffer.from(text.slice(0, length)))).toBe(-1)
    fc.assert(
      fc.property(fc.nat(text.length - 1), fc.nat(255), (place, byte) => {
        const bytes = Buffer.from(text)
        bytes[place] = byte
        expect(parts(bytes)).toBeLessThanOrEqual(6)
      }),
      { numRuns: 500 },
    )
  })
})

/** JavaScript puts names that are numbers first; a text has them where they stand. */
function byPlace(
  found: readonly (readonly [string, unknown] | readonly unknown[])[],
): (a: [string, unknown], b: [string, unknown]) => number {
  const places = new Map(found.map(([name], place) => [name, place]))
  return ([a], [b]) => (places.get(a) ?? 0) - (places.get(b) ?? 0)
}
