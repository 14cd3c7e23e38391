import { ActivityQueue } from './activity-queue.ts'
import { Clauses, NO_CLAUSE, type Clause, type Literal } from './clauses.ts'
import { Conflicts } from './conflicts.ts'
import { Propagation } from './propagation.ts'
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
  variables = 0

  #consistent = true
  readonly #clauses: Clauses = new Clauses()
  readonly #trail: Trail = new Trail()
  readonly #propagation: Propagation = new Propagation(this.#clauses, this.#trail)
  readonly #queue: ActivityQueue = new ActivityQueue()
  readonly #conflicts: Conflicts = new Conflicts(this.#clauses, this.#trail, (variable) => this.#queue.bump(variable))
  /** Per literal 1 if it is assumed, whether it has been assigned or not. */
  #assumed: Uint8Array = new Uint8Array(128)
  /** Assumptions not assigned yet. */
  #waiting: Literal[] = []
  /** Learnt while something was assumed. */
  #units: Literal[] = []
  #phases: Uint8Array = new Uint8Array(64)
  readonly #reopen = (literal: Literal): void => {
    this.#phases[literal >> 1] = (literal & 1) ^ 1
    this.#queue.add(literal >> 1)
  }

  /** Work done so far: clauses looked at. The same on every machine, so limits are set in it. */
  get steps(): number {
    return this.#propagation.steps
  }

  /** @param phase the value to try first */
  newVariable(phase: 0 | 1 = 0): number {
    const variable = this.variables++
    this.#trail.addVariable(variable)
    this.#clauses.addLiterals(2 * this.variables)
    this.#conflicts.addVariable(variable)
    if (variable === this.#phases.length) {
      this.#phases = enlarged(this.#phases, new Uint8Array(2 * variable))
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
    for (const literal of this.#propagation.retract(baseless)) {
      this.#reopen(literal)
      if (this.#assumed[literal] === 1) this.#waiting.push(literal)
    }
  }

  /**
   * Whether the clauses can be satisfied while the assumptions stand. After `unsatisfiable` the `cores` have to be
   * retracted, in part at least, before another answer is possible.
   * @param limit of `steps` in all, not for this call
   */
  search(limit: number): Verdict {
    const run = (): Clause => this.#propagation.run()
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
      for (let conflict = run(); conflict !== NO_CLAUSE; conflict = run()) {
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
      const failed: Clause[] = []
      this.#propagation.run(failed)
      if (failed.length > 0) {
        this.cores = this.#conflicts.cores(failed)
        this.#consistent = this.cores.every((core) => core.length > 0)
        if (!this.#consistent) this.cores = []
        for (const clause of failed) this.#propagation.revisit(clause)
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

  #learn(conflict: Clause): void {
    const { literals, level } = this.#conflicts.learn(conflict)
    this.#queue.age()
    this.#backtrack(level)
    const first = literals[0] as Literal
    if (literals.length === 1) this.#learnUnit(first)
    else this.#trail.assign(first, this.#clauses.add(literals))
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
    return this.#conflicts.cores([reason])[0] ?? []
  }

  #backtrack(level: number): void {
    if (this.#trail.starts.length <= level) return
    const opened: Literal[] = []
    this.#trail.backtrack(level, level > 0 ? this.#reopen : (literal) => opened.push(literal))
    this.#propagation.shorten()
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
