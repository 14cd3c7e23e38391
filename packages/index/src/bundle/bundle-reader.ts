import { createHash } from 'node:crypto'
import { type FileHandle, open } from 'node:fs/promises'

import { type Integrity, integrityFromHash, isErrno, PolderError } from '@polder/spec'

import {
  BLOCK,
  bundleBytes,
  bundleInvalid,
  type BundleList,
  describeHeader,
  END_BYTES,
  LIST_PATH,
  MAX_LIST_BYTES,
  type Member,
  memberHeader,
  paddingOf,
  parseList,
} from './bundle-format.ts'

/** Called with bytes of the bundle. */
export type BundleProgress = (progress: { readonly done: number; readonly total: number }) => void

const PIECE_BYTES = 1024 ** 2

/**
 * An open bundle, read once from its beginning to its end. Whatever is not as `exportBundle` writes it is refused with
 * `BUNDLE_INVALID`, down to the last bit: only the hashes of bodies are left to whoever takes them.
 */
export class Bundle {
  readonly path: string
  readonly list: BundleList
  readonly bytes: number
  readonly #file: FileHandle
  readonly #onProgress: BundleProgress | undefined
  #position: number
  #ahead: Buffer = Buffer.alloc(0)

  private constructor(path: string, file: FileHandle, list: BundleList, onProgress: BundleProgress | undefined) {
    this.path = path
    this.list = list
    this.bytes = bundleBytes(list)
    this.#file = file
    this.#position = 0
    this.#onProgress = onProgress
  }

  static async open(path: string, onProgress: BundleProgress | undefined): Promise<Bundle> {
    const file = await openFile(path)
    try {
      const text = await readList(file, path)
      const bundle = new Bundle(path, file, parseList(text, path), onProgress)
      const { size } = await file.stat()
      if (size < bundle.bytes)
        throw bundleInvalid(
          path,
          `it ends early, ${placeOf(bundle.list, text.length, size)}: ${size} of ${bundle.bytes} bytes are there`,
        )
      if (size > bundle.bytes) throw bundleInvalid(path, `${size - bundle.bytes} bytes stand behind its end`)
      bundle.#position = BLOCK + text.length
      await bundle.#padding(LIST_PATH, text.length)
      return bundle
    } catch (error) {
      await file.close()
      throw error
    }
  }

  async close(): Promise<void> {
    await this.#file.close()
  }

  /** Every bit of the header follows from the list: no other type, name, mode or link can be there. */
  async header({ path, bytes }: Member): Promise<void> {
    const found = await this.#take(BLOCK)
    if (found.equals(memberHeader(path, bytes))) return
    throw bundleInvalid(this.path, `${describeHeader(found)} stands where ${path} belongs`, { spec: path })
  }

  /** The body of a member that is parsed, verified. */
  async text(member: Member): Promise<Buffer> {
    const hash = createHash('sha512')
    const pieces: Buffer[] = []
    for await (const piece of this.body(member)) {
      hash.update(piece)
      pieces.push(piece)
    }
    const found: Integrity = integrityFromHash('sha512', hash)
    if (found === member.integrity) return Buffer.concat(pieces)
    throw bundleInvalid(this.path, `its member ${member.path} is not what its list says`, {
      spec: member.path,
      found,
      wanted: member.integrity,
    })
  }

  /** The body of a member and the zeros behind it; whoever takes it verifies it. */
  async *body({ path, bytes }: Member): AsyncGenerator<Buffer, void, undefined> {
    for (let left = bytes; left > 0;) {
      const piece = await this.#take(Math.min(left, PIECE_BYTES))
      left -= piece.length
      yield piece
    }
    await this.#padding(path, bytes)
  }

  async end(): Promise<void> {
    const found = await this.#take(END_BYTES)
    if (found.some((byte) => byte !== 0))
      throw bundleInvalid(this.path, `${describeHeader(found.subarray(0, BLOCK))} stands behind its last member`)
  }

  async #padding(path: string, bytes: number): Promise<void> {
    const padding = await this.#take(paddingOf(bytes))
    if (padding.some((byte) => byte !== 0)) throw bundleInvalid(this.path, `${path} is not filled up with zeros`)
  }

  /** Out of what was read ahead: most members are smaller than a read is worth. */
  async #take(bytes: number): Promise<Buffer> {
    if (this.#ahead.length < bytes) {
      const missing = Math.min(Math.max(bytes, PIECE_BYTES), this.bytes - this.#position) - this.#ahead.length
      const more = await readExactly(this.#file, this.#position + this.#ahead.length, missing, this.path)
      this.#ahead = this.#ahead.length === 0 ? more : Buffer.concat([this.#ahead, more])
    }
    const piece = this.#ahead.subarray(0, bytes)
    this.#ahead = this.#ahead.subarray(bytes)
    this.#position += bytes
    this.#onProgress?.({ done: this.#position, total: this.bytes })
    return piece
  }
}

/** Where in the archive a position is. */
function placeOf({ members }: BundleList, listBytes: number, position: number): string {
  let end = BLOCK + listBytes + paddingOf(listBytes)
  if (position < end) return `within ${LIST_PATH}`
  for (const { path, bytes } of members) {
    end += BLOCK + bytes + paddingOf(bytes)
    if (position < end) return `within ${path}`
  }
  return 'behind its last member'
}

const HINT = 'give the path of a bundle'

async function openFile(path: string): Promise<FileHandle> {
  try {
    return await open(path)
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENOTDIR')) {
      throw new PolderError('USAGE', `there is no bundle at ${path}`, { path, cause: error, hint: HINT })
    }
    if (!isErrno(error, 'EACCES')) throw error
    throw bundleInvalid(path, `it cannot be read: ${error.message}`, {
      cause: error,
      hint: HINT,
    })
  }
}

async function readList(file: FileHandle, path: string): Promise<Buffer> {
  const header = Buffer.alloc(BLOCK)
  const { bytesRead } = await reading(file.read(header, 0, BLOCK, 0), path)
  const bytes = Number.parseInt(header.toString('latin1', 124, 135), 8)
  if (bytesRead < BLOCK || !(bytes > 0) || !header.equals(memberHeader(LIST_PATH, Math.min(bytes, MAX_LIST_BYTES))))
    throw bundleInvalid(path, 'it is no bundle of polder', { hint: 'bundles are made by `polder index export`' })
  return readExactly(file, BLOCK, bytes, path)
}

async function readExactly(file: FileHandle, position: number, bytes: number, path: string): Promise<Buffer> {
  const piece = Buffer.allocUnsafe(bytes)
  for (let read = 0; read < bytes;) {
    const { bytesRead } = await reading(file.read(piece, read, bytes - read, position + read), path)
    if (bytesRead === 0) throw bundleInvalid(path, `it ends early, after ${position + read} bytes`)
    read += bytesRead
  }
  return piece
}

/** A directory can be opened but not read; a disk may fail anywhere. */
async function reading<T>(operation: Promise<T>, path: string): Promise<T> {
  try {
    return await operation
  } catch (error) {
    if (!isErrno(error, 'EISDIR', 'EIO')) throw error
    throw bundleInvalid(path, `it cannot be read: ${error.message}`, {
      cause: error,
      hint: HINT,
    })
  }
}
