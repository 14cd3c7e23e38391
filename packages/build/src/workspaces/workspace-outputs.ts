import {
  chmodSync,
  copyFileSync,
  linkSync,
  lstatSync,
  mkdirSync,
  readlinkSync,
  renameSync,
  rmSync,
  symlinkSync,
  type Stats,
} from 'node:fs'
import { dirname, join, posix } from 'node:path'

import { compareText, isErrno } from '@polder/spec'

import { below, contentHash, directoriesAbove, stampOf, walk } from './checkout-files.ts'
import { isForeign, type PreparedCheckout } from './workspace-inputs.ts'
import { replacedDirectory } from './workspace-record.ts'
import type { WorkspaceRoom } from './workspace-room.ts'

/** What became of the files of a package, by path relative to it. All sorted. */
export interface BroughtBack {
  readonly outputs: readonly string[]
  readonly replaced: readonly string[]
  readonly kept: readonly string[]
  /** Links out of the package, devices, sockets, and what would lie behind a link of the checkout. */
  readonly leftOut: readonly string[]
}

/** What the scripts wrote in their copy. */
function* writtenFiles(
  { packages }: PreparedCheckout,
  path: string,
  { directory, copied }: WorkspaceRoom,
): Generator<string> {
  const skip = isForeign(path, packages)
  for (const each of walk(directory.source, '.', (candidate) => skip(below(path, candidate)))) {
    if (lstatSync(join(directory.source, each)).isDirectory()) continue
    if (stampOf(join(directory.source, each)) !== copied.get(each)?.copy) yield each
  }
}

/**
 * Brings what the scripts wrote back into the checkout, a file at a time, each complete or not at all. What they had not
 * made themselves is kept aside when they first change it, what somebody changed meanwhile stays, and only what they made
 * is ever deleted.
 * @param earlier what they made before
 * @param scratch a directory on the checkout's file system
 */
export function bringBack(
  checkout: PreparedCheckout,
  path: string,
  room: WorkspaceRoom,
  earlier: ReadonlySet<string>,
  scratch: string,
): BroughtBack {
  const written = new Set(writtenFiles(checkout, path, room))
  const outputs = new Set<string>()
  const [replaced, kept, leftOut]: [string[], string[], string[]] = [[], [], []]
  const own = join(checkout.root, path)
  for (const name of written) {
    const from = join(room.directory.source, name)
    const state = lstatSync(from)
    if (!canBeKept(name, from, state) || !standsInRealDirectories(own, name)) {
      leftOut.push(name)
      continue
    }
    const to = join(own, name)
    const there = stampOf(to)
    if (isSame(from, state, to)) {
      outputs.add(name)
      continue
    }
    if (there !== room.copied.get(name)?.original || isDirectory(to)) {
      kept.push(name)
      continue
    }
    if (there !== undefined && !earlier.has(name)) {
      keepAside(to, join(replacedDirectory(checkout.root, path), name))
      replaced.push(name)
    }
    place(from, state, to, join(scratch, 'file'))
    outputs.add(name)
  }
  for (const name of earlier) {
    if (written.has(name)) continue
    const stillThere = stampOf(join(room.directory.source, name)) !== undefined
    const original = room.copied.get(name)?.original
    if (stillThere) outputs.add(name)
    else if (original !== undefined && stampOf(join(own, name)) === original && standsInRealDirectories(own, name))
      rmSync(join(own, name))
  }
  const sorted = (names: Iterable<string>): readonly string[] => [...names].sort(compareText)
  return { outputs: sorted(outputs), replaced: sorted(replaced), kept: sorted(kept), leftOut: sorted(leftOut) }
}

/** Files, and links that stay inside the package. */
function canBeKept(name: string, path: string, state: Stats): boolean {
  if (!state.isSymbolicLink()) return state.isFile()
  const to = readlinkSync(path)
  return !to.startsWith('/') && !posix.join(posix.dirname(name), to).startsWith('..')
}

/** Nothing is ever written, or deleted, behind a link. */
function standsInRealDirectories(own: string, name: string): boolean {
  return directoriesAbove(name).every((directory) => {
    const state = lstatSync(join(own, directory), { throwIfNoEntry: false })
    return state === undefined || state.isDirectory()
  })
}

function isDirectory(path: string): boolean {
  return lstatSync(path, { throwIfNoEntry: false })?.isDirectory() === true
}

function isSame(from: string, state: Stats, to: string): boolean {
  const there = lstatSync(to, { throwIfNoEntry: false })
  if (there === undefined) return false
  if (state.isSymbolicLink()) return there.isSymbolicLink() && readlinkSync(from) === readlinkSync(to)
  if (!there.isFile() || there.size !== state.size) return false
  return contentHash(from, state.mode) === contentHash(to, there.mode)
}

/** The first version only: what comes later was made by the scripts. */
function keepAside(path: string, aside: string): void {
  mkdirSync(dirname(aside), { recursive: true })
  try {
    linkSync(path, aside)
  } catch (error) {
    if (isErrno(error, 'EEXIST')) return
    if (!isErrno(error, 'EXDEV', 'EPERM', 'EMLINK')) throw error
    copyFileSync(path, aside)
  }
}

function place(from: string, state: Stats, to: string, temporary: string): void {
  rmSync(temporary, { force: true })
  if (state.isSymbolicLink()) symlinkSync(readlinkSync(from), temporary)
  else {
    copyFileSync(from, temporary)
    chmodSync(temporary, state.mode & 0o777)
  }
  mkdirSync(dirname(to), { recursive: true })
  renameSync(temporary, to)
}

/** A file that came out differently, relative to the package. */
export interface OutputDifference {
  readonly path: string
  readonly kind: 'differs' | 'missing' | 'added'
}

/** Compares what scripts wrote, in a copy without what they had made before, with what the checkout has. */
export function compareOutputs(
  checkout: PreparedCheckout,
  path: string,
  room: WorkspaceRoom,
  outputs: readonly string[],
): readonly OutputDifference[] {
  const own = join(checkout.root, path)
  const made = new Set(outputs)
  const missing = outputs.filter((name) => stampOf(join(room.directory.source, name)) === undefined)
  const written = [...writtenFiles(checkout, path, room)].flatMap((name): OutputDifference[] => {
    const from = join(room.directory.source, name)
    if (isSame(from, lstatSync(from), join(own, name))) return []
    return [{ path: name, kind: made.has(name) ? 'differs' : 'added' }]
  })
  return [...missing.map((name): OutputDifference => ({ path: name, kind: 'missing' })), ...written].sort((a, b) =>
    compareText(a.path, b.path),
  )
}
