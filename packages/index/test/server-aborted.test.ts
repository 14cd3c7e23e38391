import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { join } from 'node:path'

import { afterEach, expect, test } from 'vitest'

import { ask, lockOf, noise, type Pinned, useServedWorld } from './served-world.ts'

const world = useServedWorld()

let server: ChildProcess | undefined
afterEach(() => server?.kill('SIGKILL'))

async function serve(pins: readonly Pinned[]): Promise<{ readonly address: string }> {
  const path = join(world.directory, 'lock.json')
  writeFileSync(path, JSON.stringify(lockOf(pins)))
  server = fork(join(import.meta.dirname, 'serving-process.ts'), [world.store.home, path], {
    execArgv: ['--expose-gc'],
  })
  return answerOf<{ address: string }>(server)
}

/** What the server says next; rejects if it ends instead. */
async function answerOf<T>(child: ChildProcess): Promise<T> {
  const ended = once(child, 'exit').then(([code]) => Promise.reject(new Error(`the server ended with ${String(code)}`)))
  const [said] = await Promise.race([once(child, 'message'), ended])
  return said as T
}

/** Sends requests on one connection, and ends it at once, or when the first byte of an answer comes. */
function abort(address: string, paths: readonly string[], when: 'at once' | 'at the answer'): Promise<void> {
  const colon = address.lastIndexOf(':')
  const socket = connect(Number(address.slice(colon + 1)), address.slice(0, colon))
  socket.on('error', () => undefined)
  const requests = paths.map((path) => `GET ${path} HTTP/1.1\r\nHost: ${address}\r\n\r\n`).join('')
  socket.write(requests, () => {
    if (when === 'at once') socket.resetAndDestroy()
    else socket.once('data', () => socket.resetAndDestroy())
  })
  return new Promise((resolve) => socket.once('close', () => resolve()))
}

test('clients that go away when their answer begins, or wait for their turn on a connection, leave no file open', async () => {
  const pins = [await world.pin('lib0', '1.0.0', { files: { data: noise(3_000_000) } })]
  for (let at = 1; at < 8; at += 1)
    pins.push(await world.pin(`lib${at}`, '1.0.0', { files: { data: noise(200_000 + at) } }))
  const paths = pins.map((_, at) => `/lib${at}/-/lib${at}-1.0.0.tgz`)
  const { address } = await serve(pins)
  for (let round = 0; round < 12; round += 1) {
    await Promise.all(
      paths.flatMap((path) => [
        abort(address, [path], 'at once'),
        abort(address, [path], 'at the answer'),
        // The first answer is more than a connection takes at once, so the others wait.
        abort(address, ['/lib0/-/lib0-1.0.0.tgz', path, path], 'at the answer'),
      ]),
    )
  }
  const collected = answerOf<{ open: readonly string[] }>(server ?? expect.unreachable())
  server?.send('collect')
  expect(await collected).toEqual({ open: [] })
  for (const [at, path] of paths.entries()) {
    const { status, body } = await ask({ address }, path)
    expect({ status, same: body.equals(pins[at]?.bytes ?? Buffer.of()) }).toEqual({ status: 200, same: true })
  }
})
