/** `2 v` says that variable v is true, `2 v + 1` that it is false; `literal ^ 1` is the negation. */
export type Literal = number

/** A clause: where it begins in the arena. */
export type Clause = number

export const NO_CLAUSE = -1

/** A clause's words: the next clause that watches its first literal, the next for the second, its length, its literals. */
export const LITERALS = 3

/**
 * All clauses in one array of numbers, each in the lists of the two literals it is watched by, which are its first
 * two. Lists are links within the clauses, so that no clause is an object of its own.
 */
export class Clauses {
  arena: Int32Array = new Int32Array(4096)
  /** Per literal the first clause that it watches. */
  heads: Int32Array = new Int32Array(128).fill(NO_CLAUSE)
  #end = 0

  addLiterals(count: number): void {
    if (count <= this.heads.length) return
    const larger = new Int32Array(2 * this.heads.length).fill(NO_CLAUSE)
    larger.set(this.heads)
    this.heads = larger
  }

  /** A clause of one literal is only good as a reason: nothing watches it. */
  add(literals: readonly Literal[]): Clause {
    const clause = this.#end
    this.#end += LITERALS + literals.length
    if (this.#end > this.arena.length) {
      const larger = new Int32Array(Math.max(this.#end, 2 * this.arena.length))
      larger.set(this.arena)
      this.arena = larger
    }
    const { arena, heads } = this
    arena[clause + 2] = literals.length
    for (let i = 0; i < literals.length; i++) arena[clause + LITERALS + i] = literals[i] as Literal
    if (literals.length < 2) return clause
    for (let i = 0; i < 2; i++) {
      arena[clause + i] = heads[literals[i] as Literal] as Clause
      heads[literals[i] as Literal] = clause
    }
    return clause
  }

  end(clause: Clause): number {
    return clause + LITERALS + (this.arena[clause + 2] as number)
  }
}
