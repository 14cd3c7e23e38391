import type { Dispatcher } from 'undici'

/** What a server says to one request, its redirects not followed. */
export interface Answer {
  readonly statusCode: number
  readonly headers: Dispatcher.ResponseData['headers']
  readonly body: AnswerBody
}

/**
 * Sends one request. `Dispatcher.request` would do, but it makes a stream of every body and a signal of every deadline:
 * for the hundreds of small bodies of a sync that is most of what a download takes.
 * @param deadline milliseconds from now for all of it
 * @returns when the headers are there; its body has to be read or `end`ed
 * @throws what undici fails with, and a `TimeoutError`
 */
export function exchange(
  dispatcher: Dispatcher,
  options: Dispatcher.DispatchOptions,
  deadline: number,
): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const body = new AnswerBody(deadline, reject)
    dispatcher.dispatch(options, {
      onRequestStart: (controller) => body.begin(controller),
      onResponseStart(_, statusCode, headers) {
        if (statusCode >= 200) resolve({ statusCode, headers, body })
      },
      onResponseData: (_, chunk) => body.push(chunk),
      onResponseEnd: () => body.finish(),
      onResponseError: (_, error) => body.fail(error),
    })
  })
}

/** So much may wait to be read before the server is made to wait. */
const WAITING_BYTES = 256 * 1024

/** The body of an answer, read by one reader, once. */
export class AnswerBody {
  readonly #timer: NodeJS.Timeout
  readonly #fail: (error: unknown) => void
  #controller: Dispatcher.DispatchController | undefined
  #waiting: Uint8Array[] = []
  #bytes = 0
  #state: 'open' | 'whole' | { readonly error: unknown } = 'open'
  #wake: (() => void) | undefined

  /** @param onFailure told of a failure before there is an answer, too */
  constructor(deadline: number, onFailure: (error: unknown) => void) {
    this.#fail = onFailure
    this.#timer = setTimeout(() => this.#abort(new DOMException('it took too long', 'TimeoutError')), deadline)
  }

  begin(controller: Dispatcher.DispatchController): void {
    this.#controller = controller
    if (typeof this.#state === 'object') controller.abort(this.#state.error as Error)
  }

  push(chunk: Uint8Array): void {
    this.#waiting.push(chunk)
    this.#bytes += chunk.length
    if (this.#bytes > WAITING_BYTES) this.#controller?.pause()
    this.#wake?.()
  }

  finish(): void {
    this.#settle('whole')
  }

  fail(error: unknown): void {
    this.#fail(error)
    this.#settle({ error })
  }

  /** Reads what is left if it is little, so that the connection can be used again; more than that ends it. */
  async end(atMost = 0): Promise<void> {
    let bytes = 0
    try {
      if (atMost > 0) for await (const chunk of this) if ((bytes += chunk.length) > atMost) break
    } catch {
      return
    }
    if (this.#state === 'open') this.#abort(new DOMException('nobody reads it', 'AbortError'))
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Uint8Array, void, undefined> {
    for (;;) {
      if (this.#controller?.paused === true) this.#controller.resume()
      if (this.#waiting.length === 0) {
        if (this.#state === 'whole') return
        if (this.#state !== 'open') throw this.#state.error
        await new Promise<void>((resolve) => (this.#wake = resolve))
      }
      const chunks = this.#waiting
      this.#waiting = []
      this.#bytes = 0
      yield* chunks
    }
  }

  #abort(error: Error): void {
    this.fail(error)
    this.#controller?.abort(error)
  }

  #settle(state: 'whole' | { readonly error: unknown }): void {
    clearTimeout(this.#timer)
    if (this.#state === 'open') this.#state = state
    this.#wake?.()
  }
}
