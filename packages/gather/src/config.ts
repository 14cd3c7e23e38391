import { readFileSync } from 'node:fs'
import { join } from 'node:path'

import {
  compareText,
  isErrno,
  isPackageName,
  parsePlatform,
  platformName,
  PolderError,
  sortKeys,
  splitPackageId,
} from '@polder/spec'
import { RangeCache } from '@polder/spec/semver-ranges'
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
  /** Of `policy` as well: what a version has to be that polder.lock does not have yet. */
  readonly newPins: NewPinPolicy
  readonly layout: 'linked' | 'self-contained'
  readonly builds: Builds
  readonly index: {
    /** Names of packages that may be pinned although their lockfile has no hash for them. Sorted. */
    readonly allowWeakIntegrity: readonly string[]
    /** Names, or patterns such as `@scope/*`, that no public registry is asked for. Sorted. */
    readonly private: readonly string[]
    /** Whether registry signatures are checked, and whether every release needs one. */
    readonly signatures: 'verify' | 'required' | 'off'
    /** A Sigstore trusted root, relative to the repository. */
    readonly trustedRoot: string | null
  }
}

/** Which packages may run their install scripts, and with what. */
export interface Builds {
  /** Name → range of versions. */
  readonly allow: Readonly<Record<string, string>>
  /** Name → variables for its scripts. */
  readonly env: Readonly<Record<string, Readonly<Record<string, string>>>>
  /** What one build may take, where that is not the default. */
  readonly limits: BuildLimits
}

export interface BuildLimits {
  readonly minutes?: number
  readonly memoryMB?: number
  readonly processes?: number
  readonly outputMB?: number
  readonly diskMB?: number
}

export interface NewPinPolicy {
  /** Minutes since the recorded date of publication; 0 for none. */
  readonly minimumReleaseAge: number
  /** What may be younger: names, patterns, or either with a range (`@scope/*`, `react@^19.0.0`). Sorted. */
  readonly minimumReleaseAgeExclude: readonly string[]
  /** Of the same form. Everything may be pinned if it is empty. Sorted. */
  readonly allow: readonly string[]
  /** Of the same form; stronger than `allow`. Sorted. */
  readonly deny: readonly string[]
}

/** How versions are chosen. */
export interface Policy {
  /** `fewest` copies of each package, or for each requirement the `highest` version that some lockfile has. */
  readonly versions: 'fewest' | 'highest'
  /** Whether a version that a service writes exactly may move to a compatible one (`^`) that others have: `soft`. */
  readonly pins: 'hard' | 'soft'
  /**
   * Whether a required package has to be for the Node that runs (`engines.node`). Null for what the clients say:
   * `gather` turns it into `strict` where npm's `engine-strict` or pnpm's `engineStrict` is set, and into `warn`.
   */
  readonly engines: 'warn' | 'strict' | null
  /** Names that must not be split, sorted. */
  readonly single: readonly string[]
  /** Names that keep what each lockfile has, with the reason. */
  readonly split: Readonly<Record<string, string>>
}

const DEFAULT_POLICY: Omit<Policy, 'engines'> = { versions: 'fewest', pins: 'hard', single: [], split: {} }

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
const namePattern = z
  .string()
  .refine((text) => isPackageName(text.replaceAll('*', 'x')), 'is no package name, and no pattern such as @scope/*')
const release = z
  .string()
  .refine(
    (text) => isPackageName(splitPackageId(text).name.replaceAll('*', 'x')) && !text.endsWith('@'),
    'begins with no package name and no pattern; a range follows behind an @, as in react@^19.0.0',
  )
const MINUTES: Readonly<Record<string, number>> = { '': 1, m: 1, h: 60, d: 24 * 60, w: 7 * 24 * 60 }
const AGE = 'is no age; ages look like 90m, 12h, 3d or 2w, and a number is minutes'
const age = z.union(
  [
    z.number().nonnegative(AGE),
    z
      .string()
      .regex(/^\d+(?:\.\d+)? *[mhdw]?$/, AGE)
      .transform((text) => Number.parseFloat(text) * (MINUTES[/[mhdw]?$/.exec(text)?.[0] ?? ''] ?? 1)),
  ],
  AGE,
)

const ranges = new RangeCache()
const versionRange = z
  .string()
  .refine((text) => text !== '' && ranges.isRange(text), 'is no range of versions, such as ^2.0.0 or "*"')
const variable = z.string().regex(/^[A-Za-z_]\w*$/, 'is no name of a variable')
const most = z.number().positive()

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
        engines: z
          .enum(['warn', 'strict'])
          .describe(
            '"strict": installing fails where a required package is for another Node (engines.node). Without it, what .npmrc (engine-strict) and pnpm-workspace.yaml (engineStrict) say.',
          )
          .optional(),
        single: z.array(packageName).describe('Names that must not be split: locking fails and says why.').default([]),
        split: z
          .record(packageName, z.string().min(1))
          .describe('Names that keep what each lockfile has, each with the reason.')
          .default({}),
        minimumReleaseAge: age
          .describe(
            'How long ago a version must have been published to be pinned for the first time: minutes, or 12h, 3d, 2w.',
          )
          .default(0),
        minimumReleaseAgeExclude: z
          .array(release)
          .describe('What may be younger: names, patterns (@scope/*), or either with a range (react@^19.0.0).')
          .default([]),
        allow: z
          .array(release)
          .describe(
            'If there are any, only these may be pinned for the first time: names, patterns, or either with a range.',
          )
          .default([]),
        deny: z
          .array(release)
          .describe('These may not be pinned for the first time: names, patterns, or either with a range.')
          .default([]),
      })
      .describe('How versions are chosen.')
      .default({
        ...DEFAULT_POLICY,
        single: [],
        split: {},
        minimumReleaseAge: 0,
        minimumReleaseAgeExclude: [],
        allow: [],
        deny: [],
      }),
    layout: z
      .enum(['linked', 'self-contained'])
      .describe(
        '"linked": node_modules links into an environment that checkouts share. "self-contained": everything is inside the checkout.',
      )
      .default('linked'),
    builds: z
      .strictObject({
        allow: z
          .record(packageName, versionRange)
          .describe('Packages that may run their install scripts, in a sandbox, and in which versions: name: range.')
          .default({}),
        env: z
          .record(packageName, z.record(variable, z.string()))
          .describe('Variables for the scripts of a package. What they say is part of what is built.')
          .default({}),
        limits: z
          .strictObject({
            minutes: most.describe('Of one script.').optional(),
            memoryMB: most.describe('Of all processes of a build together.').optional(),
            processes: most.describe('Processes and threads of a build together.').optional(),
            outputMB: most.describe('Of the log.').optional(),
            diskMB: most.describe('Of the directory of the package, and of what is temporary.').optional(),
          })
          .describe('What one build may take before it is ended.')
          .default({}),
      })
      .describe('Install scripts. None runs unless it is allowed here.')
      .default({ allow: {}, env: {}, limits: {} }),
    index: z
      .strictObject({
        allowWeakIntegrity: z
          .array(packageName)
          .describe('Packages to accept although their lockfile has no hash for them.')
          .default([]),
        private: z
          .array(namePattern)
          .describe("Names and patterns (@scope/*) of which only their scope's own registry is asked, never another.")
          .default([]),
        signatures: z
          .enum(['verify', 'required', 'off'])
          .describe(
            '"verify": signatures of registries that sign are checked, with keys that polder.lock pins. "required": a release without one is refused. "off": they are not looked at.',
          )
          .default('verify'),
        trustedRoot: inside
          .describe("Sigstore's trusted_root.json, to verify who made a provenance attestation.")
          .optional(),
      })
      .describe('The local index.')
      .default({ allowWeakIntegrity: [], private: [], signatures: 'verify' }),
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
  const { services, exclude, platforms, policy, layout, builds, index } = parsed.data
  const { versions, pins, engines, single, split, minimumReleaseAge, minimumReleaseAgeExclude, allow, deny } = policy
  return {
    services: services ?? null,
    exclude,
    platforms: sortedUnique(platforms.map((name) => platformName(parsePlatform(name) ?? { os: name, cpu: '' }))),
    policy: { versions, pins, engines: engines ?? null, single: sortedUnique(single), split: sortKeys(split) },
    newPins: {
      minimumReleaseAge,
      minimumReleaseAgeExclude: sortedUnique(minimumReleaseAgeExclude),
      allow: sortedUnique(allow),
      deny: sortedUnique(deny),
    },
    layout,
    builds: { allow: sortKeys(builds.allow), env: sortKeys(builds.env), limits: definedOnly(builds.limits) },
    index: {
      allowWeakIntegrity: sortedUnique(index.allowWeakIntegrity),
      private: sortedUnique(index.private),
      signatures: index.signatures,
      trustedRoot: index.trustedRoot ?? null,
    },
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

/** Without the keys that were left out, which the schema gives as undefined. */
function definedOnly<T extends object>(record: T): { [Key in keyof T]?: Exclude<T[Key], undefined> } {
  return Object.fromEntries(Object.entries(record).filter(([, value]) => value !== undefined)) as {
    [Key in keyof T]?: Exclude<T[Key], undefined>
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
