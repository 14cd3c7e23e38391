import { createHash } from 'node:crypto'
import { dirname } from 'node:path/posix'

import { PolderError, splitPackageId } from '@polder/spec'
import { z } from 'zod'

import type { PackagePatch } from '../gathered.ts'
import { readManifest } from '../manifests.ts'
import { Patches } from './patches.ts'
import { type PnpmDocument, withoutSuffix } from './pnpm-document.ts'
import { isGenerated, readWorkspace } from './pnpm-stale.ts'
import { invalidLockfile, type LockfileInput } from './reader.ts'

/** What `patchedDependencies` do to the candidates of a lockfile. */
export interface PnpmPatches {
  /** By the key of a snapshot without its suffix: `react@18.3.1`. */
  readonly byKey: ReadonlyMap<string, PackagePatch>
  readonly inputs: readonly string[]
  readonly warnings: readonly string[]
}

const texts = z.record(z.string(), z.string()).nullish()
const SETTINGS = z.looseObject({ patchedDependencies: texts })
const LOCKED = z.union([
  z.string().transform((hash) => ({ hash, path: undefined })),
  z.looseObject({ hash: z.string(), path: z.string().optional() }),
])

/**
 * Which candidates are patched is said by the `(patch_hash=…)` behind the keys of their snapshots; which file that is,
 * by the key of `patchedDependencies` (`name`, `name@version` or `name@range`) that has the same hash: in the lockfile
 * up to pnpm 10, in the workspace's settings since. A file that is missing is known by its hash alone.
 * @throws PolderError `LOCKFILE_STALE` if a patch, or the list of them, is not what was locked; `LOCKFILE_INVALID`;
 * `PATCH_FAILED` if a file is missing and an old lockfile has no sha256 of it
 */
export function readPnpmPatches(document: PnpmDocument, input: LockfileInput): PnpmPatches {
  const patches = new Patches(input)
  const settings = patchSettings(input)
  const locked = new Map(Object.entries(document.patchedDependencies).map(([key, entry]) => [key, LOCKED.parse(entry)]))
  const findings: PolderError[] = []
  const byHash = new Map<string, { readonly key: string; readonly patch: PackagePatch }[]>()
  const warnings: string[] = []
  for (const [key, { hash, path }] of locked) {
    const link = settings?.get(key) ?? path
    if (link === undefined || (settings !== null && !settings.has(key))) {
      findings.push(stale(input, key, `${input.path} has a patch of ${key}, which no settings name`))
      continue
    }
    const isSha256 = /^[0-9a-f]{64}$/.test(hash)
    const [directory, file] = isGenerated(input)
      ? [dirname(input.directory), `pnpm-patches/${link.split('/').at(-1) ?? ''}`]
      : [input.directory, link]
    const patch = patches.read(directory, file, key, isSha256 ? hash : undefined)
    if (patch.bytes === null)
      warnings.push(
        `${patch.path}, the patch of ${key}, does not exist: ${input.path} has its hash, so it can be locked, but not installed`,
      )
    else if (isSha256 && pnpmHash(patch.bytes) !== hash)
      findings.push(stale(input, key, `${patch.path}, the patch of ${key}, is not the one that ${input.path} locked`))
    byHash.set(hash, [...(byHash.get(hash) ?? []), { key, patch }])
  }
  for (const key of settings?.keys() ?? []) {
    if (!locked.has(key))
      findings.push(stale(input, key, `the settings of pnpm patch ${key}, which ${input.path} does not`))
  }
  const [first, ...others] = findings
  if (first !== undefined)
    throw others.length === 0 ? first : new PolderError(first.code, first.message, { ...first.details, others })
  return { byKey: patchesByKey(document, byHash, input), inputs: patches.inputs, warnings }
}

function patchesByKey(
  document: PnpmDocument,
  byHash: ReadonlyMap<string, readonly { readonly key: string; readonly patch: PackagePatch }[]>,
  input: LockfileInput,
): ReadonlyMap<string, PackagePatch> {
  const found = new Map<string, PackagePatch>()
  for (const depPath of Object.keys(document.snapshots)) {
    const key = withoutSuffix(depPath)
    // It comes first, before the peers, which may be patched as well.
    const hash = /^\(patch_hash=([^()]+)\)/.exec(depPath.slice(key.length))?.[1]
    if (hash === undefined || found.has(key)) continue
    const { name } = splitPackageId(key)
    const patch = byHash.get(hash)?.find((entry) => entry.key === name || entry.key.startsWith(`${name}@`))?.patch
    if (patch === undefined)
      throw invalidLockfile(input.path, `the patch of ${key} is not among its patchedDependencies`)
    found.set(key, patch)
  }
  return found
}

/** Key → file, of the workspace's settings and, for older pnpm, its manifest; null where the settings are generated. */
function patchSettings(input: LockfileInput): ReadonlyMap<string, string> | null {
  if (isGenerated(input)) return null
  const manifest = readManifest(input.manifests, input.directory)?.json['pnpm']
  const own = SETTINGS.safeParse(readWorkspace(input)?.content ?? {})
  if (!own.success) throw invalidLockfile('pnpm-workspace.yaml', 'its patchedDependencies are not as expected')
  const older = SETTINGS.safeParse(manifest ?? {}).data?.patchedDependencies
  return new Map(Object.entries(own.data.patchedDependencies ?? older ?? {}))
}

/** pnpm hashes text: the same patch with other line ends is the same. */
function pnpmHash(bytes: Buffer): string {
  return createHash('sha256').update(bytes.toString('utf8').replaceAll('\r\n', '\n')).digest('hex')
}

function stale({ path, directory }: LockfileInput, key: string, what: string): PolderError {
  return new PolderError('LOCKFILE_STALE', what, {
    path,
    spec: key,
    hint: `run \`pnpm install --lockfile-only\` in ${directory === '.' ? 'the root of the repository' : directory}`,
  })
}
