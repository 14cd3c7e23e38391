import { realpathSync, statSync } from 'node:fs'
import { join } from 'node:path'

/** Where the programs are that a build sees: those of the system, nothing of a user's home. */
export const SYSTEM_PATH = '/usr/local/bin:/usr/bin:/bin'

/** The programs whose versions count, of those that are there. */
const COUNTED = ['c++', 'python3']

/**
 * Which files the compiler and Python are, and of when: as long as this text is the same, so are their versions. Every
 * further checkout asks that, so no program is started and nothing is loaded for it.
 */
export function toolchainFiles(): string {
  return COUNTED.map((program) => `${program} ${fileOf(program)}`).join('\n')
}

function fileOf(program: string): string {
  for (const directory of SYSTEM_PATH.split(':')) {
    try {
      const path = realpathSync(join(directory, program))
      const { mtimeMs, size } = statSync(path)
      return `${path} ${mtimeMs} ${size}`
    } catch {
      // Not in this directory.
    }
  }
  return ''
}
