// Preloaded into the command line (`node --import`): counts the changes that it makes to the file system and kills it,
// as `kill -9` does, right before the one numbered POLDER_KILL_AT (with another signal if POLDER_KILL_WITH has one). At the end of a run that was not killed, the number
// of changes is written to POLDER_COUNT_TO. So "killed at any change" is exact, whatever the machine's speed.
import fs from 'node:fs'
import { syncBuiltinESMExports } from 'node:module'

const CHANGES = [
  'openSync writeFileSync writeSync fsyncSync renameSync linkSync symlinkSync mkdirSync rmSync unlinkSync utimesSync futimesSync chmodSync copyFileSync',
  'open write writeFile rename link symlink mkdir rm unlink utimes chmod copyFile',
].map((line) => line.split(' '))

const killAt = Number(process.env['POLDER_KILL_AT'] ?? 0)
const signal = process.env['POLDER_KILL_WITH'] ?? 'SIGKILL'
const countTo = process.env['POLDER_COUNT_TO']
let changes = 0

type Functions = Record<string, ((...args: unknown[]) => unknown) | undefined>

function counting(target: Functions, names: readonly string[]): void {
  for (const name of names) {
    const original = target[name]
    if (original === undefined) continue
    target[name] = (...args) => {
      // A module that is loaded is opened too, to be read.
      if (name.startsWith('open') && (args[1] === undefined || args[1] === 'r')) return original.apply(target, args)
      changes += 1
      if (changes === killAt) process.kill(process.pid, signal)
      return original.apply(target, args)
    }
  }
}

const [sync = [], later = []] = CHANGES
counting(fs as unknown as Functions, sync)
counting(fs.promises as unknown as Functions, later)
syncBuiltinESMExports()

if (countTo !== undefined) {
  const write = fs.writeFileSync
  process.on('exit', () => write(countTo, String(changes)))
}
