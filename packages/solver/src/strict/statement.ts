import type { Derivation, DerivationTerm } from './derivation.ts'
import type { Problem } from '../problem.ts'

/** How the numbers of a problem are named to people. */
export interface Naming {
  /** The owner of a service's demand. */
  readonly ownerName: (owner: number) => string
  /** What is said where nothing is left to say, `react cannot be kept at one version`. */
  readonly conclusion?: string
}

/** The words of a proof: what is said at each of its steps, and of two steps together. */
export class Statements {
  readonly #problem: Problem
  readonly #naming: Naming

  constructor(problem: Problem, naming: Naming) {
    this.#problem = problem
    this.#naming = naming
  }

  /** `web needs foo`, `foo 1.0.0 to 1.9.0 needs bar 2.0.0`, `every version of foo is ruled out`. */
  of(step: Derivation): string {
    const { terms, cause } = step
    if (cause.kind !== 'derived')
      return `${this.#subject(step)} ${this.#verb(step)} ${this.#object(cause.slot, cause.allowed)}`
    if (terms.length === 0) return this.#naming.conclusion ?? 'no selection meets every requirement'
    const conditions = terms.filter(({ selected }) => selected)
    const results = this.#results(step)
    if (results !== '') {
      if (conditions.length === 0) return `${results} is required`
      if (conditions.length === 1) return `${this.#subject(step)} requires ${results}`
      return `${this.#all(conditions, 'and')} together require ${results}`
    }
    if (conditions.length === 1) return `${this.#subject(step)} is ruled out`
    return `${this.#all(conditions, 'and')} cannot be selected together`
  }

  /**
   * Two steps in one clause, with their numbers: `web needs both foo and bar`, `foo needs bar which needs baz`, or one
   * after the other.
   */
  and(a: Derivation, b: Derivation, lineOfA?: number, lineOfB?: number): string {
    return (
      this.#both(a, b, lineOfA, lineOfB) ??
      this.#through(a, b, lineOfA, lineOfB) ??
      this.#through(b, a, lineOfB, lineOfA) ??
      `${this.of(a)}${numbered(lineOfA)} and ${this.of(b)}${numbered(lineOfB)}`
    )
  }

  #both(a: Derivation, b: Derivation, lineOfA?: number, lineOfB?: number): string | undefined {
    const subject = this.#subject(a)
    if (subject === undefined || subject !== this.#subject(b)) return undefined
    const [left, right] = [this.#results(a), this.#results(b)]
    if (left === '' || right === '') return undefined
    const verb = a.cause.kind === 'derived' ? this.#verb(a) : this.#verb(b)
    return `${subject} ${verb} both ${left}${numbered(lineOfA)} and ${right}${numbered(lineOfB)}`
  }

  /** `a` leads to nothing but what `b` is about. */
  #through(a: Derivation, b: Derivation, lineOfA?: number, lineOfB?: number): string | undefined {
    const subject = this.#subject(a)
    const [met, ...others] = a.terms.filter(({ selected }) => !selected)
    const [condition, ...conditions] = b.terms.filter(({ selected }) => selected)
    if (subject === undefined || met === undefined || others.length > 0) return undefined
    if (condition === undefined || conditions.length > 0 || condition.slot !== met.slot) return undefined
    if (!met.candidates.every((candidate) => condition.candidates.includes(candidate))) return undefined
    const results = this.#results(b)
    const consequence = results === '' ? 'is ruled out' : `${this.#verb(b)} ${results}`
    return `${subject} ${this.#verb(a)} ${this.#results(a)}${numbered(lineOfA)} which ${consequence}${numbered(lineOfB)}`
  }

  /** Who needs: the services, or the one name that the step is about. */
  #subject({ terms, cause }: Derivation): string | undefined {
    if (cause.kind === 'root') return this.#owners(cause.owners)
    if (cause.kind === 'demand') return this.#term(cause.by.slot, cause.by.candidates, 'every version of ')
    const [only, ...others] = terms.filter(({ selected }) => selected)
    if (only === undefined || others.length > 0) return undefined
    return this.#term(only.slot, only.candidates, 'every version of ')
  }

  /** What a manifest says is needed; what follows is required. */
  #verb({ cause }: Derivation): string {
    if (cause.kind === 'derived') return 'requires'
    return cause.kind === 'root' && cause.owners.length > 1 ? 'need' : 'needs'
  }

  /** What the step leads to: one of these, none if it is impossible. */
  #results({ terms, cause }: Derivation): string {
    if (cause.kind !== 'derived') return this.#object(cause.slot, cause.allowed)
    return this.#all(
      terms.filter(({ selected }) => !selected),
      'or',
    )
  }

  #all(terms: readonly DerivationTerm[], conjunction: string): string {
    return listed(
      terms.map(({ slot, candidates }) => this.#object(slot, candidates)),
      conjunction,
    )
  }

  #object(slot: number, candidates: readonly number[]): string {
    return this.#term(slot, candidates, '')
  }

  /** Candidates against all there are: `foo 1.0.0 or 2.0.0 to 2.9.0`, or just the name of those that have a choice. */
  #term(slot: number, candidates: readonly number[], every: string): string {
    const name = this.#problem.names[slot] ?? ''
    const versions = this.#problem.versions[slot] ?? []
    if (candidates.length === versions.length && versions.length > 1) return `${every}${name}`
    const runs: string[] = []
    for (let from = 0; from < candidates.length;) {
      let to = from
      while (candidates[to + 1] === (candidates[to] as number) + 1) to++
      const [start, end] = [versions[candidates[from] as number] ?? '', versions[candidates[to] as number] ?? '']
      if (to - from > 1) runs.push(`${start} to ${end}`)
      else runs.push(...new Set([start, end]))
      from = to + 1
    }
    return `${name} ${listed(runs, 'or')}`
  }

  #owners(owners: readonly number[]): string {
    const names = owners.map(this.#naming.ownerName).sort((a, b) => (a < b ? -1 : a > b ? 1 : 0))
    return names.length > 3 ? `${names.slice(0, 2).join(', ')} and ${names.length - 2} others` : listed(names, 'and')
  }
}

function listed(items: readonly string[], conjunction: string): string {
  if (items.length < 2) return items.join()
  return `${items.slice(0, -1).join(', ')} ${conjunction} ${items.at(-1)}`
}

function numbered(line: number | undefined): string {
  return line === undefined ? '' : ` (${line})`
}
