import { compareText, type PackageId, type PackageSource, PolderError, splitPackageId } from '@polder/spec'

import type { Requirement, Target } from '../gathered.ts'
import { readManifest, requireManifest } from '../manifests.ts'
import { resolveInRepository } from '../repository-path.ts'
import { declaredRequirements, rangeOf } from '../specifier.ts'
import { depPathOf, type PnpmDocument, type PnpmResolution, readPnpmDocument, withoutSuffix } from './pnpm-document.ts'
import { identityOf } from './patches.ts'
import { type PnpmPatches, readPnpmPatches } from './pnpm-patches.ts'
import { findPnpmStale, isGenerated, readCatalogs, workspaceFile } from './pnpm-stale.ts'
import {
  byName,
  checkedId,
  checkedName,
  invalidLockfile,
  lockedIntegrity,
  type LockfileInput,
  type ReadEdge,
  type ReadLockfile,
  type ReadPin,
  type ReadService,
  type Stale,
} from './reader.ts'

/**
 * `pnpm-lock.yaml` version 9: `importers` with what each manifest asked for and got, `packages` with the facts of each
 * candidate, `snapshots` with its resolved dependencies in each context of peers.
 */
export async function readPnpmLockfile(input: LockfileInput): Promise<ReadLockfile> {
  const document = await readPnpmDocument(input)
  const patches = readPnpmPatches(document, input)
  const places = locate(document, patches, input)
  const catalogs = readCatalogs(input)
  const services: ReadService[] = []
  const stale: Stale[] = []
  const warnings: string[] = [...patches.warnings]
  for (const importer of Object.keys(document.importers)) {
    const path = resolveInRepository(input.directory, importer, `the importer "${importer}" of ${input.path}`)
    if (isBareRoot(document, importer, path, input)) continue
    const findings = findPnpmStale(document, importer, path, catalogs, input)
    stale.push(...findings.stale)
    warnings.push(...findings.warnings)
    services.push({ path, linked: false, requirements: requirementsOf(document, importer, path, places, input) })
  }
  services.push(...copiedDirectories(document, places, input))
  return {
    services,
    pins: pinsOf(document, patches, places, input),
    stale,
    warnings,
    inputs: [...workspaceFile(input), ...patches.inputs],
  }
}

/** The root of a workspace needs no package.json; pnpm has it as an importer of nothing. */
function isBareRoot(document: PnpmDocument, importer: string, path: string, input: LockfileInput): boolean {
  const { dependencies, devDependencies, optionalDependencies } = document.importers[importer] ?? {}
  const required = [dependencies, devDependencies, optionalDependencies].flatMap((block) => Object.keys(block ?? {}))
  if (importer !== '.' || !isGenerated(input))
    return importer === '.' && required.length === 0 && readManifest(input.manifests, path) === null
  if (required.length === 0) return true
  throw invalidLockfile(input.path, 'its projects are not workspaces; set "useWorkspaces" in pnpm-config.json')
}

/** What each key of `packages` is: a candidate, or a directory of the repository that pnpm copies in. */
type Places = ReadonlyMap<string, Target>

function locate(document: PnpmDocument, { byKey }: PnpmPatches, input: LockfileInput): Places {
  const places = new Map<string, Target>()
  for (const depPath of Object.keys(document.snapshots)) {
    const key = withoutSuffix(depPath)
    if (places.has(key)) continue
    const { name, reference } = splitPackageId(key)
    const resolution = Object.hasOwn(document.packages, key) ? document.packages[key]?.resolution : undefined
    const directory =
      resolution?.directory ??
      (isInjectedDirectory(reference, resolution) ? reference.slice('file:'.length) : undefined)
    places.set(
      key,
      directory === undefined
        ? { package: identityOf(checkedId(name, referenceOf(reference, key, input), input.path), byKey.get(key)).id }
        : { workspace: resolveInRepository(input.directory, directory, `${key} in ${input.path}`) },
    )
  }
  return places
}

/** Lockfiles that were pruned leave the resolution of a copied directory out. */
function isInjectedDirectory(reference: string, resolution: PnpmResolution | undefined): boolean {
  return resolution === undefined && reference.startsWith('file:') && !/\.(?:tgz|tar\.gz|tar)$/i.test(reference)
}

/** Paths are relative to the lockfile in the lockfile, and to the repository for us. */
function referenceOf(reference: string, key: string, input: LockfileInput): string {
  if (!reference.startsWith('file:')) return reference
  return `file:${resolveInRepository(input.directory, reference.slice('file:'.length), `${key} in ${input.path}`)}`
}

function requirementsOf(
  document: PnpmDocument,
  importer: string,
  path: string,
  places: Places,
  input: LockfileInput,
): Requirement[] {
  const locked = document.importers[importer]
  const { manifest } = requireManifest(input.manifests, path, `${input.path} has it as an importer`)
  const requirements = declaredRequirements(manifest).map(({ name, kind, specifier }): Requirement => {
    const entry = [locked?.optionalDependencies, locked?.dependencies, locked?.devDependencies].find(
      (block) => block && Object.hasOwn(block, name),
    )?.[name]
    // Links of an importer lead from the importer, all others from the lockfile.
    // With pnpm's excludeLinksFromLockfile they are in the manifest alone.
    const version = entry?.version ?? (specifier.startsWith('link:') ? specifier : undefined)
    const target = version === undefined ? null : targetOf(name, version, places, path, input)
    if (version !== undefined && target === null)
      throw invalidLockfile(input.path, `"${name}" of ${path} is ${version}, but there is no such snapshot`)
    return { name, kind, specifier, range: rangeIn(document, name, specifier, input), locked: target }
  })
  return byName(requirements)
}

/** The directories of `file:` dependencies: pnpm copies them, and locks what they require. */
function copiedDirectories(document: PnpmDocument, places: Places, input: LockfileInput): ReadService[] {
  const services = new Map<string, ReadService>()
  // Sorted, because the first of several contexts of peers speaks for the directory.
  for (const [depPath, { dependencies, optionalDependencies }] of Object.entries(document.snapshots).sort(([a], [b]) =>
    compareText(a, b),
  )) {
    const place = places.get(withoutSuffix(depPath))
    if (place === undefined || 'package' in place || services.has(place.workspace)) continue
    const path = place.workspace
    const { manifest } = requireManifest(input.manifests, path, `${input.path} has it as ${depPath}`)
    const locked = new Map([...Object.entries(dependencies ?? {}), ...Object.entries(optionalDependencies ?? {})])
    const requirements = declaredRequirements({ ...manifest, devDependencies: {} }).map(
      ({ name, kind, specifier }): Requirement => {
        const version = locked.get(name)
        const target = version === undefined ? null : targetOf(name, version, places, input.directory, input)
        return { name, kind, specifier, range: rangeIn(document, name, specifier, input), locked: target }
      },
    )
    services.set(path, { path, linked: true, requirements: byName(requirements) })
  }
  return [...services.values()]
}

function rangeIn(document: PnpmDocument, name: string, specifier: string, { ranges }: LockfileInput): string | null {
  return specifier.startsWith('workspace:') ? null : rangeOf(catalogSpecifier(document, name, specifier), ranges)
}

/** `catalog:` and `catalog:NAME` are what the lockfile recorded for them. */
function catalogSpecifier(document: PnpmDocument, name: string, specifier: string): string {
  if (!specifier.startsWith('catalog:')) return specifier
  const catalog = specifier.slice('catalog:'.length).trim() || 'default'
  const entries = Object.hasOwn(document.catalogs, catalog) ? document.catalogs[catalog] : undefined
  return (entries !== undefined && Object.hasOwn(entries, name) ? entries[name]?.specifier : undefined) ?? specifier
}

function targetOf(
  name: string,
  version: string,
  places: Places,
  directory: string,
  input: LockfileInput,
): Target | null {
  const depPath = depPathOf(name, version)
  if (depPath === null) {
    return {
      workspace: resolveInRepository(
        directory,
        version.slice('link:'.length),
        `the dependency "${name}" of ${directory} in ${input.path}`,
      ),
    }
  }
  return places.get(withoutSuffix(depPath)) ?? null
}

function pinsOf(document: PnpmDocument, { byKey }: PnpmPatches, places: Places, input: LockfileInput): ReadPin[] {
  const pins: ReadPin[] = []
  for (const [depPath, snapshot] of Object.entries(document.snapshots)) {
    const key = withoutSuffix(depPath)
    const place = places.get(key)
    if (place === undefined || !('package' in place)) continue
    const locked = Object.hasOwn(document.packages, key) ? document.packages[key] : undefined
    if (locked === undefined) throw invalidLockfile(input.path, `the snapshot ${depPath} has no entry in packages`)
    const { name, reference } = splitPackageId(place.package)
    const optionalPeers = locked.peerDependenciesMeta ?? {}
    const edges: ReadEdge[] = []
    const absent: string[] = []
    for (const [block, optional] of [
      [snapshot.dependencies, false],
      [snapshot.optionalDependencies, true],
    ] as const) {
      for (const [dependency, version] of Object.entries(block ?? {})) {
        const target = targetOf(checkedName(dependency, input.path), version, places, input.directory, input)
        const isOptional =
          optional || (Object.hasOwn(optionalPeers, dependency) && optionalPeers[dependency]?.optional === true)
        if (target !== null) edges.push({ name: dependency, target, optional: isOptional })
        else if (!isOptional) absent.push(dependency)
      }
    }
    const { os, cpu, libc, deprecated, resolution } = locked
    const patch = byKey.get(key)
    pins.push({
      id: place.package,
      name,
      reference,
      integrity: lockedIntegrity(resolution?.integrity, place.package, input.path),
      source: sourceOf(place.package, reference, resolution, input),
      edges,
      absent,
      ...(patch === undefined ? {} : { patch: { path: patch.path, hash: patch.hash } }),
      ...(os === undefined ? {} : { os }),
      ...(cpu === undefined ? {} : { cpu }),
      ...(libc === undefined ? {} : { libc }),
      ...(deprecated === undefined ? {} : { deprecated }),
    })
  }
  return pins
}

function sourceOf(
  id: PackageId,
  reference: string,
  resolution: PnpmResolution | undefined,
  { path }: LockfileInput,
): PackageSource {
  if (reference.startsWith('file:')) return { kind: 'file', path: reference.slice('file:'.length) }
  const unsupported = (what: string): PolderError =>
    new PolderError('SOURCE_UNSUPPORTED', `${path} takes ${id} from ${what}, which polder does not read yet`, {
      path,
      spec: id,
      hint: 'registry packages, http(s) tarballs, files in the repository and git commits are',
    })
  if (resolution?.type === 'git') {
    if (resolution.repo === undefined || !/^[0-9a-f]{40}(?:[0-9a-f]{24})?$/.test(resolution.commit ?? ''))
      throw invalidLockfile(path, `${id} names no git commit`)
    const git = { kind: 'git', url: resolution.repo, commit: resolution.commit ?? '' } as const
    if (resolution.path === undefined) return git
    const directory = resolution.path.replace(/^\/+|\/+$/g, '')
    if (directory.split('/').some((name) => name === '' || name === '.' || name === '..'))
      throw invalidLockfile(path, `${id} is no directory of its commit`)
    return { ...git, path: directory }
  }
  if (resolution?.path !== undefined) throw unsupported(`the directory ${resolution.path} of a tarball`)
  if (resolution?.type !== undefined) throw unsupported(`a resolution of type "${resolution.type}"`)
  // A registry may keep its tarballs at any URL; the version as reference says that it is one.
  if (!reference.includes(':')) return { kind: 'registry' }
  if (/^https?:\/\/[^/]/.test(resolution?.tarball ?? '')) return { kind: 'tarball', url: resolution?.tarball ?? '' }
  throw unsupported(`"${resolution?.tarball ?? reference}"`)
}
