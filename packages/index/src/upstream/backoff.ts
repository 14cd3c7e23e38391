import { setTimeout as sleepFor } from 'node:timers/promises'

import type { RetryPolicy } from './npm-config.ts'

/** Time and chance, which tests replace. */
export interface Clock {
  /** Milliseconds since 1970. */
  readonly now: () => number
  /** From 0 up to, not including, 1. */
  readonly random: () => number
  /** Rejects when the signal is aborted. */
  readonly sleep: (ms: number, signal: AbortSignal) => Promise<void>
}

export const systemClock: Clock = {
  now: Date.now,
  random: Math.random,
  sleep: (ms, signal) => sleepFor(ms, undefined, { signal }),
}

/**
 * How long to wait after the failed attempt number `attempt` (from 0): npm's exponential backoff, of which a random part,
 * up to half, is taken off so that many clients do not come back at once. A server that says when to come back
 * (Retry-After, RFC 9110 section 10.2.3) is believed, up to `maxMs`.
 */
export function waitBefore(attempt: number, policy: RetryPolicy, clock: Clock, retryAfter: string | undefined): number {
  const asked = retryAfter === undefined ? undefined : retryAfterMs(retryAfter, clock.now())
  if (asked !== undefined) return Math.min(asked, policy.maxMs)
  return Math.round(Math.min(policy.minMs * policy.factor ** attempt, policy.maxMs) * (1 - clock.random() / 2))
}

function retryAfterMs(value: string, now: number): number | undefined {
  if (/^\d+$/.test(value.trim())) return Number(value) * 1000
  const date = Date.parse(value)
  return Number.isNaN(date) ? undefined : Math.max(0, date - now)
}

// Errors of the connection, of Node and of undici, after which the same request may well succeed.
const TRANSIENT = new Set(
  [
    'ECONNRESET ECONNREFUSED ECONNABORTED ETIMEDOUT EPIPE EAI_AGAIN ENOTFOUND ENETUNREACH EHOSTUNREACH EMFILE',
    'UND_ERR_CONNECT_TIMEOUT UND_ERR_HEADERS_TIMEOUT UND_ERR_BODY_TIMEOUT UND_ERR_SOCKET UND_ERR_PRX_CONN',
    'UND_ERR_RES_CONTENT_LENGTH_MISMATCH',
  ].flatMap((line) => line.split(' ')),
)

// Of those, the ones that say that the host cannot be reached at all, so that every other request will fail alike.
const UNREACHABLE = new Set(
  'ECONNREFUSED EAI_AGAIN ENOTFOUND ENETUNREACH EHOSTUNREACH UND_ERR_CONNECT_TIMEOUT UND_ERR_PRX_CONN'.split(' '),
)

export function isTransient(error: unknown): boolean {
  return codesOf(error).some((code) => TRANSIENT.has(code) || code.startsWith('HPE_'))
}

export function isUnreachable(error: unknown): boolean {
  return codesOf(error).some((code) => UNREACHABLE.has(code))
}

/** 408, 425 and 429 ask to come back; 5xx may pass, except 501 and 505, which say that they will not. */
export function isTransientStatus(status: number): boolean {
  return status === 408 || status === 425 || status === 429 || (status >= 500 && status !== 501 && status !== 505)
}

/** The error's own code and those of its causes: a refused connection to several addresses is an AggregateError. */
function codesOf(error: unknown): readonly string[] {
  const codes: string[] = []
  let current: unknown = error
  for (let depth = 0; depth < 5 && current instanceof Error; depth += 1) {
    codes.push(...[current, ...(current instanceof AggregateError ? (current.errors as unknown[]) : [])].map(codeOf))
    current = current.cause
  }
  return codes.filter((code) => code !== '')
}

function codeOf(error: unknown): string {
  const code = error instanceof Error ? (error as NodeJS.ErrnoException).code : undefined
  return typeof code === 'string' ? code : ''
}
