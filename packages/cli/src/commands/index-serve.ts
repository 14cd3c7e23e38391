import { readFileSync } from 'node:fs'
import { resolve } from 'node:path'

import { type IndexServer, openIndex, type PinnedIndex, startIndexServer } from '@polder/index/server'
import { parseLock } from '@polder/lock'
import { PolderError } from '@polder/spec'
import { openStore, storeHome } from '@polder/store'

import { openCheckout } from '../checkout.ts'
import { lockDigest } from '../lock-file.ts'
import type { Output } from '../output.ts'

export interface ServeFlags {
  readonly lock: readonly string[]
  readonly host: string
  readonly port: string
  readonly socket?: string
  readonly baseUrl?: string
  /** In megabytes. */
  readonly memory: string
}

export async function indexServe(cwd: string, output: Output, flags: ServeFlags): Promise<number> {
  const server = await startIndexServer(readIndex(cwd, flags), {
    listen:
      flags.socket === undefined
        ? { host: flags.host, port: wholeNumber('--port', flags.port, 65_535) }
        : { socket: resolve(cwd, flags.socket) },
    ...(flags.baseUrl === undefined ? {} : { baseUrl: flags.baseUrl }),
  })
  output.line(`Serving on ${server.url}`)
  await ended(server, () => {
    server.use(readIndex(cwd, flags))
  })
  return 0
}

function readIndex(cwd: string, { lock, memory }: ServeFlags): PinnedIndex {
  const store = openStore(storeHome(process.env))
  const locks =
    lock.length === 0
      ? [openCheckout(cwd)].map(({ lock: parsed, lockText }) => ({ id: idOf(lockText), lock: parsed }))
      : lock.map((path) => {
          const text = readFileSync(resolve(cwd, path), 'utf8')
          return { id: idOf(text), lock: parseLock(text, path) }
        })
  return openIndex(store, locks, { memoryBytes: wholeNumber('--memory', memory, 1e6) * 1e6 })
}

function idOf(lockText: string): string {
  return lockDigest(lockText).slice(0, 12)
}

async function ended(server: IndexServer, reload: () => void): Promise<void> {
  process.on('SIGHUP', reload)
  await new Promise<void>((done) => {
    for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => done())
  })
  await server.close()
}

function wholeNumber(option: string, text: string, most: number): number {
  const number = Number(text)
  if (/^\d+$/.test(text) && number <= most) return number
  throw new PolderError('USAGE', `${option} is ${JSON.stringify(text)}, which is no number from 0 to ${most}`, {
    found: text,
  })
}
