import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

import { parse } from 'yaml'
import { z } from 'zod'

import { requireManifest } from '../manifests.ts'
import { directoryOf, inDirectory } from '../repository-path.ts'
import { declaredRequirements } from '../specifier.ts'
import type { PnpmDocument } from './pnpm-document.ts'
import { invalidLockfile, type LockfileInput, type Stale } from './reader.ts'

interface Findings {
  readonly stale: readonly Stale[]
  readonly warnings: readonly string[]
}

/** Catalog → name → specifier, as `pnpm-workspace.yaml` has them; null where there is no such file. */
export type Catalogs = ReadonlyMap<string, ReadonlyMap<string, string>> | null

/** `catalog` is the one named `default`. */
export function readCatalogs(input: LockfileInput): Catalogs {
  const workspace = readWorkspace(input)
  if (workspace === null) return null
  const { path } = workspace
  const parsed = WORKSPACE.safeParse(workspace.content)
  if (!parsed.success)
    throw invalidLockfile(
      path,
      `${parsed.error.issues[0]?.path.join('.') ?? ''}: ${parsed.error.issues[0]?.message ?? 'is not as expected'}`,
    )
  const { catalog, catalogs } = parsed.data
  const all = Object.entries(catalogs ?? {})
  if (catalog) all.push(['default', catalog])
  return new Map(
    all.map(([name, entries]) => [
      name,
      new Map(Object.entries(entries ?? {}).map(([key, value]) => [key, String(value)])),
    ]),
  )
}

const specifiers = z.record(z.string(), z.union([z.string(), z.number()])).nullish()
const WORKSPACE = z.looseObject({ catalog: specifiers, catalogs: z.record(z.string(), specifiers).nullish() })

/** The settings beside the lockfile; null where there are none. */
export function readWorkspace(input: LockfileInput): { readonly path: string; readonly content: unknown } | null {
  const [path] = workspaceFile(input)
  if (path === undefined) return null
  try {
    return { path, content: parse(readFileSync(join(input.root, path), 'utf8')) ?? {} }
  } catch (cause) {
    throw invalidLockfile(path, (cause as Error).message.split('\n')[0] ?? '', cause)
  }
}

/**
 * What an importer's manifest and its entry in the lockfile disagree about. pnpm records each specifier as it was
 * after overrides and hooks, so a difference that an override explains is none, and one beside a pnpmfile is only
 * worth a warning.
 */
export function findPnpmStale(
  document: PnpmDocument,
  importer: string,
  service: string,
  catalogs: Catalogs,
  input: LockfileInput,
): Findings {
  const { manifest } = requireManifest(input.manifests, service, `${input.path} has it as an importer`)
  const entry = document.importers[importer]
  const locked = new Map<string, string>()
  for (const block of [entry?.devDependencies, entry?.dependencies, entry?.optionalDependencies]) {
    for (const [name, { specifier }] of Object.entries(block ?? {})) locked.set(name, specifier)
  }
  const stale: Stale[] = []
  for (const { name, kind, specifier } of declaredRequirements(manifest)) {
    const lock = locked.get(name) ?? null
    locked.delete(name)
    if (lock === specifier.trim()) {
      stale.push(...staleCatalog(document, service, name, specifier, catalogs))
      continue
    }
    // Peers are only there with pnpm's autoInstallPeers, and only those that no other importer had to provide.
    if (lock === null && (kind === 'peer' || kind === 'optionalPeer')) continue
    if (lock === null && kind === 'optional' && ignoredOptional(document, name)) continue
    if (lock === null && specifier.startsWith('link:')) continue
    if (overridden(document, name, lock)) continue
    stale.push({ service, name, manifest: specifier, lock })
  }
  for (const [name, lock] of locked) stale.push({ service, name, manifest: null, lock })
  if (document.pnpmfileChecksum === undefined) return { stale, warnings: [] }
  return {
    stale: [],
    warnings: stale.map(
      ({ name }) =>
        `${input.path} differs from ${service} in "${name}"; its pnpmfile may have changed it, and polder does not run pnpmfiles`,
    ),
  }
}

/** Rush keeps its lockfile apart from the workspace, which it generates and nobody commits. */
export function isGenerated({ path, directory }: LockfileInput): boolean {
  return directoryOf(path) !== directory
}

/** The workspace file beside the lockfile, where it exists: catalogs and overrides come from it. */
export function workspaceFile(input: LockfileInput): string[] {
  if (isGenerated(input)) return []
  const path = inDirectory(input.directory, 'pnpm-workspace.yaml')
  return existsSync(join(input.root, path)) ? [path] : []
}

function ignoredOptional(document: PnpmDocument, name: string): boolean {
  return document.ignoredOptionalDependencies.some((pattern) => {
    const [before = '', ...rest] = pattern.split('*')
    if (rest.length === 0) return pattern === name
    const after = rest.at(-1) ?? ''
    return name.startsWith(before) && name.endsWith(after) && name.length >= before.length + after.length
  })
}

/** An override's key is `[parent[@range]>]name[@range]`; its value `-` removes the dependency. */
function overridden(document: PnpmDocument, name: string, lock: string | null): boolean {
  return Object.entries(document.overrides).some(([selector, value]) => {
    const child = selector.split(/(?<=[^ |@])>/).at(-1) ?? selector
    const at = child.indexOf('@', 1)
    return (at < 0 ? child : child.slice(0, at)) === name && (lock === null ? value === '-' : value === lock)
  })
}

function staleCatalog(
  document: PnpmDocument,
  service: string,
  name: string,
  specifier: string,
  catalogs: Catalogs,
): Stale[] {
  if (catalogs === null || !specifier.startsWith('catalog:')) return []
  const catalog = specifier.slice('catalog:'.length).trim() || 'default'
  const manifest = catalogs.get(catalog)?.get(name) ?? null
  const entries = Object.hasOwn(document.catalogs, catalog) ? document.catalogs[catalog] : undefined
  const lock = (entries !== undefined && Object.hasOwn(entries, name) ? entries[name]?.specifier : undefined) ?? null
  if (manifest === lock || overridden(document, name, lock)) return []
  return [
    {
      service,
      name,
      manifest: `${specifier} (${manifest ?? 'nothing'})`,
      lock: lock === null ? null : `${specifier} (${lock})`,
    },
  ]
}
