import { readFileSync } from 'node:fs'

import { PolderError, type ErrorCode } from '@polder/spec'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'

import { createOutput } from '../src/output.ts'
import { printError } from '../src/print-error.ts'

let stdout: string
let stderr: string

beforeEach(() => {
  stdout = stderr = ''
  vi.spyOn(process.stdout, 'write').mockImplementation((text) => (stdout += String(text)) !== '')
  vi.spyOn(process.stderr, 'write').mockImplementation((text) => (stderr += String(text)) !== '')
})
afterEach(() => vi.restoreAllMocks())

test('the exit code of every error is the one that docs/errors.md gives', () => {
  const rows = readFileSync(new URL('../../../docs/errors.md', import.meta.url), 'utf8').matchAll(
    /^\| `([A-Z_]+)` \|.*\| (\d+) \|$/gm,
  )
  const documented = [...rows].map(([, code, exit]) => ({ code, exit: Number(exit) }))
  expect(documented.length).toBeGreaterThan(20)
  const output = createOutput({ json: true }, {})
  expect(
    documented.map(({ code }) => ({ code, exit: printError(new PolderError(code as ErrorCode, 'x'), output) })),
  ).toEqual(documented)
})

describe('an expected error', () => {
  const error = new PolderError('INTEGRITY_MISMATCH', 'foo@1.0.0 is not what was locked', {
    wanted: 'sha512-a',
    found: 'sha512-b',
    hint: 'find out why',
    others: Array.from({ length: 22 }, (_, index) => new PolderError('FETCH_FAILED', `p${index} cannot be fetched`)),
  })

  test('is its message, its values, the first of its kind, and the hint', () => {
    expect(printError(error, createOutput({}, {}))).toBe(5)
    const listed = Array.from({ length: 20 }, (_, index) => `  p${index} cannot be fetched\n`).join('')
    expect(stderr).toBe(
      `polder: foo@1.0.0 is not what was locked [INTEGRITY_MISMATCH]\n  wanted sha512-a\n  found  sha512-b\n${listed}  … and 2 more (--verbose shows all)\n  hint: find out why\n`,
    )
    expect(stdout).toBe('')
  })

  test('has its explanation before the hint, line by line', () => {
    const details = { explanation: '(1) Because a, b.\n\n    So, c.', hint: 'change a' }
    printError(new PolderError('SINGLE_SPLIT', 'no', details), createOutput({}, {}))
    expect(stderr).toBe('polder: no [SINGLE_SPLIT]\n  (1) Because a, b.\n\n      So, c.\n  hint: change a\n')
    printError(new PolderError('SINGLE_SPLIT', 'no', details), createOutput({ json: true }, {}))
    expect(JSON.parse(stdout)).toMatchObject({ error: { explanation: details.explanation } })
  })

  test('with --verbose shows them all, the stack, and the cause', () => {
    const cause = new TypeError('deep down')
    printError(
      new PolderError(error.code, error.message, { ...error.details, cause }),
      createOutput({ verbose: true }, {}),
    )
    expect(stderr).toContain('  p21 cannot be fetched\n')
    expect(stderr).toMatch(/PolderError: foo@1\.0\.0 .*\n +at /)
    expect(stderr).toMatch(/caused by TypeError: deep down\n +at /)
  })

  test('with --json is one document with everything in it', () => {
    printError(error, createOutput({ json: true }, {}))
    expect(stderr).toBe('')
    expect(JSON.parse(stdout)).toMatchObject({
      error: {
        code: 'INTEGRITY_MISMATCH',
        message: error.message,
        wanted: 'sha512-a',
        found: 'sha512-b',
        hint: 'find out why',
        others: { length: 22 },
      },
    })
  })

  test('shows what a terminal would act on', () => {
    printError(new PolderError('FETCH_FAILED', 'a\u001b[2Jb\rc\u009bd\u202ee'), createOutput({}, {}))
    expect(stderr).toBe('polder: a\\u001b[2Jb\\u000dc\\u009bd\\u202ee [FETCH_FAILED]\n')
  })
})

describe('an unexpected error', () => {
  test('says that it is a bug, without a stack', () => {
    expect(printError(new TypeError('x is undefined'), createOutput({}, {}))).toBe(1)
    expect(stderr).toBe(
      'polder: unexpected: x is undefined\n  This is a bug in polder. Run again with --verbose for the stack trace.\n',
    )
  })

  test('of the system is told as what it is', () => {
    const refused = Object.assign(new Error("EACCES: permission denied, open '/a/.npmrc'"), {
      code: 'EACCES',
      syscall: 'open',
    })
    expect(printError(refused, createOutput({}, {}))).toBe(1)
    expect(stderr).toBe(
      "polder: unexpected: EACCES: permission denied, open '/a/.npmrc'\n  The system refused it. Where it should not have been asked, this is a bug in polder. Run again with --verbose for the stack trace.\n",
    )
  })

  test('has its stack with --verbose, and a document with --json', () => {
    printError(new TypeError('x is undefined'), createOutput({ verbose: true, json: true }, {}))
    expect(stderr).toMatch(/\n +at /)
    expect(JSON.parse(stdout)).toEqual({ error: { code: 'UNEXPECTED', message: 'x is undefined' } })
  })

  test('may be anything that was thrown', () => {
    expect(printError('just text', createOutput({}, {}))).toBe(1)
    expect(stderr).toContain('polder: unexpected: just text\n')
  })
})
