import { dirname, join } from 'node:path'

import { PolderError } from '@polder/spec'
import { z } from 'zod'

import { invalidLockfile, type LockfileInput, refuseConflictMarkers } from './reader.ts'

/** The parts of `pnpm-lock.yaml` version 9 that polder reads (pnpm's `@pnpm/lockfile.types`). */
export interface PnpmDocument {
  readonly catalogs: Readonly<Record<string, Readonly<Record<string, { readonly specifier: string }>>>>
  readonly overrides: Texts
  readonly patchedDependencies: Readonly<Record<string, unknown>>
  readonly ignoredOptionalDependencies: readonly string[]
  readonly pnpmfileChecksum?: string | undefined
  readonly importers: Readonly<Record<string, PnpmImporter>>
  readonly packages: Readonly<Record<string, PnpmPackage>>
  readonly snapshots: Readonly<
    Record<string, { readonly dependencies?: Texts | undefined; readonly optionalDependencies?: Texts | undefined }>
  >
}

interface PnpmImporter {
  readonly dependencies?: PnpmDependencies | undefined
  readonly devDependencies?: PnpmDependencies | undefined
  readonly optionalDependencies?: PnpmDependencies | undefined
}

type PnpmDependencies = Readonly<Record<string, { readonly specifier: string; readonly version: string }>>

interface PnpmPackage {
  readonly resolution?: PnpmResolution | undefined
  readonly os?: readonly string[] | undefined
  readonly cpu?: readonly string[] | undefined
  readonly libc?: readonly string[] | undefined
  readonly deprecated?: string | undefined
  readonly peerDependenciesMeta?: Readonly<Record<string, { readonly optional?: boolean | undefined }>> | undefined
}

/** Everything that the types of resolution have, none of it certain. */
export interface PnpmResolution {
  readonly type?: string | undefined
  readonly integrity?: string | undefined
  readonly tarball?: string | undefined
  readonly directory?: string | undefined
  readonly repo?: string | undefined
  readonly commit?: string | undefined
  readonly path?: string | undefined
}

type Texts = Readonly<Record<string, string>>

const text = z.string().optional()
const texts = z.record(z.string(), z.string())
const conditions = z.array(z.string()).optional()
const dependencies = z.record(z.string(), z.looseObject({ specifier: z.string(), version: z.string() })).optional()

const DOCUMENT: z.ZodType<PnpmDocument> = z.looseObject({
  catalogs: z.record(z.string(), z.record(z.string(), z.looseObject({ specifier: z.string() }))).default({}),
  overrides: texts.default({}),
  patchedDependencies: z.record(z.string(), z.unknown()).default({}),
  ignoredOptionalDependencies: z.array(z.string()).default([]),
  pnpmfileChecksum: text,
  importers: z
    .record(
      z.string(),
      z.looseObject({ dependencies, devDependencies: dependencies, optionalDependencies: dependencies }),
    )
    .default({}),
  packages: z
    .record(
      z.string(),
      z.looseObject({
        resolution: z
          .looseObject({
            type: text,
            integrity: text,
            tarball: text,
            directory: text,
            repo: text,
            commit: text,
            path: text,
          })
          .optional(),
        os: conditions,
        cpu: conditions,
        libc: conditions,
        deprecated: text,
        peerDependenciesMeta: z.record(z.string(), z.looseObject({ optional: z.boolean().optional() })).optional(),
      }),
    )
    .default({}),
  snapshots: z
    .record(z.string(), z.looseObject({ dependencies: texts.optional(), optionalDependencies: texts.optional() }))
    .default({}),
})

const MEND = 'pnpm install'

/**
 * Reads with pnpm's own library, which leaves out the first of two YAML documents (pnpm's own environment). It
 * would also resolve merge conflicts by itself, and that choice is not ours to make: they are refused before.
 */
export async function readPnpmDocument(input: LockfileInput): Promise<PnpmDocument> {
  const { root, path } = input
  refuseConflictMarkers(input, MEND)
  const { extractMainDocument, readWantedLockfileFile } = await import('@pnpm/lockfile.fs')
  const main = extractMainDocument(input.text)
  const version = /^lockfileVersion: *['"]?([^\s'"]+)/m.exec(main)?.[1]
  if (version === undefined) throw invalidLockfile(path, 'it has no lockfileVersion')
  if (!/^9(?:\.\d+)?$/.test(version)) {
    throw new PolderError('LOCKFILE_VERSION', `${path} has version ${version}; polder reads version 9`, {
      path,
      found: version,
      wanted: '9.0',
      hint: `make it again with pnpm 9 or newer: \`${MEND} --lockfile-only\``,
    })
  }
  let document: unknown
  try {
    document = await readWantedLockfileFile(dirname(join(root, path)), { ignoreIncompatible: false })
  } catch (cause) {
    throw invalidLockfile(path, (cause as Error).message.replace(join(root, path), path), cause)
  }
  const parsed = DOCUMENT.safeParse(document)
  if (parsed.success) return parsed.data
  const issue = parsed.error.issues[0]
  throw invalidLockfile(path, `${issue?.path.join(' → ') ?? ''}: ${issue?.message ?? 'is not as expected'}`)
}

/**
 * Where a snapshot's key ends and its suffix of peers and patches begins: `a@1.0.0` of `a@1.0.0(b@2.0.0(c@3.0.0))`.
 * Read from the end, for a path may hold parentheses of its own (pnpm's `@pnpm/deps.path`).
 */
export function withoutSuffix(depPath: string): string {
  if (!depPath.endsWith(')')) return depPath
  let open = 0
  for (let index = depPath.length - 1; index >= 0; index -= 1) {
    if (depPath[index] === ')') open += 1
    else if (depPath[index] === '(') open -= 1
    else if (open === 0) return depPath.slice(0, index + 1)
  }
  return depPath
}

/** The snapshot that `name: reference` means: an alias's reference begins with the real name. Null for `link:`. */
export function depPathOf(name: string, reference: string): string | null {
  if (reference.startsWith('link:')) return null
  if (reference.startsWith('@')) return reference
  const at = reference.indexOf('@')
  const [colon, bracket] = [reference.indexOf(':'), reference.indexOf('(')]
  const isAlias = at >= 0 && (colon < 0 || at < colon) && (bracket < 0 || at < bracket)
  return isAlias ? reference : `${name}@${reference}`
}
