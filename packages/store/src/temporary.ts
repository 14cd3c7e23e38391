import { spawnSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { join } from 'node:path'

import type { Store } from './content-path.ts'

/** What has been renamed aside to be deleted: nobody can be using it any more, whatever its age. */
export const GARBAGE = 'garbage'

/** A new name in the store's `tmp/`, on the same file system as everything it may be renamed to. */
export function temporaryPath(store: Store, kind: string): string {
  return join(store.home, 'tmp', `${kind}-${process.pid}-${randomBytes(6).toString('hex')}`)
}

/**
 * Makes everything written to the store's file system durable at once, with coreutils' `sync -f` (syncfs(2)).
 * One call for a batch costs a fraction of one fsync a file. Where there is no such command the renames that follow
 * are still atomic for whoever is running; only a power cut could then leave a tree with empty files, which
 * `verify` finds.
 */
export function syncTemporary(store: Store): void {
  spawnSync('sync', ['-f', join(store.home, 'tmp')], { stdio: 'ignore' })
}
