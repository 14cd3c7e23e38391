import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'

import { isErrno, type PackageId, patchedId, PolderError } from '@polder/spec'

import type { PackagePatch } from '../gathered.ts'
import { resolveInRepository } from '../repository-path.ts'
import type { LockfileInput, ReadPin } from './reader.ts'

/** A patch file as it is in the repository at this moment. */
interface PatchFile extends PackagePatch {
  /** Null if there is no such file. */
  readonly bytes: Buffer | null
}

/** The patches of one lockfile: which there are, and which of their files exist, each read once. */
export class Patches {
  readonly #input: LockfileInput
  readonly #files = new Map<string, PatchFile>()

  constructor(input: LockfileInput) {
    this.#input = input
  }

  /** The files that the result depends on. */
  get inputs(): string[] {
    return [...this.#files.values()].flatMap(({ path, bytes }) => (bytes === null ? [] : [path]))
  }

  /**
   * The patch file that `link` leads to from `directory`.
   * @param what it is for, such as `react@18.3.1`
   * @param lockedHash what the lockfile says that its hash is: without the file, that is what it has to be
   * @throws PolderError `PATCH_FAILED` if it is not there and nothing says what it was; `SOURCE_UNSUPPORTED`
   */
  read(directory: string, link: string, what: string, lockedHash?: string): PatchFile {
    const path = resolveInRepository(directory, link, `the patch of ${what} in ${this.#input.path}`)
    let file = this.#files.get(path)
    if (file === undefined) this.#files.set(path, (file = this.#readFile(path, what, lockedHash)))
    return file
  }

  #readFile(path: string, what: string, lockedHash: string | undefined): PatchFile {
    try {
      const bytes = readFileSync(join(this.#input.root, path))
      return { path, hash: createHash('sha256').update(bytes).digest('hex'), bytes }
    } catch (cause) {
      const gone = isErrno(cause, 'ENOENT', 'ENOTDIR')
      if (gone && lockedHash !== undefined) return { path, hash: lockedHash, bytes: null }
      const problem = gone ? 'does not exist' : `cannot be read: ${(cause as Error).message}`
      throw new PolderError('PATCH_FAILED', `the patch ${path} of ${what} ${problem}, but ${this.#input.path} has it`, {
        path,
        spec: what,
        cause,
        hint: 'restore the file, or install again with the client that owns the lockfile so that it forgets the patch',
      })
    }
  }
}

/** A pin's `id`, and the patch that made it. */
export function identityOf(id: PackageId, patch: PackagePatch | undefined): Pick<ReadPin, 'id' | 'patch'> {
  if (patch === undefined) return { id }
  return { id: patchedId(id, patch.hash), patch: { path: patch.path, hash: patch.hash } }
}
