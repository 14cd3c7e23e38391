/**
 * Runs `install` or `collect` in a process of its own that kills itself (SIGKILL: no handler, no cleanup) instead of
 * its n-th call that changes the file system; a write stops half-way. Without n it prints how many such calls it made.
 *
 *     node killed-process.ts install <home> <checkout> <packages> [<n>]
 */
import fs from 'node:fs'
import { syncBuiltinESMExports } from 'node:module'

const CHANGING = [
  'openSync',
  'writeSync',
  'writeFileSync',
  'mkdirSync',
  'renameSync',
  'rmSync',
  'linkSync',
  'futimesSync',
  'fsyncSync',
  'closeSync',
]
const CHANGING_LATER = ['open', 'mkdir', 'rename', 'rm']

type Call = (...parameters: unknown[]) => unknown

const [, , operation, home = '', checkout = '', count = '', at] = process.argv
const last = at === undefined ? Infinity : Number(at)
let calls = 0

function wrap(functions: Record<string, Call>, name: string): void {
  const original = functions[name] as Call
  functions[name] = (...parameters) => {
    calls += 1
    if (calls === last) {
      const [target, data] = parameters
      if (name.startsWith('write') && (typeof data === 'string' || data instanceof Uint8Array))
        original(target, data.slice(0, data.length / 2))
      process.kill(process.pid, 'SIGKILL')
    }
    return original(...parameters)
  }
}

for (const name of CHANGING) wrap(fs as unknown as Record<string, Call>, name)
for (const name of CHANGING_LATER) wrap(fs.promises as unknown as Record<string, Call>, name)
syncBuiltinESMExports()

const scenario = await import('./scenario.ts')
if (operation === 'install') await scenario.install(home, checkout, Number(count))
else await scenario.collect(home)
process.stdout.write(String(calls))
