import { createHash } from 'node:crypto'
import { mkdirSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

import type { LockedKey } from '@polder/lock'
import { isErrno, type PackageId, sortKeys } from '@polder/spec'
import { atomicWrite, type Store, writeFailure } from '@polder/store'

import { redactUrl } from '../upstream/npm-config.ts'
import { readRelease } from './releases.ts'

/** By key id. */
export type SigningKeys = Readonly<Record<string, LockedKey>>

// signing-keys/<sha256 of the registry's URL>.json: { "format": 1, "registry", "keys" }: what was trusted when it first
// came, for the time until a lock pins it; no keys if the registry had none. Durable: forgetting it would mean to trust
// whatever comes next.

/** The keys of a registry that were trusted before; undefined if it was never asked. */
export function rememberedKeys(store: Store, registry: string): SigningKeys | undefined {
  return readKeys(join(store.home, 'signing-keys', fileOf(registry)))
}

/** True if some registry has keys that were trusted before. */
export function remembersKeys(store: Store): boolean {
  return allRemembered(store).size > 0
}

/** The remembered keys of the registries that said something of these pins, for a lock that pins none yet. */
export function recalledKeys(store: Store, ids: Iterable<PackageId>): SigningKeys {
  const remembered = allRemembered(store)
  if (remembered.size === 0) return {}
  const files = new Set<string>()
  for (const id of ids) {
    const release = readRelease(store, id)
    if (release !== undefined) files.add(fileOf(release.registry))
  }
  return sortKeys(Object.assign({}, ...[...files].map((file) => remembered.get(file) ?? {})) as SigningKeys)
}

/** @throws PolderError `DISK_FULL`, `STORE_UNWRITABLE` */
export function rememberKeys(store: Store, registry: string, keys: SigningKeys): void {
  const directory = join(store.home, 'signing-keys')
  try {
    mkdirSync(directory, { recursive: true })
  } catch (error) {
    throw writeFailure(error, 'remembering signing keys', directory)
  }
  const record = { format: 1, registry: redactUrl(registry), keys: sortKeys(keys) }
  atomicWrite(join(directory, fileOf(registry)), `${JSON.stringify(record)}\n`)
}

/** Our own file; one that is damaged is none. */
function readKeys(path: string): SigningKeys | undefined {
  try {
    const record = JSON.parse(readFileSync(path, 'utf8')) as { format?: unknown; keys?: unknown } | null
    if (record?.format !== 1 || typeof record.keys !== 'object' || record.keys === null) return undefined
    return sortKeys(record.keys as SigningKeys)
  } catch (error) {
    if (error instanceof SyntaxError || isErrno(error, 'ENOENT', 'ENOTDIR')) return undefined
    throw error
  }
}

/** By file; those that have none are left out. */
function allRemembered(store: Store): ReadonlyMap<string, SigningKeys> {
  const remembered = new Map<string, SigningKeys>()
  for (const file of listKeys(store)) {
    const keys = readKeys(join(store.home, 'signing-keys', file)) ?? {}
    if (Object.keys(keys).length > 0) remembered.set(file, keys)
  }
  return remembered
}

function listKeys(store: Store): readonly string[] {
  try {
    return readdirSync(join(store.home, 'signing-keys')).filter((name) => name.endsWith('.json'))
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENOTDIR')) return []
    throw error
  }
}

function fileOf(registry: string): string {
  return `${createHash('sha256').update(redactUrl(registry)).digest('hex')}.json`
}
