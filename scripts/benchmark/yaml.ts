import { readFileSync } from 'node:fs'

import { parseAllDocuments } from 'yaml'

/** The last document of a YAML file, as a mapping: of pnpm's lockfiles with two, the second is the lock. */
export function load(path: string): Record<string, unknown> {
  const documents = parseAllDocuments(readFileSync(path, 'utf8'))
  const last = Array.isArray(documents) ? documents.at(-1) : undefined
  return (last?.toJS({ maxAliasCount: -1 }) ?? {}) as Record<string, unknown>
}
