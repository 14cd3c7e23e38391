import { install } from './commands/install.ts'
import { createOutput, endWithThePipe } from './output.ts'
import { printError } from './print-error.ts'

/** The flags of an installation that the entry file could read itself. */
export interface InstallFlags {
  readonly json: boolean
  readonly quiet: boolean
  readonly layout?: 'linked' | 'self-contained'
}

/**
 * `polder install` without the command line parser, which takes a third of a further checkout's time to load.
 * @returns the exit code
 */
export async function installDirectly({ layout, ...flags }: InstallFlags): Promise<number> {
  endWithThePipe()
  const output = createOutput(flags, process.env)
  try {
    return await install(process.cwd(), output, { force: false, ...(layout === undefined ? {} : { layout }) })
  } catch (error) {
    return printError(error, output)
  }
}
