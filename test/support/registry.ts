import {
  createServer as createHttpServer,
  type IncomingHttpHeaders,
  type IncomingMessage,
  type ServerResponse,
} from 'node:http'
import { createServer as createHttpsServer } from 'node:https'
import type { AddressInfo, Socket } from 'node:net'
import { gzipSync } from 'node:zlib'

import { signRelease, type SigningKey } from './signing-key.ts'
import { packTarball, readPackageJson, shasum, sri, type FileContent } from './tarball.ts'

/**
 * An npm registry on loopback, real enough for npm, pnpm, yarn and bun: full and abbreviated documents, `%2f` in
 * names, canonical tarball paths, HEAD, ETag and 304, a log of every request, and faults on demand.
 *
 *     const registry = await startRegistry()
 *     registry.serve('foo', '1.2.3', { dependencies: { bar: '^1.0.0' }, files: { 'index.js': 'module.exports = 1' } })
 *     …  npm_config_registry=registry.url
 *     await registry.close()
 */
export interface Registry {
  /** Ends in a slash. */
  readonly url: string
  /** Every request, in order of arrival. */
  readonly requests: readonly RecordedRequest[]
  /** How many TCP connections were accepted, and how many requests were under way at most. */
  readonly counts: { readonly connections: number; readonly peak: number }
  /** Publishes a version. `fields` are those of its package.json; `files` its other files; `dist` and `document` overwrite what the index says. */
  serve(name: string, version: string, fields?: ServedFields): ServedVersion
  /** Publishes a real tarball, under the name and version given (its package.json gives the rest). */
  serveArtifact(name: string, version: string, tarball: Uint8Array): ServedVersion
  /** Any other path, such as `/own.tgz`: the bytes as they are. */
  serveFile(path: string, bytes: Uint8Array): string
  unpublish(name: string, version?: string): void
  /** Signs what is served from now on with `key`, and lists `listed` (that key) under `/-/npm/v1/keys`; null ends both. */
  signWith(key: SigningKey | null, listed?: readonly SigningKey[]): void
  /** What `/-/npm/v1/attestations/NAME@VERSION` answers; the document points there. */
  attest(name: string, version: string, answer: unknown): void
  /** Overwrites fields of the documents of a name, such as `{ modified: '2019-…' }`. */
  alterDocument(name: string, fields: Readonly<Record<string, unknown>>): void
  /**
   * Makes requests fail. `target`: a path (`/foo`, decoded, `/foo/-/foo-1.0.0.tgz`), a name (`foo`: its document and
   * its tarballs) or `foo@1.0.0` (that tarball).
   */
  fault(target: string, fault: Fault): void
  clearFaults(): void
  /** How often a path was asked for. */
  count(path: string): number
  close(): Promise<void>
}

export interface RegistryOptions {
  /** Requests without `Authorization: Bearer <token>` are answered with 401. */
  readonly token?: string
  /** As `user:password`, for Basic. */
  readonly login?: string
  /** Waits so long before each answer. */
  readonly delayMs?: number
  /** PEM texts: the server speaks TLS. */
  readonly tls?: { readonly key: string; readonly cert: string }
  /** Where the registry lives under its host, such as `/npm/team/`. */
  readonly basePath?: string
  /** Documents are gzipped for those who accept that. */
  readonly gzip?: boolean
}

/** `times`: so many requests fail, the ones after them are answered; without it all fail. */
export type Fault = { readonly times?: number } & (
  | {
      readonly kind: 'status'
      readonly status: number
      readonly headers?: Readonly<Record<string, string>>
      readonly body?: string
    }
  /** The connection is cut before an answer. */
  | { readonly kind: 'reset' }
  /** Half of the body, then the connection is cut. */
  | { readonly kind: 'truncate' }
  /** Half of the body, with a Content-Length that says that this is all. */
  | { readonly kind: 'short' }
  /** Other bytes of the same length. */
  | { readonly kind: 'wrong-bytes' }
  /** A body that never ends. */
  | { readonly kind: 'endless' }
  /** No answer at all. */
  | { readonly kind: 'hang' }
  /** Headers and half of the body, then nothing. */
  | { readonly kind: 'stall' }
  | { readonly kind: 'redirect'; readonly to: string; readonly status?: number }
)

export interface RecordedRequest {
  readonly method: string
  /** Decoded, below the registry's base path, without query. */
  readonly path: string
  /** As it was sent. */
  readonly rawUrl: string
  readonly headers: IncomingHttpHeaders
}

export interface ServedFields {
  readonly files?: Readonly<Record<string, FileContent>>
  /** Overwrites fields of the document's `dist`, such as `{ tarball: 'https://elsewhere.example/x.tgz' }`; undefined removes. */
  readonly dist?: Readonly<Record<string, unknown>>
  /** Overwrites fields of the document's version only: a registry that disagrees with the tarball. */
  readonly document?: Readonly<Record<string, unknown>>
  /** Its `time` in the full document; null if that has none for it. 2020-01-01 unless told. */
  readonly published?: string | null
  readonly [field: string]: unknown
}

export interface ServedVersion {
  readonly name: string
  readonly version: string
  readonly integrity: string
  /** sha1, hex. */
  readonly shasum: string
  readonly bytes: Buffer
  /** The tarball's URL. */
  readonly url: string
}

interface Entry {
  readonly served: ServedVersion
  readonly manifest: Readonly<Record<string, unknown>>
  readonly published: string | null
}

const PUBLISHED = '2020-01-01T00:00:00.000Z'
const LAST_MODIFIED = 'Wed, 01 Jan 2020 00:00:00 GMT'
const ABBREVIATED = 'application/vnd.npm.install-v1+json'
const ABBREVIATED_FIELDS = [
  'name version deprecated dist engines bin directories os cpu libc bundleDependencies bundledDependencies dependencies',
  'optionalDependencies devDependencies peerDependencies peerDependenciesMeta hasInstallScript _hasShrinkwrap',
].flatMap((line) => line.split(' '))

export async function startRegistry(options: RegistryOptions = {}): Promise<Registry> {
  const packages = new Map<string, Map<string, Entry>>()
  const files = new Map<string, Uint8Array>()
  const answers = new Map<string, unknown>()
  const altered = new Map<string, Readonly<Record<string, unknown>>>()
  let signer: SigningKey | null = null
  const faults = new Map<string, { fault: Fault; left: number }>()
  const requests: RecordedRequest[] = []
  const counts = { connections: 0, peak: 0 }
  const sockets = new Set<Socket>()
  const base = `/${(options.basePath ?? '').replace(/^\/|\/$/g, '')}/`.replace('//', '/')
  let active = 0

  const listener = (request: IncomingMessage, response: ServerResponse): void => {
    active += 1
    counts.peak = Math.max(counts.peak, active)
    response.once('close', () => (active -= 1))
    const rawUrl = request.url ?? '/'
    const path = safeDecode(new URL(rawUrl, 'http://registry.invalid').pathname.replace(base, '/'))
    requests.push({ method: request.method ?? '', path, rawUrl, headers: request.headers })
    request.resume()
    const answer = (): void => {
      if (!isAllowed(request.headers.authorization, options))
        sendJson(request, response, 401, { error: 'authentication required' })
      else respond(request, response, path)
    }
    if (options.delayMs === undefined) answer()
    else setTimeout(answer, options.delayMs)
  }

  function respond(request: IncomingMessage, response: ServerResponse, path: string): void {
    const found = findBody(request, path)
    const fault = takeFault(path)
    if (fault !== undefined) return misbehave(fault, found?.body ?? Buffer.from('x'.repeat(4096)), response)
    if (found === undefined) return sendJson(request, response, 404, { error: 'not found' })
    const gzip = options.gzip === true && found.type.includes('json') && acceptsGzip(request)
    if (gzip) response.setHeader('content-encoding', 'gzip')
    send(request, response, found.type, gzip ? gzipSync(found.body) : found.body)
  }

  function findBody(
    request: IncomingMessage,
    path: string,
  ): { readonly type: string; readonly body: Uint8Array } | undefined {
    const file = files.get(path)
    if (file !== undefined) return { type: 'application/octet-stream', body: file }
    if (answers.has(path)) return { type: 'application/json', body: Buffer.from(JSON.stringify(answers.get(path))) }
    if (path === '/-/ping') return { type: 'application/json', body: Buffer.from('{}') }
    const tarball = /^\/((?:@[^/]+\/)?[^/]+)\/-\/([^/]+)\.tgz$/.exec(path)
    if (tarball !== null) {
      const [, name = '', file = ''] = tarball
      const entry = packages.get(name)?.get(file.slice(baseName(name).length + 1))
      return entry === undefined || !file.startsWith(`${baseName(name)}-`)
        ? undefined
        : { type: 'application/octet-stream', body: entry.served.bytes }
    }
    const document = /^\/((?:@[^/]+\/)?[^/]+)(?:\/([^/]+))?$/.exec(path)
    const versions = packages.get(document?.[1] ?? '')
    if (document === null || versions === undefined || versions.size === 0) return undefined
    const name = document[1] ?? ''
    const wanted = document[2]
    if (wanted !== undefined) {
      const entry = versions.get(wanted) ?? (wanted === 'latest' ? versions.get(latest(versions)) : undefined)
      return entry === undefined
        ? undefined
        : { type: 'application/json', body: Buffer.from(JSON.stringify(entry.manifest)) }
    }
    const abbreviated = (request.headers.accept ?? '').includes(ABBREVIATED)
    const body = Buffer.from(
      JSON.stringify({
        ...(abbreviated ? abbreviatedDocument(name, versions) : fullDocument(name, versions)),
        ...altered.get(name),
      }),
    )
    return { type: abbreviated ? ABBREVIATED : 'application/json', body }
  }

  function takeFault(path: string): Fault | undefined {
    const tarball = /^\/((?:@[^/]+\/)?([^/]+))\/-\/([^/]+)\.tgz$/.exec(path)
    const keys = [path, path.slice(1)]
    if (tarball !== null) {
      const [, name = '', last = '', file = ''] = tarball
      keys.push(name, `${name}@${file.slice(last.length + 1)}`)
    }
    for (const key of keys) {
      const found = faults.get(key)
      if (found === undefined || found.left === 0) continue
      found.left -= 1
      return found.fault
    }
    return undefined
  }

  const server = options.tls === undefined ? createHttpServer(listener) : createHttpsServer(options.tls, listener)
  server.keepAliveTimeout = 60_000
  server.on(options.tls === undefined ? 'connection' : 'secureConnection', (socket: Socket) => {
    counts.connections += 1
    sockets.add(socket)
    socket.on('error', () => socket.destroy()) // a client that refuses the certificate or goes away
    socket.once('close', () => sockets.delete(socket))
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  const url = `${options.tls === undefined ? 'http' : 'https'}://127.0.0.1:${port}${base}`

  function publish(
    name: string,
    version: string,
    packageJson: Readonly<Record<string, unknown>>,
    bytes: Buffer,
    { dist = {}, published = PUBLISHED }: Pick<ServedFields, 'dist' | 'published'> = {},
  ): ServedVersion {
    const served: ServedVersion = {
      name,
      version,
      bytes,
      integrity: sri(bytes),
      shasum: shasum(bytes),
      url: `${url}${name}/-/${baseName(name)}-${version}.tgz`,
    }
    const scripts = (packageJson['scripts'] ?? {}) as Readonly<Record<string, string>>
    const manifest = {
      ...packageJson,
      name,
      version,
      _id: `${name}@${version}`,
      ...(['preinstall', 'install', 'postinstall'].some((script) => script in scripts)
        ? { hasInstallScript: true }
        : {}),
      dist: {
        integrity: served.integrity,
        shasum: served.shasum,
        tarball: served.url,
        ...(signer === null ? {} : { signatures: [signRelease(signer, name, version, served.integrity)] }),
        ...dist,
      },
    }
    const versions = packages.get(name) ?? new Map<string, Entry>()
    packages.set(name, versions.set(version, { served, manifest, published }))
    return served
  }

  return {
    url,
    requests,
    counts,
    serve(name, version, { files: content = {}, dist = {}, document = {}, published = PUBLISHED, ...fields } = {}) {
      const packageJson = { name, version, ...fields }
      const bytes = packTarball({ 'package.json': `${JSON.stringify(packageJson, null, 2)}\n`, ...content })
      return publish(name, version, { ...packageJson, ...document }, bytes, { dist, published })
    },
    serveArtifact: (name, version, tarball) => publish(name, version, readPackageJson(tarball), Buffer.from(tarball)),
    serveFile(path, bytes) {
      files.set(path, bytes)
      return `${url}${path.slice(1)}`
    },
    unpublish(name, version) {
      if (version === undefined) packages.delete(name)
      else packages.get(name)?.delete(version)
    },
    signWith(key, listed = key === null ? [] : [key]) {
      signer = key
      if (key === null && listed.length === 0) answers.delete('/-/npm/v1/keys')
      else answers.set('/-/npm/v1/keys', { keys: listed.map((one) => one.listed) })
    },
    attest(name, version, answer) {
      const entry = packages.get(name)?.get(version)
      if (entry === undefined) throw new Error(`${name}@${version} is not served`)
      const path = `/-/npm/v1/attestations/${name}@${version}`
      answers.set(path, answer)
      const attestations = {
        url: `${url}${path.slice(1)}`,
        provenance: { predicateType: 'https://slsa.dev/provenance/v1' },
      }
      const dist = { ...(entry.manifest['dist'] as object), attestations }
      packages.get(name)?.set(version, { ...entry, manifest: { ...entry.manifest, dist } })
    },
    alterDocument: (name, fields) => void altered.set(name, { ...altered.get(name), ...fields }),
    fault(target, fault) {
      faults.set(target, { fault, left: fault.times ?? Infinity })
    },
    clearFaults: () => faults.clear(),
    count: (path) => requests.filter((request) => request.path === path).length,
    close: () =>
      new Promise<void>((resolve) => {
        server.close(() => resolve())
        for (const socket of sockets) socket.destroy()
        server.closeAllConnections()
      }),
  }
}

function acceptsGzip({ headers }: IncomingMessage): boolean {
  return String(headers['accept-encoding'] ?? '').includes('gzip')
}

function isAllowed(authorization: string | undefined, { token, login }: RegistryOptions): boolean {
  if (token !== undefined) return authorization === `Bearer ${token}`
  return login === undefined || authorization === `Basic ${Buffer.from(login).toString('base64')}`
}

function send(request: IncomingMessage, response: ServerResponse, type: string, body: Uint8Array): void {
  const etag = `"${shasum(body)}"`
  response.setHeader('etag', etag)
  response.setHeader('last-modified', LAST_MODIFIED)
  response.setHeader('vary', 'Accept')
  if (request.headers['if-none-match'] === etag) {
    response.writeHead(304).end()
    return
  }
  response.writeHead(200, { 'content-type': type, 'content-length': body.byteLength })
  response.end(request.method === 'HEAD' ? undefined : body)
}

function sendJson(request: IncomingMessage, response: ServerResponse, status: number, value: unknown): void {
  const body = Buffer.from(JSON.stringify(value))
  response.writeHead(status, { 'content-type': 'application/json', 'content-length': body.length })
  response.end(request.method === 'HEAD' ? undefined : body)
}

function misbehave(fault: Fault, body: Uint8Array, response: ServerResponse): void {
  const half = body.subarray(0, Math.floor(body.byteLength / 2))
  switch (fault.kind) {
    case 'status':
      response
        .writeHead(fault.status, { 'content-type': 'application/json', ...fault.headers })
        .end(fault.body ?? JSON.stringify({ error: 'on demand' }))
      return
    case 'reset':
      response.socket?.resetAndDestroy()
      return
    case 'truncate':
      response.writeHead(200, { 'content-length': body.byteLength })
      response.write(half, () => response.socket?.destroy())
      return
    case 'short':
      response.writeHead(200, { 'content-length': half.byteLength }).end(half)
      return
    case 'wrong-bytes':
      response.writeHead(200, { 'content-length': body.byteLength }).end(Buffer.from(body.map((byte) => byte ^ 0x55)))
      return
    case 'endless':
      response.writeHead(200)
      pour(response)
      return
    case 'hang':
      return
    case 'stall':
      response.writeHead(200, { 'content-length': body.byteLength })
      response.write(half)
      return
    case 'redirect':
      response.writeHead(fault.status ?? 302, { location: fault.to }).end()
      return
  }
}

function pour(response: ServerResponse): void {
  const chunk = Buffer.alloc(64 * 1024, 'z')
  const more = (): void => {
    while (!response.destroyed) {
      if (response.write(chunk)) continue
      response.once('drain', more)
      return
    }
  }
  more()
}

function fullDocument(name: string, versions: ReadonlyMap<string, Entry>): object {
  const time: Record<string, string> = { created: PUBLISHED, modified: PUBLISHED }
  for (const [version, { published }] of versions) if (published !== null) time[version] = published
  return {
    _id: name,
    name,
    modified: PUBLISHED,
    time,
    'dist-tags': { latest: latest(versions) },
    versions: Object.fromEntries([...versions].map(([version, { manifest }]) => [version, manifest])),
  }
}

function abbreviatedDocument(name: string, versions: ReadonlyMap<string, Entry>): object {
  const short = ({ manifest }: Entry): object =>
    Object.fromEntries(ABBREVIATED_FIELDS.filter((field) => field in manifest).map((field) => [field, manifest[field]]))
  return {
    name,
    modified: PUBLISHED,
    'dist-tags': { latest: latest(versions) },
    versions: Object.fromEntries([...versions].map(([version, entry]) => [version, short(entry)])),
  }
}

/** The highest release, or the highest prerelease where there is no other. */
function latest(versions: ReadonlyMap<string, Entry>): string {
  const all = [...versions.keys()].sort((a, b) => {
    const [left, right] = [numbers(a), numbers(b)]
    return left[0] - right[0] || left[1] - right[1] || left[2] - right[2]
  })
  return all.findLast((version) => !version.includes('-')) ?? all.at(-1) ?? ''
}

function numbers(version: string): readonly [number, number, number] {
  const [major = '0', minor = '0', patch = '0'] = version.split(/[.+-]/)
  return [Number(major), Number(minor), Number(patch)]
}

function baseName(name: string): string {
  return name.slice(name.indexOf('/') + 1)
}

function safeDecode(path: string): string {
  try {
    return decodeURIComponent(path)
  } catch {
    return path
  }
}
