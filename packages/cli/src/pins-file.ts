import { existsSync, mkdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'

import { digestInput, PINS_FILE, readAdditions, serializeAdditions } from '@polder/gather'
import { companions, filePath, redirections } from '@polder/index/files'
import { type Lock, parseLock, serializeLock } from '@polder/lock'
import { withCheckoutLock } from '@polder/realise'
import { type AddedFile, type AddedPackage, type PackageId, PolderError, splitPackageId } from '@polder/spec'
import { atomicWrite, type Store } from '@polder/store'

import { withAdditions } from './added-pins.ts'
import { nearestText } from './checkout.ts'
import { LOCK_FILE, readLockText } from './lock-file.ts'
import type { Output } from './output.ts'
import { keepServedLock } from './served-lock.ts'

/** What became of `polder.lock`. */
export type LockChange = 'updated' | 'unchanged' | 'none'

/** A minute: whoever else changes the pins needs a moment, and an installation may need some. */
const WAIT_MS = 60_000

/**
 * Changes the pins of a repository as the only one who does: read, changed and written in one turn, so that nothing of what
 * others change at the same time is lost.
 * @param change throws if something is wrong; nothing is written then
 * @throws PolderError `CHECKOUT_BUSY`, `CONFIG_INVALID`, `LOCK_INVALID`, and what `change` throws
 */
export async function changePins(
  root: string,
  store: Store,
  output: Output,
  change: (pins: PinsFile) => void,
): Promise<LockChange> {
  keepOutOfVersionControl(root)
  const onWait = (pid: number): void => output.note(`polder: waiting for another polder (process ${pid})`)
  return withCheckoutLock(root, { waitMs: WAIT_MS, onWait }, async () => {
    const pins = new PinsFile(root, output)
    change(pins)
    const written = pins.write()
    if (written.change === 'updated')
      await keepServedLock(store, written.text, written.lock, { before: written.before, fetched: false })
    return written.change
  })
}

function keepOutOfVersionControl(root: string): void {
  const own = join(root, '.polder')
  if (existsSync(own)) return
  mkdirSync(own)
  atomicWrite(join(own, '.gitignore'), '*\n')
}

/** `polder.pins.yaml` and `polder.lock` while something is being added or removed. */
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
        hint: `give it a version of its own; or \`polder index remove ${id}\` first, if these bytes are what is meant`,
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
        hint: `\`polder index remove ${url}\` first, if these bytes are what is meant`,
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
   * Takes a pin back.
   * @param what the id of a package, its name if it has one version here, or the URL of a file
   * @returns the id or the URL
   * @throws PolderError `USAGE`
   */
  remove(what: string): string {
    const records = [this.#packages, this.#files] as readonly Record<string, unknown>[]
    for (const record of records) {
      if (!Object.hasOwn(record, what)) continue
      delete record[what]
      return what
    }
    const ids = Object.keys(this.#packages) as PackageId[]
    const [only, ...more] = ids.filter((id) => splitPackageId(id).name === what)
    if (only !== undefined && more.length === 0) return this.remove(only)
    const nearest = nearestText(what, [...ids, ...Object.keys(this.#files)])
    throw new PolderError(
      'USAGE',
      only === undefined
        ? `${what} is not in ${PINS_FILE}`
        : `${what} is in ${PINS_FILE} at several versions: ${[only, ...more].join(', ')}`,
      {
        spec: what,
        path: PINS_FILE,
        hint:
          only !== undefined
            ? 'name one of them'
            : nearest === undefined
              ? '`polder index list` has what was added by hand; everything else goes with what needs it'
              : `did you mean ${nearest}?`,
      },
    )
  }

  /** Writes both, the lock only if it is there; no file is left of no pins. */
  write():
    | { readonly change: 'updated'; readonly before: string; readonly text: string; readonly lock: Lock }
    | { readonly change: 'unchanged' | 'none' } {
    const additions = { packages: this.#packages, files: this.#files }
    const path = join(this.root, PINS_FILE)
    const isEmpty = Object.keys({ ...this.#packages, ...this.#files }).length === 0
    if (isEmpty) rmSync(path, { force: true })
    else atomicWrite(path, serializeAdditions(additions))
    const before = readLockText(this.root)
    if (before === null) return { change: 'none' }
    const known = parseLock(before, LOCK_FILE)
    const { [PINS_FILE]: _, ...inputs } = known.inputs
    const digest = isEmpty ? {} : { [PINS_FILE]: digestInput(this.root, PINS_FILE) ?? '' }
    const lock = { ...withAdditions(known, additions), inputs: { ...inputs, ...digest } }
    const text = serializeLock(lock)
    if (text === before) return { change: 'unchanged' }
    atomicWrite(join(this.root, LOCK_FILE), text)
    return { change: 'updated', before, text, lock }
  }
}
