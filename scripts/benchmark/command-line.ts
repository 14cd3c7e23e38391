import { parseArgs, type ParseArgsConfig } from 'node:util'

type Options = NonNullable<ParseArgsConfig['options']>
type Parsed<Known extends Options> = ReturnType<typeof parseArgs<{ options: Known; allowPositionals: true }>>

/** What a benchmark is called with. For `--help` it prints the usage, and for options that it does not have, as an error. */
export function commandLine<const Known extends Options>(usage: string, options: Known): Parsed<Known> {
  if (process.argv.slice(2).some((argument) => argument === '--help' || argument === '-h')) {
    console.log(usage)
    process.exit(0)
  }
  try {
    return parseArgs({ options, allowPositionals: true })
  } catch (error) {
    console.error((error as Error).message)
    return wrongUsage(usage)
  }
}

export function wrongUsage(usage: string): never {
  console.error(usage)
  process.exit(2)
}
