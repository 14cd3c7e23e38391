import { join } from 'node:path'

import { digestInput, PINS_FILE, readAdditions, serializeAdditions } from '@polder/gather'
import { companions, filePath, redirections } from '@polder/index/files'
import { parseLock, serializeLock } from '@polder/lock'
import { type AddedFile, type AddedPackage, type PackageId, PolderError } from '@polder/spec'
import { atomicWrite } from '@polder/store'

import { withAdditions } from './added-pins.ts'
import { LOCK_FILE, readLockText } from './lock-file.ts'
import type { Output } from './output.ts'

/** `polder.pins.yaml` and `polder.lock` while something is being added. */
export class PinsFile {
  readonly root: string
  readonly #output: Output
  readonly #packages: Record<PackageId, AddedPackage>
  readonly #files: Record<string, AddedFile>
  /** By id, what the lock has from lockfiles. */
  readonly #locked: Readonly<Record<string, { readonly integrity: string }>>

  constructor(root: string, output: Output) {
    this.root = root
    this.#output = output
    const known = readAdditions(root)
    this.#packages = { ...known?.packages }
    this.#files = { ...known?.files }
    const text = readLockText(root)
    this.#locked = text === null ? {} : parseLock(text, LOCK_FILE).npm.packages
  }

  /** A version that was pinned means its bytes: only a workspace package, which is being worked on, may change. */
  addPackage(id: PackageId, entry: AddedPackage): void {
    const before = this.#packages[id]
    const changed = before !== undefined && before.integrity !== entry.integrity
    const locked = Object.hasOwn(this.#locked, id) ? this.#locked[id]?.integrity : undefined
    if ((changed && entry.workspace !== true) || (locked !== undefined && locked !== entry.integrity)) {
      const where = changed && entry.workspace !== true ? PINS_FILE : LOCK_FILE
      throw new PolderError('PIN_CONFLICT', `${id} is pinned to other bytes already, in ${where}`, {
        spec: id,
        path: where,
        found: entry.integrity,
        wanted: before?.integrity ?? locked ?? '',
        hint: `give it a version of its own; or remove ${id} from ${PINS_FILE} first, if these bytes are what is meant`,
      })
    }
    if (changed) this.#output.note(`warning: ${id} has other bytes than before: whoever locked it has to lock it again`)
    this.#packages[id] = entry
  }

  addFile(url: string, entry: AddedFile): void {
    const before = this.#files[url]
    if (before !== undefined && before.integrity !== entry.integrity) {
      throw new PolderError('PIN_CONFLICT', `${url} is pinned to other bytes already, in ${PINS_FILE}`, {
        spec: url,
        path: PINS_FILE,
        found: entry.integrity,
        wanted: before.integrity,
        hint: `remove it from ${PINS_FILE} first, if these bytes are what is meant`,
      })
    }
    const place = filePath(url)
    const other = Object.keys(this.#files).find((known) => known !== url && filePath(known) === place)
    if (other !== undefined) {
      throw new PolderError('PIN_CONFLICT', `${url} would be served at the same path as ${other}`, {
        spec: url,
        path: PINS_FILE,
      })
    }
    this.#files[url] = entry
    const missing = companions(url, entry.for).filter((companion) => !Object.hasOwn(this.#files, companion))
    if (missing.length > 0) this.#output.note(`polder: who asks for it will ask for ${missing.join(' and ')} too`)
    const expected = Object.entries(this.#files).some(([known, file]) => companions(known, file.for).includes(url))
    if (!expected && redirections(url, entry.for).length === 0)
      this.#output.note(
        `polder: it fits no tool that polder knows; --for says which one asks for it, or which variable leads there`,
      )
  }

  /**
   * Writes both, the lock only if it is there.
   * @returns what became of the lock
   */
  write(): 'updated' | 'unchanged' | 'none' {
    const additions = { packages: this.#packages, files: this.#files }
    const text = serializeAdditions(additions)
    atomicWrite(join(this.root, PINS_FILE), text)
    const before = readLockText(this.root)
    if (before === null) return 'none'
    const lock = parseLock(before, LOCK_FILE)
    const digest = digestInput(this.root, PINS_FILE) ?? ''
    const after = serializeLock({ ...withAdditions(lock, additions), inputs: { ...lock.inputs, [PINS_FILE]: digest } })
    if (after === before) return 'unchanged'
    atomicWrite(join(this.root, LOCK_FILE), after)
    return 'updated'
  }
}
