import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import type { Lock, LockedService } from '@polder/lock'
import { describe, expect, test } from 'vitest'

import { binDirectories, findService, nearestText, serviceOf, type Checkout } from '../src/checkout.ts'

function lockOf(services: Readonly<Record<string, string>>): Lock {
  const locked = Object.fromEntries(
    Object.entries(services).map(([path, name]): [string, LockedService] => [
      path,
      { name, lockfile: `${path}/package-lock.json` },
    ]),
  )
  return { npm: { services: locked } } as unknown as Lock
}

describe('a service is found', () => {
  const lock = lockOf({
    'services/web': '@demo/site',
    'services/api': 'api-server',
    'tools/web': 'web-tools',
    '.': 'root',
  })

  test.each([
    ['services/web', 'services/web'],
    ['./services/web/', 'services/web'],
    ['@demo/site', 'services/web'],
    ['api', 'services/api'],
    ['api-server', 'services/api'],
    ['.', '.'],
    ['./', '.'],
  ])('as %s', (wanted, path) => {
    expect(findService(lock.npm.services, wanted)).toBe(path)
  })

  test('but not by a last part that two of them have', () => {
    expect(() => findService(lock.npm.services, 'web')).toThrow(
      expect.objectContaining({ code: 'SERVICE_UNKNOWN' }) as Error,
    )
  })

  test.each([
    ['servces/api', 'did you mean services/api?'],
    ['kitchen', 'the services are: services/web, services/api, tools/web, .'],
  ])('and %s is answered with what there is', (wanted, hint) => {
    expect(() => findService(lock.npm.services, wanted)).toThrow(
      expect.objectContaining({ details: expect.objectContaining({ hint }) as object }) as Error,
    )
  })

  test.each(['__proto__', 'constructor', 'services/../services/web', ''])('and not as %j', (wanted) => {
    if (wanted === '') expect(findService(lock.npm.services, wanted)).toBe('.')
    else
      expect(() => findService(lock.npm.services, wanted)).toThrow(
        expect.objectContaining({ code: 'SERVICE_UNKNOWN' }) as Error,
      )
  })
})

describe('the service of a directory', () => {
  const inside = (lock: Lock, path: string): string | undefined =>
    serviceOf({ root: '/r', lock, lockText: '' } satisfies Checkout, path)

  test('is the innermost one around it', () => {
    const lock = lockOf({ a: 'a', 'a/b': 'b' })
    expect(inside(lock, '/r/a/src')).toBe('a')
    expect(inside(lock, '/r/a/b')).toBe('a/b')
    expect(inside(lock, '/r/a/bb')).toBe('a')
    expect(inside(lock, '/r')).toBeUndefined()
  })

  test('is the root, where the root is a service and no other is around it', () => {
    const lock = lockOf({ '.': 'root', a: 'a' })
    expect(inside(lock, '/r/docs')).toBe('.')
    expect(inside(lock, '/r/a')).toBe('a')
  })
})

test('a service has its own commands before those of the root, if it has any', () => {
  const root = mkdtempSync(join(tmpdir(), 'polder-bins-'))
  try {
    mkdirSync(join(root, 'a/node_modules/.bin'), { recursive: true })
    const top = join(root, 'node_modules/.bin')
    expect(binDirectories(root, 'a')).toEqual([join(root, 'a/node_modules/.bin'), top])
    expect(binDirectories(root, 'b')).toEqual([top])
    expect(binDirectories(root, undefined)).toEqual([top])
    expect(binDirectories(root, '.')).toEqual([top])
  } finally {
    rmSync(root, { recursive: true })
  }
})

test.each([
  ['recat', ['react', 'preact'], 'react'],
  ['lodsah', ['lodash', 'underscore'], 'lodash'],
  ['something-else', ['react', 'vue'], undefined],
  ['a', [], undefined],
])('the nearest to %s of %j is %s', (wanted, known, nearest) => {
  expect(nearestText(wanted, known)).toBe(nearest)
})
