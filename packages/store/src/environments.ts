import { isErrno } from '@polder/spec'
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

import { syncDirectory } from './atomic-write.ts'
import { environmentPath, type Store } from './content-path.ts'
import { syncTemporary, temporaryPath } from './temporary.ts'
import { writeFailure } from './write-failure.ts'

/** In every environment: it is complete (the file is written last), and which trees its files are links to. */
export const ENVIRONMENT_MARKER = '.polder-environment.json'

/** What the marker of an environment holds besides its format; further keys are the caller's. */
export interface EnvironmentMarker {
  /** Ids of the trees it was made from; they are kept as long as it is. */
  readonly trees: readonly string[]
  readonly [key: string]: unknown
}

/** One `stat`. */
export function hasEnvironment(store: Store, id: string): boolean {
  return existsSync(join(environmentPath(store, id), ENVIRONMENT_MARKER))
}

/** @throws whatever reading it throws: ask {@link hasEnvironment} first */
export function readEnvironment(store: Store, id: string): EnvironmentMarker {
  return JSON.parse(readFileSync(join(environmentPath(store, id), ENVIRONMENT_MARKER), 'utf8')) as EnvironmentMarker
}

/**
 * Makes an environment: `build` fills a new directory, which then appears under its name complete or not at all.
 * If another process was first, theirs is used and ours is dropped. One that is there already is not built again.
 * @returns where it is
 * @throws PolderError `DISK_FULL`, `STORE_UNWRITABLE`; what `build` throws (system errors as one of these two)
 */
export async function publishEnvironment(
  store: Store,
  id: string,
  build: (directory: string) => void | Promise<void>,
  marker: EnvironmentMarker,
): Promise<string> {
  const path = environmentPath(store, id)
  if (hasEnvironment(store, id)) return path
  const directory = temporaryPath(store, 'environment')
  try {
    mkdirSync(directory)
    await build(directory)
    writeFileSync(join(directory, ENVIRONMENT_MARKER), JSON.stringify({ format: 1, ...marker }), { mode: 0o444 })
    syncTemporary(store)
    publish(directory, path)
    syncDirectory(join(store.home, 'envs'))
  } catch (error) {
    throw writeFailure(error, `making the environment ${id}`, store.home)
  } finally {
    rmSync(directory, { recursive: true, force: true })
  }
  return path
}

function publish(from: string, to: string): void {
  try {
    renameSync(from, to)
  } catch (error) {
    if (!isErrno(error, 'ENOTEMPTY', 'EEXIST')) throw error
  }
}
