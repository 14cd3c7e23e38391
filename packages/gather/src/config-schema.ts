import { compareText, isPackageName, parsePlatform, platformName, sortKeys, splitPackageId } from '@polder/spec'
import { RangeCache } from '@polder/spec/semver-ranges'
import { z } from 'zod'

import type { Config, Policy } from './config.ts'

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

/** What may stand in `polder.yaml`, with its defaults; the descriptions are what editors show. */
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
      .superRefine(({ single, split }, context) => {
        for (const [index, name] of single.entries())
          if (Object.hasOwn(split, name))
            context.addIssue({ code: 'custom', path: ['single', index], message: `policy.split keeps ${name} apart` })
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
        workspaces: z
          .record(inside, z.array(inside))
          .describe(
            'Workspace packages, by path, that may run their own scripts (prepare, postinstall …), in a sandbox, each with what else of the repository they read.',
          )
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
      .default({ allow: {}, env: {}, workspaces: {}, limits: {} }),
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

/** A configuration, or what is wrong with it. */
export type CheckedConfig =
  | { readonly success: true; readonly config: Config }
  | { readonly success: false; readonly issues: readonly z.core.$ZodIssue[] }

/** Checks what was parsed, and fills in the defaults. */
export function checkConfig(value: unknown): CheckedConfig {
  const parsed = SCHEMA.safeParse(value)
  if (!parsed.success) return { success: false, issues: parsed.error.issues }
  const { services, exclude, platforms, policy, layout, builds, index } = parsed.data
  const { versions, pins, engines, single, split, minimumReleaseAge, minimumReleaseAgeExclude, allow, deny } = policy
  const config: Config = {
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
    builds: {
      allow: sortKeys(builds.allow),
      env: sortKeys(builds.env),
      workspaces: sortKeys(
        Object.fromEntries(
          Object.entries(builds.workspaces).map(([path, reads]) => [
            plainPath(path),
            sortedUnique(reads.map(plainPath)),
          ]),
        ),
      ),
      limits: definedOnly(builds.limits),
    },
    index: {
      allowWeakIntegrity: sortedUnique(index.allowWeakIntegrity),
      private: sortedUnique(index.private),
      signatures: index.signatures,
      trustedRoot: index.trustedRoot ?? null,
    },
  }
  return { success: true, config }
}

/** The JSON schema of `polder.yaml`, published as `docs/schema/polder.schema.json` (JSON Schema 2020-12). */
export function configSchema(): object {
  return { ...z.toJSONSchema(SCHEMA, { io: 'input' }), title: 'polder.yaml' }
}

/** `packages/lib` of `./packages/lib/`. */
function plainPath(path: string): string {
  return path.replace(/^(?:\.\/)+(?=.)/, '').replace(/(?<=.)\/+$/, '')
}

function sortedUnique(values: readonly string[]): string[] {
  return [...new Set(values)].sort(compareText)
}

/** Without the keys that were left out, which the schema gives as undefined. */
function definedOnly<T extends object>(record: T): { [Key in keyof T]?: Exclude<T[Key], undefined> } {
  return Object.fromEntries(Object.entries(record).filter(([, value]) => value !== undefined)) as {
    [Key in keyof T]?: Exclude<T[Key], undefined>
  }
}
