import { mkdtempSync, rmSync } from 'node:fs'
import { request as httpRequest, type IncomingHttpHeaders } from 'node:http'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import type { Lock, LockedIndex, LockedPackage } from '@polder/lock'
import { integrityOf, packageId, type Integrity, type PackageId } from '@polder/spec'
import { artifactPath, openStore, type Store, writeArtifact } from '@polder/store'
import { afterEach, beforeEach } from 'vitest'

import { packTarball, type FileContent } from '../../../test/support/tarball.ts'
import { type Release, writeRelease } from '../src/trust/releases.ts'
import { type IndexServer, openIndex, type Refusal, type ServerOptions, startIndexServer } from '../src/serve/server.ts'

/** A pin whose artifact is in the store. */
export interface Pinned {
  readonly id: PackageId
  readonly integrity: Integrity
  readonly bytes: Buffer
  /** Where the artifact is. */
  readonly path: string
}

export interface Answer {
  readonly status: number
  readonly headers: IncomingHttpHeaders
  readonly body: Buffer
  readonly text: string
}

/** What a test starts with: a store, and a way to pin and to serve. Fresh for each test. */
export interface ServedWorld {
  directory: string
  store: Store
  /** What was refused by the servers of this test. */
  refused: Refusal[]
  /** Puts a package into the store. `files` are its other files. */
  pin(name: string, version: string, fields?: PinFields): Promise<Pinned>
  /** Any bytes, as the artifact of a file. */
  put(bytes: Uint8Array): Promise<Integrity>
  release(pinned: Pinned, release: Partial<Release>): void
  serve(
    locks: Lock | readonly Lock[],
    options?: Partial<ServerOptions> & { memoryBytes?: number; documents?: string },
  ): Promise<IndexServer>
}

export interface PinFields {
  readonly files?: Readonly<Record<string, FileContent>>
  readonly [field: string]: unknown
}

export function useServedWorld(): ServedWorld {
  const world = {} as ServedWorld
  let servers: IndexServer[] = []
  beforeEach(() => {
    world.directory = mkdtempSync(join(tmpdir(), 'polder-serve-'))
    world.store = openStore(join(world.directory, 'store'))
    world.refused = []
    servers = []
  })
  afterEach(async () => {
    await Promise.all(servers.map((server) => server.close(0)))
    rmSync(world.directory, { recursive: true, force: true })
  })
  world.put = async (bytes) => {
    const chunks = (async function* () {
      yield bytes
    })()
    return (await writeArtifact(world.store, chunks, { expected: null, maxBytes: 2 ** 30, label: 'x' })).integrity
  }
  world.pin = async (name, version, { files = {}, ...fields } = {}) => {
    const bytes = packTarball({ 'package.json': JSON.stringify({ name, version, ...fields }), ...files })
    const integrity = await world.put(bytes)
    return { id: packageId(name, version), integrity, bytes, path: artifactPath(world.store, integrity) }
  }
  world.release = ({ id, integrity }, release) => {
    const at = id.indexOf('@', 1)
    const names = { name: id.slice(0, at), version: id.slice(at + 1), registry: 'http://registry.example/' }
    writeRelease(world.store, id, { ...names, integrity, ...release })
  }
  world.serve = async (locks, { memoryBytes = 1e7, documents, ...options } = {}) => {
    const packed = documents === undefined ? {} : { documents }
    const named = [locks].flat().map((lock, at) => ({ id: `lock${at}`, lock, ...packed }))
    const server = await startIndexServer(openIndex(world.store, named, { memoryBytes }), {
      listen: { host: '127.0.0.1', port: 0 },
      onRefused: (refusal) => world.refused.push(refusal),
      ...options,
    })
    servers.push(server)
    return server
  }
  return world
}

/** A lock of these pins and nothing else. */
export function lockOf(
  pins: readonly (Pinned & Partial<Pick<LockedPackage, 'tarball' | 'version'>>)[],
  index?: LockedIndex,
): Lock {
  return {
    lockfileVersion: 1,
    policy: { versions: 'fewest', platforms: ['linux-x64-glibc'] },
    inputs: {},
    npm: {
      services: {},
      packages: Object.fromEntries(
        pins.map(({ id, integrity, tarball, version }) => [
          id,
          { integrity, ...(tarball === undefined ? {} : { tarball }), ...(version === undefined ? {} : { version }) },
        ]),
      ),
      instances: {},
      root: {},
      splits: {},
    },
    ...(index === undefined ? {} : { index }),
  }
}

/** Bytes that gzip cannot make shorter, the same every time. */
export function noise(bytes: number): Buffer {
  const parts: Buffer[] = []
  for (let at = 0; at * 64 < bytes; at += 1)
    parts.push(Buffer.from(integrityOf('sha512', Buffer.from(String(at))).slice(7, 71)))
  return Buffer.concat(parts).subarray(0, bytes)
}

/** One request on a connection of its own. `path` is sent as it is. */
export function ask(
  server: Pick<IndexServer, 'address'>,
  path: string,
  {
    method = 'GET',
    headers = {},
    body,
  }: { readonly method?: string; readonly headers?: Readonly<Record<string, string>>; readonly body?: string } = {},
): Promise<Answer> {
  const { address } = server
  const colon = address.lastIndexOf(':')
  const where = address.startsWith('/')
    ? { socketPath: address }
    : { host: address.slice(0, colon), port: Number(address.slice(colon + 1)) }
  return new Promise((resolve, reject) => {
    const request = httpRequest({ ...where, path, method, headers, agent: false }, (response) => {
      const chunks: Buffer[] = []
      response.on('data', (chunk: Buffer) => chunks.push(chunk))
      response.once('error', reject)
      response.once('end', () => {
        const all = Buffer.concat(chunks)
        resolve({ status: response.statusCode ?? 0, headers: response.headers, body: all, text: all.toString() })
      })
    })
    request.once('error', reject)
    request.end(body)
  })
}

export async function askJson(
  server: Pick<IndexServer, 'address'>,
  path: string,
  options: Parameters<typeof ask>[2] = {},
): Promise<Record<string, unknown>> {
  const { text } = await ask(server, path, options)
  return JSON.parse(text) as Record<string, unknown>
}

/** Sends bytes as they are, and gives everything that comes until the server ends the connection. */
export function sendRaw({ address }: IndexServer, text: string): Promise<string> {
  const colon = address.lastIndexOf(':')
  return new Promise((resolve, reject) => {
    const socket = connect(Number(address.slice(colon + 1)), address.slice(0, colon))
    let received = ''
    socket.on('data', (chunk) => (received += chunk.toString('latin1')))
    socket.once('close', () => resolve(received))
    socket.once('error', (error: NodeJS.ErrnoException) => {
      if (error.code !== 'ECONNRESET' && error.code !== 'EPIPE') reject(error)
    })
    socket.write(text, 'latin1')
  })
}

export const ABBREVIATED = 'application/vnd.npm.install-v1+json'
