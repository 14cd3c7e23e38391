/** Something whose body is held in memory as long as there is room. */
export interface HeldBody {
  /** In bytes. */
  readonly held: number
  /** Set by whoever uses it; the memory clears it when it looks for room. */
  recent: boolean
  /** How often it was asked for while the memory was full; the memory counts. */
  asked: number
  /** Forget the body. */
  drop(): void
}

/** What is larger costs hardly more when it is sent from its file. */
const LARGEST = 4 * 1024 * 1024

/** So often something is asked for until it may drive something else out. Bringing it costs several times an answer. */
const PATIENCE = 8

/**
 * The bodies in memory, at most `limit` bytes of them. To make room it drops those that were not used since it last
 * looked: CLOCK, which costs a use no more than setting `recent`. (The libraries for this move an entry on every use.)
 */
export class BodyMemory {
  readonly limit: number
  used = 0
  readonly #ring: HeldBody[] = []
  #hand = 0

  constructor(limit: number) {
    this.limit = limit
  }

  get count(): number {
    return this.#ring.length
  }

  /**
   * True if a body that is asked for is to be brought into memory, where there is room for it now. Others are driven out
   * only for what is asked for many times, and only those that nobody used meanwhile: whoever asks for everything leaves
   * the memory as it is.
   */
  takes(body: HeldBody, bytes: number): boolean {
    if (bytes > Math.min(this.limit / 8, LARGEST)) return false
    if (this.used + bytes <= this.limit) return true
    body.asked += 1
    return body.asked % PATIENCE === 0 && this.#makeRoom(bytes)
  }

  /** Takes in a body that is ready, which from then on is dropped when others need the room. */
  admit(body: HeldBody): void {
    this.used += body.held
    this.#ring.push(body)
  }

  /** False if the next one to go was used since it was last looked at; the time after, it is the turn of another one. */
  #makeRoom(bytes: number): boolean {
    while (this.used + bytes > this.limit) {
      if (this.#hand >= this.#ring.length) this.#hand = 0
      const oldest = this.#ring[this.#hand]
      if (oldest === undefined) return false
      if (oldest.recent) {
        oldest.recent = false
        this.#hand += 1
        return false
      }
      this.#remove(this.#hand)
    }
    return true
  }

  #remove(at: number): void {
    const body = this.#ring[at]
    const last = this.#ring.pop()
    if (body === undefined || last === undefined) return
    if (last !== body) this.#ring[at] = last
    this.used -= body.held
    body.drop()
  }
}
