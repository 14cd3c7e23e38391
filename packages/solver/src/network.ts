import type { Demand, Problem } from './problem.ts'

/**
 * A problem in one numbering, whatever the order and repetition of its demands: candidates are numbered through all
 * slots, and equal sets of allowed candidates are one *choice*.
 *
 *     slot      0      1          choice 0: {0}       "a 1.0.0"
 *     candidate 0 1    2 3 4      choice 1: {0, 1}    "a, any"
 */
export interface Network {
  /** Slot n has the candidates `first[n] … first[n + 1] - 1`, worst to best. */
  readonly first: Int32Array
  readonly slotOf: Int32Array
  readonly choices: readonly Choice[]
  /** The choices that services demand, ascending. */
  readonly roots: readonly number[]
  /** Per candidate the choices it demands, ascending. */
  readonly needs: readonly (readonly number[])[]
  /** Per candidate what level 4 pays when it is not selected: its locks, and the services whose own lock has it. */
  readonly keep: Float64Array
  /** Per candidate the locked candidates of its demands, with how many of its demands are locked to it. */
  readonly locked: readonly (readonly LockedNeed[])[]
}

export interface Choice {
  readonly slot: number
  /** Candidates, ascending. */
  readonly members: readonly number[]
}

export interface LockedNeed {
  readonly candidate: number
  readonly count: number
}

/** @throws RangeError if the problem breaks its own contract (an empty or foreign `allowed`). */
export function networkOf(problem: Problem): Network {
  const { first, slotOf } = numberCandidates(problem)
  const found: Choice[] = []
  const interned: (Map<number | string, number> | undefined)[] = problem.names.map(() => undefined)
  const choiceOf = (demand: Demand): number => {
    const { slot, allowed } = demand
    const key = keyOf(problem, demand)
    const known = (interned[slot] ??= new Map<number | string, number>())
    let id = known.get(key)
    if (id === undefined) {
      id = found.length
      known.set(key, id)
      const from = first[slot] as number
      found.push({ slot, members: allowed.map((candidate) => from + candidate) })
    }
    return id
  }
  const foundRoots = problem.roots.map(choiceOf)
  const foundNeeds = problem.demands.flatMap((slot) => slot.map((demands) => demands.map(choiceOf)))

  // Choices are numbered by content, so that nothing depends on the order in which demands were given.
  const { choices, rank } = inOrder(found, interned)
  const keep = new Float64Array(slotOf.length)
  problem.lockedCount.forEach((counts, slot) =>
    counts.forEach((count, i) => (keep[(first[slot] as number) + i] = count)),
  )
  for (const { candidate, count } of lockedNeeds(problem.roots, foundRoots, first))
    keep[candidate] = (keep[candidate] as number) + count
  const locked = problem.demands.flat().map((demands, i) => lockedNeeds(demands, foundNeeds[i] as number[], first))

  return {
    first,
    slotOf,
    choices,
    roots: ranked(foundRoots, rank),
    needs: foundNeeds.map((ids) => ranked(ids, rank)),
    keep,
    locked,
  }
}

/** The choices by slot, then by members; `rank` has for each the place it got. */
function inOrder(
  found: readonly Choice[],
  interned: readonly (ReadonlyMap<number | string, number> | undefined)[],
): { readonly choices: readonly Choice[]; readonly rank: Int32Array } {
  const rank = new Int32Array(found.length)
  const choices: Choice[] = []
  for (const ids of interned) {
    if (ids === undefined) continue
    for (const id of [...ids.values()].sort((a, b) => compareMembers(found[a] as Choice, found[b] as Choice)))
      rank[id] = choices.push(found[id] as Choice) - 1
  }
  return { choices, rank }
}

/** The places of these choices, ascending, each once; in the same array. */
function ranked(ids: number[], rank: Int32Array): number[] {
  for (let i = 0; i < ids.length; i++) {
    const place = rank[ids[i] as number] as number
    let at = i
    for (; at > 0 && (ids[at - 1] as number) > place; at--) ids[at] = ids[at - 1] as number
    ids[at] = place
  }
  let kept = 0
  for (let i = 0; i < ids.length; i++) if (i === 0 || ids[i] !== ids[i - 1]) ids[kept++] = ids[i] as number
  ids.length = kept
  return ids
}

/** True if every member of `a` is one of `b`; both ascending. */
export function isSubset(a: readonly number[], b: readonly number[]): boolean {
  let at = 0
  for (const member of a) {
    while (at < b.length && (b[at] as number) < member) at++
    if (b[at] !== member) return false
  }
  return true
}

function numberCandidates(problem: Problem): { first: Int32Array; slotOf: Int32Array } {
  const first = new Int32Array(problem.names.length + 1)
  problem.versions.forEach((versions, slot) => (first[slot + 1] = (first[slot] as number) + versions.length))
  const slotOf = new Int32Array(first[problem.names.length] as number)
  for (let slot = 0; slot < problem.names.length; slot++) slotOf.fill(slot, first[slot], first[slot + 1])
  return { first, slotOf }
}

/** What tells the choices of a slot apart: a bitmap where the slot is small enough for one. */
function keyOf({ names, versions }: Problem, { slot, allowed }: Demand): number | string {
  const width = versions[slot]?.length
  if (width === undefined) throw new RangeError(`a demand names slot ${slot} of ${names.length}`)
  let bits = 0
  let last = -1
  for (const candidate of allowed) {
    if (!(candidate > last && candidate < width)) last = Infinity
    else last = candidate
    bits |= 1 << candidate
  }
  if (last === -1 || last === Infinity)
    throw new RangeError(`a demand on "${names[slot]}" allows [${allowed.join(', ')}] of ${width} candidates`)
  return width > 31 ? allowed.join() : bits
}

const NONE: readonly LockedNeed[] = []

/**
 * The same demand listed twice is one; the same lock entry seen by two owners is two edges that would move.
 * @param ids the choice of each demand
 */
function lockedNeeds(demands: readonly Demand[], ids: readonly number[], first: Int32Array): readonly LockedNeed[] {
  if (demands.every(({ locked }) => locked === undefined)) return NONE
  const counts = new Map<number, number>()
  const seen = new Map<number, Set<number>>()
  demands.forEach(({ slot, allowed, owner, locked }, i) => {
    if (locked === undefined || !allowed.includes(locked)) return
    const candidate = (first[slot] as number) + locked
    const key = (ids[i] as number) * 2 ** 26 + owner
    const owners = seen.get(candidate)
    if (owners === undefined) seen.set(candidate, new Set([key]))
    else if (owners.has(key)) return
    else owners.add(key)
    counts.set(candidate, (counts.get(candidate) ?? 0) + 1)
  })
  return [...counts].sort(([a], [b]) => a - b).map(([candidate, count]) => ({ candidate, count }))
}

function compareMembers({ members: a }: Choice, { members: b }: Choice): number {
  for (let i = 0; i < a.length && i < b.length; i++) {
    const order = (a[i] as number) - (b[i] as number)
    if (order !== 0) return order
  }
  return a.length - b.length
}
