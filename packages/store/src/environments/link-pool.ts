import { isErrno } from '@polder/spec'
import { linkSync, mkdirSync, symlinkSync } from 'node:fs'
import { join } from 'node:path'

import type { Store } from '../content-path.ts'

/**
 * `links/`: symbolic links that checkouts have in common, one a text. A symbolic link is an inode of its own, and file
 * systems take three to ten times as long to make an inode as to give one that is there another name; so a
 * checkout's links are hard links to those in the pool. The text `../vite/bin/vite.js` is found as `..%vite%bin%vite.js`.
 *
 * Nothing refers to the pool: whatever is removed from it is made again, and what was linked stays.
 */
export interface LinkPool {
  readonly directory: string
  /** False once it turns out that it cannot be used from where the links go, so that it is tried once only. */
  usable: boolean
}

/** What can stand in a name, and is no absolute path: those lead into one environment, which is nothing to share. */
const POOLED = /^(?!\/)[A-Za-z0-9@._~+-]*\/[A-Za-z0-9@._~+/-]+$/

/** A name of which nothing has to be written in another way. */
const PLAIN = /^[A-Za-z0-9@._~+-]+$/

const LONGEST_NAME = 255

/** The pool, which need not be there. POSIX leaves it open what a hard link to a symbolic one is; Linux makes one. */
export function linkPool(store: Store): LinkPool {
  return { directory: join(store.home, 'links'), usable: process.platform === 'linux' }
}

/**
 * Makes a symbolic link, from the pool where that is possible.
 * @throws the system's error for `path`, as `symlinkSync` does
 */
export function makeSymbolicLink(pool: LinkPool, text: string, path: string): void {
  if (!pool.usable || text.length > LONGEST_NAME || !POOLED.test(text)) {
    symlinkSync(text, path)
    return
  }
  const pooled = pooledPath(pool, text)
  if (!linkFromPool(pool, pooled, path)) {
    if (pool.usable) addToPool(pool, text, pooled)
    if (!pool.usable || !linkFromPool(pool, pooled, path)) symlinkSync(text, path)
  }
}

/**
 * Makes `<directory>/<name>`, which says `<to>/<name>`, for each of the names. As {@link makeSymbolicLink}, without
 * taking each text apart: a checkout is hundreds of these.
 */
export function makeSymbolicLinks(pool: LinkPool, to: string, names: readonly string[], directory: string): void {
  const prefix = POOLED.test(`${to}/x`) ? pooledPath(pool, `${to}/`) : undefined
  for (const name of names) {
    const path = `${directory}/${name}`
    const isPooled = prefix !== undefined && pool.usable && to.length + 1 + name.length <= LONGEST_NAME
    if (!isPooled || !PLAIN.test(name) || !linkFromPool(pool, prefix + name, path))
      makeSymbolicLink(pool, `${to}/${name}`, path)
  }
}

function pooledPath(pool: LinkPool, text: string): string {
  return `${pool.directory}/${text.replaceAll('/', '%')}`
}

/** @returns false if it has to be made in another way */
function linkFromPool(pool: LinkPool, pooled: string, path: string): boolean {
  try {
    linkSync(pooled, path)
    return true
  } catch (error) {
    // Another file system, one without hard links, or the store of another user (fs.protected_hardlinks).
    if (isErrno(error, 'EXDEV', 'EPERM', 'EACCES', 'ENOTSUP', 'ENOSYS', 'ENOTDIR')) pool.usable = false
    // Not in the pool, or as often in use as the file system allows.
    else if (!isErrno(error, 'ENOENT', 'EMLINK')) throw error
    return false
  }
}

/** A store that cannot be written to still has what is there; what is not is made without it. */
function addToPool(pool: LinkPool, text: string, pooled: string): void {
  try {
    mkdirSync(pool.directory, { recursive: true })
    symlinkSync(text, pooled)
  } catch (error) {
    if (!isErrno(error, 'EEXIST')) pool.usable = false
  }
}
