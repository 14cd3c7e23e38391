import { LITERALS, NO_CLAUSE, type Clause, type Clauses, type Literal } from './clauses.ts'
import { enlarged, type Trail } from './trail.ts'

/** Why clauses failed: what follows from that, and which assumptions are to blame. */
export class Conflicts {
  readonly #clauses: Clauses
  readonly #trail: Trail
  readonly #bump: (variable: number) => void
  /** Per variable 1 if it has been met, 2 if that was on behalf of an earlier clause. */
  #seen: Uint8Array = new Uint8Array(64)

  /** @param bump gets each variable that takes part in a conflict */
  constructor(clauses: Clauses, trail: Trail, bump: (variable: number) => void) {
    this.#clauses = clauses
    this.#trail = trail
    this.#bump = bump
  }

  addVariable(variable: number): void {
    if (variable === this.#seen.length) this.#seen = enlarged(this.#seen, new Uint8Array(2 * variable))
  }

  /**
   * The clause of the first unique implication point: its first literal is true where it is learnt, its second one is
   * false at the level to go back to, which is 1 at least.
   */
  learn(conflict: Clause): { readonly literals: readonly Literal[]; readonly level: number } {
    const seen = this.#seen
    const { arena } = this.#clauses
    const { levels, reasons, order, starts } = this.#trail
    const level = starts.length
    const learnt: Literal[] = [0]
    let open = 0
    let at = this.#trail.length - 1
    let clause = conflict
    let pivot: Literal
    do {
      const end = this.#clauses.end(clause)
      for (let i = clause + LITERALS; i < end; i++) {
        const literal = arena[i] as Literal
        const variable = literal >> 1
        if (seen[variable] === 1 || levels[variable] === 0 || this.#trail.value(literal) === 1) continue
        seen[variable] = 1
        this.#bump(variable)
        if (levels[variable] === level) open++
        else learnt.push(literal)
      }
      while (seen[(order[at] as Literal) >> 1] !== 1) at--
      pivot = order[at--] as Literal
      clause = reasons[pivot >> 1] as Clause
      seen[pivot >> 1] = 0
      open--
    } while (open > 0)
    learnt[0] = pivot ^ 1

    const short = learnt.filter((literal, i) => i === 0 || !this.#isImplied(literal))
    for (const literal of learnt) seen[literal >> 1] = 0
    let back = 1
    for (let i = 1; i < short.length; i++) {
      const literal = short[i] as Literal
      const literalLevel = levels[literal >> 1] as number
      if (i > 1 && literalLevel <= back) continue
      back = literalLevel
      short[i] = short[1] as Literal
      short[1] = literal
    }
    return { literals: short, level: back }
  }

  /** True if the other literals of the learnt clause already say it. */
  #isImplied(literal: Literal): boolean {
    const reason = this.#trail.reasons[literal >> 1] as Clause
    if (reason === NO_CLAUSE) return false
    const end = this.#clauses.end(reason)
    for (let i = reason + LITERALS; i < end; i++) {
      const variable = (this.#clauses.arena[i] as Literal) >> 1
      if (variable !== literal >> 1 && this.#seen[variable] !== 1 && this.#trail.levels[variable] !== 0) return false
    }
    return true
  }

  /** For each clause that failed the assumptions from which that follows, but for those that share something with an earlier one. */
  cores(failed: readonly Clause[]): Literal[][] {
    const met: number[] = []
    const cores = failed.flatMap((clause) => {
      const core = this.#assumptionsBehind(clause, met)
      return core === undefined ? [] : [core]
    })
    for (const variable of met) this.#seen[variable] = 0
    return cores
  }

  /**
   * The assumptions from which the literals of a clause follow, or their negations.
   * @param met gets the met on the way; one that was on the way of another clause makes it give up
   */
  #assumptionsBehind(clause: Clause, met: number[]): Literal[] | undefined {
    const seen = this.#seen
    const { arena } = this.#clauses
    const { levels, reasons, values } = this.#trail
    let core: Literal[] | undefined = []
    const first = met.length
    let next = first
    for (let from = clause; core !== undefined; from = reasons[met[next++] as number] as Clause) {
      if (from === NO_CLAUSE) {
        const variable = met[next - 1] as number
        core.push(values[2 * variable] === 1 ? 2 * variable : 2 * variable + 1)
      } else {
        const end = this.#clauses.end(from)
        for (let i = from + LITERALS; i < end; i++) {
          const variable = (arena[i] as Literal) >> 1
          if (levels[variable] === 0 || seen[variable] === 1) continue
          if (seen[variable] === 2) core = undefined
          seen[variable] = 1
          met.push(variable)
        }
      }
      if (next === met.length) break
    }
    for (let i = first; i < met.length; i++) seen[met[i] as number] = 2
    return core
  }
}
