import { expect, test } from 'vitest'

import { bytes, count, createOutput, duration, listed, printable, printFirst } from '../src/output.ts'

test.each([
  [0, '0 packages'],
  [1, '1 package'],
  [2, '2 packages'],
  [1000, '1,000 packages'],
  [1_234_567, '1,234,567 packages'],
])('%i is counted as "%s"', (number, text) => {
  expect(count(number, 'package')).toBe(text)
})

test('a plural that is not made with an s is given', () => {
  expect(count(2, 'copy', 'copies')).toBe('2 copies')
  expect(count(1, 'copy', 'copies')).toBe('1 copy')
})

test('of a list the first few are named, and the rest is counted', () => {
  expect(listed(['a', 'b', 'c'], 2)).toBe('a, b and 1 more')
  expect(listed(['a', 'b', 'c'], 3)).toBe('a, b, c')
  expect(listed(['a', 'b', 'c'])).toBe('a, b, c')
  expect(listed([])).toBe('')
})

test('of lines the first few are printed, and the rest is counted below them; with --verbose all are', () => {
  const printed = (verbose: boolean, all: readonly string[]): string => {
    let text = ''
    const output = createOutput({ verbose }, {}, (line) => (text += line))
    printFirst(output, all, { shown: 2, indent: '  ' }, (one) => output.line(`  ${one}`))
    return text
  }
  expect(printed(false, ['a', 'b', 'c', 'd'])).toBe('  a\n  b\n  … and 2 more (--verbose shows all)\n')
  expect(printed(false, ['a', 'b'])).toBe('  a\n  b\n')
  expect(printed(true, ['a', 'b', 'c'])).toBe('  a\n  b\n  c\n')
})

test.each([
  [0.4, '0 ms'],
  [412.3, '412 ms'],
  [999.4, '999 ms'],
  [1000, '1.0 s'],
  [61_240, '61.2 s'],
])('%d milliseconds are "%s"', (milliseconds, text) => {
  expect(duration(milliseconds)).toBe(text)
})

test.each([
  [0, '0 kB'],
  [1, '1 kB'],
  [512_000, '512 kB'],
  [1_000_000, '1.0 MB'],
  [34_149_999, '34.1 MB'],
])('%i bytes are "%s"', (number, text) => {
  expect(bytes(number)).toBe(text)
})

test('text that a terminal only shows stays as it is', () => {
  for (const text of ['@scope/näme@1.0.0-β.1', 'two\nlines\tand a tab', '包', '👍🏽']) expect(printable(text)).toBe(text)
})

test('every control character and change of direction is written out', () => {
  for (let code = 0; code < 0x3000; code++) {
    const isControl =
      code < 0x20 ||
      (code >= 0x7f && code < 0xa0) ||
      (code >= 0x202a && code <= 0x202e) ||
      (code >= 0x2066 && code <= 0x2069)
    const isKept = code === 0x09 || code === 0x0a || !isControl
    const character = String.fromCharCode(code)
    expect(printable(character)).toBe(isKept ? character : `\\u${code.toString(16).padStart(4, '0')}`)
  }
})
