import { isUnchanged, takesGzip } from './conditions.ts'
import type { BodyMemory, HeldBody } from './body-memory.ts'
import type { DocumentBody, DocumentLength, DocumentSource } from './document-body.ts'
import { answerFailure, type Exchange, failureOf, type Resource } from './resource.ts'

const ABBREVIATED = 'application/vnd.npm.install-v1+json'

/** The document of a name, which clients ask for in two lengths. */
export class ServedDocument implements Resource {
  readonly #open: () => Promise<DocumentSource>
  readonly #full: Representation
  readonly #abbreviated: Representation

  /** @param open the document, whenever one of its bodies is not in memory */
  constructor(open: () => Promise<DocumentSource>, memory: BodyMemory) {
    this.#open = open
    this.#full = new Representation('full', 'application/json', memory)
    this.#abbreviated = new Representation('abbreviated', ABBREVIATED, memory)
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

/** A body with the headers of every answer that it can be. */
interface Answers extends DocumentBody {
  readonly identityHeaders: string[]
  readonly gzipHeaders: string[]
  readonly unchangedHeaders: string[]
  readonly opaque: string
  readonly lastModified: string
}

/** One length of a document: what is sent is kept as long as there is room. */
class Representation implements HeldBody {
  held = 0
  recent = false
  readonly #length: DocumentLength
  readonly #type: string
  readonly #memory: BodyMemory
  #answers: Answers | undefined
  #making: Promise<Answers> | undefined

  constructor(length: DocumentLength, type: string, memory: BodyMemory) {
    this.#length = length
    this.#type = type
    this.#memory = memory
  }

  answer(exchange: Exchange, open: () => Promise<DocumentSource>): void | Promise<void> {
    const answers = this.#answers
    if (answers === undefined) return this.#answerLater(exchange, open)
    this.recent = true
    send(exchange, answers)
  }

  drop(): void {
    this.#answers = undefined
    this.held = 0
  }

  async prepare(open: () => Promise<DocumentSource>): Promise<void> {
    if (this.#answers === undefined) await this.#ready(open)
  }

  async #answerLater(exchange: Exchange, open: () => Promise<DocumentSource>): Promise<void> {
    try {
      const answers = await this.#ready(open)
      this.recent = true
      send(exchange, answers)
    } catch (error) {
      answerFailure(exchange, 'document', failureOf(error))
    }
  }

  /** Once, however many ask for it at the same time. */
  #ready(open: () => Promise<DocumentSource>): Promise<Answers> {
    this.#making ??= this.#bring(open).finally(() => {
      this.#making = undefined
    })
    return this.#making
  }

  async #bring(open: () => Promise<DocumentSource>): Promise<Answers> {
    const source = await open()
    const answers = answersOf(await source.body(this.#length), this.#type, new Date(source.modified).toUTCString())
    const bytes = answers.identity.length + (answers.gzip?.length ?? 0)
    if (this.#memory.takes(bytes)) {
      this.#answers = answers
      this.held = bytes
      this.#memory.admit(this)
    }
    return answers
  }
}

function answersOf(body: DocumentBody, type: string, lastModified: string): Answers {
  const opaque = `"${body.digest}"`
  // Weak: the packed body and the plain one are the same document.
  const validators = ['ETag', `W/${opaque}`, 'Last-Modified', lastModified]
  const caching = ['Cache-Control', 'no-cache', 'Vary', 'Accept, Accept-Encoding']
  const headers = (length: number, ...more: string[]): string[] => [
    ...['Content-Type', type, 'Content-Length', String(length)],
    ...more,
    ...validators,
    ...caching,
  ]
  return {
    ...body,
    identityHeaders: headers(body.identity.length),
    gzipHeaders: body.gzip === undefined ? [] : headers(body.gzip.length, 'Content-Encoding', 'gzip'),
    unchangedHeaders: [...validators, ...caching],
    opaque,
    lastModified,
  }
}

function send({ response, conditions, counters }: Exchange, answers: Answers): void {
  const { gzip } = answers
  if (isUnchanged(conditions, answers.opaque, answers.lastModified)) {
    response.writeHead(304, answers.unchangedHeaders)
    response.end()
    counters.count('document', 304, 0)
  } else if (gzip !== undefined && takesGzip(conditions.acceptEncoding)) {
    response.writeHead(200, answers.gzipHeaders)
    response.end(gzip)
    counters.count('document', 200, gzip.length)
  } else {
    response.writeHead(200, answers.identityHeaders)
    response.end(answers.identity)
    counters.count('document', 200, answers.identity.length)
  }
}
