import { compareText, PolderError } from '@polder/spec'
import { applyPatch, parsePatch, type StructuredPatch } from 'diff'

import type { Archive, ArchivedFile } from './read-tar.ts'
import { ArchivePaths, packagePath } from './archive-paths.ts'

/** What is done to a package's files before they become its tree. */
export interface Patch {
  /** Where it is in the repository, for messages. */
  readonly path: string
  /** A unified diff in git's dialect, as `pnpm patch-commit`, `yarn patch-commit` and `bun patch --commit` write it. */
  readonly bytes: Buffer
}

/**
 * The package with a patch applied, whole or not at all. Lines are compared without the white space they end in, as
 * pnpm and yarn do, since `pnpm patch-commit` leaves carriage returns out of its context; a hunk may have moved. Apart
 * from that there is no fuzz. What is added is written as the patch has it, byte by byte.
 * @param label the package, for messages
 * @throws PolderError `PATCH_FAILED` with the file and hunk: not a diff, binary, does not apply, leaves the package
 */
export function applyPackagePatch(archive: Archive, patch: Patch, label: string): Archive {
  const patched = new Patching(archive, patch.path, label)
  for (const section of parse(patch, patched)) patched.apply(section)
  return patched.archive()
}

/** The files while the sections of a patch are applied to them one after another. */
class Patching {
  readonly #before: Archive
  readonly #files: Map<string, ArchivedFile>
  readonly #patch: string
  readonly #label: string

  constructor(before: Archive, patch: string, label: string) {
    this.#before = before
    this.#files = new Map(before.files)
    this.#patch = patch
    this.#label = label
  }

  apply(section: StructuredPatch): void {
    const [from, to] = [this.#path(section.oldFileName, 'a'), this.#path(section.newFileName, 'b')]
    const name = to ?? from
    if (name === undefined) throw this.fail('a part of it names no file')
    if (section.isBinary === true) throw this.fail('only text can be patched', name)
    if (section.isCreate === true || from === undefined) return this.#create(name, section)
    const file = this.#files.get(from)
    if (file === undefined) throw this.fail('the package has no such file', from)
    if (section.isDelete === true || to === undefined) return this.#delete(from, file, section)
    if (from !== to && this.#files.has(to)) throw this.fail('the package has such a file already', to)
    this.#files.set(to, {
      bytes: this.#patched(to, file.bytes, section),
      executable: this.#isExecutable(to, section.newMode) ?? file.executable,
    })
    if (from !== to && section.isCopy !== true) this.#files.delete(from)
  }

  /** Checks all paths together once more: patches can make names that no archive may have beside each other. */
  archive(): Archive {
    const paths = new ArchivePaths()
    for (const path of [...this.#before.directories, ...this.#parents()]) this.#accept(path, paths.addDirectory(path))
    for (const path of this.#files.keys()) this.#accept(path, paths.addLeaf(path))
    return { directories: paths.directories, files: this.#files, skipped: this.#before.skipped }
  }

  fail(what: string, file?: string, hunk?: string): PolderError {
    const where = [file, hunk].filter((part) => part !== undefined).join(', ')
    return new PolderError(
      'PATCH_FAILED',
      `the patch ${this.#patch} of ${this.#label} cannot be applied: ${where === '' ? '' : `${where}: `}${what}`,
      {
        path: this.#patch,
        spec: this.#label,
        hint: 'make the patch again for this version, with the client that made it, or remove it from its settings',
      },
    )
  }

  #create(path: string, section: StructuredPatch): void {
    if (this.#files.has(path)) throw this.fail('the package has such a file already', path)
    this.#files.set(path, {
      bytes: this.#patched(path, Buffer.alloc(0), section),
      executable: this.#isExecutable(path, section.newMode) ?? false,
    })
  }

  /** `git diff --irreversible-delete`, which pnpm uses, leaves out what was in the file. */
  #delete(path: string, { bytes }: ArchivedFile, section: StructuredPatch): void {
    if (section.hunks.length > 0 && this.#patched(path, bytes, section).length > 0)
      throw this.fail('it is to be deleted, but has more lines than the patch knows', path)
    this.#files.delete(path)
  }

  #patched(path: string, bytes: Buffer, section: StructuredPatch): Buffer {
    const { hunks } = section
    if (hunks.length === 0) return bytes
    const text = bytes.toString('latin1')
    const attempt = (count: number): string | false =>
      applyPatch(text, { ...section, hunks: hunks.slice(0, count) }, { autoConvertLineEndings: false, compareLine })
    const result = attempt(hunks.length)
    if (result !== false) return Buffer.from(result, 'latin1')
    const failing = hunks.findIndex((_, index) => attempt(index + 1) === false)
    const { oldStart, oldLines, newStart, newLines } = hunks[failing] ?? {
      oldStart: 0,
      oldLines: 0,
      newStart: 0,
      newLines: 0,
    }
    throw this.fail(
      'these lines are not in the package as the patch has them',
      path,
      `hunk ${failing + 1} of ${hunks.length} (@@ -${oldStart},${oldLines} +${newStart},${newLines} @@)`,
    )
  }

  #isExecutable(path: string, mode: string | undefined): boolean | undefined {
    if (mode === undefined) return undefined
    if (mode === '100755' || mode === '100644') return mode === '100755'
    throw this.fail(`it would become something else than a file (mode ${mode})`, path)
  }

  /** `a/lib/x.js` is lib/x.js; undefined for `/dev/null`. */
  #path(name: string | undefined, side: 'a' | 'b'): string | undefined {
    if (name === undefined || name === '/dev/null') return undefined
    const decoded = decodeName(name)
    if (!decoded.startsWith(`${side}/`)) throw this.fail(`it is no path below ${side}/`, JSON.stringify(decoded))
    const checked = packagePath(decoded)
    if ('refused' in checked) throw this.fail(`the path ${checked.refused}`, JSON.stringify(decoded))
    if (checked.path === '') throw this.fail('it is no file', JSON.stringify(decoded))
    return checked.path
  }

  #parents(): string[] {
    const parents = new Set<string>()
    for (const path of this.#files.keys()) {
      for (let end = path.lastIndexOf('/'); end > 0; end = path.lastIndexOf('/', end - 1))
        parents.add(path.slice(0, end))
    }
    return [...parents].sort(compareText)
  }

  #accept(path: string, refused: string | undefined): void {
    if (refused !== undefined) throw this.fail(`the path ${refused}`, path)
  }
}

/**
 * The sections of a patch. The library passes over what it does not know; here a line that looks like a change and is
 * part of no hunk is an error, since it would not be applied.
 */
function parse({ bytes }: Patch, patching: Patching): readonly StructuredPatch[] {
  const text = withoutCheckoutLineEnds(bytes.toString('latin1'))
  if (/^GIT binary patch$/m.test(text)) throw patching.fail('only text can be patched, and it has a binary part')
  let sections: StructuredPatch[]
  try {
    sections = parsePatch(text)
  } catch (cause) {
    throw patching.fail(`it is no unified diff (${(cause as Error).message})`)
  }
  const stray = strayLine(text)
  if (stray !== undefined) throw patching.fail(`its line ${stray} belongs to no hunk`)
  const changing = sections.filter(
    ({ oldFileName, newFileName, hunks }) => oldFileName !== undefined || newFileName !== undefined || hunks.length > 0,
  )
  if (changing.length === 0) throw patching.fail('it changes nothing')
  return changing
}

/** The number of the first line that would change something if it were inside a hunk. */
function strayLine(text: string): number | undefined {
  let [removed, added] = [0, 0]
  for (const [index, line] of text.split('\n').entries()) {
    if (removed > 0 || added > 0) {
      if (line.startsWith('\\')) continue
      if (!line.startsWith('+')) removed -= 1
      if (!line.startsWith('-')) added -= 1
      continue
    }
    const header = /^@@ -\d+(?:,(\d+))? \+\d+(?:,(\d+))? @@/.exec(line)
    if (header !== null) [removed, added] = [Number(header[1] ?? 1), Number(header[2] ?? 1)]
    // `-- ` introduces the signature of a mail that git made.
    else if (/^[-+@]/.test(line) && !/^(?:--- |\+\+\+ |-- ?$)/.test(line)) return index + 1
  }
  return undefined
}

/** A patch whose every line ends in a carriage return was checked out that way: they are not the patch's own. */
function withoutCheckoutLineEnds(text: string): string {
  return /(?:^|[^\r])\n/.test(text) ? text : text.replaceAll('\r\n', '\n')
}

function compareLine(_number: number, line: string | undefined, _operation: string, wanted: string): boolean {
  return line !== undefined && (line === wanted || line.trimEnd() === wanted.trimEnd())
}

/** Text is read as bytes; names are UTF-8, which the library has decoded where git had quoted them. */
function decodeName(name: string): string {
  if (/[^\0-\xff]/.test(name)) return name
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(Buffer.from(name, 'latin1'))
  } catch {
    return name
  }
}
