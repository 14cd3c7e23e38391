import { readFileSync } from 'node:fs'
import { join } from 'node:path'

import { compareText, PolderError } from '@polder/spec'
import { RangeCache } from '@polder/spec/semver-ranges'

import { type Manifests, readManifest } from './manifests.ts'
import { inDirectory } from './repository-path.ts'

/** A Node that a repository says it runs on. */
export interface DeclaredNode {
  /** The file that says so. */
  readonly path: string
  /** As it stands there. */
  readonly wanted: string
}

/** What version managers read: the file, and the version in its text. Names such as `lts/iron` tell us nothing. */
const VERSION_FILES: readonly (readonly [name: string, version: RegExp])[] = [
  ['.nvmrc', /^v?(\d[\w.-]*)/m],
  ['.node-version', /^v?(\d[\w.-]*)/m],
  ['.tool-versions', /^node(?:js)?[ \t]+v?(\d[\w.-]*)/m],
]

/**
 * The declarations that leave no room for a major version of Node: files of version managers, and in a `package.json`
 * `volta.node`, `devEngines.runtime` and `engines.node`. What cannot be read declares nothing.
 * @param directories relative to the root
 * @returns sorted by path
 */
export function otherDeclaredNodes(
  root: string,
  directories: readonly string[],
  major: number,
): readonly DeclaredNode[] {
  const manifests: Manifests = { root, byDirectory: new Map() }
  const ranges = new RangeCache()
  return directories
    .flatMap((directory) => [...versionFiles(root, directory), ...ofManifest(manifests, directory)])
    .filter(({ wanted }) => ranges.isRange(wanted) && !ranges.overlap(withItsMajor(wanted), `${major}.x`))
    .sort((a, b) => compareText(a.path, b.path))
}

/** An addon that loads in one release loads in all of its major version. */
function withItsMajor(range: string): string {
  return /^v?\d+[\w.-]*$/.test(range) ? range.replace(/\..*$/, '.x') : range
}

function versionFiles(root: string, directory: string): DeclaredNode[] {
  return VERSION_FILES.flatMap(([name, version]) => {
    const path = inDirectory(directory, name)
    const wanted = version.exec(textOf(join(root, path)))?.[1]
    return wanted === undefined ? [] : [{ path, wanted }]
  })
}

function ofManifest(manifests: Manifests, directory: string): DeclaredNode[] {
  const path = inDirectory(directory, 'package.json')
  const { volta, devEngines, engines } = jsonOf(manifests, directory)
  const runtime = field(devEngines, 'runtime')
  const runtimes = (Array.isArray(runtime) ? runtime : [runtime]).filter((one) => field(one, 'name') === 'node')
  const declared = [field(volta, 'node'), ...runtimes.map((one) => field(one, 'version')), field(engines, 'node')]
  return declared.flatMap((wanted) => (typeof wanted === 'string' ? [{ path, wanted }] : []))
}

function jsonOf(manifests: Manifests, directory: string): Readonly<Record<string, unknown>> {
  try {
    return readManifest(manifests, directory)?.json ?? {}
  } catch (error) {
    if (error instanceof PolderError) return {}
    throw error
  }
}

function field(value: unknown, name: string): unknown {
  if (typeof value !== 'object' || value === null || !Object.hasOwn(value, name)) return undefined
  return (value as Readonly<Record<string, unknown>>)[name]
}

function textOf(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return ''
  }
}
