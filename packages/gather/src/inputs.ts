import { createHash } from 'node:crypto'
import { existsSync, readFileSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'

import { withoutComments } from './config-text.ts'

// This file is what a no-op `polder install` loads of this package. With config-text.ts it imports nothing but Node's own
// modules: no schema library, no YAML, and so not `@polder/spec` either.

/** The name of the configuration file, which marks the root of a repository. */
export const CONFIG_FILE = 'polder.yaml'

/** The name of the file with the pins that no lockfile has, at the root of a repository. */
export const PINS_FILE = 'polder.pins.yaml'

/** The fields of a `package.json` that can change what is locked or linked; a new script, say, is none of them. */
const MANIFEST_FIELDS: readonly string[] = [
  'name',
  'version',
  'os',
  'cpu',
  'libc',
  'bin',
  'dependencies',
  'devDependencies',
  'optionalDependencies',
  'peerDependencies',
  'peerDependenciesMeta',
  'dependenciesMeta',
  'bundledDependencies',
  'bundleDependencies',
  'overrides',
  'resolutions',
  'pnpm',
  'workspaces',
  'catalog',
  'catalogs',
  'patchedDependencies',
]

/**
 * The digest of one input as `Gathered.inputs` and `polder.lock` record it: `sha256-<hex>` of the whole file, of the
 * canonical JSON of its dependency fields if it is a `package.json`, or of what is no comment if it is `polder.yaml`.
 * @param path relative to `root`
 * @returns null if there is no such file
 */
export function digestInput(root: string, path: string): string | null {
  let bytes: Buffer
  try {
    bytes = readFileSync(join(root, path))
  } catch {
    return null
  }
  return digestBytes(path, bytes)
}

/** As {@link digestInput}, of bytes that were read already. */
export function digestBytes(path: string, bytes: Buffer): string {
  const shaped =
    basename(path) === 'package.json'
      ? dependencyFields(bytes)
      : path === CONFIG_FILE
        ? (withoutComments(bytes.toString('utf8')) ?? bytes)
        : bytes
  return `sha256-${createHash('sha256').update(shaped).digest('hex')}`
}

/**
 * The nearest directory at or above `directory` that holds a `polder.yaml`, or null.
 * For callers that must not load the rest of this package; others use `findRoot`.
 */
export function nearestRoot(directory: string): string | null {
  for (let current = directory; ; current = dirname(current)) {
    if (existsSync(join(current, CONFIG_FILE))) return current
    if (dirname(current) === current) return null
  }
}

function dependencyFields(bytes: Buffer): string | Buffer {
  try {
    const json = JSON.parse(bytes.toString('utf8').replace(/^\uFEFF/, '')) as unknown
    if (typeof json !== 'object' || json === null || Array.isArray(json)) return bytes
    const fields = MANIFEST_FIELDS.filter((field) => Object.hasOwn(json, field))
    return JSON.stringify(fields.map((field) => [field, canonical((json as Record<string, unknown>)[field])]))
  } catch {
    // What is no JSON, or is nested too deeply to walk, is compared as it is.
    return bytes
  }
}

/** Objects as sorted lists of pairs, so that no key of theirs is ever assigned. */
function canonical(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(canonical)
  if (typeof value !== 'object' || value === null) return value
  return {
    pairs: Object.entries(value)
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([key, inner]) => [key, canonical(inner)]),
  }
}
