import { closeSync, openSync, rmSync, writeSync } from 'node:fs'

import { type Store, temporaryPath } from '@polder/store'

import { type BodyFile, type OpenPart, readPart } from './sent-file.ts'

/**
 * What was made for this server alone, has no room in memory, and would take long to be made again. It is a file without a
 * name: nobody else can write to it, and it is gone with the process, however that ends.
 */
export class OverflowFile {
  readonly #store: Store
  #file: number | undefined
  #end = 0

  constructor(store: Store) {
    this.#store = store
  }

  /** Where the bytes are from now on; undefined if the disk does not take them. */
  keep(bytes: Buffer): BodyFile | undefined {
    try {
      this.#file ??= this.#open()
      const part = { file: this.#file, at: this.#end, size: bytes.length, heldOpenBy: this }
      for (let done = 0; done < bytes.length;)
        done += writeSync(part.file, bytes, done, bytes.length - done, part.at + done)
      this.#end += bytes.length
      return new OverflowPart(part)
    } catch {
      return undefined
    }
  }

  #open(): number {
    const path = temporaryPath(this.#store, 'bodies')
    const file = openSync(path, 'wx+', 0o600)
    closedWhenCollected.register(this, file)
    rmSync(path)
    return file
  }
}

/** An index that is no longer served has no end at which somebody could close its file: answers may be under way. */
const closedWhenCollected = new FinalizationRegistry<number>(closeSync)

class OverflowPart implements BodyFile {
  readonly #part: OpenPart

  constructor(part: OpenPart) {
    this.#part = part
  }

  size(): number {
    return this.#part.size
  }

  read(): Buffer | undefined {
    return readPart(this.#part)
  }

  async open(): Promise<OpenPart> {
    return this.#part
  }
}
