import { posix } from 'node:path'

import { integrityFromHex, type Integrity, type PackageId, type PackageSource, splitPackageId } from '@polder/spec'
import { escapePath, globSync } from 'tinyglobby'
import { z } from 'zod'

import type { Requirement, Target } from '../gathered.ts'
import { type ManifestFile, readManifest, requireManifest } from '../manifests.ts'
import { directoryOf, resolveInRepository } from '../repository-path.ts'
import { aliasOf, type Declared, declaredRequirements, rangeOf } from '../specifier.ts'
import {
  byName,
  checkedId,
  checkedName,
  isGitUrl,
  isRegistryTarball,
  lockedIntegrity,
  type LockfileInput,
  type ReadEdge,
  type ReadLockfile,
  type ReadPin,
  type ReadService,
  sourceOfUrl,
  type Stale,
} from './reader.ts'
import { readYarnDocument, type YarnDocument, type YarnEntry } from './yarn-document.ts'

/**
 * `yarn.lock` version 1: patterns (`name@range`) and what each was resolved to. Workspaces, links and the
 * `resolutions` that override patterns are in the manifests only; peers, bundles and platforms nowhere.
 */
export async function readYarnLockfile(input: LockfileInput): Promise<ReadLockfile> {
  const document = await readYarnDocument(input)
  const root = requireManifest(input.manifests, input.directory, `${input.path} locks it`)
  const directories = [input.directory, ...workspacesOf(root, input)]
  const lock: YarnLock = { document, input, workspaces: new Map(), resolutions: resolutionsOf(root), ids: new Map() }
  for (const path of directories) {
    const { name, version } = requireManifest(input.manifests, path, `it is a workspace of ${input.path}`).manifest
    if (name !== undefined && path !== input.directory) lock.workspaces.set(name, { path, version: version ?? '0.0.0' })
  }
  const services: ReadService[] = []
  const stale: Stale[] = []
  // Directories that dependencies link to are added while the list is walked.
  const members = new Set(directories)
  const all = new Set(directories)
  for (const path of all) {
    const linked = !members.has(path)
    const { manifest } = requireManifest(input.manifests, path, `${input.path} ${linked ? 'links to' : 'locks'} it`)
    const declared = declaredRequirements(linked ? { ...manifest, devDependencies: {} } : manifest)
    const requirements = declared.map((line): Requirement => requirementOf(line, path, lock))
    services.push({ path, linked, requirements: byName(requirements) })
    for (const { name, kind, specifier, locked } of requirements) {
      if (locked !== null && 'workspace' in locked) all.add(locked.workspace)
      // yarn locks what a copied directory (`file:`) requires, and not what a linked one does.
      if (locked === null && !linked && (kind === 'prod' || kind === 'dev'))
        stale.push({ service: path, name, manifest: specifier, lock: null })
    }
  }
  return { services, pins: pinsOf(lock), stale, warnings: [], inputs: [] }
}

interface YarnLock {
  readonly document: YarnDocument
  readonly input: LockfileInput
  readonly workspaces: Map<string, { readonly path: string; readonly version: string }>
  readonly resolutions: readonly Resolution[]
  readonly ids: Map<YarnEntry, Identity>
}

/** `resolutions: { "a/**\/b": "1.0.0" }`: wherever b is required (below a), the pattern is `b@1.0.0`. */
interface Resolution {
  readonly name: string
  /** The package that has to require it; null for any. */
  readonly parent: string | null
  /** True if only some of the places that it seems to match are meant, which the lockfile does not tell apart. */
  readonly partial: boolean
  readonly range: string
}

function resolutionsOf({ json }: ManifestFile): Resolution[] {
  const parsed = z.record(z.string(), z.unknown()).safeParse(json['resolutions'])
  return Object.entries(parsed.data ?? {}).flatMap(([path, range]): Resolution[] => {
    const names = path.match(/@[^/]+\/[^/]+|[^/]+/g) ?? []
    const name = names.pop()
    if (typeof range !== 'string' || name === undefined) return []
    const above = names.pop()
    if (above === undefined || (above === '**' && names.length === 0))
      return [{ name, parent: null, partial: false, range }]
    // `parent/name` and `**/parent/name` name the parent and no more; longer paths only some of its places.
    const partial = above === '**' || names.some((part) => part !== '**')
    return [{ name, parent: above === '**' ? null : above, partial, range }]
  })
}

function workspacesOf({ json }: ManifestFile, { root, directory, manifests }: LockfileInput): string[] {
  const list = z.array(z.string())
  const parsed = z
    .union([list, z.looseObject({ packages: list.optional() }).transform(({ packages }) => packages ?? [])])
    .safeParse(json['workspaces'])
  const patterns = (parsed.data ?? []).map((pattern) => pattern.replace(/^\.\//, '').replace(/\/$/, ''))
  if (patterns.length === 0) return []
  const prefix = directory === '.' ? '' : `${escapePath(directory)}/`
  const found = globSync(
    patterns.map((pattern) =>
      pattern.startsWith('!') ? `!${prefix}${pattern.slice(1)}/package.json` : `${prefix}${pattern}/package.json`,
    ),
    { cwd: root, ignore: ['**/node_modules/**'], expandDirectories: false, followSymbolicLinks: false },
  )
  const directories = found.map((path) => resolveInRepository('.', directoryOf(path), `a workspace of ${directory}`))
  // Nameless ones are no packages to yarn.
  return directories
    .filter((path) => path !== directory && readManifest(manifests, path)?.manifest.name !== undefined)
    .sort()
}

function requirementOf({ name, kind, specifier }: Declared, service: string, lock: YarnLock): Requirement {
  const overridden = lock.resolutions.find(
    (resolution) => resolution.name === name && resolution.parent === null && !resolution.partial,
  )
  const locked =
    (overridden === undefined ? null : entryTarget(`${name}@${overridden.range}`, lock)) ??
    targetFrom(service, name, specifier, lock)
  // yarn 1 never installs peers for anybody.
  const missing = (kind === 'peer' || kind === 'optionalPeer') && locked !== null && 'package' in locked
  return { name, kind, specifier, range: rangeOf(specifier, lock.input.ranges), locked: missing ? null : locked }
}

/** What `name: specifier` means in a manifest that lies in `from`: a directory, a workspace, or an entry. */
function targetFrom(from: string, name: string, specifier: string, lock: YarnLock): Target | null {
  const { document, input, workspaces } = lock
  const link = /^(?:link:|file:)(.*)$/.exec(specifier)?.[1] ?? (/^\.{1,2}\//.test(specifier) ? specifier : undefined)
  if (link !== undefined) {
    const path = resolveInRepository(from, link, `the dependency "${name}" of ${from}`)
    // yarn writes the paths of a workspace's members as if they were the root's.
    const relative = posix.relative(input.directory, path)
    const pattern = [specifier, `file:${relative}`, `file:./${relative}`]
      .map((text) => `${name}@${text}`)
      .find((text) => document.get(text)?.resolved !== undefined)
    // A packed tarball has a URL in the lockfile; a directory has none.
    if (pattern !== undefined) return entryTarget(pattern, lock)
    return /\.(?:tgz|tar\.gz|tar)$/i.test(link) ? null : { workspace: path }
  }
  const found = entryTarget(`${name}@${specifier}`, lock)
  const workspace = workspaces.get(name)
  if (found !== null || workspace === undefined) return found
  const range = rangeOf(specifier, input.ranges)
  return range !== null && (range === '*' || input.ranges.satisfies(workspace.version, range))
    ? { workspace: workspace.path }
    : null
}

function entryTarget(pattern: string, lock: YarnLock): Target | null {
  const entry = lock.document.get(pattern)
  return entry === undefined ? null : { package: identify(pattern, entry, lock).id }
}

function pinsOf(lock: YarnLock): ReadPin[] {
  const pins = new Map<YarnEntry, ReadPin>()
  for (const [pattern, entry] of lock.document) {
    if (pins.has(entry) || isDirectory(pattern, entry)) continue
    const { id, source, integrity } = identify(pattern, entry, lock)
    const { name, reference } = splitPackageId(id)
    const edges: ReadEdge[] = []
    const absent: string[] = []
    const optionalNames = new Set(Object.keys(entry.optionalDependencies ?? {}))
    for (const [dependency, specifier] of [
      ...Object.entries(entry.dependencies ?? {}),
      ...Object.entries(entry.optionalDependencies ?? {}),
    ]) {
      const optional = optionalNames.has(dependency)
      const targets = edgeTargets(name, checkedName(dependency, lock.input.path), specifier, lock)
      for (const target of targets) edges.push({ name: dependency, target, optional })
      if (targets.length === 0 && !optional) absent.push(dependency)
    }
    pins.set(entry, { id, name, reference, integrity, source, edges, absent })
  }
  return [...pins.values()]
}

function edgeTargets(owner: string, name: string, specifier: string, lock: YarnLock): Target[] {
  const matching = lock.resolutions.filter(
    (resolution) => resolution.name === name && (resolution.parent === null || resolution.parent === owner),
  )
  const overrides = matching.flatMap(({ range }) => entryTarget(`${name}@${range}`, lock) ?? [])
  if (overrides.length > 0 && matching.some(({ partial }) => !partial)) return overrides
  const own = targetFrom(lock.input.directory, name, specifier, lock)
  return own === null ? overrides : [own, ...overrides]
}

/** A directory that yarn copied: it has no artifact. */
function isDirectory(pattern: string, entry: YarnEntry): boolean {
  const specifier = splitPackageId(pattern).reference
  return entry.resolved === undefined && /^(?:file:|link:|\.{1,2}\/)/.test(specifier)
}

interface Identity {
  readonly id: PackageId
  readonly source: PackageSource
  readonly integrity: Integrity | null
}

function identify(pattern: string, entry: YarnEntry, lock: YarnLock): Identity {
  let identity = lock.ids.get(entry)
  if (identity === undefined) lock.ids.set(entry, (identity = identifyEntry(pattern, entry, lock.input)))
  return identity
}

function identifyEntry(pattern: string, entry: YarnEntry, input: LockfileInput): Identity {
  const { path } = input
  const { version, resolved } = entry
  const url = resolved?.split('#')[0]
  // Patterns of an alias and of the package itself may share an entry; the URL tells which name is the real one.
  const { name: installName, reference: specifier } = splitPackageId(pattern)
  const names = [aliasOf(specifier)?.name, entry.name, installName].filter((name) => name !== undefined)
  const registryName = url === undefined ? names[0] : names.find((name) => isRegistryTarball(url, name, version))
  const name = checkedName(registryName ?? names[0] ?? installName, path)
  const integrity = lockedIntegrity(entry.integrity, pattern, path) ?? sha1Of(resolved)
  if (registryName !== undefined || resolved === undefined || url === undefined) {
    return { id: checkedId(name, version, path), source: { kind: 'registry' }, integrity }
  }
  const git = isGitUrl(resolved)
  const source = sourceOfUrl(git ? resolved : url, pattern, input)
  return {
    id: checkedId(name, source.kind === 'file' ? `file:${source.path}` : git ? resolved : url, path),
    source,
    integrity,
  }
}

/** The fragment of a tarball's URL is its sha1; that of a git URL a commit. */
function sha1Of(resolved: string | undefined): Integrity | null {
  const fragment = resolved?.split('#')[1]
  return resolved === undefined || fragment === undefined || isGitUrl(resolved) || !/^[0-9a-f]{40}$/.test(fragment)
    ? null
    : integrityFromHex('sha1', fragment)
}
