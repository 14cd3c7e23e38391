import type { Closure } from './closure.ts'
import type { Choice, Network } from './network.ts'

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
  const parts = new Map<number, number[]>()
  for (const candidate of open.candidates) {
    const root = find(open.parent, network.slotOf[candidate] as number)
    const part = parts.get(root)
    if (part === undefined) parts.set(root, [candidate])
    else part.push(candidate)
  }
  const rootsOf = new Map<number, (readonly number[])[]>()
  for (const members of open.roots) {
    const root = find(open.parent, network.slotOf[members[0] as number] as number)
    const roots = rootsOf.get(root)
    if (roots === undefined) rootsOf.set(root, [members])
    else roots.push(members)
  }
  return [...parts]
    .map(([root, candidates]) => componentOf(network, closure, open, candidates, rootsOf.get(root) ?? [], singles))
    .sort(
      (a, b) => a.candidates.length - b.candidates.length || (a.candidates[0] as number) - (b.candidates[0] as number),
    )
}

interface OpenPart {
  /** Candidates that some solution may need besides those that all select, ascending. */
  readonly candidates: readonly number[]
  readonly isOpen: Uint8Array
  /** Sets of which every solution selects one, with none of those selected anyway. */
  readonly roots: readonly (readonly number[])[]
  /** Per open candidate its demands that are not met anyway. */
  readonly needs: ReadonlyMap<number, readonly number[]>
  /** Union-find over slots. */
  readonly parent: Int32Array
  readonly keep: Float64Array
}

function openPart(network: Network, { must, forced }: Closure): OpenPart {
  const isOpen = new Uint8Array(must.length)
  const candidates: number[] = []
  const parent = Int32Array.from({ length: forced.length }, (_, slot) => slot)
  const needs = new Map<number, readonly number[]>()
  const isMet = (members: readonly number[]): boolean => members.some((member) => must[member] === 1)
  const enter = (members: readonly number[]): void => {
    for (const member of members) {
      if (isOpen[member] === 1) continue
      isOpen[member] = 1
      candidates.push(member)
    }
  }
  const roots = forced.flat().filter((members) => !isMet(members))
  roots.forEach(enter)
  for (let next = 0; next < candidates.length; next++) {
    const candidate = candidates[next] as number
    const slot = network.slotOf[candidate] as number
    const openNeeds = (network.needs[candidate] as readonly number[]).filter(
      (id) => !isMet((network.choices[id] as Choice).members),
    )
    needs.set(candidate, openNeeds)
    for (const id of openNeeds) {
      const choice = network.choices[id] as Choice
      enter(choice.members)
      unite(parent, slot, choice.slot)
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
  return { candidates: candidates.sort((a, b) => a - b), isOpen, roots, needs, parent, keep }
}

function componentOf(
  network: Network,
  { must, forced }: Closure,
  open: OpenPart,
  candidates: readonly number[],
  roots: readonly (readonly number[])[],
  singles: ReadonlySet<number>,
): Component {
  const local = new Map(candidates.map((candidate, i) => [candidate, i]))
  const localised = (members: readonly number[]): number[] => members.map((member) => local.get(member) as number)
  const choices = roots.map(localised)
  const localChoices = new Map<number, number>()
  const choiceOf = (id: number): number => {
    let choice = localChoices.get(id)
    if (choice === undefined) {
      choice = choices.length
      localChoices.set(id, choice)
      choices.push(localised((network.choices[id] as Choice).members))
    }
    return choice
  }
  const slots: OpenSlot[] = []
  const slotOf: number[] = []
  candidates.forEach((candidate, i) => {
    const slot = network.slotOf[candidate] as number
    const last = slots.at(-1)
    if (last?.slot === slot) slots[slots.length - 1] = { ...last, to: i + 1 }
    else {
      const base = must.subarray(network.first[slot], network.first[slot + 1]).reduce((sum, bit) => sum + bit, 0)
      const isNeeded = forced[slot]?.some((members) => !members.some((member) => must[member] === 1)) === true
      slots.push({ slot, base, isNeeded, isSingle: singles.has(slot), from: i, to: i + 1 })
    }
    slotOf.push(slots.length - 1)
  })
  const stray = candidates.map(() => 0)
  const locked: { owner: number; candidate: number; count: number }[] = []
  candidates.forEach((global, owner) => {
    for (const { candidate, count } of network.locked[global] ?? []) {
      if (must[candidate] === 1) continue
      const at = local.get(candidate)
      if (at === undefined) stray[owner] = (stray[owner] as number) + count
      else locked.push({ owner, candidate: at, count })
    }
  })
  return {
    slots,
    candidates,
    slotOf,
    roots: roots.map((_, id) => id),
    needs: candidates.map((candidate) => (open.needs.get(candidate) ?? []).map(choiceOf)),
    choices,
    keep: candidates.map((candidate) => open.keep[candidate] as number),
    stray,
    locked,
    behind: candidates.map(
      (candidate) => (network.first[(network.slotOf[candidate] as number) + 1] as number) - 1 - candidate,
    ),
  }
}

/** What a part of a component has to take into account of the rest. */
interface Surroundings {
  /** Per slot of the whole how many of its candidates are selected outside the part. */
  readonly base: readonly number[]
  /** Per candidate of the whole what comes on top of level 4. */
  readonly keep: ReadonlyMap<number, number>
  readonly stray: ReadonlyMap<number, number>
}

/**
 * The component of just these candidates, ascending; a choice keeps those of its members that are among them.
 * @param whole with just the roots that are wanted of the part, and the needs that are wanted of its candidates
 */
export function partOf(
  whole: Component,
  candidates: readonly number[],
  { base, keep, stray }: Surroundings,
): Component {
  const local = new Map(candidates.map((candidate, i) => [candidate, i]))
  const choices: number[][] = []
  const numbers = new Map<number, number>()
  const choiceOf = (id: number): number => {
    let number = numbers.get(id)
    if (number === undefined) {
      const members = whole.choices[id] as readonly number[]
      number = choices.push(members.flatMap((member) => local.get(member) ?? [])) - 1
      numbers.set(id, number)
    }
    return number
  }
  const roots = whole.roots.map(choiceOf)
  const slots: OpenSlot[] = []
  const slotOf: number[] = []
  candidates.forEach((candidate, i) => {
    const at = whole.slotOf[candidate] as number
    const slot = whole.slots[at] as OpenSlot
    const last = slots.at(-1)
    if (last?.slot === slot.slot) slots[slots.length - 1] = { ...last, to: i + 1 }
    else slots.push({ ...slot, base: base[at] as number, from: i, to: i + 1 })
    slotOf.push(slots.length - 1)
  })
  for (const id of roots) {
    const at = slotOf[choices[id]?.[0] as number] as number
    slots[at] = { ...(slots[at] as OpenSlot), isNeeded: true }
  }
  return {
    slots,
    candidates: candidates.map((candidate) => whole.candidates[candidate] as number),
    slotOf,
    choices,
    roots,
    needs: candidates.map((candidate) => (whole.needs[candidate] as readonly number[]).map(choiceOf)),
    keep: candidates.map((candidate) => (whole.keep[candidate] as number) + (keep.get(candidate) ?? 0)),
    stray: candidates.map((candidate) => (whole.stray[candidate] as number) + (stray.get(candidate) ?? 0)),
    locked: whole.locked.flatMap(({ owner, candidate, count }) => {
      const [localOwner, localCandidate] = [local.get(owner), local.get(candidate)]
      return localOwner === undefined || localCandidate === undefined
        ? []
        : [{ owner: localOwner, candidate: localCandidate, count }]
    }),
    behind: candidates.map((candidate) => whole.behind[candidate] as number),
  }
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
  const [low, high] = [find(parent, a), find(parent, b)].sort((x, y) => x - y) as [number, number]
  parent[high] = low
}
