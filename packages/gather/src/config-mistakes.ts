import { compareText, PolderError } from '@polder/spec'
import { distance } from 'fastest-levenshtein'
import { type Document, isMap, isScalar, type LineCounter } from 'yaml'
import type { z } from 'zod'

import { configSchema } from './config-schema.ts'
import { CONFIG_FILE } from './inputs.ts'

/** Something wrong in the text, and where. */
export interface Mistake {
  readonly offset: number
  readonly message: string
  readonly hint?: string
}

/** What the schema found, as sentences; a key that is not known with the one that it looks like. */
export function mistakes(issue: z.core.$ZodIssue, document: Document): Mistake[] {
  const where = issue.path.join('.')
  if (issue.code !== 'unrecognized_keys') {
    return [
      {
        offset: offsetOf(document, issue.path),
        message: `${where === '' ? 'the document' : where}: ${issue.message.replace(/^Invalid input: /, '')}`,
      },
    ]
  }
  const known = keysAt(issue.path)
  return issue.keys.map((key) => {
    const nearest = [...known].sort((a, b) => distance(key, a) - distance(key, b) || compareText(a, b))[0]
    const near =
      nearest !== undefined && distance(key.toLowerCase(), nearest.toLowerCase()) <= Math.max(2, nearest.length / 3)
    return {
      offset: keyOffset(document, issue.path, key),
      message: `unknown key "${where === '' ? key : `${where}.${key}`}"`,
      hint: near ? `did you mean "${nearest}"?` : `the keys here are ${known.join(', ')}`,
    }
  })
}

function keysAt(path: readonly PropertyKey[]): readonly string[] {
  let schema: unknown = configSchema()
  for (const key of path)
    schema = (schema as { properties?: Record<PropertyKey, unknown> } | undefined)?.properties?.[key]
  return Object.keys((schema as { properties?: object } | undefined)?.properties ?? {}).sort(compareText)
}

function offsetOf(document: Document, path: readonly PropertyKey[]): number {
  // The innermost node that exists: a missing value has no place of its own.
  for (let length = path.length; length >= 0; length -= 1) {
    const node: unknown = document.getIn(path.slice(0, length), true)
    const range = (node as { range?: readonly number[] } | null | undefined)?.range
    if (range?.[0] !== undefined) return range[0]
  }
  return 0
}

function keyOffset(document: Document, path: readonly PropertyKey[], key: string): number {
  const map: unknown = path.length === 0 ? document.contents : document.getIn(path, true)
  const pair = isMap(map) ? map.items.find((item) => isScalar(item.key) && String(item.key.value) === key) : undefined
  return isScalar(pair?.key) ? (pair.key.range?.[0] ?? 0) : 0
}

/** All of them as one error, in the order of the text. */
export function invalidConfig(found: readonly Mistake[], lines: LineCounter): PolderError {
  const errors = [...found]
    .sort((a, b) => a.offset - b.offset)
    .map(({ offset, message, hint }) => {
      const { line, col } = lines.linePos(offset)
      return { message: `${CONFIG_FILE}:${Math.max(line, 1)}:${Math.max(col, 1)}: ${message}`, hint }
    })
    .map(
      ({ message, hint }) =>
        new PolderError('CONFIG_INVALID', message, { path: CONFIG_FILE, ...(hint === undefined ? {} : { hint }) }),
    )
  const [first, ...others] = errors
  return new PolderError('CONFIG_INVALID', first?.message ?? `${CONFIG_FILE} is invalid`, {
    ...first?.details,
    ...(others.length === 0 ? {} : { others }),
  })
}
