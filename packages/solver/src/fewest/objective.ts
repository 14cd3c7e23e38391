import type { Component } from './components.ts'
import type { Selection } from './first-selection.ts'

/** Levels 1 to 5 of what a selection costs within its component, most important first. */
export type Cost = readonly [singles: number, extraCopies: number, names: number, moves: number, ages: number]

export function costOf(component: Component, on: Selection): Cost {
  const { slots, behind, keep, stray, locked } = component
  let [singles, extraCopies, names, moves, ages] = [0, 0, 0, 0, 0]
  slots.forEach(({ base, isNeeded, isSingle, from, to }) => {
    let copies = base
    for (let candidate = from; candidate < to; candidate++) {
      if (on[candidate] === 1) {
        copies++
        ages += behind[candidate] as number
        moves += stray[candidate] as number
      } else moves += keep[candidate] as number
    }
    const extra = Math.max(0, copies - 1)
    extraCopies += extra
    if (isSingle) singles += extra
    if (copies > 0 && base === 0 && !isNeeded) names++
  })
  for (const { owner, candidate, count } of locked) if (on[owner] === 1 && on[candidate] !== 1) moves += count
  return [singles, extraCopies, names, moves, ages]
}

/** Below zero if `a` is the better one. */
export function compareCosts(a: Cost, b: Cost): number {
  for (let level = 0; level < a.length; level++) {
    const difference = (a[level] as number) - (b[level] as number)
    if (difference !== 0) return difference
  }
  return 0
}
