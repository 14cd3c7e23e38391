import { anyState, complement, intersection, isDisjoint, isSubset, selectedAt, union, type Bitmap } from './bitmap.ts'
import type { Choice, Network } from '../network.ts'

/** A statement about one slot: it is in one of these states. */
export interface Term {
  readonly slot: number
  readonly states: Bitmap
}

/**
 * Terms that no solution makes true all at once; at most one a slot, ascending. "foo ^1.0.0 needs bar ^2.0.0" is
 *
 *     { foo ^1.0.0, not bar ^2.0.0 }
 *
 * and "web needs foo" is { not foo }. No terms at all: there is no solution.
 */
export interface Incompatibility {
  readonly terms: readonly Term[]
  readonly cause: Cause
}

export type Cause =
  /** A service demands this choice. */
  | { readonly kind: 'root'; readonly choice: Choice }
  /** Candidates of one slot demand it. */
  | { readonly kind: 'demand'; readonly slot: number; readonly candidates: readonly number[]; readonly choice: Choice }
  | { readonly kind: 'derived'; readonly from: readonly [Incompatibility, Incompatibility] }

/** The demands of a problem, those of services first; equal demands of several candidates of a slot are one. */
export function demandsAsIncompatibilities(network: Network): Incompatibility[] {
  const { first, choices, needs } = network
  const slots = Array.from({ length: first.length - 1 }, (_, slot) => slot)
  const any = slots.map((slot) => anyState((first[slot + 1] as number) - (first[slot] as number)))
  const position = (candidate: number, slot: number): number => candidate - (first[slot] as number)
  const unmet = choices.map(({ slot, members }) => {
    const every = any[slot] as Bitmap
    return complement(
      every,
      selectedAt(
        every,
        members.map((member) => position(member, slot)),
      ),
    )
  })
  const roots = network.roots.map((id): Incompatibility => {
    const choice = choices[id] as Choice
    return { terms: [{ slot: choice.slot, states: unmet[id] as Bitmap }], cause: { kind: 'root', choice } }
  })
  const others = slots.flatMap((slot) => {
    const owners = new Map<number, number[]>()
    for (let candidate = first[slot] as number; candidate < (first[slot + 1] as number); candidate++) {
      for (const id of needs[candidate] ?? []) {
        const choice = choices[id] as Choice
        // A candidate that meets its own demand says nothing by it.
        if (choice.slot === slot && choice.members.includes(candidate)) continue
        const known = owners.get(id)
        if (known === undefined) owners.set(id, [position(candidate, slot)])
        else known.push(position(candidate, slot))
      }
    }
    return [...owners]
      .sort(([a], [b]) => a - b)
      .map(([id, candidates]): Incompatibility => {
        const choice = choices[id] as Choice
        const own = { slot, states: selectedAt(any[slot] as Bitmap, candidates) }
        const other = { slot: choice.slot, states: unmet[id] as Bitmap }
        const terms = choice.slot === slot ? [own] : choice.slot < slot ? [other, own] : [own, other]
        return { terms, cause: { kind: 'demand', slot, candidates, choice } }
      })
  })
  return [...roots, ...others]
}

/**
 * What follows from two incompatibilities that say something of `slot`. Whoever makes all other terms of both true
 * has neither the states of the one nor those of the other there:
 *
 *     { foo, not bar ^2.0.0 } and { bar, not baz }              give { foo, not baz }
 *     { foo, bar ^1.0.0 }     and { not bar ^1.0.0 || ^2.0.0 }  give { foo, not bar ^2.0.0 }
 *
 * A term that is true in every state is left out.
 * @param any every state of the slot
 */
export function resolve(a: Incompatibility, b: Incompatibility, slot: number, any: Bitmap): Incompatibility {
  const terms: Term[] = []
  let [i, j] = [0, 0]
  while (i < a.terms.length || j < b.terms.length) {
    const left = a.terms[i]
    const right = b.terms[j]
    if (right === undefined || (left !== undefined && left.slot < right.slot)) {
      terms.push(left as Term)
      i++
    } else if (left === undefined || right.slot < left.slot) {
      terms.push(right)
      j++
    } else {
      const combine = left.slot === slot ? union : intersection
      const states = combine(left.states, right.states)
      if (left.slot !== slot || !isSubset(any, states)) terms.push({ slot: left.slot, states })
      i++
      j++
    }
  }
  return { terms, cause: { kind: 'derived', from: [a, b] } }
}

/** What is known of a slot against a term: does it make the term true, false, or neither yet? */
export function relation(known: Bitmap, term: Term): 'true' | 'false' | 'open' {
  // foo ^1.5.0 makes "foo ^1.0.0" true and "not foo ^1.0.0" false
  if (isDisjoint(known, term.states)) return 'false'
  // foo ^1.0.0 says nothing yet of "foo ^1.5.0"
  return isSubset(known, term.states) ? 'true' : 'open'
}
