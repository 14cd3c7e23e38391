import type { BodyMemory, HeldBody } from './body-memory.ts'
import type { OverflowFile } from './overflow-file.ts'
import type { BodyFile, OpenPart, ReadBuffers } from './sent-file.ts'

/** Where the bodies of an index are, and what they are read into. */
export interface Bodies {
  readonly memory: BodyMemory
  readonly overflow: OverflowFile
  readonly buffers: ReadBuffers
}

/** What is sent: held in memory while there is room, else sent from its file. */
export class Body implements HeldBody {
  held = 0
  recent = false
  asked = 0
  readonly #bodies: Bodies
  #buffer: Buffer | undefined
  #file: BodyFile | undefined

  /** @param from where it is; or what was made and is nowhere yet, which the body keeps until it is settled */
  constructor(bodies: Bodies, from: Buffer | BodyFile) {
    this.#bodies = bodies
    if (Buffer.isBuffer(from)) this.#buffer = from
    else this.#file = from
  }

  /** To be used at once. */
  inMemory(): Buffer | undefined {
    if (this.#buffer !== undefined) this.recent = true
    return this.#buffer
  }

  /** The body for somebody who needs it, undefined if it is lost. Rejects as its file does. */
  async ready(): Promise<Buffer | OpenPart | undefined> {
    this.bring()
    return this.inMemory() ?? (await this.#file?.open())
  }

  /** Into memory, if there is room. */
  bring(): void {
    const { memory } = this.#bodies
    if (this.#buffer !== undefined || this.#file === undefined || !memory.takes(this, this.#file.size())) return
    this.#hold(this.#file.read())
  }

  /** Finds a place for what was made. False if there is none: it is to be used now, and will have to be made again. */
  settle(): boolean {
    const made = this.#buffer
    if (made === undefined || this.held > 0) return true
    if (this.#bodies.memory.takes(this, made.length)) {
      this.#hold(made)
      return true
    }
    this.#file = this.#bodies.overflow.keep(made)
    if (this.#file !== undefined) this.#buffer = undefined
    return this.#file !== undefined
  }

  drop(): void {
    if (this.#buffer !== undefined) this.#file ??= this.#bodies.overflow.keep(this.#buffer)
    this.#buffer = undefined
    this.held = 0
  }

  #hold(buffer: Buffer | undefined): void {
    if (buffer === undefined) return
    this.#buffer = buffer
    this.held = buffer.length
    this.#bodies.memory.admit(this)
  }
}
