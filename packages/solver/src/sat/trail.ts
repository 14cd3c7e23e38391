import { LITERALS, NO_CLAUSE, type Clause, type Literal } from './clauses.ts'

/**
 * What is assigned, in order, and why. Level 0 holds whatever is assumed, level 1 while the assumptions stand, and each
 * decision opens a further level.
 */
export class Trail {
  /** Per literal: 1 true, -1 false, 0 open. */
  values: Int8Array = new Int8Array(128)
  /** Per variable, while it is assigned. */
  levels: Int32Array = new Int32Array(64)
  /** Per variable, while it is assigned: the clause it follows from. */
  reasons: Int32Array = new Int32Array(64)
  order: Int32Array = new Int32Array(64)
  /** Per variable, while it is assigned: where it stands in `order`. */
  places: Int32Array = new Int32Array(64)
  length = 0
  /** Per level but 0 where it begins in `order`. */
  readonly starts: number[] = []

  addVariable(variable: number): void {
    if (variable < this.levels.length) return
    const capacity = 2 * this.levels.length
    this.values = enlarged(this.values, new Int8Array(2 * capacity))
    this.levels = enlarged(this.levels, new Int32Array(capacity))
    this.reasons = enlarged(this.reasons, new Int32Array(capacity))
    this.order = enlarged(this.order, new Int32Array(capacity))
    this.places = enlarged(this.places, new Int32Array(capacity))
  }

  value(literal: Literal): number {
    return this.values[literal] as number
  }

  assign(literal: Literal, reason: Clause, level: number = this.starts.length): void {
    this.values[literal] = 1
    this.values[literal ^ 1] = -1
    this.levels[literal >> 1] = level
    this.reasons[literal >> 1] = reason
    this.places[literal >> 1] = this.length
    this.order[this.length++] = literal
  }

  /** @param onOpen gets each literal that is no longer true */
  backtrack(level: number, onOpen: (literal: Literal) => void): void {
    if (this.starts.length <= level) return
    const start = this.starts[level] as number
    for (let at = this.length - 1; at >= start; at--) {
      const literal = this.order[at] as Literal
      this.#open(literal)
      onOpen(literal)
    }
    this.length = start
    this.starts.length = level
  }

  /**
   * Takes back literals of the last level that have no reason, and all that follows from them. Everything else stays,
   * in its order.
   * @param mark a place in the order; the result is the place of the same literal afterwards
   */
  retract(literals: readonly Literal[], arena: Int32Array, mark: number, onOpen: (literal: Literal) => void): number {
    const { values, reasons, order, places } = this
    let kept = this.length
    for (const literal of literals) {
      kept = Math.min(kept, places[literal >> 1] as number)
      this.#open(literal)
    }
    let keptMark = Math.min(kept, mark)
    for (let at = kept; at < this.length; at++) {
      if (at === mark) keptMark = kept
      const literal = order[at] as Literal
      const reason = reasons[literal >> 1] as Clause
      let goes = values[literal] === 0
      if (!goes && reason !== NO_CLAUSE) {
        const end = reason + LITERALS + (arena[reason + 2] as number)
        for (let i = reason + LITERALS; i < end && !goes; i++) goes = values[arena[i] as Literal] === 0
      }
      if (goes) {
        this.#open(literal)
        onOpen(literal)
      } else {
        places[literal >> 1] = kept
        order[kept++] = literal
      }
    }
    if (mark >= this.length) keptMark = kept
    this.length = kept
    return keptMark
  }

  #open(literal: Literal): void {
    this.values[literal] = 0
    this.values[literal ^ 1] = 0
  }
}

export function enlarged<T extends Int8Array | Uint8Array | Int32Array>(from: T, to: T): T {
  to.set(from)
  return to
}
