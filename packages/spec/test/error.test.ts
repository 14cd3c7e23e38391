import { readFileSync } from 'node:fs'

import { expect, test } from 'vitest'

import { isErrno, PolderError } from '../src/index.ts'

test('an error carries its code, its details and its cause', () => {
  const cause = new Error('below')
  const error = new PolderError('DISK_FULL', 'no room for a.tgz', { cause, hint: 'make room', path: 'a.tgz' })
  expect(error).toMatchObject({ name: 'PolderError', code: 'DISK_FULL', message: 'no room for a.tgz', cause })
  expect(error.details).toMatchObject({ hint: 'make room', path: 'a.tgz' })
  expect(Object.hasOwn(new PolderError('USAGE', 'x'), 'cause')).toBe(false)
})

test('an error of the system is known by its code', () => {
  let caught: unknown
  try {
    readFileSync('/there/is/no/such/file')
  } catch (error) {
    caught = error
  }
  expect(isErrno(caught, 'EACCES', 'ENOENT')).toBe(true)
  expect(isErrno(caught, 'EACCES')).toBe(false)
  expect(isErrno({ code: 'ENOENT' }, 'ENOENT')).toBe(false)
  expect(isErrno(new PolderError('USAGE', 'x'), 'ENOENT')).toBe(false)
})
