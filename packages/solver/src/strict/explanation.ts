import { causesFirst, causesOf, type Derivation } from './derivation.ts'
import type { Problem } from '../problem.ts'
import { Statements, type Naming } from './statement.ts'

/**
 * A proof in plain sentences, one a line; those that are referred to from further off are numbered:
 *
 *     Because foo 1.0.0 needs a which needs b 2.0.0, foo 1.0.0 requires b 2.0.0.
 *     …
 *
 * The order is that of dart pub's error reporting (doc/solver.md): every step after the steps it follows from, and
 * right after one of them where that is possible.
 */
export function renderDerivation(derivation: Derivation, problem: Problem, naming: Naming): string {
  const lines = new Explanation(derivation, new Statements(problem, naming)).lines()
  const numbers = lines.map(({ number }) => (number === undefined ? '' : `(${number}) `))
  const width = Math.max(...numbers.map(({ length }) => length))
  return lines.map(({ text }, i) => (text === '' ? '' : `${(numbers[i] as string).padEnd(width)}${text}`)).join('\n')
}

interface Line {
  readonly text: string
  readonly number: number | undefined
}

class Explanation {
  readonly #root: Derivation
  readonly #say: Statements
  /** How many steps follow from each. */
  readonly #uses = new Map<Derivation, number>()
  readonly #lines: Line[] = []
  readonly #numbers = new Map<Derivation, number>()
  /** What is still to write, the next last. Recursion would fail for long chains. */
  readonly #agenda: (() => void)[] = []

  constructor(root: Derivation, say: Statements) {
    this.#root = root
    this.#say = say
    for (const step of causesFirst(root, causesOf))
      for (const cause of causesOf(step)) this.#uses.set(cause, (this.#uses.get(cause) ?? 0) + 1)
  }

  lines(): readonly Line[] {
    this.#plan(() => this.#explain(this.#root))
    for (let task = this.#agenda.pop(); task !== undefined; task = this.#agenda.pop()) task()
    return this.#lines
  }

  /** Writes what leads to a step, then the step. */
  #explain(step: Derivation, concludes = false): void {
    if (this.#numbers.has(step)) return
    const { cause } = step
    if (cause.kind !== 'derived') return this.#write(step, `${this.#say.of(step)}.`, concludes)
    const [a, b] = cause.from
    const so = concludes || step === this.#root ? 'So' : 'And'
    const write = (text: string): void => this.#write(step, `${text}, ${this.#say.of(step)}.`, concludes)
    /** Both at once, with the numbers they have. */
    const because = (): void => write(`Because ${this.#say.and(a, b, this.#numbers.get(a), this.#numbers.get(b))}`)
    /** After the other one was written just above. */
    const then = (known: Derivation): void => {
      const line = this.#numbers.get(known)
      write(`${so}, because ${this.#say.of(known)}${line === undefined ? '' : ` (${line})`}`)
    }

    const open = [a, b].filter((each) => isDerived(each) && !this.#numbers.has(each))
    const [first, second] = open
    if (first === undefined) return because()
    const other = first === a ? b : a
    if (second === undefined) {
      const skipped = isDerived(other) ? undefined : this.#demandBefore(first)
      if (skipped === undefined)
        return this.#plan(
          () => this.#explain(first),
          () => then(other),
        )
      const { demand, rest } = skipped
      return this.#plan(
        () => this.#explain(rest),
        () => write(`${so}, because ${this.#say.and(demand, other)}`),
      )
    }
    if (isOneLine(first) || isOneLine(second)) {
      // The line that needs no others goes last, so that both are close to what follows from them.
      const [long, short] = isOneLine(second) ? [first, second] : [second, first]
      return this.#plan(
        () => this.#explain(long),
        () => {
          if (this.#numbers.has(short)) then(short)
          else
            this.#plan(
              () => this.#explain(short),
              () => write('Thus'),
            )
        },
      )
    }
    this.#plan(
      () => this.#explain(first, true),
      () => this.#lines.push({ text: '', number: undefined }),
      () => this.#explain(second),
      () => then(first),
    )
  }

  /**
   * Of a step that only serves to get to the next one: the demand and the step it follows from. It needs no line of
   * its own; two demands and what they follow with are still one sentence.
   */
  #demandBefore(step: Derivation): { readonly demand: Derivation; readonly rest: Derivation } | undefined {
    const [a, b] = causesOf(step)
    if (a === undefined || b === undefined || (this.#uses.get(step) ?? 0) > 1 || isDerived(a) === isDerived(b))
      return undefined
    const [rest, demand] = isDerived(a) ? [a, b] : [b, a]
    return this.#numbers.has(rest) ? undefined : { demand, rest }
  }

  #plan(...tasks: readonly (() => void)[]): void {
    this.#agenda.push(...tasks.toReversed())
  }

  #write(step: Derivation, text: string, concludes: boolean): void {
    const number = concludes || (this.#uses.get(step) ?? 0) > 1 ? this.#numbers.size + 1 : undefined
    if (number !== undefined) this.#numbers.set(step, number)
    this.#lines.push({ text, number })
  }
}

function isDerived(step: Derivation): boolean {
  return step.cause.kind === 'derived'
}

/** Follows from two demands. */
function isOneLine(step: Derivation): boolean {
  return !causesOf(step).some(isDerived)
}
