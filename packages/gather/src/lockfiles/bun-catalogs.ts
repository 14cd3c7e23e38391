import type { Manifest } from '@polder/spec'
import { z } from 'zod'

import { readManifest } from '../manifests.ts'
import { declaredRequirements } from '../specifier.ts'
import type { BunDocument } from './bun-document.ts'
import { invalidLockfile, type LockfileInput, type Stale } from './reader.ts'

/** What `catalog:` or `catalog:NAME` means for a name; undefined for other specifiers and for what is in no catalog. */
export function catalogEntry(
  specifier: string,
  name: string,
  catalog: Readonly<Record<string, string>>,
  catalogs: Readonly<Record<string, Readonly<Record<string, string>>>>,
): string | undefined {
  if (!specifier.startsWith('catalog:')) return undefined
  const chosen = specifier.slice('catalog:'.length).trim()
  const entries = chosen === '' ? catalog : Object.hasOwn(catalogs, chosen) ? catalogs[chosen] : undefined
  return entries !== undefined && Object.hasOwn(entries, name) ? entries[name] : undefined
}

const texts = z.record(z.string(), z.string())
const CATALOGS = z.looseObject({ catalog: texts.default({}), catalogs: z.record(z.string(), texts).default({}) })

/** bun has its catalogs in the root's `workspaces`, or beside it, and copies them into the lockfile. */
export function staleCatalogs(
  service: string,
  manifest: Manifest,
  document: BunDocument,
  input: LockfileInput,
): Stale[] {
  const json = readManifest(input.manifests, input.directory)?.json ?? {}
  const inner = json['workspaces']
  const parsed = CATALOGS.safeParse(
    typeof inner === 'object' && inner !== null && ('catalog' in inner || 'catalogs' in inner) ? inner : json,
  )
  if (!parsed.success) throw invalidLockfile(`${input.path}'s package.json`, 'its catalogs are not as expected')
  const { catalog, catalogs } = parsed.data
  return declaredRequirements(manifest).flatMap(({ name, specifier }) => {
    const now = catalogEntry(specifier, name, catalog, catalogs) ?? null
    const then = catalogEntry(specifier, name, document.catalog, document.catalogs) ?? null
    if (now === then) return []
    return [
      {
        service,
        name,
        manifest: `${specifier} (${now ?? 'nothing'})`,
        lock: then === null ? null : `${specifier} (${then})`,
      },
    ]
  })
}
