import { isSubset, type Network } from './network.ts'

/** What holds in every solution. */
export interface Closure {
  /** Per candidate 1 if every solution selects it. */
  readonly must: Uint8Array
  /** Per slot the smallest choices that every solution meets; empty where a solution can do without the slot. */
  readonly forced: readonly (readonly number[])[]
}

/**
 * The demands that are active whatever is chosen. A choice with one member selects it, and its demands are forced
 * too. Of a choice with several members, what all of them demand is forced: if `a 1` needs `c ^1` and `a 2` needs
 * `c ^2`, then whoever needs any `a` needs `c ^1 || ^2`.
 */
export function forcedClosure(network: Network): Closure {
  const must = new Uint8Array(network.slotOf.length)
  const forced: number[][] = Array.from({ length: network.first.length - 1 }, () => [])
  const queue: number[] = []

  const force = (id: number): void => {
    const { slot, members } = membersOf(network, id)
    const known = forced[slot] as number[]
    if (known.some((other) => other === id || isSubset(membersOf(network, other).members, members))) return
    forced[slot] = [...known.filter((other) => !isSubset(members, membersOf(network, other).members)), id]
    queue.push(id)
  }

  for (const id of network.roots) force(id)
  for (let next = 0; next < queue.length; next++) {
    const { members } = membersOf(network, queue[next] as number)
    if (members.length === 1) {
      const member = members[0] as number
      must[member] = 1
      for (const id of needsOf(network, member)) force(id)
    } else {
      for (const id of commonNeeds(network, members)) force(id)
    }
  }
  return { must, forced }
}

/** The unions of one demand of each member, over the slots that all of them demand. */
function commonNeeds(network: Network, members: readonly number[]): number[] {
  const [head, ...rest] = members
  const unions: number[] = []
  for (const id of needsOf(network, head as number)) {
    const choice = membersOf(network, id)
    let union: readonly number[] | undefined = choice.members
    for (const member of rest) {
      const other = needsOf(network, member).find((need) => membersOf(network, need).slot === choice.slot)
      if (other === undefined) {
        union = undefined
        break
      }
      if (other !== id) union = [...new Set([...union, ...membersOf(network, other).members])].sort((a, b) => a - b)
    }
    if (union !== undefined) unions.push(network.choiceOf(union))
  }
  return unions
}

function needsOf(network: Network, candidate: number): readonly number[] {
  return network.needs[candidate] as readonly number[]
}

function membersOf(network: Network, id: number): { readonly slot: number; readonly members: readonly number[] } {
  return network.choices[id] as { readonly slot: number; readonly members: readonly number[] }
}
