import { isSubset, type Choice, type Network } from '../network.ts'

/** What holds in every solution. */
export interface Closure {
  /** Per candidate 1 if every solution selects it. */
  readonly must: Uint8Array
  /** Per slot the smallest sets of which every solution selects one; empty where a solution can do without the slot. */
  readonly forced: readonly (readonly (readonly number[])[])[]
}

/**
 * The demands that are active whatever is chosen. A choice with one member selects it, and its demands are forced
 * too. Of a choice with several members, what all of them demand is forced: if `a 1` needs `c ^1` and `a 2` needs
 * `c ^2`, then whoever needs any `a` needs `c ^1 || ^2`.
 */
export function forcedClosure(network: Network): Closure {
  const must = new Uint8Array(network.slotOf.length)
  const forced: (readonly number[])[][] = Array.from({ length: network.first.length - 1 }, () => [])
  const queue: (readonly number[])[] = []

  const force = (members: readonly number[]): void => {
    const slot = network.slotOf[members[0] as number] as number
    const known = forced[slot] as (readonly number[])[]
    if (known.some((other) => isSubset(other, members))) return
    forced[slot] = [...known.filter((other) => !isSubset(members, other)), members]
    queue.push(members)
  }

  for (const id of network.roots) force(membersOf(network, id))
  for (let next = 0; next < queue.length; next++) {
    const members = queue[next] as readonly number[]
    const [member] = members
    if (members.length > 1) commonNeeds(network, members).forEach(force)
    else {
      must[member as number] = 1
      for (const id of needsOf(network, member as number)) force(membersOf(network, id))
    }
  }
  return { must, forced }
}

/** The unions of one demand of each member, over the slots that all of them demand. */
function commonNeeds(network: Network, members: readonly number[]): (readonly number[])[] {
  const unions: (readonly number[])[] = []
  for (const id of needsOf(network, members[0] as number)) {
    let union: readonly number[] | undefined = membersOf(network, id)
    for (let i = 1; i < members.length && union !== undefined; i++) {
      const other = needOn(network, members[i] as number, (network.choices[id] as Choice).slot)
      if (other < 0) union = undefined
      else if (other !== id) union = merged(union, membersOf(network, other))
    }
    if (union !== undefined) unions.push(union)
  }
  return unions
}

/** The first choice on the slot that the candidate demands, or -1. */
function needOn(network: Network, candidate: number, slot: number): number {
  for (const id of needsOf(network, candidate)) if (network.choices[id]?.slot === slot) return id
  return -1
}

/** What is in either, ascending; both are ascending. */
function merged(a: readonly number[], b: readonly number[]): readonly number[] {
  if (isSubset(b, a)) return a
  const union: number[] = []
  for (let i = 0, j = 0; i < a.length || j < b.length;) {
    const left = a[i] ?? Infinity
    const right = b[j] ?? Infinity
    union.push(Math.min(left, right))
    if (left <= right) i++
    if (right <= left) j++
  }
  return union
}

function needsOf(network: Network, candidate: number): readonly number[] {
  return network.needs[candidate] as readonly number[]
}

function membersOf(network: Network, id: number): readonly number[] {
  return (network.choices[id] as Choice).members
}
