import { describe, expect, test } from 'vitest'

import { isUnchanged, partOf, readConditions, takesGzip } from '../src/serve/conditions.ts'

describe('headers', () => {
  test('are read whatever their case, and lists that come in several of them are one', () => {
    const raw = [
      ...['HOST', 'a', 'Accept', 'x/y', 'accept', ', z/w', 'ACCEPT-ENCODING', 'gzip', 'If-None-Match', '"t"'],
      ...['if-modified-since', 'd', 'Range', 'bytes=0-1', 'If-Range', '"t"'],
      ...['wrong', 'accept', 'xxxx', 'y'],
    ]
    expect(readConditions(raw)).toEqual({
      host: 'a',
      accept: 'x/y, z/w',
      acceptEncoding: 'gzip',
      ifNoneMatch: '"t"',
      ifModifiedSince: 'd',
      range: 'bytes=0-1',
      ifRange: '"t"',
    })
    expect(readConditions([])).toEqual({ accept: '', acceptEncoding: '' })
  })

  test.each([
    ['gzip', true],
    ['zstd, gzip', true],
    ['gzip, deflate, br', true],
    ['*', true],
    ['GZIP;q=0.5', true],
    ['br;q=1, x-gzip;q=0.1', true],
    ['identity, *;q=0.5', true],
    ['', false],
    ['br', false],
    ['gzip;q=0', false],
    ['gzip; q=0.000, br', false],
    ['gzip;q=0, *', false],
    ['identity;q=1', false],
  ])('Accept-Encoding: %s takes gzip: %s', (header, takes) => {
    expect(takesGzip(header)).toBe(takes)
  })
})

test('whoever sends no condition gets everything', () => {
  const none = readConditions([])
  expect(isUnchanged(none, '"t"', 'date')).toBe(false)
  expect(partOf(none, 100, '"t"', 'date')).toBeNull()
  expect(partOf(readConditions(['range', 'bytes=0-1', 'if-range', 'date']), 100, '"t"', 'date')).toEqual({
    start: 0,
    end: 1,
  })
  expect(partOf(readConditions(['range', 'bytes=-']), 100, '"t"', 'date')).toBeNull()
})
