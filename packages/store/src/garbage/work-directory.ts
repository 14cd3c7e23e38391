import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

import type { Store } from '../content-path.ts'
import { livenessOf, ownIdentity, type ProcessIdentity } from './process-identity.ts'
import { temporaryPath } from '../durable/publish.ts'
import { writeFailure } from '../durable/write-failure.ts'

const OWNER = 'owner.json'

/**
 * Gives `fn` a directory of its own in the store's `tmp/`, on the file system of the trees, and removes it afterwards.
 * What processes left that were killed meanwhile is removed first, at once and not only by a collection: a build may
 * leave gigabytes.
 * @param kind begins the name of the directory
 * @throws PolderError `DISK_FULL`, `STORE_UNWRITABLE`; what `fn` throws
 */
export async function withWorkDirectory<T>(
  store: Store,
  kind: string,
  fn: (directory: string) => Promise<T>,
): Promise<T> {
  removeAbandoned(store, kind)
  const directory = temporaryPath(store, kind)
  try {
    mkdirSync(directory, { mode: 0o700 })
    writeFileSync(join(directory, OWNER), JSON.stringify(ownIdentity()))
  } catch (error) {
    throw writeFailure(error, `making ${directory}`, store.home)
  }
  try {
    return await fn(directory)
  } finally {
    rmSync(directory, { recursive: true, force: true })
  }
}

function removeAbandoned(store: Store, kind: string): void {
  const all = join(store.home, 'tmp')
  for (const name of readdirSync(all)) {
    if (!name.startsWith(`${kind}-`)) continue
    try {
      const owner = JSON.parse(readFileSync(join(all, name, OWNER), 'utf8')) as Partial<ProcessIdentity>
      if (livenessOf(owner) === 'gone') rmSync(join(all, name), { recursive: true, force: true })
    } catch {
      // Being made or removed at this moment, or not ours to remove; a collection gets it when it is old.
    }
  }
}
