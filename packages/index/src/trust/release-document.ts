import { type Integrity, integrityFromHex, PolderError, sortKeys, strongestIntegrity } from '@polder/spec'
import { z } from 'zod'

import { type Member, membersOf, valueOf } from './json-members.ts'
import { type NpmConfig, redactUrl, registryOf } from '../upstream/npm-config.ts'
import type { Release } from './releases.ts'
import type { Upstream } from '../upstream/upstream.ts'

/** What a registry's full document says of the versions that were asked for. */
export interface NameDocument {
  readonly registry: string
  readonly modified?: string
  readonly distTags: Readonly<Record<string, string>>
  /** By version; a version that the document does not list is not there. */
  readonly releases: ReadonlyMap<string, Release>
}

/** Asks registries for their full documents, a bounded number of bytes at a time. */
export interface Documents {
  /**
   * @param versions those of which something is wanted
   * @param etag of what is known; if the document still has it, the answer is `unchanged`
   * @returns `missing` if the registry has no such name
   * @throws PolderError `FETCH_FAILED`, also for a document that is none; `PRIVATE_NAME`
   */
  get(name: string, versions: ReadonlySet<string>, etag?: string): Promise<NameDocument | 'unchanged' | 'missing'>
}

/** The largest documents known have some 60 MB. */
const MAX_DOCUMENT_BYTES = 100 * 1024 * 1024
// Larger ones are received one at a time.
const LARGE_BYTES = 4 * 1024 * 1024
const MAX_TAGS = 1000
const GONE = ['404', '405', '410']

export function openDocuments(config: NpmConfig, upstream: Upstream): Documents {
  let turn = Promise.resolve()
  async function received(body: AsyncIterable<Uint8Array>): Promise<Buffer> {
    const chunks: Uint8Array[] = []
    let bytes = 0
    let end: (() => void) | undefined
    try {
      for await (const chunk of body) {
        chunks.push(chunk)
        bytes += chunk.byteLength
        if (bytes <= LARGE_BYTES || end !== undefined) continue
        const before = turn
        turn = new Promise((resolve) => (end = resolve))
        await before
      }
      return Buffer.concat(chunks)
    } finally {
      end?.()
    }
  }

  return {
    async get(name, versions, etag) {
      const registry = registryOf(config, name)
      const url = `${registry}${name.replace('/', '%2f')}`
      const request = {
        url,
        registry,
        accept: 'application/json',
        maxBytes: MAX_DOCUMENT_BYTES,
        compressed: true,
        ...(etag === undefined ? {} : { ifNoneMatch: etag }),
      }
      try {
        return await upstream.download(request, async (body, headers) => {
          const found = headers['etag']
          return parseDocument(await received(body), name, versions, {
            registry: redactUrl(registry),
            ...(typeof found === 'string' && found.length <= 200 ? { etag: found } : {}),
          })
        })
      } catch (error) {
        if (!(error instanceof PolderError) || error.code !== 'FETCH_FAILED') throw error
        if (error.details.found === '304' && etag !== undefined) return 'unchanged'
        if (GONE.includes(error.details.found ?? '')) return 'missing'
        throw error
      }
    },
  }
}

/**
 * Takes a full document apart (npm's "package metadata" document) without parsing more of it than is asked for.
 * @throws PolderError `FETCH_FAILED` if it is no such document, or of another package
 */
function parseDocument(
  bytes: Buffer,
  name: string,
  versions: ReadonlySet<string>,
  from: { readonly registry: string; readonly etag?: string },
): NameDocument {
  const malformed = (what: string, cause?: unknown): PolderError =>
    new PolderError('FETCH_FAILED', `the document of ${name} at ${from.registry} ${what}`, { spec: name, cause })
  try {
    const top = new Map([...membersOf(bytes)].map((member) => [member.name, member]))
    const said = read(bytes, top.get('name'), z.string().optional())
    if (said !== undefined && said !== name) throw malformed(`is of another package, ${said}`)
    const distTags = sortKeys(read(bytes, top.get('dist-tags'), TAGS))
    const modified = read(bytes, top.get('modified'), DATE)
    const published = membersIn(bytes, top.get('time'), versions)
    const shared = { name, ...from, distTags, ...defined({ modified }) }
    const releases = new Map<string, Release>()
    for (const [version, member] of membersIn(bytes, top.get('versions'), versions)) {
      const fields = new Map([...membersOf(bytes, member.from)].map((field) => [field.name, field]))
      const own = { name: read(bytes, fields.get('name'), TEXT), version: read(bytes, fields.get('version'), TEXT) }
      if ((own.name ?? name) !== name || plain(own.version ?? version) !== plain(version))
        throw malformed(`has ${own.name ?? name}@${own.version ?? version} in the place of ${version}`)
      const { integrity, shasum, ...dist } = read(bytes, fields.get('dist'), DIST)
      releases.set(version, {
        ...shared,
        version,
        ...defined({
          ...dist,
          integrity: hashOf(integrity, shasum),
          shasum,
          published: read(bytes, published.get(version), DATE),
          deprecated: read(bytes, fields.get('deprecated'), DEPRECATED),
        }),
      })
    }
    return { registry: from.registry, distTags, releases, ...defined({ modified }) }
  } catch (error) {
    if (error instanceof SyntaxError) throw malformed(`is not JSON: ${error.message}`, error)
    if (!(error instanceof z.ZodError)) throw error
    const [issue] = error.issues
    throw malformed(`is malformed: ${[...(issue?.path ?? []), issue?.message].join(' > ')}`, error)
  }
}

// What only informs may be malformed, and is then left out; what is believed may not.
const TEXT = z.string().max(1000).optional()
const COUNT = z.int().nonnegative().optional().catch(undefined)
const DATE = z
  .string()
  .max(100)
  .transform((text) => (Number.isNaN(Date.parse(text)) ? undefined : new Date(text).toISOString()))
  .optional()
  .catch(undefined)
// An empty text takes a deprecation back; some registries say true or false.
const DEPRECATED = z
  .union([
    z.string().transform((text) => text.slice(0, 10_000) || undefined),
    z.boolean().transform((is) => (is ? 'deprecated' : undefined)),
  ])
  .optional()
  .catch(undefined)
const TAGS = z
  .record(z.string().max(200), z.string().max(200))
  .optional()
  .transform((tags = {}) => Object.fromEntries(Object.entries(tags).slice(0, MAX_TAGS)))
const SIGNATURE = z.object({ keyid: z.string().min(1).max(200), sig: z.string().min(1).max(4000) })
const DIST = z
  .object({
    integrity: z.string().max(2000).optional(),
    shasum: z
      .string()
      .regex(/^[0-9a-f]{40}$/i)
      .transform((hex) => hex.toLowerCase())
      .optional()
      .catch(undefined),
    fileCount: COUNT,
    unpackedSize: COUNT,
    signatures: z
      .array(SIGNATURE)
      .max(20)
      .nullish()
      .transform((list) => (list === null || list?.length === 0 ? undefined : list)),
    attestations: z
      .object({
        url: z.string().max(2000),
        provenance: z.object({ predicateType: z.string().max(1000) }).optional(),
      })
      .nullish()
      .transform((value) => value ?? undefined),
  })
  .prefault({})

function read<T>(bytes: Buffer, member: Member | undefined, schema: z.ZodType<T>): T {
  return schema.parse(member === undefined ? undefined : valueOf(bytes, member))
}

/** Those members of a member that are wanted; none if it is not there. The last one of a name counts, as in JSON.parse. */
function membersIn(bytes: Buffer, member: Member | undefined, wanted: ReadonlySet<string>): Map<string, Member> {
  const found = new Map<string, Member>()
  if (member === undefined) return found
  for (const inner of membersOf(bytes, member.from)) if (wanted.has(inner.name)) found.set(inner.name, inner)
  return found
}

function hashOf(integrity: string | undefined, shasum: string | undefined): Integrity | undefined {
  if (integrity !== undefined && integrity !== '') {
    try {
      return strongestIntegrity(integrity)
    } catch (error) {
      if (!(error instanceof PolderError)) throw error
    }
  }
  return shasum === undefined ? undefined : integrityFromHex('sha1', shasum)
}

/** Without what is undefined. */
function defined<T extends object>(value: T): { [Key in keyof T]?: Exclude<T[Key], undefined> } {
  return Object.fromEntries(Object.entries(value).filter(([, field]) => field !== undefined)) as {
    [Key in keyof T]?: Exclude<T[Key], undefined>
  }
}

/** Without a leading `v` and without build metadata, which registries drop. */
function plain(version: string): string {
  return version
    .trim()
    .replace(/^[v=\s]+/, '')
    .replace(/\+.*$/, '')
}
