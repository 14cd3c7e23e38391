import fc from 'fast-check'
import { expect, test } from 'vitest'
import { parseDocument } from 'yaml'

import { withoutComments } from '../src/config-text.ts'
import { digestInput } from '../src/inputs.ts'
import { repository } from './support/repository.ts'

const PLAIN = `services:
  - api
  - "web"
policy:
  split: { 'left pad': "pads # not a comment" }
builds:
  allow:
    bcrypt: ^6.0.0
`

test('comments, empty lines and spaces at the ends of lines do not change the digest of a polder.yaml', () => {
  const commented = `# ours # all of it\r\n\n${PLAIN.replace('- api', '- api   # "the first"')
    .replace('policy:', "\n  # it's how\n\n# versions\npolicy: #  are chosen  ")
    .replace('allow:', 'allow:  ')}\n# the end`
  const digest = digestInput(repository({ 'polder.yaml': PLAIN }), 'polder.yaml')
  expect(digestInput(repository({ 'polder.yaml': commented }), 'polder.yaml')).toBe(digest)
  expect(withoutComments(commented)).toBe(PLAIN.trimEnd())
})

test.each([
  ['another value', PLAIN.replace('^6.0.0', '^6.0.1')],
  ['what looks like a comment in quotes', PLAIN.replace('not a', 'now a')],
  ['an entry that becomes a comment', PLAIN.replace('- "web"', '# - "web"')],
  ['an indent', PLAIN.replace('    bcrypt', '  bcrypt')],
])('%s does', (_, changed) => {
  const digests = [PLAIN, changed].map((text) => digestInput(repository({ 'polder.yaml': text }), 'polder.yaml'))
  expect(digests[0]).not.toBe(digests[1])
})

test.each([
  ['a block of text', 'a: |\n  # text\n'],
  ['a folded one in a list', 'a:\n  - >-\n    # text\n'],
  ['quotes over several lines', 'a: "one\n  # two"\n'],
  ['a plain text over several lines', 'a: one\n\n  two\n'],
  ['a list over several lines', 'a: [one,\n  two]\n'],
  ['an entry that is no entry', 'a: one\n\n  - two\n'],
  ['a quote in others', `a: "it's"\n`],
  ['an escaped quote', 'a: "\\" # b"\n'],
])('%s is left to the parser: any change of the file counts', (_, text) => {
  expect(withoutComments(text)).toBeUndefined()
})

/** In a list, since it may be null; undefined for what is no YAML. */
function valueOf(text: string): unknown[] | undefined {
  const document = parseDocument(text)
  if (document.errors.length > 0) return undefined
  try {
    return [document.toJS({ mapAsMap: true })]
  } catch {
    return undefined
  }
}

test('texts that become equal mean the same', () => {
  const piece = fc.constantFrom(
    ...['a', 'b', ':', ': ', ' ', '  ', '- ', '-', '#', ' #', '"', "'", '\n', '\n', '\n  ', '\n\n', '|', '>', '\\'],
    ...[
      '\t',
      '[',
      ']',
      '{',
      '}',
      ',',
      '&a',
      '*a',
      '? ',
      '---',
      'x: y',
      '\n- z',
      '\r\n',
      '\r',
      '\u00a0',
      '\u2028',
      '!',
      '%',
      '@',
    ],
  )
  const texts = fc.array(piece, { maxLength: 14 }).map((pieces) => pieces.join(''))
  fc.assert(
    fc.property(texts, (text) => {
      const shorter = withoutComments(text)
      fc.pre(shorter !== undefined)
      const whole = valueOf(text)
      // What is wrong is found by whoever parses it.
      fc.pre(whole !== undefined)
      expect(valueOf(shorter ?? '')).toEqual(whole)
    }),
    { numRuns: 3000 },
  )
})
