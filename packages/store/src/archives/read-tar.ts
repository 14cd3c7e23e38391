import type { PolderError } from '@polder/spec'

import { ArchivePaths, LIMITS, packagePath, staysInside } from './archive-paths.ts'
import type { TarEntry } from './any-tar.ts'
import { readPlainTar } from './plain-tar.ts'
import { refusal } from './refusal.ts'

/** A package's archive, checked whole: nothing of it is written before all of it is known to be harmless. */
export interface Archive {
  /** Inside the package, parents first. */
  readonly directories: readonly string[]
  /** By path. */
  readonly files: ReadonlyMap<string, ArchivedFile>
  /** Links that stay inside the package: not unpacked, as npm does, but not forgotten either. */
  readonly skipped: readonly string[]
}

export interface ArchivedFile {
  readonly bytes: Buffer
  readonly executable: boolean
}

/** @throws PolderError `ARCHIVE_REFUSED`, with the entry and the rule */
export async function readTar(tar: Buffer, label: string): Promise<Archive> {
  const reading = new Reading(label)
  const plain = readPlainTar(tar)
  if (plain !== undefined) for (const entry of plain) reading.add(entry)
  else (await import('./any-tar.ts')).readAnyTar(tar, label, (entry) => reading.add(entry))
  return { directories: reading.paths.directories, files: reading.files, skipped: reading.skipped }
}

/** node-tar's names of the types that are read; every other is refused. */
const FILES: ReadonlySet<string> = new Set(['File', 'OldFile', 'ContiguousFile'])
const LINKS: ReadonlySet<string> = new Set(['Link', 'SymbolicLink'])

class Reading {
  readonly label: string
  readonly paths = new ArchivePaths()
  readonly files = new Map<string, ArchivedFile>()
  readonly skipped: string[] = []
  #entries = 0

  constructor(label: string) {
    this.label = label
  }

  add(entry: TarEntry): void {
    this.#entries += 1
    if (this.#entries > LIMITS.entries) throw refusal(this.label, `it has more than ${LIMITS.entries} entries`)
    const checked = packagePath(entry.path)
    if ('refused' in checked) throw this.#refuse(entry, checked.refused)
    const { path } = checked
    if (FILES.has(entry.type)) return this.#addFile(entry, path)
    if (LINKS.has(entry.type)) return this.#skipLink(entry, path)
    if (entry.type !== 'Directory') throw this.#refuse(entry, `is a ${entry.type}, which no package needs`)
    this.#accept(entry, this.paths.addDirectory(path))
  }

  #addFile(entry: TarEntry, path: string): void {
    const mode = entry.mode ?? 0o644
    if ((mode & 0o6000) !== 0) throw this.#refuse(entry, `would run with its owner's rights (mode ${mode.toString(8)})`)
    // A file beside the root directory has no place in the package; every client leaves it out.
    if (path === '') {
      this.skipped.push(entry.path)
      return
    }
    const before = this.files.get(path)
    if (before === undefined) this.#accept(entry, this.paths.addLeaf(path))
    else if (!before.bytes.equals(entry.bytes)) throw this.#refuse(entry, 'is there twice, with different contents')
    this.files.set(path, { bytes: entry.bytes, executable: (mode & 0o100) !== 0 })
  }

  #skipLink(entry: TarEntry, path: string): void {
    const target = entry.linkpath ?? ''
    // A symbolic link counts from its own directory, a hard link from the root of the archive.
    const inside =
      entry.type === 'SymbolicLink' ? path !== '' && staysInside(path, target) : 'path' in packagePath(target)
    if (!inside) throw this.#refuse(entry, `is a link out of the package, to ${JSON.stringify(target)}`)
    this.#accept(entry, this.paths.addLeaf(path))
    this.skipped.push(path)
  }

  #accept(entry: TarEntry, refused: string | undefined): void {
    if (refused !== undefined) throw this.#refuse(entry, refused)
  }

  #refuse(entry: TarEntry, rule: string): PolderError {
    return refusal(this.label, `its entry ${JSON.stringify(entry.path)} ${rule}`)
  }
}
