import { ActivityQueue } from './activity-queue.ts'

/**
 * A literal: `2 v` says that variable v is true, `2 v + 1` that it is false; `lit ^ 1` is its negation.
 */
export type Literal = number

export type Verdict = 'satisfiable' | 'unsatisfiable' | 'limit'

const NO_REASON = -1
const RESTART_INTERVAL = 64

/**
 * A small satisfiability solver with assumptions (conflict-driven clause learning: Marques-Silva and Sakallah 1999,
 * watched literals and activities as in MiniSat, Eén and Sörensson 2003). Clauses only ever get added, and what was
 * learnt stays, so that a series of similar questions gets cheaper. It has no randomness: the same calls give the
 * same answers.
 */
export class Sat {
  /** After `satisfiable`: per variable 1 or 0. */
  model: Uint8Array = new Uint8Array(0)
  /** After `unsatisfiable`: assumptions that cannot hold together; empty if the clauses contradict each other. */
  core: Literal[] = []
  /** Work done so far: clauses looked at. The same on every machine, so limits are set in it. */
  steps = 0
  variables = 0

  #consistent = true
  /** Each clause: its length, then its literals; the two watched ones first. */
  #arena = new Int32Array(1024)
  #arenaEnd = 0
  readonly #watches: number[][] = []
  /** Per literal: 1 true, -1 false, 0 open. */
  #values = new Int8Array(128)
  #levels = new Int32Array(64)
  #reasons = new Int32Array(64)
  #phases = new Uint8Array(64)
  #seen = new Uint8Array(64)
  readonly #trail: Literal[] = []
  readonly #levelStarts: number[] = []
  #propagated = 0
  /** True if the last learnt literal was assigned later than it could be. */
  #stayed = false
  /** Learnt while something was assumed. */
  #units: Literal[] = []
  /** The assumptions of the last call; level i + 1 is the i-th of them. */
  #assumed: readonly Literal[] = []
  readonly #queue: ActivityQueue = new ActivityQueue()

  /** @param phase the value to try first */
  newVariable(phase: 0 | 1 = 0): number {
    const variable = this.variables++
    if (variable === this.#levels.length) this.#grow()
    this.#phases[variable] = phase
    this.#watches.push([], [])
    this.#queue.add(variable)
    return variable
  }

  /** What is known whatever is assumed: 1 true, -1 false, 0 open. */
  fixed(literal: Literal): number {
    return this.#levels[literal >> 1] === 0 ? this.#value(literal) : 0
  }

  addClause(literals: readonly Literal[]): void {
    this.#backtrack(0)
    if (this.#propagate() >= 0) this.#consistent = false
    if (!this.#consistent || literals.some((literal) => this.#value(literal) === 1)) return
    const open = [...new Set(literals)].filter((literal) => this.#value(literal) === 0)
    if (open.length === 0) this.#consistent = false
    else if (open.length === 1) {
      this.#assign(open[0] as Literal, NO_REASON)
      this.#consistent = this.#propagate() < 0
    } else this.#attach(open)
  }

  /** @param limit of `steps` in all, not for this call */
  solve(assumptions: readonly Literal[], limit: number): Verdict {
    return this.#search(assumptions, limit, 'to a model')
  }

  /**
   * As `solve`, but an assumption that the ones before it refute is left out, and why is added to `cores`: one pass
   * finds many cores, and ends with a model that keeps most of the assumptions.
   */
  solveMost(assumptions: readonly Literal[], limit: number, cores: Literal[][]): Verdict {
    return this.#search(assumptions, limit, 'to a model', cores)
  }

  /** True if the assumptions contradict each other in a way that needs no search; `core` is then set. */
  refutes(assumptions: readonly Literal[], limit: number): boolean {
    return this.#search(assumptions, limit, 'propagation only') === 'unsatisfiable'
  }

  #search(
    assumptions: readonly Literal[],
    limit: number,
    how: 'to a model' | 'propagation only',
    cores?: Literal[][],
  ): Verdict {
    this.#keepCommon(assumptions)
    this.core = []
    if (!this.#consistent) return 'unsatisfiable'
    const leftOut = new Set<Literal>()
    let restarts = 0
    let untilRestart = RESTART_INTERVAL
    for (;;) {
      const conflict = this.#propagate()
      if (conflict >= 0) {
        if (this.#levelStarts.length === 0) {
          this.#consistent = false
          return 'unsatisfiable'
        }
        this.#learn(conflict)
        untilRestart--
        continue
      }
      if (this.steps > limit) return 'limit'
      if (untilRestart <= 0) {
        untilRestart = RESTART_INTERVAL * luby(++restarts)
        this.#backtrack(assumptions.length)
        continue
      }
      const level = this.#levelStarts.length
      if (level < assumptions.length) {
        const assumed = assumptions[level] as Literal
        if (this.#value(assumed) === -1 && !leftOut.has(assumed)) {
          this.core = this.#assumptionsBehind(assumed)
          if (cores === undefined) return 'unsatisfiable'
          cores.push(this.core)
          leftOut.add(assumed)
        }
        this.#stayed = false
        this.#levelStarts.push(this.#trail.length)
        if (this.#value(assumed) === 0 && !leftOut.has(assumed)) this.#assign(assumed, NO_REASON)
        continue
      }
      if (how === 'propagation only') return 'limit'
      const variable = this.#nextOpen()
      if (variable < 0) {
        this.model = Uint8Array.from({ length: this.variables }, (_, v) => (this.#values[2 * v] === 1 ? 1 : 0))
        return 'satisfiable'
      }
      this.#stayed = false
      this.#levelStarts.push(this.#trail.length)
      this.#assign(2 * variable + (this.#phases[variable] === 1 ? 0 : 1), NO_REASON)
    }
  }

  /** Goes back to the last level that this call and the previous one have in common. */
  #keepCommon(assumptions: readonly Literal[]): void {
    const most = Math.min(this.#levelStarts.length, this.#assumed.length, assumptions.length)
    let common = 0
    while (common < most && this.#assumed[common] === assumptions[common]) common++
    this.#backtrack(common)
    this.#assumed = assumptions
  }

  #value(literal: Literal): number {
    return this.#values[literal] as number
  }

  #assign(literal: Literal, reason: number): void {
    this.#values[literal] = 1
    this.#values[literal ^ 1] = -1
    this.#levels[literal >> 1] = this.#levelStarts.length
    this.#reasons[literal >> 1] = reason
    this.#trail.push(literal)
  }

  #attach(literals: readonly Literal[]): number {
    const clause = this.#arenaEnd
    if (clause + literals.length + 1 > this.#arena.length) {
      const larger = new Int32Array(Math.max(2 * this.#arena.length, clause + literals.length + 1))
      larger.set(this.#arena)
      this.#arena = larger
    }
    this.#arena[clause] = literals.length
    this.#arena.set(literals, clause + 1)
    this.#arenaEnd += literals.length + 1
    // A clause of one literal is only a reason; it holds for good from the next time that nothing is assumed.
    if (literals.length > 1) for (let i = 0; i < 2; i++) this.#watches[literals[i] as Literal]?.push(clause)
    return clause
  }

  /** Draws all conclusions from the trail; gives the clause that failed, or -1. */
  #propagate(): number {
    const values = this.#values
    const arena = this.#arena
    while (this.#propagated < this.#trail.length) {
      const falsified = (this.#trail[this.#propagated++] as Literal) ^ 1
      const watching = this.#watches[falsified] as number[]
      let kept = 0
      for (let i = 0; i < watching.length; i++) {
        const clause = watching[i] as number
        this.steps++
        if (arena[clause + 1] === falsified) {
          arena[clause + 1] = arena[clause + 2] as number
          arena[clause + 2] = falsified
        }
        const other = arena[clause + 1] as Literal
        if (values[other] !== 1) {
          const end = clause + 1 + (arena[clause] as number)
          let at = clause + 3
          while (at < end && values[arena[at] as Literal] === -1) at++
          if (at < end) {
            const replacement = arena[at] as Literal
            arena[clause + 2] = replacement
            arena[at] = falsified
            this.#watches[replacement]?.push(clause)
            continue
          }
          if (values[other] === -1) {
            while (i < watching.length) watching[kept++] = watching[i++] as number
            watching.length = kept
            this.#propagated = this.#trail.length
            return clause
          }
          this.#assign(other, clause)
        }
        watching[kept++] = clause
      }
      watching.length = kept
    }
    return -1
  }

  /** Learns the first unique implication point's clause, and goes back to where it says something new. */
  #learn(conflict: number): void {
    const seen = this.#seen
    const level = this.#levelStarts.length
    const learnt: Literal[] = [0]
    let open = 0
    let at = this.#trail.length - 1
    let clause = conflict
    let pivot: Literal
    do {
      const end = clause + 1 + (this.#arena[clause] as number)
      for (let i = clause + 1; i < end; i++) {
        const literal = this.#arena[i] as Literal
        const variable = literal >> 1
        if (seen[variable] === 1 || this.#levels[variable] === 0 || this.#value(literal) === 1) continue
        seen[variable] = 1
        this.#queue.bump(variable)
        if (this.#levels[variable] === level) open++
        else learnt.push(literal)
      }
      while (seen[(this.#trail[at] as Literal) >> 1] !== 1) at--
      pivot = this.#trail[at--] as Literal
      clause = this.#reasons[pivot >> 1] as number
      seen[pivot >> 1] = 0
      open--
    } while (open > 0)
    learnt[0] = pivot ^ 1
    this.#queue.age()

    const marked = learnt.slice(1)
    const short = learnt.filter((literal, i) => i === 0 || !this.#isImplied(literal))
    for (const literal of marked) seen[literal >> 1] = 0
    let back = 0
    for (let i = 1; i < short.length; i++) {
      const literal = short[i] as Literal
      const literalLevel = this.#levels[literal >> 1] as number
      if (literalLevel <= back) continue
      back = literalLevel
      short[i] = short[1] as Literal
      short[1] = literal
    }
    // Going back to where the clause could first have been used would undo thousands of assumptions for nothing. The
    // literal is assigned later than it could be, which delays conclusions but falsifies none.
    // If that leads to the next conflict right away, something is wrong further back, and the long way pays.
    const near = Math.min(level - 1, this.#assumed.length)
    this.#backtrack(this.#stayed ? back : Math.max(back, near))
    this.#stayed = !this.#stayed && near > back
    this.#assign(short[0] as Literal, this.#levelStarts.length === 0 ? NO_REASON : this.#attach(short))
    if (short.length === 1) this.#units.push(short[0] as Literal)
  }

  /** True if the other literals of the learnt clause already say it. */
  #isImplied(literal: Literal): boolean {
    const reason = this.#reasons[literal >> 1] as number
    if (reason === NO_REASON) return false
    const end = reason + 1 + (this.#arena[reason] as number)
    for (let i = reason + 1; i < end; i++) {
      const variable = (this.#arena[i] as Literal) >> 1
      if (variable !== literal >> 1 && this.#seen[variable] !== 1 && this.#levels[variable] !== 0) return false
    }
    return true
  }

  /** `failed` with the assumptions that make it false. */
  #assumptionsBehind(failed: Literal): Literal[] {
    const core = [failed]
    if (this.#levels[failed >> 1] === 0) return core
    const seen = this.#seen
    this.steps += (this.#trail.length - (this.#levelStarts[0] as number)) >> 3
    seen[failed >> 1] = 1
    for (let at = this.#trail.length - 1; at >= (this.#levelStarts[0] as number); at--) {
      const literal = this.#trail[at] as Literal
      if (seen[literal >> 1] !== 1) continue
      seen[literal >> 1] = 0
      const reason = this.#reasons[literal >> 1] as number
      if (reason === NO_REASON) core.push(literal)
      else {
        const end = reason + 1 + (this.#arena[reason] as number)
        for (let i = reason + 1; i < end; i++) {
          const variable = (this.#arena[i] as Literal) >> 1
          if (variable !== literal >> 1 && (this.#levels[variable] as number) > 0) seen[variable] = 1
        }
      }
    }
    return core
  }

  #backtrack(level: number): void {
    if (this.#levelStarts.length <= level) return
    const start = this.#levelStarts[level] as number
    for (let at = this.#trail.length - 1; at >= start; at--) {
      const literal = this.#trail[at] as Literal
      this.#values[literal] = 0
      this.#values[literal ^ 1] = 0
      this.#phases[literal >> 1] = (literal & 1) ^ 1
      this.#queue.add(literal >> 1)
    }
    this.#trail.length = start
    this.#levelStarts.length = level
    this.#propagated = start
    if (level > 0) return
    for (const unit of this.#units) {
      if (this.#value(unit) === 0) this.#assign(unit, NO_REASON)
      else if (this.#value(unit) === -1) this.#consistent = false
    }
    this.#units = []
  }

  #nextOpen(): number {
    for (;;) {
      const variable = this.#queue.take()
      if (variable < 0 || this.#values[2 * variable] === 0) return variable
    }
  }

  #grow(): void {
    const capacity = 2 * this.#levels.length
    this.#values = enlarged(this.#values, new Int8Array(2 * capacity))
    this.#levels = enlarged(this.#levels, new Int32Array(capacity))
    this.#reasons = enlarged(this.#reasons, new Int32Array(capacity))
    this.#phases = enlarged(this.#phases, new Uint8Array(capacity))
    this.#seen = enlarged(this.#seen, new Uint8Array(capacity))
  }
}

function enlarged<T extends Int8Array | Uint8Array | Int32Array>(from: T, to: T): T {
  to.set(from)
  return to
}

/** 1 1 2 1 1 2 4 …: short runs mostly, long ones now and then (Luby, Sinclair and Zuckerman 1993). */
function luby(index: number): number {
  for (let size = 1; ; size = 2 * size + 1) {
    if (index === size) return (size + 1) / 2
    if (index < 2 * size + 1) return luby(index - size)
  }
}
