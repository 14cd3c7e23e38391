import { answerFailure, type Exchange } from './resource.ts'

/**
 * Waits for the body of a request and forgets it while it comes. One that says that it is too long is answered, one that
 * turns out to be is cut off.
 * @param longest in bytes
 * @returns false if there is nobody to be answered any more
 */
export async function receiveBody(exchange: Exchange, longest: number): Promise<boolean> {
  const { request } = exchange
  if (Number(request.headers['content-length'] ?? 0) > longest) {
    answerFailure(exchange, 'service', {
      status: 413,
      code: 'BODY_TOO_LARGE',
      reason: `the body has more than ${longest} bytes`,
      headers: { connection: 'close' },
    })
    return false
  }
  let bytes = 0
  try {
    for await (const chunk of request as AsyncIterable<Buffer>) {
      bytes += chunk.length
      if (bytes <= longest) continue
      request.socket.destroy()
      return false
    }
    return true
  } catch {
    return false
  }
}
