import { pipeline } from 'node:stream/promises'
import { createGunzip } from 'node:zlib'

import { PolderError } from '@polder/spec'
import type { Dispatcher } from 'undici'

import { type Clock, isTransient, isTransientStatus, isUnreachable, waitBefore } from './backoff.ts'
import { openConnections } from './connections.ts'
import { type Answer, exchange } from './exchange.ts'
import { credentialsFor, type NpmConfig, redactUrl } from './npm-config.ts'

/** Downloads from the user's registries. Ends with `close`. */
export interface Upstream {
  /**
   * Gets a URL, redirects followed and passing failures retried, and hands the body to `consume`, which is called anew
   * for each attempt. What `consume` throws of its own accord ends the download.
   * @throws PolderError `FETCH_FAILED`, with `found` the status where there was one
   */
  download<T>(request: DownloadRequest, consume: Consume<T>): Promise<T>
  close(): Promise<void>
}

/** As they came: names in lower case. */
export type Headers = Answer['headers']
type Consume<T> = (body: AsyncIterable<Uint8Array>, headers: Headers) => Promise<T>

interface DownloadRequest {
  readonly url: string
  /** The registry on whose behalf it is asked: its credentials go to its host, wherever on it the URL is. */
  readonly registry?: string
  readonly accept?: string
  /** More than this is a failure, also of what comes out of a compressed body. */
  readonly maxBytes: number
  /** For documents, whose bytes are not what is hashed. */
  readonly compressed?: boolean
  /** The ETag of what is known; 304 is then a failure like other statuses, with `found` 304. */
  readonly ifNoneMatch?: string
  readonly method?: 'GET' | 'HEAD'
}

const MAX_REDIRECTS = 10
// Of an answer that is of no use: reading so much keeps the connection.
const SHORT_BYTES = 64 * 1024
// A body that trickles never runs into the timeout between two chunks.
const ATTEMPT_TIMEOUTS = 6

/** Loads the HTTP client, so call it only when something has to be fetched. */
export async function openUpstream(config: NpmConfig, clock: Clock): Promise<Upstream> {
  // All of undici takes 30 ms to load, nine tenths of which (fetch, WebSocket, caches) are not needed here. Proxies need
  // what it does to its own classes.
  const { http, https } = config.proxy
  const [{ default: Agent }, proxies] = await Promise.all([
    import('undici/lib/dispatcher/agent.js'),
    http === null && https === null ? undefined : import('undici'),
  ])
  const connections = openConnections(config, Agent, proxies)
  // Hosts that could not be reached in all the attempts of one download: the others get one attempt each.
  const unreachable = new Set<string>()
  const closed = new AbortController()

  async function attempt<T>(request: DownloadRequest, consume: Consume<T>): Promise<T> {
    const { answer, url } = await follow(request)
    const { statusCode, headers, body } = answer
    if (statusCode !== 200) {
      await body.end(SHORT_BYTES)
      throw new StatusError(statusCode, url, single(headers['retry-after']))
    }
    const failure: Failure = { happened: false, cause: undefined }
    try {
      const announced = request.method === 'HEAD' ? Number.NaN : Number(single(headers['content-length']) ?? Number.NaN)
      const received = checked(body, announced, request.maxBytes, url, failure)
      const packed = request.compressed === true && single(headers['content-encoding']) === 'gzip'
      return await consume(packed ? unpacked(received, request.maxBytes, url, failure) : received, headers)
    } catch (error) {
      // The consumer may have wrapped what the network did; that is what decides about another attempt.
      if (failure.happened) throw failure.cause
      throw new ConsumerError(error)
    } finally {
      await body.end()
    }
  }

  async function follow(request: DownloadRequest): Promise<{ readonly answer: Answer; readonly url: URL }> {
    const deadline = performance.now() + config.sockets.timeoutMs * ATTEMPT_TIMEOUTS
    let url = parseUrl(request.url)
    let trusted = true
    for (let redirects = 0; redirects <= MAX_REDIRECTS; redirects += 1) {
      const credentials = trusted ? credentialsFor(config, url, request.registry) : undefined
      const authorization = trusted ? (credentials?.authorization ?? userInfo(url)) : undefined
      const options: Dispatcher.DispatchOptions = {
        origin: url.origin,
        path: `${url.pathname}${url.search}`,
        method: request.method ?? 'GET',
        headers: {
          accept: request.accept ?? '*/*',
          // A tarball is compressed already, and what is hashed has to be what was published.
          'accept-encoding': request.compressed === true ? 'gzip' : 'identity',
          ...(request.ifNoneMatch === undefined ? {} : { 'if-none-match': request.ifNoneMatch }),
          'user-agent': `polder node/${process.versions.node} ${process.platform} ${process.arch}`,
          ...(authorization === undefined ? {} : { authorization }),
        },
      }
      const dispatcher = connections.to(url, credentials?.certificate)
      const answer = await exchange(dispatcher, options, deadline - performance.now())
      const location = single(answer.headers['location'])
      if (![301, 302, 303, 307, 308].includes(answer.statusCode) || location === undefined) return { answer, url }
      await answer.body.end(SHORT_BYTES)
      const next = URL.parse(location, url)
      if (next === null || !/^https?:$/.test(next.protocol))
        throw refused(url, 'redirects to what is no http or https URL')
      // Once elsewhere, nothing secret is sent any more, not even if the way leads back.
      trusted &&= next.host === url.host && !(url.protocol === 'https:' && next.protocol === 'http:')
      url = next
    }
    throw refused(parseUrl(request.url), `redirects more than ${MAX_REDIRECTS} times`)
  }

  return {
    async download(request, consume) {
      const { host } = parseUrl(request.url)
      for (let failed = 0; ; failed += 1) {
        try {
          return await attempt(request, consume)
        } catch (error) {
          if (error instanceof ConsumerError) throw error.cause
          const passing =
            error instanceof StatusError ? isTransientStatus(error.status) : isTransient(error) || isTimeout(error)
          if (error instanceof PolderError) throw error
          if (!passing || failed >= config.retry.retries || unreachable.has(host)) {
            if (isUnreachable(error)) unreachable.add(host)
            throw explained(error, request, failed + 1)
          }
          const asked = error instanceof StatusError ? error.retryAfter : undefined
          const waitMs = waitBefore(failed, config.retry, clock, asked)
          config.onWait?.({ host, reason: reasonOf(error), waitMs, left: config.retry.retries - failed })
          await clock.sleep(waitMs, closed.signal)
        }
      }
    },
    async close() {
      closed.abort()
      await connections.close()
    },
  }
}

/** What the network did, however the consumer words it. */
interface Failure {
  happened: boolean
  cause: unknown
}

class StatusError extends Error {
  readonly status: number
  readonly url: URL
  readonly retryAfter: string | undefined

  constructor(status: number, url: URL, retryAfter: string | undefined) {
    super(`${redactUrl(url)} answered ${status}`)
    this.status = status
    this.url = url
    this.retryAfter = retryAfter
  }
}

/** What `consume` threw although the network did its part. */
class ConsumerError extends Error {
  constructor(cause: unknown) {
    super('the body could not be used', { cause })
  }
}

/** The body, counted: too much of it is refused, less than announced is a failure like a lost connection. */
async function* checked(
  body: AsyncIterable<Uint8Array>,
  announced: number,
  maxBytes: number,
  url: URL,
  failure: Failure,
): AsyncGenerator<Uint8Array, void, undefined> {
  let bytes = 0
  try {
    if (announced > maxBytes) throw refused(url, `announces ${announced} bytes, more than the ${maxBytes} allowed`)
    for await (const chunk of body) {
      bytes += chunk.byteLength
      if (bytes > maxBytes) throw refused(url, `sends more than the ${maxBytes} bytes allowed`)
      yield chunk
    }
    if (bytes < announced)
      throw Object.assign(new Error(`ended after ${bytes} of ${announced} bytes`), { code: 'ECONNRESET' })
  } catch (error) {
    failure.happened = true
    failure.cause = error
    throw error
  }
}

/** What comes out of a gzipped body, counted: what a bomb unpacks to is refused as it comes. */
async function* unpacked(
  body: AsyncIterable<Uint8Array>,
  maxBytes: number,
  url: URL,
  failure: Failure,
): AsyncGenerator<Uint8Array, void, undefined> {
  const gunzip = createGunzip()
  // What fails on the way in comes out as the error of the last stream.
  const fed = pipeline(body, gunzip).catch(() => undefined)
  try {
    yield* checked(gunzip as AsyncIterable<Uint8Array>, Number.NaN, maxBytes, url, failure)
  } finally {
    gunzip.destroy()
    await fed
  }
}

function reasonOf(error: unknown): string {
  if (error instanceof StatusError) return `answered ${error.status}`
  return `${isUnreachable(error) ? 'cannot be reached' : 'broke off'} (${messageOf(error)})`
}

function messageOf(error: unknown): string {
  if (error instanceof AggregateError) return (error.errors[0] as Error).message
  return error instanceof Error ? error.message : String(error)
}

function explained(error: unknown, request: DownloadRequest, attempts: number): PolderError {
  const times = attempts === 1 ? '' : ` (${attempts} attempts)`
  if (error instanceof StatusError) {
    const { status } = error
    return new PolderError('FETCH_FAILED', `${error.message}${times}`, {
      found: String(status),
      ...hintFor(status, error.url),
      cause: error,
    })
  }
  const certificate = /CERT|SELF_SIGNED|UNABLE_TO/.test((error as NodeJS.ErrnoException).code ?? '')
  return new PolderError('FETCH_FAILED', `${redactUrl(request.url)} could not be read: ${messageOf(error)}${times}`, {
    cause: error,
    hint: certificate
      ? 'set "cafile" in .npmrc to the certificate of the authority that your registry uses'
      : 'check the connection, and "registry" and "proxy" in .npmrc; `polder index sync` goes on with what is missing',
  })
}

function hintFor(status: number, url: URL): { readonly hint?: string } {
  if (status === 401 || status === 403) return { hint: `check the credentials for //${url.host}/ in .npmrc` }
  return isTransientStatus(status)
    ? { hint: 'run `polder index sync` again later; it goes on with what is missing' }
    : {}
}

function refused(url: URL, problem: string): PolderError {
  return new PolderError('FETCH_FAILED', `${redactUrl(url)} ${problem}`)
}

function parseUrl(text: string): URL {
  const url = URL.parse(text)
  if (url === null || !/^https?:$/.test(url.protocol))
    throw new PolderError('SOURCE_UNSUPPORTED', `${redactUrl(text)} is no http or https URL`)
  return url
}

/** `https://user:password@host/` shows its credentials to that host. */
function userInfo(url: URL): string | undefined {
  if (url.username === '' && url.password === '') return undefined
  return `Basic ${Buffer.from(`${safeDecode(url.username)}:${safeDecode(url.password)}`).toString('base64')}`
}

function safeDecode(text: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    return text
  }
}

function isTimeout(error: unknown): boolean {
  return error instanceof DOMException && error.name === 'TimeoutError'
}

function single(value: string | string[] | undefined): string | undefined {
  return Array.isArray(value) ? value[0] : value
}
