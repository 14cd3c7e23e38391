import { isUnchanged, takesGzip } from './conditions.ts'
import { Body, type Bodies } from './body.ts'
import type { DocumentBody, DocumentLength, DocumentSource, StoredBody } from './document-body.ts'
import { answerFailure, type Exchange, failureOf, type Resource } from './resource.ts'
import { type BodyFile, closePart, type OpenPart, type ReadBuffers, sendPart, turnOf } from './sent-file.ts'

const ABBREVIATED = 'application/vnd.npm.install-v1+json'

/** The document of a name, which clients ask for in two lengths. */
export class ServedDocument implements Resource {
  readonly #open: () => Promise<DocumentSource>
  readonly #full: Representation
  readonly #abbreviated: Representation

  /** @param open the document, whenever one of its bodies is not in memory */
  constructor(open: () => Promise<DocumentSource>, bodies: Bodies) {
    this.#open = open
    this.#full = new Representation('full', 'application/json', bodies)
    this.#abbreviated = new Representation('abbreviated', ABBREVIATED, bodies)
  }

  answer(exchange: Exchange): void | Promise<void> {
    // Whoever understands the abbreviated one prefers it.
    const isShort = exchange.conditions.accept.includes(ABBREVIATED)
    return (isShort ? this.#abbreviated : this.#full).answer(exchange, this.#open)
  }

  /** Brings what is not in memory, so that whoever asks first does not have to wait. What fails, fails again for them. */
  async prepare(): Promise<void> {
    let source: Promise<DocumentSource> | undefined
    const open = (): Promise<DocumentSource> => (source ??= this.#open())
    await Promise.allSettled([this.#abbreviated.prepare(open), this.#full.prepare(open)])
  }
}

/** One length of a document: what answers say is kept once it is known, what is sent as long as there is room. */
class Representation {
  readonly #length: DocumentLength
  readonly #type: string
  readonly #bodies: Bodies
  #answers: Answers | undefined
  #making: Promise<Answers> | undefined
  /** Something of what was made long ago was not what it has to be. */
  #isDamaged = false

  constructor(length: DocumentLength, type: string, bodies: Bodies) {
    this.#length = length
    this.#type = type
    this.#bodies = bodies
  }

  answer(exchange: Exchange, open: () => Promise<DocumentSource>): void | Promise<void> {
    const answers = this.#answers
    if (answers === undefined) return this.#answerLater(exchange, open)
    if (isUnchanged(exchange.conditions, answers.opaque, answers.lastModified)) return sendUnchanged(exchange, answers)
    const { body, headers } = encodingFor(exchange, answers)
    const bytes = body.inMemory()
    if (bytes === undefined) return this.#answerLater(exchange, open)
    send(exchange, headers, bytes)
  }

  async prepare(open: () => Promise<DocumentSource>): Promise<void> {
    const { gzip, identity } = this.#answers ?? (await this.#ready(open))
    // As clients ask for it.
    ;(gzip ?? identity).body.bring()
  }

  async #answerLater(exchange: Exchange, open: () => Promise<DocumentSource>): Promise<void> {
    try {
      await turnOf(exchange.response)
      for (;;) {
        const answers = this.#answers ?? (await this.#ready(open))
        if (await this.#isSent(exchange, answers)) return
        this.#isDamaged = true
        if (this.#answers === answers) this.#answers = undefined
      }
    } catch (error) {
      answerFailure(exchange, 'document', failureOf(error))
    }
  }

  /** False if the body is lost. */
  async #isSent(exchange: Exchange, answers: Answers): Promise<boolean> {
    if (isUnchanged(exchange.conditions, answers.opaque, answers.lastModified)) {
      sendUnchanged(exchange, answers)
      return true
    }
    const { body, headers } = encodingFor(exchange, answers)
    const ready = await body.ready()
    if (ready === undefined) return false
    if (Buffer.isBuffer(ready)) send(exchange, headers, ready)
    else sendStored(exchange, headers, ready, this.#bodies.buffers)
    return true
  }

  /** Once, however many ask for it at the same time. */
  #ready(open: () => Promise<DocumentSource>): Promise<Answers> {
    this.#making ??= this.#make(open).finally(() => {
      this.#making = undefined
    })
    return this.#making
  }

  async #make(open: () => Promise<DocumentSource>): Promise<Answers> {
    const source = await open()
    const body = await source.body(this.#length, this.#isDamaged)
    const answers = answersOf(body, this.#type, new Date(source.modified).toUTCString(), this.#bodies)
    // First the one that clients ask for.
    const settled = [answers.gzip, answers.identity].map((encoding) => encoding?.body.settle() ?? true)
    if (settled.every(Boolean)) this.#answers = answers
    return answers
  }
}

/** Everything that is sent of a document in one length. */
interface Answers {
  readonly identity: Encoding
  readonly gzip?: Encoding
  readonly unchangedHeaders: string[]
  readonly opaque: string
  readonly lastModified: string
}

interface Encoding {
  readonly body: Body
  readonly headers: string[]
}

function answersOf(
  { identity, gzip, digest }: DocumentBody | StoredBody,
  type: string,
  lastModified: string,
  bodies: Bodies,
): Answers {
  const opaque = `"${digest}"`
  // Weak: the packed body and the plain one are the same document.
  const validators = ['ETag', `W/${opaque}`, 'Last-Modified', lastModified]
  const caching = ['Cache-Control', 'no-cache', 'Vary', 'Accept, Accept-Encoding']
  const encoding = (from: Buffer | BodyFile, ...more: string[]): Encoding => {
    const length = Buffer.isBuffer(from) ? from.length : from.size()
    const headers = ['Content-Type', type, 'Content-Length', String(length), ...more, ...validators, ...caching]
    return { body: new Body(bodies, from), headers }
  }
  return {
    identity: encoding(identity),
    ...(gzip === undefined ? {} : { gzip: encoding(gzip, 'Content-Encoding', 'gzip') }),
    unchangedHeaders: [...validators, ...caching],
    opaque,
    lastModified,
  }
}

function encodingFor({ conditions }: Exchange, { identity, gzip }: Answers): Encoding {
  return gzip !== undefined && takesGzip(conditions.acceptEncoding) ? gzip : identity
}

function sendUnchanged({ response, counters }: Exchange, { unchangedHeaders }: Answers): void {
  response.writeHead(304, unchangedHeaders)
  response.end()
  counters.count('document', 304, 0)
}

function send({ response, counters }: Exchange, headers: string[], bytes: Buffer): void {
  response.writeHead(200, headers)
  response.end(bytes)
  counters.count('document', 200, bytes.length)
}

function sendStored(exchange: Exchange, headers: string[], part: OpenPart, buffers: ReadBuffers): void {
  const { request, response, counters } = exchange
  response.writeHead(200, headers)
  counters.count('document', 200, part.size)
  if (request.method === 'GET') return sendPart(exchange, part, { start: 0, end: part.size - 1 }, buffers)
  closePart(part)
  response.end()
}
