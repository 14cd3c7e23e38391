import type { Component } from './components.ts'
import { pruned, type Selection } from './first-selection.ts'
import { exchanged } from './exchange.ts'
import { improve } from './improvement.ts'
import { searchLevels, type Found } from './levels.ts'
import { compareCosts, costOf } from './objective.ts'
import { reduced } from './reduction.ts'

/** Above so many candidates a component is reduced first; then only the first three levels can be proven. */
const LARGE = 6000
/** Of the steps allowed, the part for finding and proving the optimum; what is left improves what was found instead. */
const SEARCH_SHARE = 0.7

/** The component's best selection, or after `maxSteps` a good one with a bound. */
export function optimumOf(component: Component, maxSteps: number): Found {
  const limit = Math.floor(maxSteps * SEARCH_SHARE)
  let found = component.candidates.length > LARGE ? undefined : searchLevels(component, limit / 2)
  if (found?.levels === 6) return found
  if (found === undefined || found.levels < 3) {
    const steps = found?.steps ?? 0
    found = better(component, searchReduced(component, limit - steps), found)
  }
  let { selection, steps } = found
  if (found.levels < 3) {
    selection = improve(component, selection, maxSteps - steps)
    steps = maxSteps
  }
  return { ...found, selection: exchanged(component, selection), steps }
}

/** What was proven by either, with the better one's selection. */
function better(component: Component, a: Found, b: Found | undefined): Found {
  if (b === undefined) return a
  const isFirst = compareCosts(costOf(component, a.selection), costOf(component, b.selection)) <= 0
  return {
    selection: isFirst ? a.selection : b.selection,
    levels: Math.max(a.levels, b.levels),
    extraCopies: Math.max(a.extraCopies, b.extraCopies),
    moreNames: Math.max(a.moreNames, b.moreNames),
    steps: a.steps + b.steps,
  }
}

function searchReduced(whole: Component, maxSteps: number): Found {
  const { component, candidates, must } = reduced(whole)
  const found = searchLevels(component, maxSteps, 3)
  const selection: Selection = new Uint8Array(whole.candidates.length)
  const [, without] = costOf(whole, selection)
  for (const candidate of must) selection[candidate] = 1
  const [, extraCopies, names] = costOf(whole, selection)
  found.selection.forEach((bit, i) => (selection[candidates[i] as number] = bit))
  return {
    ...found,
    selection: pruned(whole, selection),
    extraCopies: extraCopies - without + found.extraCopies,
    moreNames: names + found.moreNames,
  }
}
