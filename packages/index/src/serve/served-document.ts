import { hash } from 'node:crypto'
import { promisify } from 'node:util'
import { gzip, gzipSync } from 'node:zlib'

import type { BodyMemory, HeldBody } from './body-memory.ts'
import { isUnchanged, takesGzip } from './conditions.ts'
import type { NpmDocument } from './npm-documents.ts'
import { answerFailure, type Exchange, failureOf, type Resource } from './resource.ts'

const ABBREVIATED = 'application/vnd.npm.install-v1+json'

/** The document of a name, which clients ask for in two lengths. */
export class ServedDocument implements Resource {
  readonly #full: Representation
  readonly #abbreviated: Representation

  /** @param make the document, whenever its body is not in memory */
  constructor(make: () => Promise<NpmDocument>, memory: BodyMemory) {
    this.#full = new Representation(
      'application/json',
      async () => {
        const { full, modified } = await make()
        return { document: full, modified }
      },
      memory,
    )
    this.#abbreviated = new Representation(
      ABBREVIATED,
      async () => {
        const { abbreviated, modified } = await make()
        return { document: abbreviated, modified }
      },
      memory,
    )
  }

  answer(exchange: Exchange): void | Promise<void> {
    // Whoever understands the abbreviated one prefers it.
    const isShort = exchange.conditions.accept.includes(ABBREVIATED)
    return (isShort ? this.#abbreviated : this.#full).answer(exchange)
  }

  /** Makes what is not in memory, so that whoever asks first does not have to wait. What fails, fails again for them. */
  async prepare(): Promise<void> {
    await Promise.allSettled([this.#abbreviated.prepare(), this.#full.prepare()])
  }
}

/** The bytes of an answer, ready to be written. */
interface Bodies {
  readonly identity: Buffer
  readonly identityHeaders: string[]
  /** Absent where it would not be shorter by much. */
  readonly gzip?: Buffer
  readonly gzipHeaders: string[]
  readonly unchangedHeaders: string[]
  readonly opaque: string
  readonly lastModified: string
}

/** One length of a document: its bodies are made when first asked for and kept as long as there is room. */
class Representation implements HeldBody {
  held = 0
  recent = false
  readonly #type: string
  readonly #make: () => Promise<{ readonly document: object; readonly modified: string }>
  readonly #memory: BodyMemory
  #bodies: Bodies | undefined
  #making: Promise<Bodies> | undefined

  constructor(
    type: string,
    make: () => Promise<{ readonly document: object; readonly modified: string }>,
    memory: BodyMemory,
  ) {
    this.#type = type
    this.#make = make
    this.#memory = memory
  }

  answer(exchange: Exchange): void | Promise<void> {
    const bodies = this.#bodies
    if (bodies === undefined) return this.#answerLater(exchange)
    this.recent = true
    send(exchange, bodies)
  }

  drop(): void {
    this.#bodies = undefined
    this.held = 0
  }

  async prepare(): Promise<void> {
    if (this.#bodies === undefined) await this.#ready()
  }

  async #answerLater(exchange: Exchange): Promise<void> {
    try {
      const bodies = await this.#ready()
      this.recent = true
      send(exchange, bodies)
    } catch (error) {
      answerFailure(exchange, 'document', failureOf(error))
    }
  }

  /** Made once, however many ask for it at the same time. */
  #ready(): Promise<Bodies> {
    this.#making ??= this.#prepareBodies().finally(() => {
      this.#making = undefined
    })
    return this.#making
  }

  async #prepareBodies(): Promise<Bodies> {
    const { document, modified } = await this.#make()
    const bodies = await bodiesOf(JSON.stringify(document), this.#type, new Date(modified).toUTCString())
    const bytes = bodies.identity.length + (bodies.gzip?.length ?? 0)
    if (this.#memory.takes(bytes)) {
      this.#bodies = bodies
      this.held = bytes
      this.#memory.admit(this)
    }
    return bodies
  }
}

/** Smaller bodies fit into one packet anyway. */
const GZIP_FROM = 1024
/** Larger ones are compressed in another thread. */
const GZIP_ASIDE_FROM = 64 * 1024

async function bodiesOf(text: string, type: string, lastModified: string): Promise<Bodies> {
  const identity = Buffer.from(text)
  const opaque = `"${hash('sha256', identity, 'base64url').slice(0, 27)}"`
  const packed =
    identity.length < GZIP_FROM
      ? undefined
      : identity.length < GZIP_ASIDE_FROM
        ? gzipSync(identity)
        : await promisify(gzip)(identity)
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
    identity,
    identityHeaders: headers(identity.length),
    ...(packed === undefined ? {} : { gzip: packed }),
    gzipHeaders: packed === undefined ? [] : headers(packed.length, 'Content-Encoding', 'gzip'),
    unchangedHeaders: [...validators, ...caching],
    opaque,
    lastModified,
  }
}

function send({ response, conditions, counters }: Exchange, bodies: Bodies): void {
  const { gzip: packed } = bodies
  if (isUnchanged(conditions, bodies.opaque, bodies.lastModified)) {
    response.writeHead(304, bodies.unchangedHeaders)
    response.end()
    counters.count('document', 304, 0)
  } else if (packed !== undefined && takesGzip(conditions.acceptEncoding)) {
    response.writeHead(200, bodies.gzipHeaders)
    response.end(packed)
    counters.count('document', 200, packed.length)
  } else {
    response.writeHead(200, bodies.identityHeaders)
    response.end(bodies.identity)
    counters.count('document', 200, bodies.identity.length)
  }
}
