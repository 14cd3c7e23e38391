import { readFileSync } from 'node:fs'
import { join } from 'node:path'

import { compareText, isErrno, isPackageName, parsePlatform, platformName, PolderError, sortKeys } from '@polder/spec'
import { distance } from 'fastest-levenshtein'
import { type Document, isMap, isScalar, LineCounter, parseDocument } from 'yaml'
import { z } from 'zod'

import { CONFIG_FILE, nearestRoot } from './inputs.ts'

/** `polder.yaml`, with every default filled in. */
export interface Config {
  /** Directories or globs, as written; null means that services are discovered. */
  readonly services: readonly string[] | null
  /** Globs of directories that are no services. */
  readonly exclude: readonly string[]
  /** As `platformName` writes them, sorted. */
  readonly platforms: readonly string[]
  readonly policy: Policy
  readonly layout: 'linked' | 'self-contained'
  readonly index: {
    /** Names of packages that may be pinned although their lockfile has no hash for them. Sorted. */
    readonly allowWeakIntegrity: readonly string[]
  }
}

/** How versions are chosen. */
export interface Policy {
  /** `fewest` copies of each package, or for each requirement the `highest` version that some lockfile has. */
  readonly versions: 'fewest' | 'highest'
  /** Whether a version that a service writes exactly may move to a compatible one (`^`) that others have: `soft`. */
  readonly pins: 'hard' | 'soft'
  /** Names that must not be split, sorted. */
  readonly single: readonly string[]
  /** Names that keep what each lockfile has, with the reason. */
  readonly split: Readonly<Record<string, string>>
}

const DEFAULT_POLICY: Policy = { versions: 'fewest', pins: 'hard', single: [], split: {} }

// A constant and not this machine's platform: a lock must not depend on who makes it.
const DEFAULT_PLATFORMS: readonly string[] = ['linux-x64-glibc']

const inside = z
  .string()
  .min(1)
  .refine((path) => !path.startsWith('/') && !path.split('/').includes('..'), 'must stay inside the repository')
const platform = z
  .string()
  .refine(
    (name) => parsePlatform(name) !== undefined,
    'is no platform; platforms look like linux-x64-glibc or darwin-arm64',
  )
const packageName = z.string().refine(isPackageName, 'is no package name')

const SCHEMA = z
  .strictObject({
    services: z
      .array(inside)
      .describe(
        'The directories of the services, as paths or globs. Without it, every directory with a lockfile is one.',
      )
      .optional(),
    exclude: z.array(inside).describe('Globs of directories to leave out.').default([]),
    platforms: z
      .array(platform)
      .min(1)
      .describe('The platforms to lock for, such as linux-x64-glibc, linux-arm64-musl or darwin-arm64.')
      .default([...DEFAULT_PLATFORMS]),
    policy: z
      .strictObject({
        versions: z
          .enum(['fewest', 'highest'])
          .describe(
            '"fewest": as few versions of each package as the ranges allow. "highest": for each requirement the highest version that some lockfile has.',
          )
          .default('fewest'),
        pins: z
          .enum(['hard', 'soft'])
          .describe('"soft": a version that a service writes exactly may move to a compatible one that others have.')
          .default('hard'),
        single: z.array(packageName).describe('Names that must not be split: locking fails and says why.').default([]),
        split: z
          .record(packageName, z.string().min(1))
          .describe('Names that keep what each lockfile has, each with the reason.')
          .default({}),
      })
      .describe('How versions are chosen.')
      .default({ ...DEFAULT_POLICY, single: [], split: {} }),
    layout: z
      .enum(['linked', 'self-contained'])
      .describe(
        '"linked": node_modules links into an environment that checkouts share. "self-contained": everything is inside the checkout.',
      )
      .default('linked'),
    index: z
      .strictObject({
        allowWeakIntegrity: z
          .array(packageName)
          .describe('Packages to accept although their lockfile has no hash for them.')
          .default([]),
      })
      .describe('The local index.')
      .default({ allowWeakIntegrity: [] }),
  })
  .describe('polder.yaml')

/**
 * The root of the repository that `cwd` is in: the nearest directory with a `polder.yaml`.
 * @throws PolderError `CONFIG_NOT_FOUND`
 */
export function findRoot(cwd: string): string {
  const root = nearestRoot(cwd)
  if (root !== null) return root
  throw new PolderError('CONFIG_NOT_FOUND', `no ${CONFIG_FILE} in ${cwd} or any directory above it`, {
    path: cwd,
    hint: 'run `polder init` at the root of the repository',
  })
}

/**
 * Reads and validates `polder.yaml`. An empty file is all defaults.
 * @throws PolderError `CONFIG_NOT_FOUND`; `CONFIG_INVALID` with the line and column of every mistake
 */
export function readConfig(root: string): Config {
  let text: string
  try {
    text = readFileSync(join(root, CONFIG_FILE), 'utf8')
  } catch (cause) {
    if (!isErrno(cause, 'ENOENT')) throw cause
    throw new PolderError('CONFIG_NOT_FOUND', `no ${CONFIG_FILE} in ${root}`, {
      path: root,
      hint: 'run `polder init` at the root of the repository',
    })
  }
  return parseConfig(text)
}

/** As {@link readConfig}, of a text. */
export function parseConfig(text: string): Config {
  const lines = new LineCounter()
  const document = parseDocument(text, { lineCounter: lines })
  const [broken] = document.errors
  if (broken !== undefined)
    throw invalid(
      [
        {
          offset: broken.pos[0],
          message: broken.message.split('\n')[0]?.replace(/ at line \d+, column \d+:?$/, '') ?? '',
        },
      ],
      lines,
    )
  const parsed = SCHEMA.safeParse(valueOf(document) ?? {})
  if (!parsed.success)
    throw invalid(
      parsed.error.issues.flatMap((issue) => mistakes(issue, document)),
      lines,
    )
  const { services, exclude, platforms, policy, layout, index } = parsed.data
  return {
    services: services ?? null,
    exclude,
    platforms: sortedUnique(platforms.map((name) => platformName(parsePlatform(name) ?? { os: name, cpu: '' }))),
    policy: { ...policy, single: sortedUnique(policy.single), split: sortKeys(policy.split) },
    layout,
    index: { allowWeakIntegrity: sortedUnique(index.allowWeakIntegrity) },
  }
}

/** The JSON schema of `polder.yaml`, published as `docs/schema/polder.schema.json` (JSON Schema 2020-12). */
export function configSchema(): object {
  return { ...z.toJSONSchema(SCHEMA, { io: 'input' }), title: 'polder.yaml' }
}

/** Aliases that multiply each other are refused by the library. */
function valueOf(document: Document): unknown {
  try {
    return document.toJS()
  } catch (cause) {
    throw new PolderError('CONFIG_INVALID', `${CONFIG_FILE}: ${(cause as Error).message}`, { path: CONFIG_FILE, cause })
  }
}

interface Mistake {
  readonly offset: number
  readonly message: string
  readonly hint?: string
}

function mistakes(issue: z.core.$ZodIssue, document: Document): Mistake[] {
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
  let schema: unknown = z.toJSONSchema(SCHEMA, { io: 'input' })
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

function invalid(found: readonly Mistake[], lines: LineCounter): PolderError {
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

function sortedUnique(values: readonly string[]): string[] {
  return [...new Set(values)].sort(compareText)
}
