/**
 * What an archive may hold. Real packages stay far below: the largest on the public registry unpack to some 400 MB
 * in one file, the ones with most files have some 50,000, and text of one repeated line reaches a ratio near 1,000.
 */
export const LIMITS: Readonly<
  Record<'unpackedBytes' | 'ratio' | 'ratioFloor' | 'entries' | 'pathBytes' | 'nameBytes' | 'depth', number>
> = {
  unpackedBytes: 1024 * 1024 * 1024,
  /** Unpacked to packed bytes; below `ratioFloor` any ratio will do, since gzip itself ends at 1,032. */
  ratio: 200,
  ratioFloor: 64 * 1024 * 1024,
  entries: 200_000,
  /** UTF-8 bytes of a path inside the package, which leaves room in PATH_MAX (4,096) for where it is put. */
  pathBytes: 1024,
  /** UTF-8 bytes of one name, the NAME_MAX of every common file system. */
  nameBytes: 255,
  depth: 64,
}

/** Why an entry is refused, as the end of a sentence that starts with the entry. */
export type Refusal = string

/**
 * The paths of one archive as they are accepted, so that what comes later cannot change what came earlier.
 * Names that a file system might take for the same one (upper and lower case, composed and decomposed accents)
 * may not both appear, anywhere along a path: on such a file system the second would be written into the first.
 *
 *     package/lib/a.js + package/Lib/b.js   refused: one directory or two, depending on the disk
 *     package/a + package/a/b               refused: file and directory
 *
 * Names that only Windows reserves (`aux`, `con.txt`) are accepted: real packages have them.
 */
export class ArchivePaths {
  /** Folded path → the spelling that came first. */
  readonly #spellings = new Map<string, string>()
  readonly #directories = new Set<string>()
  readonly #leaves = new Set<string>()

  /** The directories that are needed, parents first. */
  get directories(): readonly string[] {
    return [...this.#directories]
  }

  addDirectory(path: string): Refusal | undefined {
    if (path === '' || this.#directories.has(path)) return undefined
    const refused = this.addDirectory(parent(path))
    if (refused !== undefined) return refused
    if (this.#leaves.has(path)) return `is a directory, but ${JSON.stringify(path)} is a file`
    const clash = this.#spell(path)
    if (clash !== undefined) return clash
    this.#directories.add(path)
    return undefined
  }

  /** For a file, and for a link that is skipped: neither may have anything below it. */
  addLeaf(path: string): Refusal | undefined {
    if (this.#directories.has(path)) return 'is a file, but also a directory'
    if (this.#leaves.has(path)) return 'is there twice, once as a link'
    const refused = this.addDirectory(parent(path)) ?? this.#spell(path)
    if (refused !== undefined) return refused
    this.#leaves.add(path)
    return undefined
  }

  #spell(path: string): Refusal | undefined {
    const folded = fold(path)
    const first = this.#spellings.get(folded)
    if (first === undefined) this.#spellings.set(folded, path)
    else if (first !== path)
      return `cannot be told from ${JSON.stringify(first)} on a file system that ignores case or composition`
    return undefined
  }
}

/**
 * The path inside the package, without the archive's own root directory, which is the first segment whatever its
 * name (`package`, `node`, `react-v1`; it may differ from entry to entry). `''` is that root itself.
 */
export function packagePath(entry: string): { readonly path: string } | { readonly refused: Refusal } {
  if (entry.startsWith('/')) return { refused: 'is an absolute path' }
  if (/^[A-Za-z]:/.test(entry)) return { refused: 'has a drive letter' }
  if (entry.includes('\\')) return { refused: 'has a backslash' }
  // oxlint-disable-next-line no-control-regex -- they are what is looked for
  if (/[\0-\x1f\x7f-\x9f]/.test(entry)) return { refused: 'has a control character' }
  const segments = entry.split('/')
  if (segments.includes('..')) return { refused: 'leads out of the package' }
  const names = segments.slice(1).filter((name) => name !== '' && name !== '.')
  if (/^[A-Za-z]:/.test(names[0] ?? '')) return { refused: 'has a drive letter' }
  if (names.length > LIMITS.depth) return { refused: `is more than ${LIMITS.depth} directories deep` }
  const path = names.join('/')
  if (Buffer.byteLength(path) > LIMITS.pathBytes) return { refused: `is longer than ${LIMITS.pathBytes} bytes` }
  if (names.some((name) => name.length * 3 > LIMITS.nameBytes && Buffer.byteLength(name) > LIMITS.nameBytes)) {
    return { refused: `has a name longer than ${LIMITS.nameBytes} bytes` }
  }
  return { path }
}

/** True if a link at `path` to `target` ends inside the package (`''` or below). */
export function staysInside(path: string, target: string): boolean {
  if (target.startsWith('/') || target.includes('\\') || /^[A-Za-z]:/.test(target)) return false
  let depth = path.split('/').length - 1
  for (const segment of target.split('/')) {
    if (segment === '..') depth -= 1
    else if (segment !== '' && segment !== '.') depth += 1
    if (depth < 0) return false
  }
  return true
}

function parent(path: string): string {
  return path.slice(0, Math.max(0, path.lastIndexOf('/')))
}

/** Equal for two names wherever some common file system takes them for one. */
function fold(path: string): string {
  return isAscii(path) ? path.toLowerCase() : path.normalize('NFKC').toUpperCase().toLowerCase().normalize('NFKC')
}

function isAscii(text: string): boolean {
  // oxlint-disable-next-line no-control-regex -- ASCII is a range of characters
  return /^[\0-\x7f]*$/.test(text)
}
