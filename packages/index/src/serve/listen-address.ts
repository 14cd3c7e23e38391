import { hash } from 'node:crypto'
import { lstatSync, rmSync } from 'node:fs'
import type { Server } from 'node:http'
import { type AddressInfo, connect, createServer, type Server as NetServer } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'

import { isErrno, PolderError } from '@polder/spec'

/** Where a server listens. */
export type ListenAddress =
  | { readonly host: string; readonly port: number }
  /** The path of a unix socket. */
  | { readonly socket: string }

/** Where it does listen, and what has to be done when it no longer does. */
export interface Listening {
  /** `127.0.0.1:4873`, or the path of the socket. */
  readonly address: string
  readonly port: number | undefined
  readonly release: () => void
}

/**
 * @throws PolderError `ADDRESS_REFUSED` beyond loopback, for a port or socket that is in use, for a path that is no
 *   socket
 */
export async function listen(server: Server, address: ListenAddress): Promise<Listening> {
  if ('socket' in address) return listenOnSocket(server, address.socket)
  const { host, port } = address
  checkReach(host)
  await listening(server, () => server.listen({ host, port }), `${host}:${port}`)
  const bound = server.address() as AddressInfo
  return {
    address: `${host.includes(':') ? `[${host}]` : host}:${bound.port}`,
    port: bound.port,
    release: () => undefined,
  }
}

/**
 * Who may reach the server. This is the place for authentication and TLS: with them other addresses can be allowed here,
 * and the router asks who it is before it answers.
 */
function checkReach(host: string): void {
  if (host === 'localhost' || host === '::1' || /^127(?:\.\d{1,3}){3}$/.test(host)) return
  throw new PolderError(
    'ADDRESS_REFUSED',
    `${host} is beyond this machine: anyone who can reach it could read what is private`,
    {
      found: host,
      wanted: '127.0.0.1, ::1 or localhost',
      hint: 'the index has no authentication and no TLS; put a proxy that has both in front of it',
    },
  )
}

async function listening(server: Server, start: () => void, where: string): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.once('listening', () => {
      server.off('error', reject)
      resolve()
    })
    start()
  }).catch((cause: unknown) => {
    if (!isErrno(cause, 'EADDRINUSE', 'EACCES', 'EADDRNOTAVAIL', 'EINVAL', 'ENOENT', 'ENAMETOOLONG', 'EROFS'))
      throw cause
    const inUse = cause.code === 'EADDRINUSE'
    throw new PolderError('ADDRESS_REFUSED', `cannot listen on ${where}: ${inUse ? 'it is in use' : cause.message}`, {
      found: where,
      cause,
      hint: inUse ? 'another server runs there; `--port 0` takes a free port' : 'use another one',
    })
  })
}

/**
 * Whether a socket is there, and whether anybody still answers on it, has to be decided by one process at a time: of two
 * that both find a dead one, the second would remove what the first has just put there.
 */
async function listenOnSocket(server: Server, path: string): Promise<Listening> {
  const turn = process.platform === 'linux' ? await takeTurn(path) : undefined
  try {
    const found = lstatSync(path, { throwIfNoEntry: false })
    if (found !== undefined && !found.isSocket()) throw inUse(path, 'it is there already and is no socket')
    if (found !== undefined && (await answers(path))) throw inUse(path, 'another server listens there')
    rmSync(path, { force: true })
    await listening(server, () => listenPrivately(server, path), path)
  } finally {
    turn?.close()
  }
  const { ino } = lstatSync(path)
  const release = (): void => {
    if (lstatSync(path, { throwIfNoEntry: false })?.ino === ino) rmSync(path, { force: true })
  }
  return { address: path, port: undefined, release }
}

/**
 * The socket is its owner's from the moment that it is there. It is there when `listen` returns, so that nothing else of
 * this process meets the mask, which is one for all of it.
 */
function listenPrivately(server: Server, path: string): void {
  const mask = process.umask(0o177)
  try {
    server.listen(path)
  } finally {
    process.umask(mask)
  }
}

/** Long enough for all who start at the same time. */
const TURN_MS = 5000

/**
 * A lock that the kernel takes back from whoever dies: a socket in Linux's abstract namespace (unix(7)), whose name only
 * one process can have.
 */
async function takeTurn(path: string): Promise<NetServer> {
  const name = `\0polder-${hash('sha256', path)}`
  for (let waited = 0; waited < TURN_MS; waited += 10) {
    const turn = createServer()
    const taken = await new Promise<boolean>((resolve, reject) => {
      turn.once('error', (error) => (isErrno(error, 'EADDRINUSE') ? resolve(false) : reject(error)))
      turn.listen(name, () => resolve(true))
    })
    if (taken) return turn
    await sleep(10)
  }
  throw inUse(path, 'other servers are being started there')
}

function inUse(path: string, why: string): PolderError {
  return new PolderError('ADDRESS_REFUSED', `cannot listen on ${path}: ${why}`, { path, hint: 'use another path' })
}

function answers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path)
    socket.once('connect', () => {
      socket.destroy()
      resolve(true)
    })
    socket.once('error', () => {
      resolve(false)
    })
  })
}
