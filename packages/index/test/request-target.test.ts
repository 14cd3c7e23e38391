import fc from 'fast-check'
import { describe, expect, test } from 'vitest'

import { parseTarget } from '../src/serve/request-target.ts'

const isView = (id: string): boolean => id === '0123456789ab'
const parse = (url: string): ReturnType<typeof parseTarget> => parseTarget(url, isView)

describe('a URL', () => {
  test.each([
    ['/lib', { kind: 'document', name: 'lib' }],
    ['/lib/', { kind: 'document', name: 'lib' }],
    ['/lib?write=true', { kind: 'document', name: 'lib' }],
    ['/lib/1.0.0', { kind: 'document', name: 'lib', version: '1.0.0' }],
    ['/@s/lib', { kind: 'document', name: '@s/lib' }],
    ['/@s%2flib', { kind: 'document', name: '@s/lib' }],
    ['/@s%2Flib/latest', { kind: 'document', name: '@s/lib', version: 'latest' }],
    ['/%40s%2flib', { kind: 'document', name: '@s/lib' }],
    ['/lib/-/lib-1.0.0.tgz', { kind: 'tarball', name: 'lib', version: '1.0.0' }],
    ['/@s/lib/-/lib-1.0.0-rc.1.tgz', { kind: 'tarball', name: '@s/lib', version: '1.0.0-rc.1' }],
    ['/@s%2flib/-/lib-1.0.0.tgz', { kind: 'tarball', name: '@s/lib', version: '1.0.0' }],
    ['http://registry.example/@s%2flib/-/lib-1.0.0.tgz', { kind: 'tarball', name: '@s/lib', version: '1.0.0' }],
    ['/@lock/0123456789ab/lib', { kind: 'document', view: '0123456789ab', name: 'lib' }],
    ['/@lock/0123456789ab/@s%2flib', { kind: 'document', view: '0123456789ab', name: '@s/lib' }],
    ['/@lock/other', { kind: 'document', name: '@lock/other' }],
    ['/@lock/other/-/other-1.0.0.tgz', { kind: 'tarball', name: '@lock/other', version: '1.0.0' }],
    ['/-/ping', { kind: 'service', path: '/-/ping' }],
    ['/-/v1/search?text=a', { kind: 'service', path: '/-/v1/search', query: 'text=a' }],
    ['/@lock/0123456789ab/-/ping', { kind: 'service', view: '0123456789ab', path: '/-/ping' }],
    ['/@lock/0123456789ab/', { kind: 'service', view: '0123456789ab', path: '/' }],
    ['/', { kind: 'service', path: '/' }],
    ['/lib/-/other-1.0.0.tgz', { kind: 'malformed', status: 404 }],
    ['/a/b/c', { kind: 'malformed', status: 404 }],
    ['lib', { kind: 'malformed', status: 400 }],
    ['', { kind: 'malformed', status: 400 }],
  ])('%s is %j', (url, wanted) => {
    expect(parse(url)).toMatchObject(wanted)
    if (!('view' in wanted)) expect((parse(url) as { view?: string }).view).toBeUndefined()
  })

  test('of whatever characters is taken apart without an error, and never leads to a name that is none', () => {
    const piece = fc.oneof(
      fc.constantFrom(
        '/',
        '@',
        '-',
        '.',
        '..',
        '%2f',
        '%2F',
        '%00',
        '%',
        '\\',
        'lock',
        '@lock/0123456789ab',
        '?',
        '.tgz',
        '-/',
      ),
      fc.string({ maxLength: 8, unit: 'binary' }),
    )
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 12 }), (pieces) => {
        const target = parse(`/${pieces.join('')}`)
        if (target.kind === 'document' || target.kind === 'tarball') {
          expect(target.name).toMatch(/^(?:@[\w.~-]+\/)?[\w~-][\w.~!'()*-]*$/)
          expect(target.version ?? '').not.toMatch(/\//)
        }
      }),
      { numRuns: 2000 },
    )
  })
})
