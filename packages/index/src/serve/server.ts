import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import { setImmediate, setTimeout as sleep } from 'node:timers/promises'

import { PACKED_BASE } from './document-pack.ts'
import { listen, type ListenAddress, type Listening } from './listen-address.ts'
import { Counters, type MetricsSample } from './metrics.ts'
import { type NamedLock, openIndex, type PinnedIndex } from './pinned-index.ts'
import type { Refusal } from './refusal.ts'
import { createRouter } from './router.ts'

export { openIndex, type ListenAddress, type MetricsSample, type NamedLock, type PinnedIndex, type Refusal }
export { lockedPins, type LockedPins, type UnpinnedVersion } from './locked-pins.ts'
export { openPack } from './document-pack.ts'
export { packDocuments } from './pack-documents.ts'

export { clearRefused, openRefusedRecord, readRefused, type RefusedEntry } from './refused.ts'

export interface ServerOptions {
  readonly listen: ListenAddress
  /**
   * What the URLs in documents begin with. Default: the address that is listened at, or for a unix socket
   * `http://127.0.0.1:4873/`. Never what a client sends.
   */
  readonly baseUrl?: string
  /** Who the requests of this server are on behalf of, such as the package that is being built. */
  readonly asker?: string
  /** Called for every answered request. Without it none is looked at. */
  readonly onRequest?: (request: AnsweredRequest) => void
  /** Called for every request for what is not pinned. */
  readonly onRefused?: (refusal: Refusal) => void
  /** What nobody expects: the client gets a 500. */
  readonly onError?: (error: unknown) => void
  /** The state of every process that serves here, for `/-/metrics`; by default of this one. */
  readonly metrics?: (own: MetricsSample) => Promise<readonly MetricsSample[]>
}

/** One line of a request log. */
export interface AnsweredRequest {
  readonly method: string
  readonly url: string
  readonly status: number
  /** False if the client went away before the end. */
  readonly complete: boolean
  readonly durationMs: number
  readonly userAgent?: string
}

export interface IndexServer {
  /** The base URL, which ends in a slash. */
  readonly url: string
  /** `127.0.0.1:4873`, or the path of the socket. */
  readonly address: string
  /** Answers from another index from now on: the lock changed. */
  use(index: PinnedIndex): void
  /** Brings the documents into memory before somebody asks for them, as far as there is room for them. */
  prepare(): Promise<void>
  /** What `/-/metrics` says of this process. */
  sample(): MetricsSample
  /** Takes no more requests, finishes those that are being answered, at most for `graceMs` (default: 10 s). */
  close(graceMs?: number): Promise<void>
}

/** Against clients that send their request slowly, or nothing, or too much. In milliseconds and bytes. */
const LIMITS = {
  headersTimeout: 5_000,
  requestTimeout: 60_000,
  keepAliveTimeout: 60_000,
  connectionsCheckingInterval: 2_000,
  maxHeaderSize: 16 * 1024,
} as const
const MAX_CONNECTIONS = 4096
/** Without a byte in either direction. */
const IDLE_MS = 120_000
const GRACE_MS = 10_000
/** Without a request, before documents are made that nobody asked for. */
const QUIET_MS = 100

/**
 * Serves an index over HTTP, read-only, on loopback or a unix socket (mode 0600).
 * @throws PolderError `ADDRESS_REFUSED`
 */
export async function startIndexServer(index: PinnedIndex, options: ServerOptions): Promise<IndexServer> {
  const counters = new Counters()
  const server = createServer(LIMITS)
  server.maxConnections = MAX_CONNECTIONS
  server.timeout = IDLE_MS
  server.on('connection', (socket: Socket) => {
    counters.connections += 1
    socket.once('close', () => (counters.connections -= 1))
  })
  server.on('clientError', answerClientError)
  const listening = await listen(server, options.listen)
  const baseUrl = withSlash(
    options.baseUrl ?? (listening.port === undefined ? PACKED_BASE : `http://${listening.address}/`),
  )
  let site = index.site(baseUrl)
  const sample = (): MetricsSample => sampleOf(counters, site.index)
  const router = createRouter({
    site: () => site,
    counters,
    hosts: listening.port === undefined ? null : hostsOf(listening, baseUrl),
    asker: options.asker,
    socket: listening.address,
    metrics: () => options.metrics?.(sample()) ?? Promise.resolve([sample()]),
    onRefused: options.onRefused ?? (() => undefined),
    onError: options.onError ?? (() => undefined),
  })
  const { onRequest } = options
  server.on('request', onRequest === undefined ? router : logged(router, onRequest))
  return {
    url: baseUrl,
    address: listening.address,
    use: (other) => {
      site = other.site(baseUrl)
    },
    prepare: async () => {
      const prepared = site
      const isOver = (): boolean => site !== prepared || !server.listening
      let seen = counters.requests
      await prepared.prepare(async () => {
        await setImmediate()
        // Requests come first, and soon after one there is mostly another.
        while (seen !== counters.requests && !isOver()) {
          seen = counters.requests
          await sleep(QUIET_MS, undefined, { ref: false })
        }
        return !isOver()
      })
    },
    sample,
    close: (graceMs = GRACE_MS) => close(server, listening, graceMs),
  }
}

function logged(router: ReturnType<typeof createRouter>, onRequest: (request: AnsweredRequest) => void): typeof router {
  return (request, response) => {
    const started = performance.now()
    response.once('close', () => {
      onRequest(answered(request, response, performance.now() - started))
    })
    router(request, response)
  }
}

function answered(request: IncomingMessage, response: ServerResponse, durationMs: number): AnsweredRequest {
  const userAgent = request.headers['user-agent']
  return {
    method: request.method ?? '',
    url: request.url ?? '',
    status: response.statusCode,
    complete: response.writableFinished,
    durationMs,
    ...(userAgent === undefined ? {} : { userAgent }),
  }
}

/** The names by which a loopback address is asked. */
function hostsOf({ port, address }: Listening, baseUrl: string): ReadonlySet<string> {
  const names = ['127.0.0.1', 'localhost', '[::1]'].flatMap((name) => [
    `${name}:${port}`,
    // What clients leave out.
    ...(port === 80 ? [name] : []),
  ])
  return new Set([...names, address, new URL(baseUrl).host])
}

/** What is no HTTP, or too long, or too slow: Node's own answers, with a reason. */
function answerClientError(error: NodeJS.ErrnoException, socket: Socket): void {
  // What has been answered must not be answered again; whatever follows on such a connection is not read.
  if (error.code === 'ECONNRESET' || !socket.writable || socket.bytesWritten > 0) {
    socket.destroy()
    return
  }
  const status =
    error.code === 'HPE_HEADER_OVERFLOW'
      ? '431 Request Header Fields Too Large'
      : error.code === 'ERR_HTTP_REQUEST_TIMEOUT'
        ? '408 Request Timeout'
        : '400 Bad Request'
  const reason = `the request cannot be answered: ${status.slice(4).toLowerCase()}`
  const body = JSON.stringify({ error: reason, reason, code: 'BAD_REQUEST' })
  socket.end(
    `HTTP/1.1 ${status}\r\nContent-Type: application/json\r\nContent-Length: ${Buffer.byteLength(body)}\r\nConnection: close\r\n\r\n${body}`,
  )
}

async function close(server: Server, listening: Listening, graceMs: number): Promise<void> {
  const closed = new Promise<void>((resolve) => server.close(() => resolve()))
  listening.release()
  server.closeIdleConnections()
  const timer = setTimeout(() => {
    server.closeAllConnections()
  }, graceMs)
  // A connection that becomes idle after its answer would otherwise stay open until it times out.
  const sweep = setInterval(() => {
    server.closeIdleConnections()
  }, 50)
  await closed
  clearTimeout(timer)
  clearInterval(sweep)
}

function sampleOf(counters: Counters, { bodies: { memory }, all }: PinnedIndex): MetricsSample {
  const { user, system } = process.cpuUsage()
  let pins = 0
  for (const versions of all.versions.values()) pins += versions.size
  return {
    answers: counters.answers,
    bytes: counters.bytes,
    damaged: counters.damaged,
    connections: counters.connections,
    bodies: memory.count,
    bodyBytes: memory.used,
    bodyLimit: memory.limit,
    names: all.versions.size,
    pins,
    residentBytes: process.memoryUsage.rss(),
    cpuSeconds: (user + system) / 1e6,
    started: Date.now() / 1000 - process.uptime(),
  }
}

function withSlash(url: string): string {
  return url.endsWith('/') ? url : `${url}/`
}
