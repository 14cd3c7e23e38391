import { writeSync } from 'node:fs'

import { isErrno } from '@polder/spec'

import { installKnown } from './known-installation.ts'
import { createOutput, endWithThePipe } from './output.ts'

/** The flags of an installation that the entry file could read itself. */
export interface InstallFlags {
  readonly json: boolean
  readonly quiet: boolean
  readonly layout?: 'linked' | 'self-contained'
}

/**
 * `polder install` without the command line parser, which takes a third of a further checkout's time to load.
 * @returns the exit code, when everything is written
 */
export async function installDirectly({ layout, ...flags }: InstallFlags): Promise<number> {
  const stdout = directStdout()
  const output = createOutput(flags, process.env, stdout.write)
  let code: number
  try {
    code = 0
    if (!(await installKnown(process.cwd(), output, layout))) {
      const { install } = await import('./commands/install.ts')
      code = await install(process.cwd(), output, { force: false, ...(layout === undefined ? {} : { layout }) })
    }
  } catch (error) {
    code = (await import('./print-error.ts')).printError(error, output)
  }
  await stdout.end()
  return code
}

/**
 * Standard output without Node's streams, whose setting up takes as long as a few hundred links; with them from where
 * a pipe is full and somebody made it one that does not wait.
 */
function directStdout(): { readonly write: (text: string) => void; readonly end: () => Promise<void> } {
  let streams = false
  const write = (text: string): void => {
    let rest = Buffer.from(text)
    while (rest.length > 0 && !streams) {
      try {
        rest = rest.subarray(writeSync(1, rest))
      } catch (error) {
        // Whoever reads has seen enough.
        if (isErrno(error, 'EPIPE')) process.exit(0)
        if (!isErrno(error, 'EAGAIN')) throw error
        endWithThePipe()
        streams = true
      }
    }
    if (rest.length > 0) process.stdout.write(rest)
  }
  const end = async (): Promise<void> => {
    if (streams) await new Promise((resolve) => process.stdout.write('', resolve))
  }
  return { write, end }
}
