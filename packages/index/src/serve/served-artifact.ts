import { statSync } from 'node:fs'
import { pipeline } from 'node:stream/promises'

import { hexDigest, type Integrity, isErrno } from '@polder/spec'
import { artifactPath, type FileState, openArtifact, readArtifact, type Store } from '@polder/store'

import type { BodyMemory, HeldBody } from './body-memory.ts'
import { isUnchanged, partOf } from './conditions.ts'
import type { RequestKind } from './metrics.ts'
import { answerFailure, type Exchange, failureOf, type Resource } from './resource.ts'

export interface ArtifactSource {
  readonly store: Store
  readonly integrity: Integrity
  /** The package, or the URL of a file, for messages. */
  readonly label: string
  readonly kind: 'tarball' | 'file'
}

// When it was published says the document. These bytes never change, so any fixed date will do.
const LAST_MODIFIED = 'Sat, 26 Oct 1985 08:15:00 GMT'

/** Enough for the disk to be fast, and little where many clients read slowly. */
const CHUNK = 64 * 1024

/**
 * The bytes of an artifact. They are verified when they are read: into memory if there is room for them, else once
 * before the first of them is sent from the file, and again after the file changed.
 */
export class ServedArtifact implements Resource, HeldBody {
  held = 0
  recent = false
  readonly #source: ArtifactSource
  readonly #memory: BodyMemory
  readonly #etag: string
  #body: Buffer | undefined
  #headers: string[] = []
  #verified: FileState | undefined
  #verifying: Promise<unknown> | undefined

  constructor(source: ArtifactSource, memory: BodyMemory) {
    this.#source = source
    this.#memory = memory
    this.#etag = `"${hexDigest(source.integrity).slice(0, 40)}"`
  }

  get #kind(): RequestKind {
    return this.#source.kind
  }

  answer(exchange: Exchange): void | Promise<void> {
    const { conditions } = exchange
    const body = this.#body
    if (body === undefined) return this.#answerFromDisk(exchange)
    this.recent = true
    if (
      conditions.range !== undefined ||
      conditions.ifNoneMatch !== undefined ||
      conditions.ifModifiedSince !== undefined
    )
      return this.#answerConditionally(exchange, body)
    exchange.response.writeHead(200, this.#headers)
    exchange.response.end(body)
    exchange.counters.count(this.#kind, 200, body.length)
  }

  drop(): void {
    this.#body = undefined
    this.held = 0
  }

  async #answerFromDisk(exchange: Exchange): Promise<void> {
    try {
      const body = this.#load()
      if (body === undefined) await this.#stream(exchange)
      else this.#answerConditionally(exchange, body)
    } catch (error) {
      exchange.counters.damaged += 1
      answerFailure(exchange, this.#kind, failureOf(error))
    }
  }

  /** The body, if it is to be held in memory. Read at once and not piece by piece: it is small, and needed now. */
  #load(): Buffer | undefined {
    const { store, integrity, label } = this.#source
    const size = statSync(artifactPath(store, integrity), { throwIfNoEntry: false })?.size ?? 0
    if (!this.#memory.takes(size)) return undefined
    const body = readArtifact(store, integrity, label)
    this.#body = body
    this.held = body.length
    this.#headers = this.#headersOf(body.length)
    this.recent = true
    this.#memory.admit(this)
    return body
  }

  #headersOf(length: number): string[] {
    return [
      ...['Content-Type', 'application/octet-stream', 'Content-Length', String(length), 'ETag', this.#etag],
      ...['Last-Modified', LAST_MODIFIED, 'Accept-Ranges', 'bytes'],
      ...['Cache-Control', 'public, max-age=31536000, immutable'],
    ]
  }

  #answerConditionally(exchange: Exchange, body: Buffer): void {
    const part = this.#begin(exchange, body.length)
    if (part === undefined) return
    exchange.response.end(body.subarray(part.start, part.end + 1))
  }

  /** The status and headers; what has to follow, undefined if that is nothing. */
  #begin(exchange: Exchange, size: number): { readonly start: number; readonly end: number } | undefined {
    const { request, response, conditions, counters } = exchange
    if (isUnchanged(conditions, this.#etag, LAST_MODIFIED)) {
      response.writeHead(304, { ETag: this.#etag, 'Last-Modified': LAST_MODIFIED })
      response.end()
      counters.count(this.#kind, 304, 0)
      return undefined
    }
    // RFC 9110, 14.2: ranges are of GET only.
    const part = request.method === 'GET' ? partOf(conditions, size, this.#etag, LAST_MODIFIED) : null
    if (part === 'unsatisfiable') {
      answerFailure(exchange, this.#kind, {
        status: 416,
        code: 'RANGE',
        reason: `${this.#source.label} has ${size} bytes, which ${conditions.range ?? ''} is not in`,
        headers: { 'content-range': `bytes */${size}` },
      })
      return undefined
    }
    const { start, end } = part ?? { start: 0, end: size - 1 }
    const headers = this.#headersOf(end - start + 1)
    if (part !== null) headers.push('Content-Range', `bytes ${start}-${end}/${size}`)
    response.writeHead(part === null ? 200 : 206, headers)
    counters.count(this.#kind, part === null ? 200 : 206, request.method === 'HEAD' ? 0 : end - start + 1)
    return { start, end }
  }

  async #stream(exchange: Exchange): Promise<void> {
    const { file, state } = await this.#open()
    try {
      const part = this.#begin(exchange, state.size)
      if (part === undefined || exchange.request.method === 'HEAD') exchange.response.end()
      else await pipeline(file.createReadStream({ ...part, highWaterMark: CHUNK }), exchange.response)
    } catch (error) {
      // The client went away, perhaps before there was anything to send.
      const gone = ['ERR_STREAM_PREMATURE_CLOSE', 'ERR_STREAM_UNABLE_TO_PIPE', 'ECONNRESET', 'EPIPE']
      if (!isErrno(error, ...gone)) throw error
    } finally {
      // A stream that was never read from leaves it open, and what is open when it is collected ends the process.
      await file.close()
    }
  }

  /** Whoever comes while it is being verified waits for that. */
  async #open(): ReturnType<typeof openArtifact> {
    const { store, integrity, label } = this.#source
    while (this.#verifying !== undefined) await this.#verifying
    const opening = openArtifact(store, integrity, label, this.#verified)
    if (this.#verified === undefined) {
      this.#verifying = opening.then(
        ({ state }) => {
          this.#verified = state
        },
        () => undefined,
      )
      await this.#verifying
      this.#verifying = undefined
    }
    const opened = await opening
    this.#verified = opened.state
    return opened
  }
}
