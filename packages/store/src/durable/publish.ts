import { isErrno } from '@polder/spec'
import { spawn, spawnSync } from 'node:child_process'
import { closeSync, existsSync, fsyncSync, openSync, renameSync } from 'node:fs'
import { dirname, join } from 'node:path'

import { syncDirectory } from './atomic-write.ts'
import type { Store } from '../content-path.ts'
import { ownSuffix } from './own-suffix.ts'

/** What has been renamed aside to be deleted: nobody can be using it any more, whatever its age. */
export const GARBAGE = 'garbage'

/** A new name in the store's `tmp/`, on the same file system as everything it may be renamed to. */
export function temporaryPath(store: Store, kind: string): string {
  return join(store.home, 'tmp', `${kind}-${ownSuffix()}`)
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
  if (publications.length === 0) return
  syncFileSystem(store)
  placeAll(store, publications, lastFile)
}

/** As {@link publish}, of what is on the disk already. */
export function placeAll(store: Store, publications: readonly Publication[], lastFile: string): void {
  const [first] = publications
  if (first === undefined) return
  for (const publication of publications) place(store, publication, lastFile)
  syncDirectory(dirname(first.to))
}

/**
 * coreutils' `sync -f` (syncfs(2)): one call for a batch costs a fraction of one fsync a file. Where there is no such
 * command, trees and environments are renamed all the same, which is atomic for whoever is running; only a power cut
 * could then leave a directory with empty files, which `verify` finds.
 * @returns whether all that was written so far is on the disk
 */
export function syncFileSystem(store: Store): boolean {
  return isSynced(spawnSync('sync', ['-f', join(store.home, 'tmp')], { stdio: 'ignore' }).status)
}

/** As {@link syncFileSystem}, while this process goes on. */
export function syncFileSystemMeanwhile(store: Store): Promise<boolean> {
  return new Promise((resolve) => {
    const child = spawn('sync', ['-f', join(store.home, 'tmp')], { stdio: 'ignore' })
    child.on('error', () => resolve(false))
    child.on('exit', (status) => resolve(isSynced(status)))
  })
}

/** Other systems have a `sync` that ignores `-f`, or that does not wait for the disk. */
function isSynced(status: number | null): boolean {
  return status === 0 && process.platform === 'linux'
}

/** Makes one file durable, though not its name. */
export function syncFile(path: string): void {
  const file = openSync(path, 'r')
  try {
    fsyncSync(file)
  } finally {
    closeSync(file)
  }
}

/** One of {@link placeAll}, its name not durable yet. */
export function place(store: Store, { from, to }: Publication, lastFile: string): void {
  try {
    renameSync(from, to)
  } catch (error) {
    if (!isErrno(error, 'ENOTEMPTY', 'EEXIST')) throw error
    if (existsSync(join(to, lastFile))) return
    renameSync(to, temporaryPath(store, GARBAGE))
    place(store, { from, to }, lastFile)
  }
}
