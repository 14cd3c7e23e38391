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
  const candidates = slotOf.length
  const found: Choice[] = []
  const interned = problem.names.map(() => new Map<number | string, number>())
  const choiceOf = (members: readonly number[]): number => {
    const slot = slotOf[members[0] as number] as number
    const known = interned[slot] as Map<number | string, number>
    const key = keyOf(members, first[slot] as number, first[slot + 1] as number)
    let id = known.get(key)
    if (id === undefined) {
      id = found.length
      known.set(key, id)
      found.push({ slot, members })
    }
    return id
  }
  const choicesOf = (demands: readonly Demand[]): number[] =>
    demands.map((demand) => choiceOf(membersOf(problem, first, demand)))
  const foundRoots = choicesOf(problem.roots)
  const foundNeeds = problem.demands.flatMap((slot) => slot.map(choicesOf))

  // Choices are numbered by content, so that nothing depends on the order in which demands were given.
  const order = found.map((_, id) => id).sort((a, b) => compareChoices(found[a] as Choice, found[b] as Choice))
  const rank = new Int32Array(order.length)
  order.forEach((id, place) => (rank[id] = place))
  const choices = order.map((id) => found[id] as Choice)
  const ranked = (ids: readonly number[]): number[] =>
    [...new Set(ids)].map((id) => rank[id] as number).sort((a, b) => a - b)

  const keep = new Float64Array(candidates)
  problem.lockedCount.forEach((counts, slot) =>
    counts.forEach((count, i) => (keep[(first[slot] as number) + i] = count)),
  )
  for (const { candidate, count } of lockedNeeds(problem.roots, first))
    keep[candidate] = (keep[candidate] as number) + count

  return {
    first,
    slotOf,
    choices,
    roots: ranked(foundRoots),
    needs: foundNeeds.map(ranked),
    keep,
    locked: problem.demands.flatMap((slot) => slot.map((demands) => lockedNeeds(demands, first))),
  }
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

function membersOf(problem: Problem, first: Int32Array, { slot, allowed }: Demand): number[] {
  const from = first[slot]
  const to = first[slot + 1]
  if (from === undefined || to === undefined)
    throw new RangeError(`a demand names slot ${slot} of ${problem.names.length}`)
  const members = allowed.map((candidate) => from + candidate)
  const ordered = members.every(
    (member, i) => member >= from && member < to && (i === 0 || member > (members[i - 1] as number)),
  )
  if (members.length === 0 || !ordered) {
    throw new RangeError(
      `a demand on "${problem.names[slot]}" allows [${allowed.join(', ')}] of ${to - from} candidates`,
    )
  }
  return members
}

function numberCandidates(problem: Problem): { first: Int32Array; slotOf: Int32Array } {
  const first = new Int32Array(problem.names.length + 1)
  problem.versions.forEach((versions, slot) => (first[slot + 1] = (first[slot] as number) + versions.length))
  const slotOf = new Int32Array(first[problem.names.length] as number)
  for (let slot = 0; slot < problem.names.length; slot++) slotOf.fill(slot, first[slot], first[slot + 1])
  return { first, slotOf }
}

/** A bitmap where the slot is small enough for one. */
function keyOf(members: readonly number[], from: number, to: number): number | string {
  if (to - from > 31) return members.join()
  let bits = 0
  for (const member of members) bits |= 1 << (member - from)
  return bits
}

// The same demand listed twice is one; the same lock entry seen by two owners is two edges that would move.
function lockedNeeds(demands: readonly Demand[], first: Int32Array): LockedNeed[] {
  if (demands.every(({ locked }) => locked === undefined)) return []
  const counts = new Map<number, number>()
  const seen = new Set<string>()
  for (const { slot, allowed, owner, locked } of demands) {
    if (locked === undefined || !allowed.includes(locked)) continue
    const key = `${slot}:${owner}:${locked}:${allowed.join()}`
    if (seen.has(key)) continue
    seen.add(key)
    const candidate = (first[slot] as number) + locked
    counts.set(candidate, (counts.get(candidate) ?? 0) + 1)
  }
  return [...counts].sort(([a], [b]) => a - b).map(([candidate, count]) => ({ candidate, count }))
}

function compareChoices({ slot, members: a }: Choice, { slot: otherSlot, members: b }: Choice): number {
  if (slot !== otherSlot) return slot - otherSlot
  for (let i = 0; i < a.length && i < b.length; i++) {
    const order = (a[i] as number) - (b[i] as number)
    if (order !== 0) return order
  }
  return a.length - b.length
}
