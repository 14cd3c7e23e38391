import { fstatSync } from 'node:fs'
import { styleText } from 'node:util'

/** How a command talks: results to stdout, everything else to stderr. */
export interface Output {
  readonly json: boolean
  /** Nothing but results and errors. */
  readonly quiet: boolean
  readonly verbose: boolean
  /** True if a progress display can be drawn and erased. */
  readonly interactive: boolean
  /** A line of the result, not with `--json`. */
  line(text?: string): void
  /** The result with `--json`: one document. */
  result(document: unknown): void
  /** A remark on stderr, not when quiet. */
  note(text: string): void
  bold(text: string): string
  dim(text: string): string
  good(text: string): string
  bad(text: string): string
}

export interface OutputFlags {
  readonly json?: boolean
  readonly quiet?: boolean
  readonly verbose?: boolean
}

/** Back to the beginning of the terminal's line, which is then empty. */
export const ERASE_LINE = '\r\x1b[2K'

/**
 * Colours only on a terminal and without `NO_COLOR`; a progress display only where somebody watches.
 * @param write where results go
 */
export function createOutput(
  flags: OutputFlags,
  env: NodeJS.ProcessEnv,
  write: (text: string) => void = (text) => void process.stdout.write(text),
): Output {
  const json = flags.json === true
  const quiet = flags.quiet === true
  const interactive = !quiet && !json && (env['CI'] ?? '') === '' && env['TERM'] !== 'dumb' && isTerminal(2)
  const colours = isTerminal(1) && (env['NO_COLOR'] ?? '') === '' && env['TERM'] !== 'dumb'
  const styled =
    (style: 'bold' | 'dim' | 'green' | 'red') =>
    (text: string): string =>
      colours ? styleText(style, text) : text
  return {
    json,
    quiet,
    verbose: flags.verbose === true,
    interactive,
    line: (text = '') => {
      if (!json) write(`${colours ? printableStyled(text) : printable(text)}\n`)
    },
    result: (document) => {
      if (json) write(`${printable(JSON.stringify(document, null, 2))}\n`)
    },
    note: (text) => {
      // A progress display may stand where it is written.
      if (!quiet && !json) process.stderr.write(`${interactive ? ERASE_LINE : ''}${printable(text)}\n`)
    },
    bold: styled('bold'),
    dim: styled('dim'),
    good: styled('green'),
    bad: styled('red'),
  }
}

/** Node's streams take longer to set up than all the rest of a no-op: only where there can be a terminal. */
function isTerminal(descriptor: 1 | 2): boolean {
  try {
    if (!fstatSync(descriptor).isCharacterDevice()) return false
  } catch {
    // It is closed.
    return false
  }
  return (descriptor === 1 ? process.stdout : process.stderr).isTTY
}

/** `polder why x | head` closes the pipe early, which is no failure. */
export function endWithThePipe(): void {
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code === 'EPIPE') process.exit(0)
    process.stderr.write(`polder: what it says cannot be written: ${error.message}\n`)
    process.exit(1)
  })
}

/** Names and messages come from manifests and registries: what a terminal would act on is shown instead. */
export function printable(text: string): string {
  // oxlint-disable-next-line no-control-regex -- control characters are what this is about
  return text.replace(
    /[\0-\x08\x0B-\x1F\x7F-\x9F\u202A-\u202E\u2066-\u2069]/g,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  )
}

/** As `printable`, but for the colours that this file gives. */
function printableStyled(text: string): string {
  // oxlint-disable-next-line no-control-regex -- the escape sequences of bold, dim, green and red
  return text
    .split(/(\x1b\[(?:[12]|22|3[129])m)/)
    .map((part, index) => (index % 2 === 0 ? printable(part) : part))
    .join('')
}

/** `3 packages`, `1 package`. */
export function count(number: number, noun: string, plural = `${noun}s`): string {
  // Not `toLocaleString`, which loads ICU's data: tens of milliseconds.
  return `${String(number).replace(/\B(?=(?:\d{3})+$)/g, ',')} ${number === 1 ? noun : plural}`
}

/** `a, b and 3 more`: the first few, or all of them. */
export function listed(names: readonly string[], shown: number = names.length): string {
  const more = names.length - shown
  return `${names.slice(0, shown).join(', ')}${more > 0 ? ` and ${more} more` : ''}`
}

/** Prints the first few of a list, or with --verbose all, and how many more there are, below them. */
export function printFirst<T>(
  output: Output,
  all: readonly T[],
  { shown, indent }: { readonly shown: number; readonly indent: string },
  print: (one: T) => void,
): void {
  const first = output.verbose ? all : all.slice(0, shown)
  for (const one of first) print(one)
  const more = all.length - first.length
  if (more > 0) output.line(output.dim(`${indent}… and ${more} more (--verbose shows all)`))
}

/** `412 ms`, `3.4 s`. */
export function duration(milliseconds: number): string {
  return milliseconds < 1000 ? `${Math.round(milliseconds)} ms` : `${(milliseconds / 1000).toFixed(1)} s`
}

/** `512 kB`, `34.1 MB`, in powers of ten. */
export function bytes(number: number): string {
  return number < 1e6 ? `${Math.ceil(number / 1e3)} kB` : `${(number / 1e6).toFixed(1)} MB`
}
