import { allowsAbsent, complement, intersection, isSubset, sizeOf, type Bitmap } from './bitmap.ts'
import { relation, type Incompatibility, type Term } from './incompatibility.ts'

/** A step towards a solution: from here on the slot is in one of these states. */
export interface Assignment {
  readonly slot: number
  /** With everything that was assigned to the slot before. */
  readonly states: Bitmap
  /** Its place among all assignments. */
  readonly position: number
  /** How many decisions were made up to here. */
  readonly level: number
  /** What it was derived from; a decision has none. */
  readonly cause: Incompatibility | undefined
}

/**
 * What is believed of each slot so far, and why, in order:
 *
 *     level 0   foo ^1.0.0          web needs foo ^1.0.0
 *     level 1   foo 1.5.0           decided
 *               bar ^2.0.0          foo 1.5.0 needs bar ^2.0.0
 *
 * Every assignment leaves the slot fewer states than the one before it, and at least one.
 */
export class PartialSolution {
  level = 0
  /** Per slot every state. */
  readonly #any: readonly Bitmap[]
  readonly #states: Bitmap[]
  readonly #trail: Assignment[] = []
  /** Per slot its part of the trail. */
  readonly #histories: (Assignment[] | undefined)[]
  /** Every slot that is required and has a choice, each once, and some that were. */
  readonly #open: number[] = []
  readonly #isListed: Uint8Array
  /** Per slot how many states are left. */
  readonly #sizes: Int32Array

  constructor(any: readonly Bitmap[]) {
    this.#any = any
    this.#states = [...any]
    this.#histories = any.map(() => undefined)
    this.#isListed = new Uint8Array(any.length)
    this.#sizes = Int32Array.from(any, sizeOf)
  }

  statesOf(slot: number): Bitmap {
    return this.#states[slot] as Bitmap
  }

  relation(term: Term): 'true' | 'false' | 'open' {
    return relation(this.#states[term.slot] as Bitmap, term)
  }

  decide(slot: number, states: Bitmap): void {
    this.level++
    this.#assign(slot, states, undefined)
  }

  /** Makes an open term false: `cause` has no other term that is not true. */
  refute(term: Term, cause: Incompatibility): void {
    this.#assign(
      term.slot,
      intersection(this.statesOf(term.slot), complement(this.#anyOf(term.slot), term.states)),
      cause,
    )
  }

  /** The earliest assignment from which on the term is true; it is true, and was not from the start. */
  satisfier(term: Term): Assignment {
    const found = this.#histories[term.slot]?.find(({ states }) => isSubset(states, term.states))
    if (found === undefined) throw new Error('the term is not true')
    return found
  }

  /** Forgets all above this level. */
  backtrack(level: number): void {
    for (let last = this.#trail.at(-1); last !== undefined && last.level > level; last = this.#trail.at(-1)) {
      this.#trail.pop()
      const history = this.#histories[last.slot]
      history?.pop()
      this.#put(last.slot, history?.at(-1)?.states ?? this.#anyOf(last.slot))
    }
    this.level = level
  }

  /**
   * The slot to decide next: required, and still with a choice; of these the one with the fewest candidates left, and
   * of those the first. -1 if there is none, which makes this a solution: all that is not required is absent.
   */
  nextOpen(): number {
    let best = -1
    let fewest = Infinity
    for (let i = this.#open.length - 1; i >= 0; i--) {
      const slot = this.#open[i] as number
      const size = this.#sizes[slot] as number
      if (size < 2 || allowsAbsent(this.statesOf(slot))) {
        this.#isListed[slot] = 0
        const last = this.#open.pop() as number
        if (last !== slot) this.#open[i] = last
      } else if (size < fewest || (size === fewest && slot < best)) {
        best = slot
        fewest = size
      }
    }
    return best
  }

  #assign(slot: number, states: Bitmap, cause: Incompatibility | undefined): void {
    const assignment = { slot, states, position: this.#trail.length, level: this.level, cause }
    this.#trail.push(assignment)
    const history = this.#histories[slot]
    if (history === undefined) this.#histories[slot] = [assignment]
    else history.push(assignment)
    this.#put(slot, states)
  }

  #put(slot: number, states: Bitmap): void {
    this.#states[slot] = states
    const size = sizeOf(states)
    this.#sizes[slot] = size
    if (size < 2 || this.#isListed[slot] === 1 || allowsAbsent(states)) return
    this.#isListed[slot] = 1
    this.#open.push(slot)
  }

  #anyOf(slot: number): Bitmap {
    return this.#any[slot] as Bitmap
  }
}
