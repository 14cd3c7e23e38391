import type { Closure } from './closure.ts'
import type { Choice, Network } from '../network.ts'

/**
 * A part of what the closure leaves open that shares no slot and no demand with the rest, so that the optimum of the
 * whole is the sum of the parts' optima. Candidates, slots and choices are numbered within the part.
 */
export interface Component {
  /** Ascending by slot. */
  readonly slots: readonly OpenSlot[]
  /** Per candidate its number in the network, ascending. */
  readonly candidates: readonly number[]
  /** Per candidate its index in `slots`. */
  readonly slotOf: readonly number[]
  /** Members of each choice, ascending; none has a member that is selected anyway. */
  readonly choices: readonly (readonly number[])[]
  readonly roots: readonly number[]
  readonly needs: readonly (readonly number[])[]
  /** Level 4: what is paid when the candidate is not selected … */
  readonly keep: readonly number[]
  /** … when it is selected, because it demands what is locked and out of reach … */
  readonly stray: readonly number[]
  /** … and when `owner` is selected while `candidate` is not. */
  readonly locked: readonly { readonly owner: number; readonly candidate: number; readonly count: number }[]
  /** Level 5: how many better candidates its slot has. */
  readonly behind: readonly number[]
}

export interface OpenSlot {
  readonly slot: number
  /** How many of the slot's candidates are selected anyway. */
  readonly base: number
  /** True if some root is on it: every solution selects one of the open candidates. */
  readonly isNeeded: boolean
  /** Level 1 counts its extra copies. */
  readonly isSingle: boolean
  /** The open candidates are `from … to - 1`. */
  readonly from: number
  readonly to: number
}

/** Ascending by size, then by their first slot. */
export function openComponents(network: Network, closure: Closure, singles: ReadonlySet<number>): Component[] {
  const open = openPart(network, closure)
  const parts = new Map<number, Part>()
  const partOn = (slot: number): Part => {
    const root = find(open.parent, slot)
    let part = parts.get(root)
    if (part === undefined) parts.set(root, (part = { candidates: [], roots: [] }))
    return part
  }
  // Each candidate and each choice is in one component only, so these are enough for all.
  const local = new Int32Array(open.isOpen.length)
  const numbers = new Int32Array(network.choices.length).fill(-1)
  open.isOpen.forEach((bit, candidate) => {
    if (bit === 1) local[candidate] = partOn(network.slotOf[candidate] as number).candidates.push(candidate) - 1
  })
  for (const members of open.roots) partOn(network.slotOf[members[0] as number] as number).roots.push(members)
  return [...parts.values()]
    .map((part) => componentOf(network, closure, open, part, { local, numbers }, singles))
    .sort(
      (a, b) => a.candidates.length - b.candidates.length || (a.candidates[0] as number) - (b.candidates[0] as number),
    )
}

interface Part {
  readonly candidates: number[]
  readonly roots: (readonly number[])[]
}

interface OpenPart {
  /** Per candidate 1 if some solution may need it besides those that all select. */
  readonly isOpen: Uint8Array
  /** Sets of which every solution selects one, with none of those selected anyway. */
  readonly roots: readonly (readonly number[])[]
  /** Per choice 1 if some member is selected anyway. */
  readonly isMet: Uint8Array
  /** Union-find over slots. */
  readonly parent: Int32Array
  readonly keep: Float64Array
}

function openPart(network: Network, { must, forced }: Closure): OpenPart {
  const isOpen = new Uint8Array(must.length)
  const candidates: number[] = []
  const parent = Int32Array.from({ length: forced.length }, (_, slot) => slot)
  const meets = (members: readonly number[]): boolean => members.some((member) => must[member] === 1)
  const isMet = Uint8Array.from(network.choices, ({ members }) => (meets(members) ? 1 : 0))
  const enter = (members: readonly number[]): void => {
    for (const member of members) {
      if (isOpen[member] === 1) continue
      isOpen[member] = 1
      candidates.push(member)
    }
  }
  const roots = forced.flatMap((sets) => sets.filter((members) => !meets(members)))
  roots.forEach(enter)
  for (const candidate of candidates) {
    for (const id of network.needs[candidate] as readonly number[]) {
      if (isMet[id] === 1) continue
      const { members, slot } = network.choices[id] as Choice
      enter(members)
      unite(parent, network.slotOf[candidate] as number, slot)
    }
  }
  const keep = network.keep.slice()
  network.locked.forEach((lockedNeeds, owner) => {
    for (const { candidate, count } of lockedNeeds) {
      if (must[owner] === 1) keep[candidate] = (keep[candidate] as number) + count
      else if (isOpen[owner] === 1 && isOpen[candidate] === 1) {
        unite(parent, network.slotOf[owner] as number, network.slotOf[candidate] as number)
      }
    }
  })
  return { isOpen, roots, isMet, parent, keep }
}

function componentOf(
  network: Network,
  { must, forced }: Closure,
  open: OpenPart,
  { candidates, roots }: Part,
  { local, numbers }: { readonly local: Int32Array; readonly numbers: Int32Array },
  singles: ReadonlySet<number>,
): Component {
  const localised = (members: readonly number[]): number[] => members.map((member) => local[member] as number)
  const choices = roots.map(localised)
  const choiceOf = (id: number): number => {
    if (numbers[id] === -1) numbers[id] = choices.push(localised((network.choices[id] as Choice).members)) - 1
    return numbers[id] as number
  }
  const { slots, slotOf } = slotsOf(
    candidates,
    (candidate) => network.slotOf[candidate] as number,
    (slot) => ({
      slot,
      base: must.subarray(network.first[slot], network.first[slot + 1]).reduce((sum, bit) => sum + bit, 0),
      isNeeded: forced[slot]?.some((members) => !members.some((member) => must[member] === 1)) === true,
      isSingle: singles.has(slot),
    }),
  )
  const stray = candidates.map(() => 0)
  const locked: { owner: number; candidate: number; count: number }[] = []
  candidates.forEach((global, owner) => {
    for (const { candidate, count } of network.locked[global] ?? []) {
      if (must[candidate] === 1) continue
      if (open.isOpen[candidate] === 1) locked.push({ owner, candidate: local[candidate] as number, count })
      else stray[owner] = (stray[owner] as number) + count
    }
  })
  return {
    slots,
    candidates,
    slotOf,
    roots: roots.map((_, id) => id),
    needs: candidates.map((candidate) => {
      const ids: number[] = []
      for (const id of network.needs[candidate] as readonly number[]) if (open.isMet[id] === 0) ids.push(choiceOf(id))
      return ids
    }),
    choices,
    keep: candidates.map((candidate) => open.keep[candidate] as number),
    stray,
    locked,
    behind: candidates.map(
      (candidate) => (network.first[(network.slotOf[candidate] as number) + 1] as number) - 1 - candidate,
    ),
  }
}

/** The slots of these candidates, which are ascending, and per candidate the index of its own. */
export function slotsOf(
  candidates: readonly number[],
  slotAt: (candidate: number) => number,
  describe: (slot: number) => Omit<OpenSlot, 'from' | 'to'>,
): { slots: OpenSlot[]; slotOf: number[] } {
  const slots: OpenSlot[] = []
  const slotOf: number[] = []
  for (let from = 0; from < candidates.length;) {
    const slot = slotAt(candidates[from] as number)
    let to = from
    while (to < candidates.length && slotAt(candidates[to] as number) === slot) slotOf[to++] = slots.length
    slots.push({ ...describe(slot), from, to })
    from = to
  }
  return { slots, slotOf }
}

function find(parent: Int32Array, slot: number): number {
  let root = slot
  while (parent[root] !== root) root = parent[root] as number
  while (parent[slot] !== root) {
    const up = parent[slot] as number
    parent[slot] = root
    slot = up
  }
  return root
}

function unite(parent: Int32Array, a: number, b: number): void {
  const left = find(parent, a)
  const right = find(parent, b)
  parent[Math.max(left, right)] = Math.min(left, right)
}
