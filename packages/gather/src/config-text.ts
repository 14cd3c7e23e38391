// Loaded by every `polder install` that is no no-op: no YAML library here, which would cost more than all the rest.

/** A key, with or without a value, or an entry of a list. */
const STRUCTURE = /^ *(?:-(?: |$)|(?:"[^"]*"|'[^']*'|[^\s:#"'{}[\],&*!|>%@`-][^\s:#"']*) *:(?: |$))/

/** `|`, `>-` and the like: what follows is text, whatever it looks like. */
const BLOCK_SCALAR = /[|>][-+\d]*$/

/**
 * A `polder.yaml` without what says nothing: comments, empty lines, spaces at the ends of lines. So a lock is not out of
 * date for a comment. Texts that become equal mean the same; for that a text is left as it is, undefined here, if it has
 * anything that only a parser can tell: values over several lines, escapes, keys behind a `?`, quotes that are not closed.
 *
 *     # the services          services:
 *     services:          →    - api
 *     - api # the first
 */
export function withoutComments(text: string): string | undefined {
  const kept: string[] = []
  for (const whole of text.split(/\r?\n/)) {
    const line = cutComment(whole).replace(/[ \t]+$/, '')
    if (line === '') continue
    const previous = kept.at(-1) ?? ''
    const isDeeperEntry = /^ *-/.test(line) && indent(line) > indent(previous) && !/:$|^ *(?:- +)*-$/.test(previous)
    if (
      !STRUCTURE.test(line) ||
      BLOCK_SCALAR.test(line) ||
      !isClosed(line) ||
      /[\\\t\r]|(?:^| )\?(?: |$)/.test(line) ||
      isDeeperEntry
    )
      return undefined
    kept.push(line)
  }
  return kept.join('\n')
}

/** Up to a `#` that is in no quotes; one of which that is not sure is left. */
function cutComment(line: string): string {
  for (const { index } of line.matchAll(/(?<=^|[ \t])#/g)) {
    const before = line.slice(0, index)
    if (isClosed(before)) return before
  }
  return line
}

function isClosed(text: string): boolean {
  return [`"`, `'`].every((quote) => text.split(quote).length % 2 === 1)
}

function indent(line: string): number {
  return line.length - line.trimStart().length
}
