/**
 * A set of the states that a slot can be in: bit 0 is "absent", bit i + 1 "candidate i is selected". A slot is in
 * exactly one state. Words of 32 bits, all bitmaps of a slot equally long; whatever is beyond the last state is 0.
 *
 *     foo has 1.0.0 1.5.0 2.0.0      absent 1.0.0 1.5.0 2.0.0
 *     foo ^1.0.0                        0     1     1     0      is selected, at one of these
 *     not foo ^1.0.0                    1     0     0     1      the complement: absent, or another one
 */
export type Bitmap = readonly number[]

/** Of a slot with that many candidates: every state. */
export function anyState(candidates: number): Bitmap {
  const states = candidates + 1
  return Array.from({ length: Math.ceil(states / 32) }, (_, word) => {
    const left = states - 32 * word
    return left >= 32 ? -1 : (1 << left) - 1
  })
}

/** Selected, at one of these; `any` is of the same slot. */
export function selectedAt(any: Bitmap, candidates: readonly number[]): Bitmap {
  const words = any.map(() => 0)
  for (const candidate of candidates) {
    const bit = candidate + 1
    words[bit >>> 5] = (words[bit >>> 5] as number) | (1 << (bit & 31))
  }
  return words
}

/** not foo ^1.0.0 is absent, or foo 2.0.0 */
export function complement(any: Bitmap, of: Bitmap): Bitmap {
  return any.map((word, i) => word & ~(of[i] as number))
}

/** foo ^1.0.0 ∩ not foo ^1.5.0 is foo 1.0.0 */
export function intersection(a: Bitmap, b: Bitmap): Bitmap {
  if (a.length === 1) return [(a[0] as number) & (b[0] as number)]
  return a.map((word, i) => word & (b[i] as number))
}

/** not foo ^1.0.0 ∪ not foo ^2.0.0 is every state: a slot is never at two candidates */
export function union(a: Bitmap, b: Bitmap): Bitmap {
  return a.map((word, i) => word | (b[i] as number))
}

/** foo ^1.5.0 is a subset of foo ^1.0.0, and of not foo ^2.0.0 */
export function isSubset(a: Bitmap, b: Bitmap): boolean {
  for (let i = 0; i < a.length; i++) if (((a[i] as number) & ~(b[i] as number)) !== 0) return false
  return true
}

/** foo ^1.0.0 is disjoint with foo ^2.0.0, and with not foo */
export function isDisjoint(a: Bitmap, b: Bitmap): boolean {
  for (let i = 0; i < a.length; i++) if (((a[i] as number) & (b[i] as number)) !== 0) return false
  return true
}

/** foo ^1.0.0 allows it, not foo ^1.0.0 too */
export function hasCandidate(states: Bitmap, candidate: number): boolean {
  const bit = candidate + 1
  return (((states[bit >>> 5] as number) >>> (bit & 31)) & 1) === 1
}

/** not foo ^1.0.0 allows it, foo ^1.0.0 does not */
export function allowsAbsent(states: Bitmap): boolean {
  return ((states[0] as number) & 1) === 1
}

/** How many states. */
export function sizeOf(states: Bitmap): number {
  let size = 0
  for (let word of states) for (; word !== 0; word &= word - 1) size++
  return size
}

/** The candidates among the states, ascending. */
export function candidatesIn(states: Bitmap, count: number): number[] {
  return Array.from({ length: count }, (_, candidate) => candidate).filter((each) => hasCandidate(states, each))
}
