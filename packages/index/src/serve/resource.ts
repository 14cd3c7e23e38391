import type { IncomingMessage, ServerResponse } from 'node:http'

import { PolderError } from '@polder/spec'

import type { Conditions } from './conditions.ts'
import type { Counters, RequestKind } from './metrics.ts'

/** One request and what is needed to answer it. */
export interface Exchange {
  readonly request: IncomingMessage
  readonly response: ServerResponse
  readonly conditions: Conditions
  readonly counters: Counters
}

/** What a URL stands for. It answers GET and HEAD. */
export interface Resource {
  answer(exchange: Exchange): void | Promise<void>
}

/** An answer that is a sentence: why something is refused, mostly. */
export interface Failure {
  readonly status: number
  /** Stable, for programs. */
  readonly code: string
  /** For people. Clients show it behind the status. */
  readonly reason: string
  readonly headers?: Readonly<Record<string, string>>
}

/** `{ error, reason, code }`: npm and pnpm show `error`, registries of other makes have `reason`. */
export function answerFailure({ response, counters }: Exchange, kind: RequestKind, failure: Failure): void {
  const { status, code, reason, headers = {} } = failure
  if (response.headersSent) {
    response.destroy()
    return
  }
  const body = JSON.stringify({ error: reason, reason, code })
  response.writeHead(status, {
    'content-type': 'application/json',
    'content-length': Buffer.byteLength(body),
    'cache-control': 'no-store',
    ...headers,
  })
  response.end(body)
  counters.count(kind, status, body.length)
}

export function answerJson(
  { response, counters }: Exchange,
  value: unknown,
  headers: Readonly<Record<string, string>> = {},
): void {
  const body = JSON.stringify(value)
  response.writeHead(200, {
    'content-type': 'application/json',
    'content-length': Buffer.byteLength(body),
    'cache-control': 'no-cache',
    ...headers,
  })
  response.end(body)
  counters.count('service', 200, body.length)
}

/** What went wrong while a resource was made: damage in the store is named, the rest is a bug or a broken disk. */
export function failureOf(error: unknown): Failure {
  if (error instanceof PolderError) {
    const { hint } = error.details
    return {
      status: error.code.startsWith('ARTIFACT_') ? 503 : 500,
      code: error.code,
      reason: hint === undefined ? error.message : `${error.message}; ${hint}`,
    }
  }
  return {
    status: 500,
    code: 'UNEXPECTED',
    reason: `unexpected: ${error instanceof Error ? error.message : String(error)}`,
  }
}
