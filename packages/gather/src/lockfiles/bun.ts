import { type Manifest, type PackageId, type PackageSource, PolderError, splitPackageId } from '@polder/spec'
import { manifestFromJson } from '@polder/spec/manifest'

import type { PackagePatch, Requirement, Target } from '../gathered.ts'
import { requireManifest } from '../manifests.ts'
import { resolveInRepository } from '../repository-path.ts'
import { declaredRequirements, rangeOf } from '../specifier.ts'
import { catalogEntry, staleCatalogs } from './bun-catalogs.ts'
import { type BunDocument, type BunPackage, readBunDocument } from './bun-document.ts'
import { differencesFromCopy } from './manifest-copy.ts'
import { identityOf, Patches } from './patches.ts'
import {
  byName,
  checkedId,
  checkedName,
  lockedIntegrity,
  type LockfileInput,
  type ReadEdge,
  type ReadLockfile,
  type ReadPin,
  type ReadService,
  sourceOfUrl,
  type Stale,
} from './reader.ts'

/**
 * `bun.lock`: `workspaces` with copies of the manifests, and `packages`, whose keys are paths of install names: `a/b`
 * is the b that only a finds, `web/b` that of the workspace named web. Every other lookup ends at the top.
 */
export function readBunLockfile(input: LockfileInput): ReadLockfile {
  const document = readBunDocument(input)
  const patches = new Patches(input)
  const tree = placeAll(document, patches, input)
  const services: ReadService[] = []
  const stale: Stale[] = []
  for (const [directory, copy] of Object.entries(document.workspaces)) {
    const path = resolveInRepository(
      input.directory,
      directory === '' ? '.' : directory,
      `a workspace of ${input.path}`,
    )
    const { manifest } = requireManifest(input.manifests, path, `${input.path} has it as a workspace`)
    const place = directory === '' ? '' : (copy.name ?? '')
    const requirements = requirementsOf(place, manifest, tree, document, input)
    services.push({ path, linked: false, requirements })
    stale.push(
      ...differencesFromCopy(path, manifest, manifestOf(copy, path)),
      ...staleCatalogs(path, manifest, document, input),
    )
    for (const { name, kind, specifier, locked } of requirements) {
      if (locked === null && (kind === 'prod' || kind === 'dev'))
        stale.push({ service: path, name, manifest: specifier, lock: null })
    }
  }
  const pins: ReadPin[] = []
  for (const [place, node] of tree) {
    if (node.kind === 'pin') pins.push({ ...node.pin, ...edgesOf(place, node.manifest, tree, input.path) })
    if (node.kind !== 'directory') continue
    const { manifest } = requireManifest(input.manifests, node.path, `${input.path} has it as ${place}`)
    const requirements = requirementsOf(place, { ...manifest, devDependencies: {} }, tree, document, input)
    services.push({ path: node.path, linked: true, requirements })
  }
  return { services, pins, stale, warnings: [], inputs: patches.inputs }
}

/** A candidate, a workspace, a directory that a dependency names, or what came inside a package. */
type Node =
  | { readonly kind: 'pin'; readonly pin: Omit<ReadPin, 'edges' | 'absent'>; readonly manifest: Manifest }
  | { readonly kind: 'workspace'; readonly path: string }
  | { readonly kind: 'directory'; readonly path: string }
  | { readonly kind: 'bundled' }

type Tree = ReadonlyMap<string, Node>

function placeAll(document: BunDocument, patches: Patches, input: LockfileInput): Tree {
  const bases = tarballBases(document, input)
  const tree = new Map<string, Node>()
  const patchOf = (id: PackageId): PackagePatch | undefined => {
    const link = Object.hasOwn(document.patchedDependencies, id) ? document.patchedDependencies[id] : undefined
    return link === undefined ? undefined : patches.read(input.directory, link, id)
  }
  for (const [place, one] of document.packages) tree.set(place, nodeAt(place, one, bases, patchOf, input))
  return tree
}

function nodeAt(
  place: string,
  one: BunPackage,
  bases: ReadonlyMap<string, string>,
  patchOf: (id: PackageId) => PackagePatch | undefined,
  input: LockfileInput,
): Node {
  const { path } = input
  for (const name of namesOf(place)) checkedName(name, path)
  const { resolution, info } = one
  const what = `${place} in ${path}`
  const link = /^(?:workspace|root):(.*)$/.exec(resolution)?.[1]
  if (link !== undefined)
    return { kind: 'workspace', path: resolveInRepository(input.directory, link === '' ? '.' : link, what) }
  if (info.bundled === true) return { kind: 'bundled' }
  if (resolution.startsWith('file:'))
    return { kind: 'directory', path: resolveInRepository(input.directory, resolution.slice('file:'.length), what) }
  const name = checkedName(one.name, path)
  const { reference, source } = identify(place, name, resolution, bases, input)
  const id = checkedId(name, reference, path)
  return {
    kind: 'pin',
    manifest: manifestOf(info, `${path} (${place})`),
    pin: {
      ...identityOf(id, patchOf(id)),
      name,
      reference: splitPackageId(id).reference,
      integrity: lockedIntegrity(one.integrity, id, path),
      source,
      ...conditionOf('os', info.os),
      ...conditionOf('cpu', info.cpu),
      ...conditionOf('libc', info.libc),
    },
  }
}

/** `web/@s/c` is `web` and `@s/c`. */
function namesOf(place: string): readonly string[] {
  return place.match(/@[^/]*\/[^/]*|[^/]+/g) ?? [place]
}

function conditionOf(
  field: 'os' | 'cpu' | 'libc',
  value: string | readonly string[] | undefined,
): Record<string, readonly string[]> {
  return value === undefined ? {} : { [field]: typeof value === 'string' ? [value] : value }
}

function identify(
  place: string,
  name: string,
  resolution: string,
  bases: ReadonlyMap<string, string>,
  input: LockfileInput,
): { readonly reference: string; readonly source: PackageSource } {
  if (/^\d/.test(resolution)) return { reference: resolution, source: { kind: 'registry' } }
  if (isTarballPath(resolution)) {
    const path = resolveInRepository(bases.get(place) ?? input.directory, resolution, `${name} in ${input.path}`)
    return { reference: `file:${path}`, source: { kind: 'file', path } }
  }
  const [, repository, commit = ''] = /^github:([^#]+)#(.*)$/.exec(resolution) ?? []
  if (repository !== undefined && !/^[0-9a-f]{40}$/.test(commit)) {
    throw new PolderError(
      'SOURCE_UNSUPPORTED',
      `${input.path} takes ${name} from ${resolution}, with part of a commit only`,
      {
        path: input.path,
        spec: name,
        found: resolution,
        hint: 'depend on a published version or a tarball of it',
      },
    )
  }
  const url = repository === undefined ? resolution : `git+ssh://git@github.com/${repository}.git#${commit}`
  return { reference: url, source: sourceOfUrl(url, name, input) }
}

function isTarballPath(resolution: string): boolean {
  return !/^[a-z+]+:/i.test(resolution) && /\.(?:tgz|tar\.gz|tar)$/i.test(resolution)
}

/** bun writes the path of a tarball as the manifest has it, so it starts at the workspace that requires it. */
function tarballBases(
  { workspaces, packages }: BunDocument,
  { directory, manifests, path }: LockfileInput,
): Map<string, string> {
  const bases = new Map<string, string>()
  for (const [workspace, { name }] of Object.entries(workspaces)) {
    const base = resolveInRepository(directory, workspace === '' ? '.' : workspace, `a workspace of ${path}`)
    const { manifest } = requireManifest(manifests, base, `${path} has it as a workspace`)
    for (const declared of declaredRequirements(manifest)) {
      const link = declared.specifier.replace(/^file:/, '')
      const place = isTarballPath(link)
        ? placeFrom(workspace === '' ? '' : (name ?? ''), declared.name, packages)
        : undefined
      if (place !== undefined && packages.get(place)?.resolution === link && !bases.has(place)) bases.set(place, base)
    }
  }
  return bases
}

/** As the manifest of a package, whose optional peers bun lists apart. */
function manifestOf(copy: { readonly optionalPeers?: readonly string[] | undefined }, where: string): Manifest {
  const meta = Object.fromEntries((copy.optionalPeers ?? []).map((name) => [name, { optional: true }]))
  return manifestFromJson({ ...copy, bin: {}, peerDependenciesMeta: meta }, where)
}

function requirementsOf(
  place: string,
  manifest: Manifest,
  tree: Tree,
  document: BunDocument,
  { ranges }: LockfileInput,
): Requirement[] {
  const requirements = declaredRequirements(manifest).map(({ name, kind, specifier }): Requirement => {
    const text = catalogEntry(specifier, name, document.catalog, document.catalogs) ?? specifier
    const range = text.startsWith('workspace:') ? null : rangeOf(text, ranges)
    return { name, kind, specifier, range, locked: targetFrom(place, name, tree) }
  })
  return byName(requirements)
}

function edgesOf(place: string, manifest: Manifest, tree: Tree, path: string): { edges: ReadEdge[]; absent: string[] } {
  const edges: ReadEdge[] = []
  const absent: string[] = []
  for (const { name, kind } of declaredRequirements({ ...manifest, devDependencies: {} })) {
    const target = targetFrom(place, checkedName(name, path), tree)
    if (target !== null) edges.push({ name, target, optional: kind === 'optional' || kind === 'optionalPeer' })
    else if (kind === 'prod' && placeFrom(place, name, tree) === undefined) absent.push(name)
  }
  return { edges, absent }
}

/** The place that a name means at `place`: its own, that of what it lies in, and so on up to the top. */
function placeFrom(place: string, name: string, places: ReadonlyMap<string, unknown>): string | undefined {
  const names = place === '' ? [] : [...namesOf(place)]
  for (;;) {
    const candidate = [...names, name].join('/')
    if (places.has(candidate)) return candidate
    if (names.pop() === undefined) return undefined
  }
}

function targetFrom(place: string, name: string, tree: Tree): Target | null {
  const found = placeFrom(place, name, tree)
  const node = found === undefined ? undefined : tree.get(found)
  if (node === undefined || node.kind === 'bundled') return null
  return node.kind === 'pin' ? { package: node.pin.id } : { workspace: node.path }
}
