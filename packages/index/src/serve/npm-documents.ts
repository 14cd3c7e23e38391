import { compareText, type Manifest, splitPackageId } from '@polder/spec'
import type { RangeCache } from '@polder/spec/semver-ranges'

import type { Release } from '../trust/releases.ts'
import type { PinnedVersion, UnpinnedVersion } from './locked-pins.ts'

/** A version with everything that its document says. */
export interface DescribedVersion {
  readonly pin: PinnedVersion
  readonly manifest: Manifest
  readonly needsBuild: boolean
  /** Absent where the registry's document was never recorded, or is about other bytes. */
  readonly release?: Release
  /** sha1, hex. */
  readonly shasum?: string
  /** The registry's attestations are recorded. */
  readonly attested: boolean
  /** Of all that this was read from: another one means that it may be something else. */
  readonly inputs: string
}

export interface DocumentContext {
  /** Where the tarballs of the document are: the base URL of the view, ends in a slash. */
  readonly base: string
  /** Where attestations are: clients put the path of this behind the URL that they have the document from. */
  readonly origin: string
  readonly ranges: RangeCache
  /** True if somebody who needs `name` in this range could get something. */
  readonly isServed: (name: string, range: string) => boolean
}

/**
 * The date of what was published at an unknown time: the one that npm gives the files in its archives. It is old, so no
 * client takes a pin for a fresh release.
 */
const UNKNOWN_DATE = '1985-10-26T08:15:00.000Z'

/** A document as clients ask for it (npm's "Package metadata"); `abbreviated` as `application/vnd.npm.install-v1+json`. */
export interface NpmDocument {
  readonly full: {
    readonly [field: string]: unknown
    readonly versions: Readonly<Record<string, object>>
    readonly 'dist-tags': Readonly<Record<string, string>>
  }
  readonly abbreviated: object
  /** ISO 8601. */
  readonly modified: string
}

/**
 * The documents of a name with the versions that are pinned of it, and nothing else. Optional dependencies that nobody
 * could get from here are left out: they are packages for other platforms, and some clients fail without their documents.
 */
export function npmDocument(
  name: string,
  unsorted: readonly DescribedVersion[],
  context: DocumentContext,
): NpmDocument {
  const versions = unsorted.toSorted((a, b) => context.ranges.compare(a.pin.version, b.pin.version))
  const published = versions.map(({ release }) => release?.published ?? UNKNOWN_DATE)
  const modified = published.toSorted(compareText).at(-1) ?? UNKNOWN_DATE
  const tags = distTags(versions)
  const full: Record<string, object> = {}
  const abbreviated: Record<string, object> = {}
  for (const described of versions) {
    const short = abbreviatedVersion(described, context)
    abbreviated[described.pin.version] = short
    full[described.pin.version] = fullVersion(described, short)
  }
  return {
    modified,
    abbreviated: { name, modified, 'dist-tags': tags, versions: abbreviated },
    full: {
      _id: name,
      _rev: '1-pinned',
      name,
      'dist-tags': tags,
      versions: full,
      time: {
        created: published.toSorted(compareText)[0] ?? UNKNOWN_DATE,
        modified,
        ...Object.fromEntries(versions.map(({ pin }, index) => [pin.version, published[index]])),
      },
      modified,
    },
  }
}

/**
 * The document of packages for platforms that are not locked, with nothing but what a lockfile says. pnpm asks for it before
 * it installs from a lockfile that has them, to see how old they are. Their tarballs are not here.
 */
export function bareDocument(
  name: string,
  unsorted: readonly UnpinnedVersion[],
  { base, ranges }: Pick<DocumentContext, 'base' | 'ranges'>,
): NpmDocument {
  const versions = unsorted.toSorted((a, b) => ranges.compare(a.version, b.version))
  const modified = UNKNOWN_DATE
  const described = Object.fromEntries(
    versions.map(({ version, integrity, elsewhere }) => [
      version,
      {
        name,
        version,
        ...elsewhere,
        dist: {
          tarball: `${base}${tarballPath({ name, version }).slice(1)}`,
          ...(integrity === null ? {} : { integrity }),
        },
      },
    ]),
  )
  const tags = { latest: versions.at(-1)?.version ?? '' }
  const dates = Object.fromEntries(versions.map(({ version }) => [version, modified]))
  return {
    modified,
    abbreviated: { name, modified, 'dist-tags': tags, versions: described },
    full: {
      _id: name,
      _rev: '1-pinned',
      name,
      'dist-tags': tags,
      versions: described,
      time: { created: modified, modified, ...dates },
      modified,
    },
  }
}

/** `/name/-/name-1.0.0.tgz`, `/@scope/name/-/name-1.0.0.tgz`: as every registry has them. */
export function tarballPath({ name, version }: Pick<PinnedVersion, 'name' | 'version'>): string {
  return `/${name}/-/${name.slice(name.indexOf('/') + 1)}-${version}.tgz`
}

/** The registry's tags of versions that are pinned; `latest` is always there: the registry's, else the highest release. */
function distTags(versions: readonly DescribedVersion[]): Record<string, string> {
  const pinned = new Set(versions.map(({ pin }) => pin.version))
  const tags: Record<string, string> = Object.create(null) as Record<string, string>
  const highest = versions.findLast(({ pin }) => !pin.version.includes('-')) ?? versions.at(-1)
  if (highest !== undefined) tags['latest'] = highest.pin.version
  for (const { release } of versions) {
    for (const [tag, version] of Object.entries(release?.distTags ?? {})) if (pinned.has(version)) tags[tag] = version
  }
  return tags
}

function abbreviatedVersion(described: DescribedVersion, context: DocumentContext): Record<string, unknown> {
  const { pin, manifest, needsBuild, release } = described
  const deprecated = release?.deprecated ?? pin.deprecated
  return {
    name: pin.name,
    version: pin.version,
    ...filled('dependencies', manifest.dependencies),
    ...filled('optionalDependencies', served(manifest.optionalDependencies, context)),
    ...filled('peerDependencies', manifest.peerDependencies),
    ...filled(
      'peerDependenciesMeta',
      Object.fromEntries(manifest.optionalPeers.map((peer) => [peer, { optional: true }])),
    ),
    ...(manifest.bundled.length === 0 ? {} : { bundleDependencies: manifest.bundled }),
    ...filled('bin', manifest.bin),
    ...filled('engines', manifest.engines),
    ...(manifest.os === undefined ? {} : { os: manifest.os }),
    ...(manifest.cpu === undefined ? {} : { cpu: manifest.cpu }),
    ...(manifest.libc === undefined ? {} : { libc: manifest.libc }),
    ...(needsBuild ? { hasInstallScript: true } : {}),
    ...(deprecated === undefined ? {} : { deprecated }),
    dist: dist(described, context),
  }
}

/** With what only full documents have. */
function fullVersion({ pin, manifest }: DescribedVersion, short: Record<string, unknown>): object {
  return {
    ...short,
    ...filled('devDependencies', manifest.devDependencies),
    ...filled('scripts', manifest.scripts),
    _id: `${pin.name}@${pin.version}`,
  }
}

function dist(described: DescribedVersion, { base, origin }: DocumentContext): object {
  const { pin, release, shasum, attested } = described
  return {
    tarball: `${base}${tarballPath(pin).slice(1)}`,
    integrity: pin.integrity,
    ...(shasum === undefined ? {} : { shasum }),
    ...(release?.fileCount === undefined ? {} : { fileCount: release.fileCount }),
    ...(release?.unpackedSize === undefined ? {} : { unpackedSize: release.unpackedSize }),
    ...(release?.signatures === undefined ? {} : { signatures: release.signatures }),
    ...(!attested || release?.attestations === undefined
      ? {}
      : {
          attestations: {
            ...release.attestations,
            url: `${origin}-/npm/v1/attestations/${pin.name}@${pin.version}`,
          },
        }),
  }
}

function served(
  dependencies: Readonly<Record<string, string>>,
  { isServed }: DocumentContext,
): Readonly<Record<string, string>> {
  return Object.fromEntries(
    Object.entries(dependencies).filter(([name, range]) => {
      // "npm:other@^1.0.0": an alias, and what it is an alias of.
      if (!range.startsWith('npm:')) return isServed(name, range)
      const target = splitPackageId(range.slice('npm:'.length))
      return isServed(target.name, target.reference)
    }),
  )
}

function filled(field: string, record: Readonly<Record<string, unknown>>): object {
  return Object.keys(record).length === 0 ? {} : { [field]: record }
}
