import fc from 'fast-check'
import { describe, expect, test } from 'vitest'

import { compareText, isPackageName, packageId, sortKeys, splitPackageId } from '../src/index.ts'

describe('package ids', () => {
  test.each([
    ['react', '18.3.1', 'react@18.3.1'],
    ['@types/node', '22.1.0', '@types/node@22.1.0'],
    ['left-pad', 'https://host.example/@scope/left-pad.tgz', 'left-pad@https://host.example/@scope/left-pad.tgz'],
    ['@a/b', 'file:vendor/b@1.tgz', '@a/b@file:vendor/b@1.tgz'],
  ])('%s and %s make %s, and it comes apart again', (name, reference, id) => {
    expect(packageId(name, reference)).toBe(id)
    expect(splitPackageId(id)).toEqual({ name, reference })
  })

  test('a text without a version is a name', () => {
    expect(splitPackageId('react')).toEqual({ name: 'react', reference: '' })
    expect(splitPackageId('@types/node')).toEqual({ name: '@types/node', reference: '' })
  })
})

describe('isPackageName', () => {
  test.each(['a', 'react', '@types/node', 'JSONStream', 'lodash.merge', '_', '~a', 'a'.repeat(214), "x'(y)*!"])(
    '%s is a name',
    (name) => {
      expect(isPackageName(name)).toBe(true)
    },
  )

  test.each([
    '',
    '.',
    '..',
    '.bin',
    '.hidden',
    '@scope',
    '@scope/',
    '@/a',
    '@a/..',
    '@a/.bin',
    '@../a',
    '@./a',
    '@a/b/c',
    '../a',
    'a/b',
    'a\\b',
    'a b',
    'a\0',
    'a\n',
    'a%2fb',
    'a:b',
    '__proto__',
    'node_modules',
    'favicon.ico',
    'é',
    'a'.repeat(215),
  ])('%j is not', (name) => {
    expect(isPackageName(name)).toBe(false)
  })

  test('whatever is a name stays inside the directory that it is joined to', () => {
    fc.assert(
      fc.property(
        fc.string({ unit: fc.constantFrom('@', '/', '.', '\\', 'a', '-', '_', '\0'), maxLength: 8 }),
        (name) => {
          fc.pre(isPackageName(name))
          const parts = name.split('/')
          expect(parts.length).toBe(name.startsWith('@') ? 2 : 1)
          for (const part of parts) expect(part).not.toMatch(/^\.|^$|[\\\0]/)
        },
      ),
    )
  })
})

describe('order', () => {
  test('texts are compared by code unit, whatever the locale', () => {
    expect(['b', 'ä', 'a', 'B', 'a-b', 'a_b', 'aa'].sort(compareText)).toEqual(['B', 'a', 'a-b', 'a_b', 'aa', 'b', 'ä'])
    expect(compareText('a', 'a')).toBe(0)
  })

  test('sorted records have no prototype, so that no key is special', () => {
    const sorted = sortKeys({ b: 1, a: 2, constructor: 3 })
    expect(Object.keys(sorted)).toEqual(['a', 'b', 'constructor'])
    expect(Object.getPrototypeOf(sorted)).toBeNull()
    expect(sorted['toString']).toBeUndefined()
  })
})
