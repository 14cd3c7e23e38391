import {
  compareText,
  type Manifest,
  matchesPlatform,
  packageId,
  type PackageId,
  type Platform,
  PolderError,
  splitPackageId,
} from '@polder/spec'
import { RangeCache } from '@polder/spec/semver-ranges'

import type { PinnedPackage } from './pin.ts'
import type { PublishedVersions } from '../upstream/published-versions.ts'

/** A range that somebody needs something of. */
export interface WantedRange {
  /** The real name, never an alias. */
  readonly name: string
  readonly range: string
  readonly optional: boolean
  readonly neededBy: PackageId
}

export interface RangeSources {
  /** Taken before anything else, in this order: what is pinned already. */
  readonly known: readonly (readonly PackageId[])[]
  /** Undefined if no upstream may be asked. */
  readonly published: PublishedVersions | undefined
  /** Brings what is not in the store yet. What cannot be had is not in the result. */
  readonly bring: (ids: readonly PackageId[]) => Promise<ReadonlyMap<PackageId, Pick<PinnedPackage, 'manifest'>>>
  readonly platforms: readonly Platform[]
}

export interface ResolvedRanges {
  /** Sorted. */
  readonly ids: readonly PackageId[]
  /** Ranges that nothing could be had for, as ends of sentences. */
  readonly failures: readonly string[]
}

/**
 * A version for each range, and for those that these need in turn. One that is taken already serves every range that it
 * satisfies, so there are few versions of each name; which of them an owner gets is for flattening to say.
 */
export async function resolveRanges(
  wanted: readonly WantedRange[],
  { known, published, bring, platforms }: RangeSources,
): Promise<ResolvedRanges> {
  const ranges = new RangeCache()
  const taken = new Map<string, Set<string>>()
  const sources = known.map(versionsByName)
  const failures: string[] = []

  const choose = async ({ name, range, optional }: WantedRange): Promise<string | undefined> => {
    const own = [...(taken.get(name) ?? [])]
    for (const versions of [own, ...sources.map((source) => source.get(name) ?? [])]) {
      const fitting = versions
        .filter((version) => ranges.satisfies(version, range))
        .sort((a, b) => ranges.compare(a, b))
      if (fitting.length > 0) return fitting.at(-1)
    }
    const found = await published?.newest(name, range)
    if (found === undefined)
      throw new PolderError(
        'FETCH_FAILED',
        `no ${published === undefined ? 'pinned ' : ''}version of ${name} is in ${range}`,
        { spec: name },
      )
    return optional && !platforms.some((platform) => matchesPlatform(found, platform)) ? undefined : found.version
  }

  for (let level = wanted; level.length > 0;) {
    const fresh: PackageId[] = []
    for (const want of level) {
      let version: string | undefined
      try {
        version = await choose(want)
      } catch (error) {
        if (!(error instanceof PolderError)) throw error
        if (!want.optional) failures.push(`${want.name}@${want.range}, needed by ${want.neededBy}: ${error.message}`)
      }
      const versions = taken.get(want.name) ?? new Set()
      taken.set(want.name, versions)
      if (version === undefined || versions.has(version)) continue
      versions.add(version)
      fresh.push(packageId(want.name, version))
    }
    const brought = await bring(fresh)
    level = [...brought].flatMap(([id, { manifest }]) => rangesOf(manifest, id))
  }
  const ids = [...taken].flatMap(([name, versions]) => [...versions].map((version) => packageId(name, version)))
  return { ids: ids.sort(compareText), failures }
}

/** What a package asks of a registry, sorted by name. Commits, files and URLs are left out. */
export function rangesOf(manifest: Manifest, neededBy: PackageId, withDevelopment: boolean = false): WantedRange[] {
  const { dependencies, devDependencies, optionalDependencies, peerDependencies, optionalPeers } = manifest
  const bundled = new Set(manifest.bundled)
  const peers = Object.entries(peerDependencies).filter(([name]) => !optionalPeers.includes(name))
  const all = [
    ...Object.entries(optionalDependencies).map(([name, range]) => [name, range, true] as const),
    ...Object.entries(dependencies).map(([name, range]) => [name, range, false] as const),
    ...(withDevelopment ? Object.entries(devDependencies) : []).map(([name, range]) => [name, range, false] as const),
    ...peers.map(([name, range]) => [name, range, false] as const),
  ]
  return all
    .filter(([name]) => !bundled.has(name))
    .flatMap(([installName, specifier, optional]): WantedRange[] => {
      const wanted = registryRange(installName, specifier)
      return wanted === undefined ? [] : [{ ...wanted, optional, neededBy }]
    })
    .sort((a, b) => compareText(a.name, b.name))
}

/** The real name and the range or tag behind a specifier; undefined for what comes from elsewhere. */
export function registryRange(installName: string, specifier: string): Pick<WantedRange, 'name' | 'range'> | undefined {
  const [, alias, aliased = ''] = /^npm:((?:@[^/@]+\/)?[^/@]+)(?:@(.*))?$/.exec(specifier) ?? []
  const range = alias === undefined ? specifier : aliased
  return /[:/]/.test(range) ? undefined : { name: alias ?? installName, range }
}

function versionsByName(ids: readonly PackageId[]): ReadonlyMap<string, readonly string[]> {
  const versions = new Map<string, string[]>()
  for (const id of ids) {
    const { name, reference } = splitPackageId(id)
    versions.set(name, [...(versions.get(name) ?? []), reference])
  }
  return versions
}
