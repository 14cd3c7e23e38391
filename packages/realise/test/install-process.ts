/**
 * One installation in a process of its own, for tests that kill it or take its rights away. Its argument is JSON;
 * it prints one line of JSON.
 */
import type { Lock } from '@polder/lock'
import { PolderError } from '@polder/spec'
import { openStore } from '@polder/store'
import fs, { readFileSync } from 'node:fs'
import { syncBuiltinESMExports } from 'node:module'

import type { Layout } from '../src/index.ts'
import { install } from './world.ts'

export interface ChildOptions {
  readonly home: string
  readonly checkout: string
  /** A JSON file. */
  readonly lock: string
  readonly layout: Layout
  /** SIGKILL instead of this call, counted from 1, that would change the file system. */
  readonly killAt?: number
  readonly waitMs?: number
  /** Give up the rights of root. */
  readonly unprivileged?: true
}

const CHANGES = [
  'copyFileSync',
  'linkSync',
  'mkdirSync',
  'openSync',
  'renameSync',
  'rmSync',
  'symlinkSync',
  'writeFileSync',
  'writeSync',
] as const

const options = JSON.parse(process.argv[2] ?? '') as ChildOptions
const lock = JSON.parse(readFileSync(options.lock, 'utf8')) as Lock
const store = openStore(options.home)
let changes = 0
const patched = fs as unknown as Record<string, (...parameters: unknown[]) => unknown>
for (const name of CHANGES) {
  const original = patched[name]
  if (original === undefined) throw new Error(`node:fs has no ${name}`)
  patched[name] = (...parameters) => {
    changes += 1
    if (changes === options.killAt) process.kill(process.pid, 'SIGKILL')
    return original(...parameters)
  }
}
syncBuiltinESMExports()
if (options.unprivileged === true && process.getuid?.() === 0) {
  process.setegid?.(65534)
  process.seteuid?.(65534)
}
try {
  await install(store, lock, options.checkout, options.layout, {
    ...(options.waitMs === undefined ? {} : { waitMs: options.waitMs }),
  })
  process.stdout.write(`${JSON.stringify({ changes })}\n`)
} catch (error) {
  if (!(error instanceof PolderError)) throw error
  process.stdout.write(`${JSON.stringify({ code: error.code, message: error.message })}\n`)
}
