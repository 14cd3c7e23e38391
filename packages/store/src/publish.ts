import { isErrno } from '@polder/spec'
import { spawnSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { existsSync, renameSync } from 'node:fs'
import { dirname, join } from 'node:path'

import { syncDirectory } from './atomic-write.ts'
import type { Store } from './content-path.ts'

/** What has been renamed aside to be deleted: nobody can be using it any more, whatever its age. */
export const GARBAGE = 'garbage'

/** A new name in the store's `tmp/`, on the same file system as everything it may be renamed to. */
export function temporaryPath(store: Store, kind: string): string {
  return join(store.home, 'tmp', `${kind}-${process.pid}-${randomBytes(6).toString('hex')}`)
}

/** A finished directory in `tmp/` and the name it is to have. */
export interface Publication {
  readonly from: string
  readonly to: string
}

/**
 * Gives finished directories their names, durably: everything written so far reaches the disk before the first
 * rename. Where another process was first, its directory is as good as ours, and ours stays in `tmp/`.
 * @param lastFile the file in each of them that was written last; a directory without it is a ruin and is replaced
 */
export function publish(store: Store, publications: readonly Publication[], lastFile: string): void {
  const [first] = publications
  if (first === undefined) return
  syncFileSystem(store)
  for (const { from, to } of publications) place(store, from, to, lastFile)
  syncDirectory(dirname(first.to))
}

/**
 * coreutils' `sync -f` (syncfs(2)): one call for a batch costs a fraction of one fsync a file. Where there is no such
 * command the renames are still atomic for whoever is running; only a power cut could then leave a directory with
 * empty files, which `verify` finds.
 */
export function syncFileSystem(store: Store): void {
  spawnSync('sync', ['-f', join(store.home, 'tmp')], { stdio: 'ignore' })
}

function place(store: Store, from: string, to: string, lastFile: string): void {
  try {
    renameSync(from, to)
  } catch (error) {
    if (!isErrno(error, 'ENOTEMPTY', 'EEXIST')) throw error
    if (existsSync(join(to, lastFile))) return
    renameSync(to, temporaryPath(store, GARBAGE))
    place(store, from, to, lastFile)
  }
}
