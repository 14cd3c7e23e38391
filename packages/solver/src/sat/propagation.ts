import { LITERALS, NO_CLAUSE, type Clause, type Clauses, type Literal } from './clauses.ts'
import type { Trail } from './trail.ts'

/** Draws the conclusions from what is assigned. */
export class Propagation {
  /** Clauses looked at. */
  steps = 0
  readonly #clauses: Clauses
  readonly #trail: Trail
  /** What stands before this place of the trail has had its consequences drawn, but for … */
  #done = 0
  /** … false literals whose clauses have to be looked at once more. */
  #again: Literal[] = []

  constructor(clauses: Clauses, trail: Trail) {
    this.#clauses = clauses
    this.#trail = trail
  }

  /**
   * Draws all conclusions; gives the clause that failed.
   * @param failed gets all that fail, and the conclusions from the others are drawn
   */
  run(failed?: Clause[]): Clause {
    const { order } = this.#trail
    for (;;) {
      const literal = this.#again.at(-1)
      if (literal !== undefined) {
        const conflict = this.#trail.value(literal) === -1 ? this.#visit(literal, failed) : NO_CLAUSE
        if (conflict !== NO_CLAUSE) return conflict
        this.#again.pop()
      } else if (this.#done < this.#trail.length) {
        const conflict = this.#visit((order[this.#done] as Literal) ^ 1, failed)
        if (conflict !== NO_CLAUSE) return conflict
        this.#done++
      } else return NO_CLAUSE
    }
  }

  /** To be called when the trail has become shorter. */
  shorten(): void {
    this.#done = Math.min(this.#done, this.#trail.length)
  }

  /**
   * Takes back literals of the last level that have no reason, and all that follows from them.
   * @returns what is open now
   */
  retract(literals: readonly Literal[]): readonly Literal[] {
    const { arena, heads } = this.#clauses
    const opened: Literal[] = []
    this.#done = this.#trail.retract(literals, arena, this.#done, (literal) => opened.push(literal))
    // A clause may have watched a false literal for no other reason than that its other one was true.
    for (const literal of opened) {
      for (let clause = heads[literal] as Clause; clause !== NO_CLAUSE;) {
        this.steps++
        const side = arena[clause + LITERALS] === literal ? 0 : 1
        const other = arena[clause + LITERALS + 1 - side] as Literal
        if (this.#trail.value(other) === -1) this.#again.push(other)
        clause = arena[clause + side] as Clause
      }
    }
    return opened
  }

  /** To be called for a clause that failed, if what is retracted then need not be what it watches. */
  revisit(clause: Clause): void {
    for (let i = 0; i < 2; i++) this.#again.push(this.#clauses.arena[clause + LITERALS + i] as Literal)
  }

  /** Looks at the clauses that watch a false literal. */
  #visit(falsified: Literal, failed: Clause[] | undefined): Clause {
    const { arena, heads } = this.#clauses
    const { values } = this.#trail
    let before = NO_CLAUSE
    let clause = heads[falsified] as Clause
    while (clause !== NO_CLAUSE) {
      this.steps++
      const first = clause + LITERALS
      let next = arena[clause + 1] as Clause
      if (arena[first] === falsified) {
        arena[clause + 1] = arena[clause] as Clause
        arena[clause] = next
        next = arena[clause + 1] as Clause
        arena[first] = arena[first + 1] as Literal
        arena[first + 1] = falsified
      }
      const other = arena[first] as Literal
      if (values[other] !== 1) {
        const end = first + (arena[clause + 2] as number)
        let at = first + 2
        while (at < end && values[arena[at] as Literal] === -1) at++
        if (at < end) {
          const replacement = arena[at] as Literal
          arena[first + 1] = replacement
          arena[at] = falsified
          arena[clause + 1] = heads[replacement] as Clause
          heads[replacement] = clause
          if (before === NO_CLAUSE) heads[falsified] = next
          else arena[before + 1] = next
          clause = next
          continue
        }
        if (values[other] === 0) this.#trail.assign(other, clause)
        else if (failed === undefined) return clause
        else failed.push(clause)
      }
      before = clause
      clause = next
    }
    return NO_CLAUSE
  }
}
