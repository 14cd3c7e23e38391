import { PolderError } from '@polder/spec'
import { type Command, CommanderError } from 'commander'

import { commandLine } from './command-line.ts'
import { createOutput, endWithThePipe } from './output.ts'
import { printError } from './print-error.ts'

/** Runs the command line and gives the exit code. Without any word it is the help that is wanted. */
export async function main(words: readonly string[]): Promise<number> {
  const argv = words.length === 0 ? ['--help'] : words
  endWithThePipe()
  let exitCode = 0
  let output = createOutput({ json: argv.includes('--json'), verbose: argv.includes('--verbose') }, process.env)
  const program = commandLine(async (flags, action) => {
    output = createOutput(flags, process.env)
    exitCode = await action(output)
  })
  try {
    await program.parseAsync(argv, { from: 'user' })
    return exitCode
  } catch (error) {
    if (error instanceof CommanderError) {
      if (error.exitCode === 0) return 0
      const { name, unknown } = commandOf(program, argv)
      return printError(wrongUsage(error, name, unknown), output)
    }
    return printError(error, output)
  }
}

/** What commander has to say as one of our errors: the suggestion is a hint, and help is asked of the command in use. */
function wrongUsage(error: CommanderError, command: string, unknown: string | undefined): PolderError {
  const [first = '', suggestion] = error.message.replace(/^error: /, '').split('\n')
  const message =
    error.code !== 'commander.help'
      ? first.replace(/\.$/, '')
      : unknown === undefined
        ? `${command} needs one of its commands`
        : `unknown command '${unknown}'`
  const near = /^\(Did you mean (.*)\?\)$/.exec(suggestion ?? '')?.[1]
  const hint = near === undefined ? `see \`${command} --help\`` : `did you mean ${near}?`
  return new PolderError('USAGE', message, { hint, cause: error })
}

/** `polder index sync` for the words of its command line, and the word behind `help` that is no command. */
function commandOf(program: Command, argv: readonly string[]): { readonly name: string; readonly unknown?: string } {
  let [found, name] = [program, program.name()]
  for (const [index, word] of argv.entries()) {
    const inner = found.commands.find((command) => command.name() === word)
    if (inner === undefined) {
      if (argv[index - 1] === 'help' && word !== 'help') return { name, unknown: word }
      continue
    }
    found = inner
    name += ` ${word}`
  }
  return { name }
}
