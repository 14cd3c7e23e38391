import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

import { environmentPath, type Store } from '../content-path.ts'
import { placeAll, publish, syncFile, temporaryPath } from '../durable/publish.ts'
import { writeFailure } from '../durable/write-failure.ts'

/** In every environment: it is complete (the file is written last), and which trees its files are links to. */
export const ENVIRONMENT_MARKER = '.polder-environment.json'

/** What the marker of an environment holds besides its format; further keys are the caller's. */
export interface EnvironmentMarker {
  /** Ids of the trees it was made from; they are kept as long as it is. */
  readonly trees: readonly string[]
  readonly [key: string]: unknown
}

/**
 * One `stat`.
 * @throws PolderError `STORE_LAYOUT` for an id that is no plain file name
 */
export function hasEnvironment(store: Store, id: string): boolean {
  return existsSync(join(environmentPath(store, id), ENVIRONMENT_MARKER))
}

/** The trees of an environment that is there; none if its marker cannot be read, so that it keeps nothing. */
export function environmentTrees(store: Store, id: string): readonly string[] {
  try {
    const marker = JSON.parse(
      readFileSync(join(store.home, 'envs', id, ENVIRONMENT_MARKER), 'utf8'),
    ) as Partial<EnvironmentMarker> | null
    return Array.isArray(marker?.trees) ? marker.trees.map(String) : []
  } catch {
    return []
  }
}

/**
 * Makes an environment: `build` fills a new directory, which then appears under its name complete or not at all.
 * If another process was first, theirs is used and ours is dropped. One that is there already is not built again.
 * Hold a lease around it ({@link withLease}), until its root is recorded.
 *
 * Directories and links are nothing but names, which file systems with a journal make durable in the order in which they
 * were made: one fsync of the marker is enough then. Bytes are not, and take a `sync` of the whole file system.
 * @param build returns true if it wrote files of its own
 * @param marker becomes `.polder-environment.json`
 * @returns where the environment is
 * @throws PolderError `DISK_FULL`, `STORE_UNWRITABLE`; what `build` throws, with a system error as one of these two
 */
export async function publishEnvironment(
  store: Store,
  id: string,
  build: (directory: string) => boolean | void | Promise<boolean | void>,
  marker: EnvironmentMarker,
): Promise<string> {
  const path = environmentPath(store, id)
  if (hasEnvironment(store, id)) return path
  const directory = temporaryPath(store, 'environment')
  try {
    mkdirSync(directory)
    const hasFiles = (await build(directory)) === true
    const last = join(directory, ENVIRONMENT_MARKER)
    writeFileSync(last, JSON.stringify({ ...marker, format: 1 }), { mode: 0o444 })
    if (!hasFiles) syncFile(last)
    const put = hasFiles ? publish : placeAll
    put(store, [{ from: directory, to: path }], ENVIRONMENT_MARKER)
  } catch (error) {
    throw writeFailure(error, `making the environment ${id}`, store.home)
  } finally {
    rmSync(directory, { recursive: true, force: true })
  }
  return path
}
