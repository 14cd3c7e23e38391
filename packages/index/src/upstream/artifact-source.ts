import { createReadStream, realpathSync } from 'node:fs'
import { isAbsolute, relative, resolve, sep } from 'node:path'

import { integrityFromHex, type Integrity, PolderError, strongestIntegrity } from '@polder/spec'

import { type NpmConfig, redactUrl, registryOf } from './npm-config.ts'
import type { PinRequest } from '../pins/pin.ts'
import type { Headers, Upstream } from './upstream.ts'

/** The open network part of a sync. */
export interface Network {
  readonly config: NpmConfig
  readonly upstream: Upstream
  /** name → what its registry says about it, asked once a sync: where the canonical path was wrong, or for hashes. */
  readonly documents: Map<string, Promise<unknown>>
}

/**
 * Takes the bytes of one attempt; called anew for the next one. `from` is for messages, without secrets; `announced` is
 * how many there are to be, where somebody says so.
 */
export type Consumer<T> = (body: AsyncIterable<Uint8Array>, from: string, announced?: number) => Promise<T>

// The largest package documents are about 20 MB in the abbreviated form.
const MAX_DOCUMENT_BYTES = 64 * 1024 * 1024
const DOCUMENT_TYPES = 'application/vnd.npm.install-v1+json; q=1.0, application/json; q=0.8'
// How registries say that there is nothing at a path; some that keep tarballs elsewhere forbid what is not there.
const NOT_HERE = ['400', '403', '404', '405', '410']

/**
 * Gets a registry's tarball: from the canonical path `<registry>/<name>/-/<base>-<version>.tgz` or, if there is none,
 * from where the registry's document says (registries are free to keep tarballs anywhere).
 * @param expected the hash that will be checked; without one, no other host than the registry's is believed
 * @throws PolderError `FETCH_FAILED`, and what `consume` throws
 */
export async function fromRegistry<T>(
  { config, upstream, documents }: Network,
  pin: PinRequest,
  expected: Integrity | null,
  maxBytes: number,
  consume: Consumer<T>,
): Promise<T> {
  const registry = registryOf(config, pin.name)
  const canonical = `${registry}${pin.name}/-/${pin.name.slice(pin.name.indexOf('/') + 1)}-${encodeURIComponent(pin.reference)}.tgz`
  const get = (url: string): Promise<T> =>
    upstream.download({ url, registry, maxBytes }, (body, headers) => consume(body, redactUrl(url), announced(headers)))
  try {
    return await get(canonical)
  } catch (error) {
    if (
      !(error instanceof PolderError) ||
      !NOT_HERE.includes(error.details.found ?? '') ||
      error.code !== 'FETCH_FAILED'
    )
      throw error
    const url = await tarballFromDocument({ config, upstream, documents }, pin, registry)
    if (url === undefined || url.href === new URL(canonical).href) throw error
    if (expected === null && url.host !== new URL(registry).host) {
      throw new PolderError(
        'FETCH_FAILED',
        `its registry has it on another host (${redactUrl(url)}), and there is no hash to check it by`,
        { cause: error },
      )
    }
    return get(url.href)
  }
}

/**
 * A tarball that the lockfile names by URL. It gets the credentials that the user has for that URL, if any.
 * @throws PolderError `FETCH_FAILED`; `PRIVATE_NAME` if the URL leads a private name to the host of the public registry
 */
export async function fromUrl<T>(
  { config, upstream }: Network,
  name: string,
  url: string,
  maxBytes: number,
  consume: Consumer<T>,
): Promise<T> {
  // Throws for a private name without a registry of its own.
  if (URL.parse(url)?.host === new URL(config.registry).host) registryOf(config, name)
  return upstream.download({ url, maxBytes }, (body, headers) => consume(body, redactUrl(url), announced(headers)))
}

function announced(headers: Headers): number {
  return Number(headers['content-length'] ?? 0)
}

/**
 * A tarball in the repository.
 * @throws PolderError `FETCH_FAILED` if it is not there, `SOURCE_UNSUPPORTED` if it is outside
 */
export async function fromFile<T>(root: string, path: string, consume: Consumer<T>): Promise<T> {
  const absolute = resolve(root, path)
  let real: string
  try {
    real = realpathSync(absolute)
  } catch (cause) {
    throw new PolderError('FETCH_FAILED', `${path} cannot be read: ${(cause as Error).message}`, {
      path: absolute,
      cause,
    })
  }
  const inside = relative(realpathSync(root), real)
  if (inside === '..' || inside.startsWith(`..${sep}`) || isAbsolute(inside)) {
    throw new PolderError('SOURCE_UNSUPPORTED', `${path} is outside of the repository`, {
      path: absolute,
      hint: 'move the tarball into the repository',
    })
  }
  let failure: unknown
  try {
    return await consume(
      reading(real, (error) => (failure = error)),
      path,
    )
  } catch (error) {
    if (failure === undefined) throw error
    throw new PolderError('FETCH_FAILED', `${path} cannot be read: ${(failure as Error).message}`, {
      path: absolute,
      cause: failure,
    })
  }
}

async function* reading(
  path: string,
  onFailure: (error: unknown) => void,
): AsyncGenerator<Uint8Array, void, undefined> {
  try {
    for await (const chunk of createReadStream(path)) yield chunk as Buffer
  } catch (error) {
    onFailure(error)
    throw error
  }
}

/**
 * The hash that the registry's document has for a pin: `dist.integrity`, or the `dist.shasum` of what was published
 * before npm 5. Null if it has neither.
 * @throws PolderError `FETCH_FAILED`; `INTEGRITY_MISSING` if what it has is no hash
 */
export async function hashFromDocument(network: Network, pin: PinRequest): Promise<Integrity | null> {
  const registry = registryOf(network.config, pin.name)
  const dist = await distFromDocument(network, pin, registry)
  const [integrity, shasum] = [field(dist, 'integrity'), field(dist, 'shasum')]
  try {
    if (typeof integrity === 'string' && integrity !== '') return strongestIntegrity(integrity)
    return typeof shasum === 'string' ? integrityFromHex('sha1', shasum) : null
  } catch (cause) {
    throw new PolderError('INTEGRITY_MISSING', `${redactUrl(registry)} has a hash for ${pin.id} that is none`, {
      found: String(integrity ?? shasum),
      cause,
    })
  }
}

/** Undefined if the registry knows the version but no tarball of it. */
async function tarballFromDocument(network: Network, pin: PinRequest, registry: string): Promise<URL | undefined> {
  const tarball = field(await distFromDocument(network, pin, registry), 'tarball')
  return typeof tarball === 'string' ? (URL.parse(tarball, registry) ?? undefined) : undefined
}

async function distFromDocument({ upstream, documents }: Network, pin: PinRequest, registry: string): Promise<unknown> {
  const url = `${registry}${pin.name.replace('/', '%2f')}`
  let document = documents.get(pin.name)
  if (document === undefined) {
    const request = { url, registry, accept: DOCUMENT_TYPES, maxBytes: MAX_DOCUMENT_BYTES }
    documents.set(pin.name, (document = upstream.download(request, (body) => readJson(body, redactUrl(url)))))
  }
  const versions = field(await document, 'versions')
  const version = field(versions, pin.reference)
  if (version === undefined) {
    throw new PolderError('FETCH_FAILED', `${redactUrl(registry)} has no version ${pin.reference} of it`, {
      found: '404',
      hint: 'it may be unpublished, or a scope may need its own registry in .npmrc',
    })
  }
  return field(version, 'dist')
}

async function readJson(body: AsyncIterable<Uint8Array>, from: string): Promise<unknown> {
  const chunks: Uint8Array[] = []
  for await (const chunk of body) chunks.push(chunk)
  try {
    return JSON.parse(Buffer.concat(chunks).toString('utf8'))
  } catch (cause) {
    throw new PolderError('FETCH_FAILED', `${from} is not JSON: ${(cause as Error).message}`, { cause })
  }
}

/** An own property of a document from outside, never an inherited one. */
function field(value: unknown, key: string): unknown {
  return typeof value === 'object' && value !== null && Object.hasOwn(value, key)
    ? (value as Record<string, unknown>)[key]
    : undefined
}
