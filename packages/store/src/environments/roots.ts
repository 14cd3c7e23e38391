import { integrityOf, hexDigest, isErrno } from '@polder/spec'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

import { atomicWrite } from '../durable/atomic-write.ts'
import type { Store } from '../content-path.ts'

/** A checkout that uses an environment. */
export interface Root {
  /** Absolute. */
  readonly checkout: string
  readonly environment: string
  /** When it was recorded, ISO 8601. */
  readonly at: string
}

/**
 * Remembers that a checkout uses an environment, which keeps it from being collected. A checkout has one root: the
 * next call replaces it.
 * @throws PolderError `DISK_FULL`, `STORE_UNWRITABLE`
 */
export function recordRoot(
  store: Store,
  {
    checkout,
    environment,
    now = new Date(),
  }: { readonly checkout: string; readonly environment: string; readonly now?: Date },
): void {
  const root: Root = { checkout, environment, at: now.toISOString() }
  atomicWrite(rootPath(store, checkout), `${JSON.stringify(root)}\n`)
}

/** Every recorded root, in the order of their file names. A file that is not one is left out. */
export function readRoots(store: Store): readonly Root[] {
  const roots: Root[] = []
  for (const name of readdirSync(join(store.home, 'roots')).sort()) {
    const root = name.endsWith('.json') ? readRoot(join(store.home, 'roots', name)) : undefined
    if (root !== undefined) roots.push(root)
  }
  return roots
}

export function rootPath(store: Store, checkout: string): string {
  return join(store.home, 'roots', `${hexDigest(integrityOf('sha256', Buffer.from(checkout))).slice(0, 40)}.json`)
}

function readRoot(path: string): Root | undefined {
  try {
    const root = JSON.parse(readFileSync(path, 'utf8')) as Partial<Root> | null
    if (typeof root?.checkout !== 'string' || typeof root.environment !== 'string') return undefined
    return { checkout: root.checkout, environment: root.environment, at: String(root.at) }
  } catch (error) {
    if (error instanceof SyntaxError || isErrno(error, 'ENOENT')) return undefined
    throw error
  }
}
