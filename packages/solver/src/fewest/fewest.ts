import { certificatesOf } from './certificate.ts'
import { forcedClosure, type Closure } from './closure.ts'
import { optimumOf } from './component-optimum.ts'
import { openComponents } from './components.ts'
import { networkOf, type Network } from '../network.ts'
import type { Problem, Solution } from '../problem.ts'

export interface FewestOptions {
  /**
   * How much work to do before settling for a selection with a bound; clauses looked at, some millions a second.
   * Never a time: the same input gives the same answer on every machine.
   */
  readonly maxSteps?: number
  /** Slots whose extra copies count before all others (level 1). */
  readonly singles?: readonly number[]
}

const MAX_STEPS = 1_200_000

/**
 * The selection that meets every active demand and, in this order, has the fewest extra copies of `singles`, extra
 * copies at all (Σ(|S(n)|−1)), candidates at all (Σ|S(n)|), moves off what is locked, versions behind the newest; ties
 * go to the selection that uses the first name in which they differ, and then to the one with the newer version of it.
 * The order and repetition of demands make no difference.
 *
 * A *move* is a lock that does not find its version any more (`lockedCount` of each candidate that is not selected), or
 * an active demand whose `locked` candidate is not selected. *Behind* is the number of newer candidates of the slot.
 * @throws RangeError if the problem breaks its contract
 */
export function solveFewest(problem: Problem, options: FewestOptions = {}): Solution {
  const network = networkOf(problem)
  const closure = forcedClosure(network)
  const on = closure.must.slice()
  const least = closureBounds(network, closure)
  let optimal = true
  let stepsLeft = options.maxSteps ?? MAX_STEPS
  for (const component of openComponents(network, closure, new Set(options.singles))) {
    const found = optimumOf(component, stepsLeft)
    stepsLeft -= found.steps
    optimal &&= found.levels === 6
    least.extraCopies += found.extraCopies
    least.names += found.moreNames
    found.selection.forEach((bit, i) => {
      if (bit === 1) on[component.candidates[i] as number] = 1
    })
  }
  const selected = problem.versions.map((versions, slot) => {
    const from = network.first[slot] as number
    return versions.flatMap((_, candidate) => (on[from + candidate] === 1 ? [candidate] : []))
  })
  return {
    selected,
    optimal,
    lowerBound: { extraCopies: least.extraCopies, total: least.names + least.extraCopies },
    certificates: certificatesOf(problem, selected),
  }
}

/** What the closure alone says: names in use, and copies beyond the first. */
function closureBounds({ first }: Network, { must, forced }: Closure): { names: number; extraCopies: number } {
  let [names, extraCopies] = [0, 0]
  forced.forEach((choices, slot) => {
    if (choices.length === 0) return
    names++
    const copies = must.subarray(first[slot], first[slot + 1]).reduce((sum, bit) => sum + bit, 0)
    extraCopies += Math.max(0, copies - 1)
  })
  return { names, extraCopies }
}
