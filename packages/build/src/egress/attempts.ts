/** Something that a build tried to reach and did not. */
export interface Attempt {
  readonly kind: 'dns' | 'tcp' | 'udp'
  /** The name that was asked for, or the one that the address was given out for. */
  readonly name?: string
  /** Of a question: `A`, `AAAA`, `TXT`… */
  readonly type?: string
  readonly address?: string
  readonly port?: number
  /** The server name of a TLS handshake. */
  readonly sni?: string
  /** Of an HTTP request: method, path, and the Host header. */
  readonly request?: string
  readonly host?: string
  /** The first bytes that were sent; what is not printable as `\xNN`. */
  readonly first?: string
  /** The command line of the process, if it was still there to be asked. */
  readonly command?: string
  /** Those of its parents, nearest first, up to the build's own. */
  readonly ancestry?: readonly string[]
  /** How often the same was seen. */
  readonly count: number
  /** Milliseconds since the build began, of the first. */
  readonly at: number
}

export type NewAttempt = Omit<Attempt, 'count' | 'at'>

// A build may try without end. What is kept of it is bounded: so many different ones, each of them small.
const KEPT = 500
// To find out whose an attempt is takes a look at all processes of the build.
const LOOKED_AT = 5000

/** What one build tried. Equal attempts are counted, and what is too many to keep is counted as well. */
export interface AttemptList {
  /** False once there were so many that it is not worth finding out more about another. */
  readonly hasRoom: () => boolean
  readonly add: (attempt: NewAttempt) => void
  /** In the order in which they were first seen. */
  readonly list: () => readonly Attempt[]
  /** How many were not kept. */
  readonly dropped: () => number
  /** How many there were of any kind. */
  readonly seen: () => number
}

export function attemptList(began: number = performance.now()): AttemptList {
  const kept = new Map<string, Attempt>()
  let dropped = 0
  let seen = 0
  return {
    hasRoom: () => kept.size < KEPT && seen < LOOKED_AT,
    add: (attempt) => {
      seen++
      const { first, ...identity } = attempt
      const key = JSON.stringify(identity)
      const before = kept.get(key)
      if (before !== undefined) {
        // The first of them that said something.
        kept.set(key, { ...(first === undefined ? {} : { first }), ...before, count: before.count + 1 })
      } else if (kept.size < KEPT) {
        kept.set(key, { ...attempt, count: 1, at: Math.round(performance.now() - began) })
      } else dropped++
    },
    list: () => [...kept.values()],
    dropped: () => dropped,
    seen: () => seen,
  }
}
