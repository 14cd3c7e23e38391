import { createHash } from 'node:crypto'
import { type BigIntStats, closeSync, lstatSync, openSync, readdirSync, readlinkSync, readSync } from 'node:fs'
import { join } from 'node:path'

import { compareText, isErrno } from '@polder/spec'

/** A file of a checkout, or a link in it, by what tells whether it changed. */
export interface SeenFile {
  readonly mtimeMs: number
  readonly size: number
  /** sha256 of what is in it, hexadecimal, `x` behind it if it can be run; of a link, `→` and where it leads. */
  readonly hash: string
}

/** What is below some directories, by path relative to the checkout, sorted. */
export interface SeenFiles {
  readonly files: ReadonlyMap<string, SeenFile>
  readonly directories: ReadonlyMap<string, Pick<SeenFile, 'mtimeMs' | 'size'>>
}

/** What never belongs to a package's own files, wherever it is. */
const NEVER = ['node_modules', '.git', '.polder']

/** `a/b` below `a`; the same path below `.`. */
export function below(directory: string, name: string): string {
  return directory === '.' ? name : `${directory}/${name}`
}

/** True for the path itself and everything below it. */
export function isWithin(path: string, directory: string): boolean {
  return directory === '.' || path === directory || path.startsWith(`${directory}/`)
}

/** The directories above a path, the lowest first; none above `.`. */
export function directoriesAbove(path: string): readonly string[] {
  if (path === '.') return []
  const slash = path.lastIndexOf('/')
  const parent = slash < 0 ? '.' : path.slice(0, slash)
  return [parent, ...directoriesAbove(parent)]
}

/**
 * Every path below a directory, itself first, without what packages managers and version control keep there.
 * @param skip paths that are left out with all that is below them
 */
export function* walk(root: string, directory: string, skip: (path: string) => boolean): Generator<string> {
  yield directory
  for (const entry of readdirSync(join(root, directory), { withFileTypes: true }).sort((a, b) =>
    compareText(a.name, b.name),
  )) {
    const path = below(directory, entry.name)
    if (NEVER.includes(entry.name) || skip(path)) continue
    if (entry.isDirectory()) yield* walk(root, path, skip)
    else yield path
  }
}

/** Looks at files; what has the time and size that it had when it was last seen is not read again. */
export class FileReader {
  readonly #root: string
  readonly #known: ReadonlyMap<string, SeenFile>

  constructor(root: string, known: ReadonlyMap<string, SeenFile>) {
    this.#root = root
    this.#known = known
  }

  see(paths: Iterable<string>): SeenFiles {
    const files = new Map<string, SeenFile>()
    const directories = new Map<string, Pick<SeenFile, 'mtimeMs' | 'size'>>()
    for (const path of paths) {
      const state = lstatSync(join(this.#root, path), { throwIfNoEntry: false })
      if (state === undefined) continue
      const { mtimeMs, size, mode } = state
      if (state.isDirectory()) directories.set(path, { mtimeMs, size })
      else if (state.isSymbolicLink())
        files.set(path, { mtimeMs, size, hash: `→${readlinkSync(join(this.#root, path))}` })
      else if (state.isFile()) files.set(path, { mtimeMs, size, hash: this.#hash(path, mtimeMs, size, mode) })
    }
    return { files: sorted(files), directories: sorted(directories) }
  }

  #hash(path: string, mtimeMs: number, size: number, mode: number): string {
    const known = this.#known.get(path)
    if (known?.mtimeMs === mtimeMs && known.size === size) return known.hash
    return contentHash(join(this.#root, path), mode)
  }
}

/** As {@link SeenFile.hash} of a file. */
export function contentHash(path: string, mode: number): string {
  const digest = createHash('sha256')
  const buffer = Buffer.allocUnsafe(CHUNK)
  const file = openSync(path, 'r')
  try {
    for (let read = readSync(file, buffer); read > 0; read = readSync(file, buffer))
      digest.update(buffer.subarray(0, read))
  } finally {
    closeSync(file)
  }
  return `${digest.digest('hex')}${(mode & 0o100) === 0 ? '' : 'x'}`
}

// What a package has made may be larger than what can be read at once.
const CHUNK = 256 * 1024

/** What tells that a file was written, to the nanosecond; undefined if there is nothing. */
export function stampOf(path: string): string | undefined {
  let state: BigIntStats | undefined
  try {
    state = lstatSync(path, { bigint: true, throwIfNoEntry: false })
  } catch (error) {
    if (!isErrno(error, 'ENOTDIR')) throw error
  }
  return state === undefined ? undefined : `${state.ino} ${state.size} ${state.mtimeNs} ${state.mode & 0o170100n}`
}

function sorted<T>(map: ReadonlyMap<string, T>): Map<string, T> {
  return new Map([...map].sort(([a], [b]) => compareText(a, b)))
}
