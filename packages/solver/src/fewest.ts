import { certificatesOf } from './certificate.ts'
import { forcedClosure } from './closure.ts'
import { openComponents } from './components.ts'
import { firstSelection } from './first-selection.ts'
import { networkOf } from './network.ts'
import type { Problem, Solution } from './problem.ts'

export interface FewestOptions {
  readonly maxSteps?: number
  readonly singles?: readonly number[]
}

export function solveFewest(problem: Problem, options: FewestOptions = {}): Solution {
  void options
  const network = networkOf(problem)
  const closure = forcedClosure(network)
  const on = closure.must.slice()
  for (const component of openComponents(network, closure)) {
    firstSelection(component).forEach((bit, i) => {
      if (bit === 1) on[component.candidates[i] as number] = 1
    })
  }
  const selected = problem.names.map((_, slot) => {
    const [from, to] = [network.first[slot] as number, network.first[slot + 1] as number]
    return Array.from({ length: to - from }, (_unused, i) => i).filter((i) => on[from + i] === 1)
  })
  const sure = problem.names.map((_, slot) => closure.must.subarray(network.first[slot], network.first[slot + 1]).reduce((sum, bit) => sum + bit, 0))
  const extraCopies = sure.reduce((sum, count) => sum + Math.max(0, count - 1), 0)
  const total = closure.forced.reduce((sum, forced, slot) => sum + (forced.length === 0 ? 0 : Math.max(1, sure[slot] as number)), 0)
  return { selected, optimal: false, lowerBound: { extraCopies, total }, certificates: certificatesOf(problem, selected) }
}
