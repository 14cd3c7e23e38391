import { PolderError } from '@polder/spec'
import stripJsonComments from 'strip-json-comments'
import { z } from 'zod'

import { invalidLockfile, type LockfileInput, refuseConflictMarkers } from './reader.ts'

/** The parts of `bun.lock` that polder reads (bun's `src/install/lockfile/bun.lock.rs`). */
export interface BunDocument {
  /** Directory (`''` for the root) → a copy of its manifest. */
  readonly workspaces: Readonly<Record<string, BunWorkspace>>
  readonly catalog: Texts
  readonly catalogs: Readonly<Record<string, Texts>>
  readonly patchedDependencies: Texts
  /** Path of install names (`a`, `a/b`, `workspace/@s/c`) → what is there. */
  readonly packages: ReadonlyMap<string, BunPackage>
}

export interface BunWorkspace {
  readonly name?: string | undefined
  readonly optionalPeers?: readonly string[] | undefined
  readonly [field: string]: unknown
}

export interface BunPackage {
  readonly name: string
  /** After the name: a version, or where it comes from. */
  readonly resolution: string
  readonly info: BunInfo
  readonly integrity: string | undefined
}

/** The dependency fields of the manifest, its conditions, and whether it came in a bundle. */
interface BunInfo {
  readonly optionalPeers?: readonly string[] | undefined
  readonly os?: string | readonly string[] | undefined
  readonly cpu?: string | readonly string[] | undefined
  readonly libc?: string | readonly string[] | undefined
  readonly bundled?: boolean | undefined
  readonly [field: string]: unknown
}

type Texts = Readonly<Record<string, string>>

const texts = z.record(z.string(), z.string())
const condition = z.union([z.string(), z.array(z.string())]).optional()
const INFO: z.ZodType<BunInfo> = z.looseObject({
  optionalPeers: z.array(z.string()).optional(),
  os: condition,
  cpu: condition,
  libc: condition,
  bundled: z.boolean().optional(),
})
const DOCUMENT = z.looseObject({
  workspaces: z.record(
    z.string(),
    z.looseObject({ name: z.string().optional(), optionalPeers: z.array(z.string()).optional() }),
  ),
  catalog: texts.default({}),
  catalogs: z.record(z.string(), texts).default({}),
  patchedDependencies: texts.default({}),
  packages: z.record(z.string(), z.tuple([z.string()], z.unknown())).default({}),
})

const MEND = 'bun install --lockfile-only'
// 2 is stricter about what it accepts and 3 may have overrides for some places only; both look like 1.
const VERSIONS = [0, 1, 2, 3]

export function readBunDocument(input: LockfileInput): BunDocument {
  const { path, text } = input
  if (path.endsWith('.lockb')) {
    throw new PolderError('LOCKFILE_VERSION', `${path} is a binary lockfile; polder reads bun.lock versions 0 to 3`, {
      path,
      hint: 'make a text lockfile of it: `bun install --save-text-lockfile --frozen-lockfile --lockfile-only`',
    })
  }
  refuseConflictMarkers(input, MEND)
  let json: unknown
  try {
    json = JSON.parse(stripJsonComments(text, { trailingCommas: true }))
  } catch (cause) {
    throw invalidLockfile(path, `it is not JSON: ${(cause as Error).message}`, cause)
  }
  const head = z.looseObject({ lockfileVersion: z.number() }).safeParse(json)
  if (!head.success) throw invalidLockfile(path, 'it has no lockfileVersion')
  const { lockfileVersion } = head.data
  if (!VERSIONS.includes(lockfileVersion)) {
    throw new PolderError('LOCKFILE_VERSION', `${path} has version ${lockfileVersion}; polder reads versions 0 to 3`, {
      path,
      found: String(lockfileVersion),
      wanted: '1',
      hint: `make it again with bun 1.4, \`${MEND}\`, or see whether a newer polder reads it`,
    })
  }
  const parsed = DOCUMENT.safeParse(json)
  if (!parsed.success) {
    const issue = parsed.error.issues[0]
    throw invalidLockfile(path, `${issue?.path.join(' → ') ?? ''}: ${issue?.message ?? 'is not as expected'}`)
  }
  const packages = new Map(
    Object.entries(parsed.data.packages).map(([key, [spec, ...rest]]) => [key, packageOf(key, spec, rest, path)]),
  )
  return { ...parsed.data, packages }
}

/**
 * `["a@1.0.0", "<registry or its tarball>", { … }, "sha512-…"]` for the registry's packages, without the second for
 * tarballs, with a tag instead of the hash for git, and only the first for workspaces.
 */
function packageOf(key: string, spec: string, rest: readonly unknown[], path: string): BunPackage {
  const at = spec.indexOf('@', 1)
  if (at < 0) throw invalidLockfile(path, `packages → ${key}: "${spec}" is no package`)
  const info = INFO.safeParse(rest.find((part) => typeof part === 'object' && part !== null) ?? {})
  if (!info.success) throw invalidLockfile(path, `packages → ${key}: ${info.error.issues[0]?.path.join(' → ') ?? ''}`)
  const integrity = rest.find((part) => typeof part === 'string' && /^(?:sha\d+|md5)-/.test(part))
  return {
    name: spec.slice(0, at),
    resolution: spec.slice(at + 1),
    info: info.data,
    integrity: typeof integrity === 'string' ? integrity : undefined,
  }
}
