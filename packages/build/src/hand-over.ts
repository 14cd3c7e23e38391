import { chmodSync, lchownSync, lstatSync, opendirSync, readlinkSync } from 'node:fs'
import { join, posix, relative, sep } from 'node:path'

/** Something in the directory of a build that nobody should follow, publish or link. */
export interface Finding {
  /** Relative to the directory. */
  readonly path: string
  readonly why: 'a link out of the directory' | 'a device, fifo or socket' | 'a hard link'
}

/**
 * Gives a directory to the user that builds it.
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
 * Takes the directory back after the build: it belongs to us again, nothing in it runs as another user, and what leads
 * out of it is listed. Call it when no process of the build is left.
 * @param target where the build saw the directory
 */
export function takeBack(directory: string, target: string, owned: boolean): readonly Finding[] {
  const findings: Finding[] = []
  const uid = process.geteuid?.() ?? 0
  const gid = process.getegid?.() ?? 0
  for (const path of walk(directory)) {
    const state = lstatSync(path)
    const name = relative(directory, path)
    if (owned) lchownSync(path, uid, gid)
    if (state.isSymbolicLink()) {
      if (leadsOut(name, readlinkSync(path), target)) findings.push({ path: name, why: 'a link out of the directory' })
      continue
    }
    if ((state.mode & 0o6000) !== 0) chmodSync(path, state.mode & 0o1777)
    if (state.isFile() && state.nlink > 1) findings.push({ path: name, why: 'a hard link' })
    else if (!state.isFile() && !state.isDirectory()) findings.push({ path: name, why: 'a device, fifo or socket' })
  }
  return findings.sort((one, other) => (one.path < other.path ? -1 : 1))
}

/** An absolute link is one out, even to the directory itself: it stands elsewhere afterwards. */
function leadsOut(name: string, to: string, target: string): boolean {
  if (posix.isAbsolute(to)) return true
  const end = posix.join('/', target, posix.dirname(name.split(sep).join('/')), to)
  return end !== target && !end.startsWith(`${target}/`)
}

/** The directory itself first, everything in it after; links are not followed. */
function* walk(directory: string): Generator<string> {
  yield directory
  // A build may have taken away its own right to look into a directory; it is ours.
  if ((lstatSync(directory).mode & 0o700) !== 0o700) chmodSync(directory, (lstatSync(directory).mode & 0o7777) | 0o700)
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
