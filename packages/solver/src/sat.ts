import { ActivityQueue } from './activity-queue.ts'
import { Clauses, LITERALS, NO_CLAUSE, type Clause, type Literal } from './clauses.ts'
import { enlarged, Trail } from './trail.ts'

export type { Literal } from './clauses.ts'

export type Verdict = 'satisfiable' | 'unsatisfiable' | 'limit'

const RESTART_INTERVAL = 64

/**
 * A small satisfiability solver with assumptions (conflict-driven clause learning: Marques-Silva and Sakallah 1999,
 * watched literals and activities as in MiniSat, Eén and Sörensson 2003). Clauses only ever get added, and what was
 * learnt stays, so that a series of similar questions gets cheaper. Assumptions stand together on one level and are
 * taken back one by one: only what followed from them is undone, so that a core costs work near it and not everywhere.
 * It has no randomness: the same calls give the same answers.
 */
export class Sat {
  /** After `satisfiable`: per variable 1 or 0. */
  model: Uint8Array = new Uint8Array(0)
  /**
   * After `unsatisfiable`: sets of assumptions that cannot hold together, without a common one; none if the clauses
   * contradict each other.
   */
  cores: (readonly Literal[])[] = []
  /** Work done so far: clauses looked at. The same on every machine, so limits are set in it. */
  steps = 0
  variables = 0

  #consistent = true
  readonly #clauses: Clauses = new Clauses()
  readonly #trail: Trail = new Trail()
  /** What stands before this place of the trail has had its consequences drawn, but for … */
  #propagated = 0
  /** … false literals whose clauses have to be looked at once more. */
  #again: Literal[] = []
  /** Per literal 1 if it is assumed, whether it has been assigned or not. */
  #assumed: Uint8Array = new Uint8Array(128)
  /** Assumptions not assigned yet. */
  #waiting: Literal[] = []
  /** Learnt while something was assumed. */
  #units: Literal[] = []
  #phases: Uint8Array = new Uint8Array(64)
  #seen: Uint8Array = new Uint8Array(64)
  readonly #queue: ActivityQueue = new ActivityQueue()
  readonly #reopen = (literal: Literal): void => {
    this.#phases[literal >> 1] = (literal & 1) ^ 1
    this.#queue.add(literal >> 1)
  }

  /** @param phase the value to try first */
  newVariable(phase: 0 | 1 = 0): number {
    const variable = this.variables++
    this.#trail.addVariable(variable)
    this.#clauses.addLiterals(2 * this.variables)
    if (variable === this.#phases.length) {
      this.#phases = enlarged(this.#phases, new Uint8Array(2 * variable))
      this.#seen = enlarged(this.#seen, new Uint8Array(2 * variable))
      this.#assumed = enlarged(this.#assumed, new Uint8Array(4 * variable))
    }
    this.#phases[variable] = phase
    this.#queue.add(variable)
    return variable
  }

  /** What is known whatever is assumed: 1 true, -1 false, 0 open. */
  fixed(literal: Literal): number {
    return this.#trail.levels[literal >> 1] === 0 ? this.#trail.value(literal) : 0
  }

  addClause(literals: readonly Literal[]): void {
    this.#backtrack(1)
    if (!this.#consistent) return
    const open: Literal[] = []
    // Literals that are not false come first, so that they are watched.
    let free = 0
    for (const literal of literals) {
      const fixed = this.fixed(literal)
      if (fixed === 1) return
      if (fixed === -1 || open.includes(literal)) continue
      open.push(literal)
      if (this.#trail.value(literal) === -1) continue
      open[open.length - 1] = open[free] as Literal
      open[free++] = literal
    }
    if (free === 0) this.#backtrack(0)
    const first = open[0]
    if (first === undefined) this.#consistent = false
    else if (open.length === 1) this.#learnUnit(first)
    else {
      const clause = this.#clauses.add(open)
      if (free === 1 && this.#trail.value(first) === 0) this.#trail.assign(first, clause)
    }
  }

  /**
   * How much the first variables lean to being true, while a search has no answer: 2 for those that the assumptions
   * make true and -2 for those they make false; and 1 more for those that were true when last tried.
   */
  leanings(count: number): Int8Array {
    this.#backtrack(1)
    return Int8Array.from({ length: count }, (_, v) => 2 * this.#trail.value(2 * v) + (this.#phases[v] as number))
  }

  assume(literal: Literal): void {
    this.#assumed[literal] = 1
    this.#waiting.push(literal)
  }

  /** Takes assumptions back, and whatever followed from them. */
  retract(literals: readonly Literal[]): void {
    for (const literal of literals) this.#assumed[literal] = 0
    this.#waiting = this.#waiting.filter((literal) => this.#assumed[literal] === 1)
    this.#backtrack(1)
    if (this.#trail.starts.length === 0) return
    const { levels, reasons } = this.#trail
    const baseless = literals.filter(
      (literal) =>
        this.#trail.value(literal) === 1 && reasons[literal >> 1] === NO_CLAUSE && levels[literal >> 1] === 1,
    )
    if (baseless.length === 0) return
    const { arena, heads } = this.#clauses
    const opened: Literal[] = []
    this.#propagated = this.#trail.retract(baseless, arena, this.#propagated, (literal) => opened.push(literal))
    for (const literal of opened) {
      this.#reopen(literal)
      if (this.#assumed[literal] === 1) this.#waiting.push(literal)
    }
    // A clause may have watched a false literal for no other reason than that its other one was true.
    for (const literal of opened) {
      for (let clause = heads[literal] as Clause; clause !== NO_CLAUSE;) {
        const side = arena[clause + LITERALS] === literal ? 0 : 1
        const other = arena[clause + LITERALS + 1 - side] as Literal
        if (this.#trail.value(other) === -1) this.#again.push(other)
        clause = arena[clause + side] as Clause
      }
    }
  }

  /**
   * Whether the clauses can be satisfied while the assumptions stand. After `unsatisfiable` the `cores` have to be
   * retracted, in part at least, before another answer is possible.
   * @param limit of `steps` in all, not for this call
   */
  search(limit: number): Verdict {
    let restarts = 0
    let untilRestart = RESTART_INTERVAL
    for (;;) {
      if (!this.#stand()) return 'unsatisfiable'
      if (this.steps > limit) return 'limit'
      const variable = this.#nextOpen()
      if (variable < 0) {
        const { values } = this.#trail
        this.model = Uint8Array.from({ length: this.variables }, (_, v) => (values[2 * v] === 1 ? 1 : 0))
        return 'satisfiable'
      }
      this.#trail.starts.push(this.#trail.length)
      this.#trail.assign(2 * variable + (this.#phases[variable] === 1 ? 0 : 1), NO_CLAUSE)
      for (let conflict = this.#propagate(); conflict !== NO_CLAUSE; conflict = this.#propagate()) {
        if (this.#trail.starts.length === 1) break
        this.#learn(conflict)
        untilRestart--
      }
      if (untilRestart <= 0) {
        untilRestart = RESTART_INTERVAL * luby(++restarts)
        this.#backtrack(1)
      }
    }
  }

  /** As `search`, with these assumptions and no others. */
  solve(assumptions: readonly Literal[], limit: number): Verdict {
    this.#backtrack(0)
    this.#assumed.fill(0)
    this.#waiting = []
    for (const literal of assumptions) this.assume(literal)
    return this.search(limit)
  }

  /** Assigns all assumptions and what follows from them; false, and cores, if something is against that. */
  #stand(): boolean {
    this.cores = []
    if (this.#waiting.length > 0) this.#backtrack(1)
    if (this.#trail.starts.length > 1) return true
    while (this.#consistent) {
      const conflicts: Clause[] = []
      this.#propagate(conflicts)
      if (conflicts.length > 0) {
        this.#findCores(conflicts)
        return false
      }
      if (this.#trail.starts.length === 0) this.#trail.starts.push(this.#trail.length)
      if (this.#waiting.length === 0) return true
      const refuted = this.#waiting.findIndex((literal) => {
        if (this.#trail.value(literal) === 0) this.#trail.assign(literal, NO_CLAUSE)
        return this.#trail.value(literal) === -1
      })
      this.#waiting = refuted < 0 ? [] : this.#waiting.slice(refuted)
      const [literal] = this.#waiting
      if (literal === undefined) continue
      this.cores = [[literal, ...this.#assumptionsAgainst(literal)]]
      return false
    }
    return false
  }

  /** One for each conflict, but for those that share something with an earlier one. */
  #findCores(conflicts: readonly Clause[]): void {
    const variables: number[] = []
    for (const conflict of conflicts) {
      const core = this.#assumptionsBehind(conflict, variables)
      if (core?.length === 0) this.#consistent = false
      if (core !== undefined) this.cores.push(core)
      // What is retracted need not be what it watches.
      for (let i = 0; i < 2; i++) this.#again.push(this.#clauses.arena[conflict + LITERALS + i] as Literal)
    }
    for (const variable of variables) this.#seen[variable] = 0
    if (!this.#consistent) this.cores = []
  }

  /**
   * Draws all conclusions from the trail; gives the clause that failed.
   * @param failed gets all that fail, and the conclusions from the others are drawn
   */
  #propagate(failed?: Clause[]): Clause {
    const { order } = this.#trail
    for (;;) {
      const literal = this.#again.at(-1)
      if (literal !== undefined) {
        const conflict = this.#trail.value(literal) === -1 ? this.#visit(literal, failed) : NO_CLAUSE
        if (conflict !== NO_CLAUSE) return conflict
        this.#again.pop()
      } else if (this.#propagated < this.#trail.length) {
        const conflict = this.#visit((order[this.#propagated] as Literal) ^ 1, failed)
        if (conflict !== NO_CLAUSE) return conflict
        this.#propagated++
      } else return NO_CLAUSE
    }
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

  /** Learns the first unique implication point's clause, and goes back to where it says something new. */
  #learn(conflict: Clause): void {
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
        this.#queue.bump(variable)
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
    this.#queue.age()

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
    this.#backtrack(back)
    if (short.length === 1) this.#learnUnit(pivot ^ 1)
    else this.#trail.assign(pivot ^ 1, this.#clauses.add(short))
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

  #learnUnit(literal: Literal): void {
    if (this.#trail.value(literal) === -1) this.#backtrack(0)
    if (this.#trail.value(literal) === -1) this.#consistent = false
    else if (this.#trail.value(literal) === 0) this.#trail.assign(literal, NO_CLAUSE, 0)
    else {
      this.#trail.levels[literal >> 1] = 0
      this.#trail.reasons[literal >> 1] = NO_CLAUSE
    }
    if (this.#trail.starts.length > 0) this.#units.push(literal)
  }

  /** The assumptions that make an assumption false. */
  #assumptionsAgainst(literal: Literal): readonly Literal[] {
    const reason = this.#trail.reasons[literal >> 1] as Clause
    if (this.fixed(literal) !== 0) return []
    if (reason === NO_CLAUSE) return [literal ^ 1]
    const variables: number[] = []
    const core = this.#assumptionsBehind(reason, variables) ?? []
    for (const variable of variables) this.#seen[variable] = 0
    return core
  }

  /**
   * The assumptions from which the literals of a clause follow, or their negations.
   * @param variables gets those on the way; what was on the way of another clause before makes it give up
   */
  #assumptionsBehind(clause: Clause, variables: number[]): Literal[] | undefined {
    const seen = this.#seen
    const { arena } = this.#clauses
    const { levels, reasons, values } = this.#trail
    let core: Literal[] | undefined = []
    const first = variables.length
    let next = first
    for (let from = clause; core !== undefined; from = reasons[variables[next++] as number] as Clause) {
      if (from === NO_CLAUSE) {
        const variable = variables[next - 1] as number
        core.push(values[2 * variable] === 1 ? 2 * variable : 2 * variable + 1)
      } else {
        const end = this.#clauses.end(from)
        for (let i = from + LITERALS; i < end; i++) {
          const variable = (arena[i] as Literal) >> 1
          if (levels[variable] === 0 || seen[variable] === 1) continue
          if (seen[variable] === 2) core = undefined
          seen[variable] = 1
          variables.push(variable)
        }
      }
      if (next === variables.length) break
    }
    for (let i = first; i < variables.length; i++) seen[variables[i] as number] = 2
    this.steps += variables.length - first
    return core
  }

  #backtrack(level: number): void {
    if (this.#trail.starts.length <= level) return
    const opened: Literal[] = []
    this.#trail.backtrack(level, level > 0 ? this.#reopen : (literal) => opened.push(literal))
    this.#propagated = Math.min(this.#propagated, this.#trail.length)
    if (level > 0) return
    for (const literal of opened.reverse()) {
      this.#reopen(literal)
      if (this.#assumed[literal] === 1) this.#waiting.push(literal)
    }
    for (const unit of this.#units) {
      if (this.#trail.value(unit) === 0) this.#trail.assign(unit, NO_CLAUSE)
      else if (this.#trail.value(unit) === -1) this.#consistent = false
    }
    this.#units = []
  }

  #nextOpen(): number {
    for (;;) {
      const variable = this.#queue.take()
      if (variable < 0 || this.#trail.values[2 * variable] === 0) return variable
    }
  }
}

/** 1 1 2 1 1 2 4 …: short runs mostly, long ones now and then (Luby, Sinclair and Zuckerman 1993). */
function luby(index: number): number {
  for (let size = 1; ; size = 2 * size + 1) {
    if (index === size) return (size + 1) / 2
    if (index < 2 * size + 1) return luby(index - size)
  }
}
