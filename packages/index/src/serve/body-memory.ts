/** Something whose body is held in memory as long as there is room. */
export interface HeldBody {
  /** In bytes. */
  readonly held: number
  /** Set by whoever uses it; the memory clears it when it looks for room. */
  recent: boolean
  /** Forget the body. */
  drop(): void
}

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

  /** True if a body of this size would be taken in: one that took much of the room would only drive out the others. */
  takes(bytes: number): boolean {
    return bytes <= this.limit / 16
  }

  /** Takes in a body that is ready, which from then on is dropped when others need the room. */
  admit(body: HeldBody): void {
    while (this.used + body.held > this.limit) {
      const oldest = this.#ring[this.#hand]
      if (oldest === undefined) {
        if (this.#ring.length === 0) break
        this.#hand = 0
      } else if (oldest.recent) {
        oldest.recent = false
        this.#hand += 1
      } else this.#remove(this.#hand)
    }
    this.used += body.held
    this.#ring.push(body)
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
