import { readFileSync } from 'node:fs'

import { parseAllDocuments } from 'yaml'

import type { PlatformCondition } from '../../packages/spec/src/index.ts'

/** The last document of a YAML file, as a mapping: of pnpm's lockfiles with two, the second is the lock. */
export function load(path: string): Record<string, unknown> {
  const documents = parseAllDocuments(readFileSync(path, 'utf8'))
  const last = Array.isArray(documents) ? documents.at(-1) : undefined
  return (last?.toJS({ maxAliasCount: -1 }) ?? {}) as Record<string, unknown>
}

/** The packages that a pnpm lockfile names, whether something leads to them or not. */
export function packagesOf(lockfile: string): Readonly<Record<string, PlatformCondition>> {
  return (load(lockfile)['packages'] ?? {}) as Readonly<Record<string, PlatformCondition>>
}
