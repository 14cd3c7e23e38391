import { chmodSync, lchownSync, lstatSync, opendirSync } from 'node:fs'
import { join } from 'node:path'

/**
 * Gives a directory to the user that builds it.
 * @param owner that user, if it is not ours
 * @throws Error if a file in it has another name as well: through it the build could write to what is elsewhere
 */
export function handOver(directory: string, owner: number | undefined): void {
  for (const path of walk(directory)) {
    const state = lstatSync(path)
    if (state.isFile() && state.nlink > 1) {
      throw new Error(`${path} is a hard link: what a build may write to must be a copy`)
    }
    if (owner !== undefined) lchownSync(path, owner, owner)
  }
}

/**
 * Takes the directory back after the build: it belongs to us again, we may look into all of it, and nothing in it runs
 * as another user. Call it when no process of the build is left.
 */
export function takeBack(directory: string, owner: number | undefined): void {
  const uid = process.geteuid?.() ?? 0
  const gid = process.getegid?.() ?? 0
  for (const path of walk(directory)) {
    if (owner !== undefined) lchownSync(path, uid, gid)
    const state = lstatSync(path)
    if (!state.isSymbolicLink() && (state.mode & 0o6000) !== 0) chmodSync(path, state.mode & 0o1777)
  }
}

/** The directory itself first, everything in it after; links are not followed. */
function* walk(directory: string): Generator<string> {
  yield directory
  // A build may have taken away its own right to look into a directory; it is ours.
  const { mode } = lstatSync(directory)
  if ((mode & 0o700) !== 0o700) chmodSync(directory, (mode & 0o7777) | 0o700)
  const entries = opendirSync(directory)
  try {
    for (let entry = entries.readSync(); entry !== null; entry = entries.readSync()) {
      const path = join(directory, entry.name)
      if (entry.isDirectory()) yield* walk(path)
      else yield path
    }
  } finally {
    entries.closeSync()
  }
}
