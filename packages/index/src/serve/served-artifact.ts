import { statSync } from 'node:fs'

import { hexDigest, type Integrity } from '@polder/spec'
import { artifactPath, openArtifact, readArtifact, type Store } from '@polder/store'

import { Body, type Bodies } from './body.ts'
import { isUnchanged, partOf } from './conditions.ts'
import type { RequestKind } from './metrics.ts'
import { answerFailure, type Exchange, failureOf, type Resource } from './resource.ts'
import { type BodyFile, closePart, type OpenPart, sendPart, turnOf } from './sent-file.ts'
import { VerifiedFile } from './verified-file.ts'

export interface ArtifactSource {
  readonly store: Store
  readonly integrity: Integrity
  /** The package, or the URL of a file, for messages. */
  readonly label: string
  readonly kind: 'tarball' | 'file'
}

// When it was published says the document. These bytes never change, so any fixed date will do.
const LAST_MODIFIED = 'Sat, 26 Oct 1985 08:15:00 GMT'

/**
 * The bytes of an artifact. They are verified when they are read: into memory if there is room for them, else once
 * before the first of them is sent from the file, and again after the file changed.
 */
export class ServedArtifact implements Resource {
  readonly #label: string
  readonly #kind: RequestKind
  readonly #etag: string
  readonly #bodies: Bodies
  readonly #body: Body
  #headers: string[] | undefined

  constructor(source: ArtifactSource, bodies: Bodies) {
    this.#label = source.label
    this.#kind = source.kind
    this.#etag = `"${hexDigest(source.integrity).slice(0, 40)}"`
    this.#bodies = bodies
    this.#body = new Body(bodies, artifactFile(source))
  }

  answer(exchange: Exchange): void | Promise<void> {
    const { conditions } = exchange
    const body = this.#body.inMemory()
    if (body === undefined) return this.#answerFromDisk(exchange)
    if (
      conditions.range !== undefined ||
      conditions.ifNoneMatch !== undefined ||
      conditions.ifModifiedSince !== undefined
    )
      return this.#answerConditionally(exchange, body)
    exchange.response.writeHead(200, (this.#headers ??= this.#headersOf(body.length)))
    exchange.response.end(body)
    exchange.counters.count(this.#kind, 200, body.length)
  }

  async #answerFromDisk(exchange: Exchange): Promise<void> {
    try {
      await turnOf(exchange.response)
      const body = await this.#body.ready()
      if (Buffer.isBuffer(body)) this.#answerConditionally(exchange, body)
      else if (body !== undefined) this.#answerFrom(exchange, body)
    } catch (error) {
      exchange.counters.damaged += 1
      answerFailure(exchange, this.#kind, failureOf(error))
    }
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
    if (part !== undefined) exchange.response.end(body.subarray(part.start, part.end + 1))
  }

  #answerFrom(exchange: Exchange, file: OpenPart): void {
    const part = this.#begin(exchange, file.size)
    if (part !== undefined && exchange.request.method === 'GET')
      return sendPart(exchange, file, part, this.#bodies.buffers)
    closePart(file)
    if (part !== undefined) exchange.response.end()
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
        reason: `${this.#label} has ${size} bytes, which ${conditions.range ?? ''} is not in`,
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
}

function artifactFile({ store, integrity, label }: ArtifactSource): BodyFile {
  const opened = new VerifiedFile((verified) => openArtifact(store, integrity, label, verified))
  // Known once it was verified.
  let size: number | undefined
  return {
    size: () => size ?? statSync(artifactPath(store, integrity), { throwIfNoEntry: false })?.size ?? 0,
    // At once and not piece by piece: it is small, and needed now.
    read: () => readArtifact(store, integrity, label),
    open: async () => {
      const { file, state } = await opened.open()
      size = state.size
      return { file, state, at: 0, size }
    },
  }
}
