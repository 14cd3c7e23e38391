import { compareText, isPackageName, type PlatformCondition, PolderError } from '@polder/spec'
import { RangeCache } from '@polder/spec/semver-ranges'

import { systemClock } from './backoff.ts'
import { type NpmConfig, redactUrl, registryOf } from './npm-config.ts'
import { openUpstream, type Upstream } from './upstream.ts'

/** A version as its registry lists it. */
export interface PublishedVersion extends PlatformCondition {
  readonly version: string
}

/** What registries have, each asked once a name. Ends with `close`. */
export interface PublishedVersions {
  /**
   * The version that npm would take for a range (npm-pick-manifest): what the tag `latest` names, if it fits, or else the
   * highest that does, deprecated ones last. A tag stands for what it names. Undefined if there is none.
   * @throws PolderError `FETCH_FAILED`, `PRIVATE_NAME`
   */
  readonly newest: (name: string, range: string) => Promise<PublishedVersion | undefined>
  readonly close: () => Promise<void>
}

const TYPES = 'application/vnd.npm.install-v1+json; q=1.0, application/json; q=0.8'
const MAX_BYTES = 64 * 1024 * 1024

interface Listed extends PublishedVersion {
  readonly deprecated: boolean
}

interface Listing {
  /** Ascending. */
  readonly versions: readonly Listed[]
  readonly tags: ReadonlyMap<string, string>
}

/** Loads the HTTP client, so call it only when something has to be asked. */
export async function openPublishedVersions(config: NpmConfig): Promise<PublishedVersions> {
  const upstream = await openUpstream(config, systemClock)
  const ranges = new RangeCache()
  const listings = new Map<string, Promise<Listing>>()
  return {
    newest: async (name, range) => {
      let listing = listings.get(name)
      if (listing === undefined) listings.set(name, (listing = list(upstream, config, name, ranges)))
      return pick(await listing, range, ranges)
    },
    close: () => upstream.close(),
  }
}

function pick({ versions, tags }: Listing, range: string, ranges: RangeCache): PublishedVersion | undefined {
  if (!ranges.isRange(range)) return versions.find(({ version }) => version === tags.get(range))
  const fitting = versions.filter(({ version }) => ranges.satisfies(version, range))
  const latest = fitting.find(({ version }) => version === tags.get('latest'))
  return latest ?? fitting.findLast(({ deprecated }) => !deprecated) ?? fitting.at(-1)
}

async function list(upstream: Upstream, config: NpmConfig, name: string, ranges: RangeCache): Promise<Listing> {
  if (!isPackageName(name)) throw new PolderError('FETCH_FAILED', `${name} is no package name`, { spec: name })
  const registry = registryOf(config, name)
  const url = `${registry}${name.replace('/', '%2f')}`
  const document = await upstream.download({ url, registry, accept: TYPES, maxBytes: MAX_BYTES }, async (body) => {
    const chunks: Uint8Array[] = []
    for await (const chunk of body) chunks.push(chunk)
    try {
      return JSON.parse(Buffer.concat(chunks).toString('utf8')) as unknown
    } catch (cause) {
      throw new PolderError('FETCH_FAILED', `${redactUrl(url)} is not JSON: ${(cause as Error).message}`, { cause })
    }
  })
  const versions = Object.entries(record(record(document)['versions'])).map(([version, described]): Listed => {
    const { os, cpu, libc, deprecated } = record(described)
    return {
      version,
      deprecated: typeof deprecated === 'string' && deprecated !== '',
      ...condition({ os, cpu, libc }),
    }
  })
  const tags = Object.entries(record(record(document)['dist-tags'])).filter(
    (entry): entry is [string, string] => typeof entry[1] === 'string',
  )
  return {
    versions: versions.sort((a, b) => ranges.compare(a.version, b.version) || compareText(a.version, b.version)),
    tags: new Map(tags),
  }
}

function condition(fields: Readonly<Record<string, unknown>>): PlatformCondition {
  return Object.fromEntries(
    Object.entries(fields).flatMap(([field, value]) => {
      const values = (Array.isArray(value) ? value : [value]).filter((one): one is string => typeof one === 'string')
      return values.length === 0 ? [] : [[field, values]]
    }),
  )
}

function record(value: unknown): Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? { ...value } : {}
}
