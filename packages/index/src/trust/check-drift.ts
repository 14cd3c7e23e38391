import { compareText, PolderError } from '@polder/spec'
import { RangeCache } from '@polder/spec/semver-ranges'
import { hasArtifact, readArtifact, type Store } from '@polder/store'

import { type Clock, systemClock } from '../upstream/backoff.ts'
import { concurrently } from '../pins/concurrently.ts'
import { type Drift, driftOf, driftOfKeys, sortDrift } from './drift.ts'
import { type NpmConfig, redactUrl, registryOf } from '../upstream/npm-config.ts'
import { attributed } from '../pins/pin.ts'
import { openDocuments } from './release-document.ts'
import type { SigningKeys } from './remembered-keys.ts'
import { fetchKeys, keyChanges } from './signing-keys.ts'
import { openUpstream, type Upstream } from '../upstream/upstream.ts'
import { byName, knownOf, type WantedRelease } from './wanted-releases.ts'

export interface CheckOptions {
  readonly npm: () => Promise<NpmConfig>
  /** Those that the lock pins; compared if there are any. */
  readonly keys: SigningKeys
  readonly onProgress?: (progress: { readonly done: number; readonly total: number }) => void
  readonly clock?: Clock
}

export interface CheckReport {
  /** Pins whose upstream answered. */
  readonly checked: number
  /** Pins that nobody can be asked about: files of the repository, private names without a registry. */
  readonly skipped: number
  readonly drift: readonly Drift[]
  /** `FETCH_FAILED`, a pin or a name each. */
  readonly failures: readonly PolderError[]
}

const CONCURRENCY = 16

/**
 * Compares what upstreams say of pins with what is pinned and recorded. Nothing is written, and no artifact is fetched:
 * a document that has the recorded ETag is not sent again, and a tarball by URL is asked for its size alone.
 * @throws PolderError `NPMRC_INVALID`
 */
export async function checkDrift(
  store: Store,
  pins: readonly WantedRelease[],
  { npm, keys, onProgress, clock = systemClock }: CheckOptions,
): Promise<CheckReport> {
  const config = await npm()
  const upstream = await openUpstream(config, clock)
  const documents = openDocuments(config, upstream)
  const ranges = new RangeCache()
  const drift: Drift[] = []
  const failures: PolderError[] = []
  let checked = 0

  async function checkName(name: string, own: readonly WantedRelease[]): Promise<void> {
    const known = own.map((pin) => knownOf(store, pin))
    const etags = new Set(known.map(({ release }) => release?.etag))
    const [etag] = etags.size === 1 ? etags : []
    const document = await documents.get(name, new Set(own.map(({ reference }) => reference)), etag)
    checked += own.length
    if (document === 'unchanged') return
    const compare = (a: string, b: string): number => ranges.compare(a, b)
    drift.push(...driftOf(name, document, known, { now: clock.now(), compare }))
  }

  const registries = new Set<string>()
  const askable = (pin: WantedRelease): boolean => {
    if (pin.source.kind !== 'registry') return pin.source.kind === 'tarball'
    try {
      registries.add(registryOf(config, pin.name))
      return true
    } catch (error) {
      if (error instanceof PolderError && error.code === 'PRIVATE_NAME') return false
      throw error
    }
  }
  const asked = pins.filter(askable)
  const work: { readonly pin: WantedRelease | undefined; readonly run: () => Promise<void> }[] = [
    ...[...(Object.keys(keys).length === 0 ? [] : registries)].map((registry) => ({
      pin: undefined,
      run: async () => {
        const served = (await fetchKeys(upstream, registry)) ?? {}
        drift.push(...driftOfKeys(redactUrl(registry), keyChanges(keys, served)))
      },
    })),
    ...[...byName(asked.filter(({ source }) => source.kind === 'registry'))].map(([name, own]) => ({
      pin: own[0],
      run: () => checkName(name, own),
    })),
    ...asked.flatMap((pin) => {
      if (pin.source.kind !== 'tarball') return []
      const { url } = pin.source
      return [{ pin, run: async () => void drift.push(...(await tarballDrift(store, upstream, url, pin))) }]
    }),
  ]
  let done = 0
  try {
    await concurrently(work, CONCURRENCY, async ({ pin, run }) => {
      try {
        await run()
        if (pin?.source.kind === 'tarball') checked += 1
      } catch (error) {
        if (!(error instanceof PolderError)) throw error
        failures.push(pin === undefined ? error : attributed(error, pin))
      }
      done += 1
      onProgress?.({ done, total: work.length })
    })
  } finally {
    await upstream.close()
  }
  return {
    checked,
    skipped: pins.length - asked.length,
    drift: sortDrift(drift),
    failures: failures.sort((a, b) => compareText(a.message, b.message)),
  }
}

/** By a HEAD: whether it is still there, and of the size that is pinned. */
async function tarballDrift(store: Store, upstream: Upstream, url: string, pin: WantedRelease): Promise<Drift[]> {
  let length: number
  try {
    length = await upstream.download({ url, method: 'HEAD', maxBytes: 0 }, async (_, headers) =>
      Number(headers['content-length'] ?? Number.NaN),
    )
  } catch (error) {
    if (!(error instanceof PolderError) || !['404', '410'].includes(error.details.found ?? '')) throw error
    return [{ kind: 'unpublished', subject: pin.id, message: `${redactUrl(url)} is gone` }]
  }
  if (Number.isNaN(length) || !hasArtifact(store, pin.integrity)) return []
  const bytes = readArtifact(store, pin.integrity, pin.id).length
  if (length === bytes) return []
  return [{ kind: 'bytes', subject: pin.id, message: `${redactUrl(url)} has ${length} bytes instead of ${bytes}` }]
}
