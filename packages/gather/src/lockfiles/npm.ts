import { compareText, type Manifest, type PackageId, type PackageSource, splitPackageId } from '@polder/spec'
import { manifestFromJson } from '@polder/spec/manifest'

import type { Requirement, Target } from '../gathered.ts'
import { readManifest, requireManifest } from '../manifests.ts'
import { resolveInRepository } from '../repository-path.ts'
import { declaredRequirements, rangeOf } from '../specifier.ts'
import { differencesFromCopy } from './manifest-copy.ts'
import { type NpmDocument, type NpmEntry, readNpmDocument } from './npm-document.ts'
import {
  byName,
  checkedId,
  checkedName,
  invalidLockfile,
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

/**
 * `package-lock.json` and `npm-shrinkwrap.json`: `packages` maps each place on disk (`''` for the root,
 * `node_modules/a/node_modules/b`, `packages/lib` for a workspace) to what is there; version 1 is put into these terms
 * first. What a dependency resolves to is not recorded: it is what Node would find from the place.
 */
export function readNpmLockfile(input: LockfileInput): ReadLockfile {
  const document = readNpmDocument(input)
  const tree = placeAll(document, input)
  const hasWorkspaces = document.packages['']?.['workspaces'] !== undefined
  const services: ReadService[] = []
  const pins: ReadPin[] = []
  const stale: Stale[] = []
  for (const [place, node] of tree) {
    if (node.kind === 'pin') pins.push({ ...node.pin, ...edgesOf(place, node.manifest, tree, input.path) })
    if (node.kind !== 'directory' && node.kind !== 'copy') continue
    const { manifest } = requireManifest(
      input.manifests,
      node.path,
      `${input.path} has it as ${place === '' ? 'its root' : place}`,
    )
    // npm installs nothing for a link that leads out of the project, and no development dependencies for a copy; nor
    // did npm 6 for any link.
    const isLink = place !== '' && !hasWorkspaces
    const foreign = node.kind === 'copy' || place.startsWith('../') || (isLink && document.version === 1)
    const requirements = requirementsOf(place, foreign ? { ...manifest, devDependencies: {} } : manifest, tree, input)
    services.push({ path: node.path, linked: foreign || isLink, requirements })
    if (foreign) continue
    stale.push(
      ...(document.version === 1
        ? movedRanges(node.path, requirements, input)
        : differencesFromCopy(node.path, manifest, node.manifest)),
    )
    for (const { name, kind, specifier, locked } of requirements) {
      if (locked === null && (kind === 'prod' || kind === 'dev'))
        stale.push({ service: node.path, name, manifest: specifier, lock: null })
    }
  }
  return { services, pins, stale, warnings: [], inputs: [] }
}

/** A directory of the repository, a copy of one, a candidate, a link to another place, or what came inside a package. */
type Node =
  | { readonly kind: 'directory'; readonly path: string; readonly manifest: Manifest }
  | { readonly kind: 'copy'; readonly path: string }
  | { readonly kind: 'pin'; readonly pin: Omit<ReadPin, 'edges' | 'absent'>; readonly manifest: Manifest }
  | { readonly kind: 'link'; readonly path: string }
  | { readonly kind: 'bundled' }

type Tree = ReadonlyMap<string, Node>

function placeAll(document: NpmDocument, input: LockfileInput): Tree {
  const tree = new Map<string, Node>()
  // Sorted, because the first of several copies of a directory speaks for it.
  for (const [place, entry] of Object.entries(document.packages).sort(([a], [b]) => compareText(a, b)))
    tree.set(place, nodeAt(place, entry, input))
  if (tree.get('')?.kind !== 'directory') throw invalidLockfile(input.path, 'it has no entry for its own directory')
  return tree
}

function nodeAt(place: string, entry: NpmEntry, input: LockfileInput): Node {
  const manifestOf = (): Manifest => manifestFromJson(entry, `${input.path} (${place === '' ? 'the root' : place})`)
  const start = place.lastIndexOf('node_modules/')
  if (start < 0)
    return {
      kind: 'directory',
      path: resolveInRepository(input.directory, place === '' ? '.' : place, `${input.path}`),
      manifest: manifestOf(),
    }
  const installName = checkedName(place.slice(start + 'node_modules/'.length), input.path)
  if (entry.link === true) {
    return {
      kind: 'link',
      path: resolveInRepository(input.directory, entry.resolved ?? '', `the link "${installName}" in ${input.path}`),
    }
  }
  // npm also marks what the root itself bundles, which is installed like everything else and so has a hash or a URL.
  if (entry.inBundle === true && entry.resolved === undefined && entry.integrity === undefined)
    return { kind: 'bundled' }
  const name = checkedName(entry.name ?? installName, input.path)
  const { resolved, version } = entry
  // With `install-links`, npm packs a directory instead of linking it.
  if (resolved?.startsWith('file:') && !/\.(?:tgz|tar\.gz|tar)$/i.test(resolved)) {
    return {
      kind: 'copy',
      path: resolveInRepository(
        input.directory,
        resolved.slice('file:'.length),
        `the dependency "${installName}" in ${input.path}`,
      ),
    }
  }
  const manifest = manifestOf()
  const { id, source } = identify(name, version, resolved, input)
  const { os, cpu, libc } = manifest
  return {
    kind: 'pin',
    manifest,
    pin: {
      id,
      name,
      reference: splitPackageId(id).reference,
      integrity: lockedIntegrity(entry.integrity, id, input.path),
      source,
      ...(os === undefined ? {} : { os }),
      ...(cpu === undefined ? {} : { cpu }),
      ...(libc === undefined ? {} : { libc }),
      ...(typeof entry.deprecated === 'string' ? { deprecated: entry.deprecated } : {}),
    },
  }
}

/** `resolved` is left out on request (npm's `omit-lockfile-registry-resolved`), for the registry's packages only. */
function identify(
  name: string,
  version: string | undefined,
  resolved: string | undefined,
  input: LockfileInput,
): { id: PackageId; source: PackageSource } {
  if (resolved === undefined || (version !== undefined && isRegistryTarball(resolved, name, version))) {
    if (version === undefined) throw invalidLockfile(input.path, `"${name}" has neither a version nor a source`)
    return { id: checkedId(name, version, input.path), source: { kind: 'registry' } }
  }
  const source = sourceOfUrl(resolved, name, input)
  return { id: checkedId(name, source.kind === 'file' ? `file:${source.path}` : resolved, input.path), source }
}

function requirementsOf(place: string, manifest: Manifest, tree: Tree, input: LockfileInput): Requirement[] {
  const requirements = declaredRequirements(manifest).map(({ name, kind, specifier }): Requirement => {
    return { name, kind, specifier, range: rangeOf(specifier, input.ranges), locked: findFrom(place, name, tree) }
  })
  return byName(requirements)
}

function edgesOf(place: string, manifest: Manifest, tree: Tree, path: string): { edges: ReadEdge[]; absent: string[] } {
  const edges: ReadEdge[] = []
  const absent: string[] = []
  for (const { name, kind } of declaredRequirements({ ...manifest, devDependencies: {} })) {
    const target = findFrom(place, checkedName(name, path), tree)
    if (target !== null) edges.push({ name, target, optional: kind === 'optional' || kind === 'optionalPeer' })
    // Peers may be missing (`legacy-peer-deps`), and so may what the package brings along.
    else if (kind === 'prod' && !manifest.bundled.includes(name) && !isBundledAt(place, name, tree)) absent.push(name)
  }
  return { edges, absent }
}

/** Node's lookup: the place's own `node_modules`, then that of every directory above it. */
function nodeFrom(place: string, name: string, tree: Tree): Node | undefined {
  for (let directory = place; ; directory = directory.slice(0, Math.max(directory.lastIndexOf('/'), 0))) {
    if (directory !== 'node_modules' && !directory.endsWith('/node_modules')) {
      const node = tree.get(directory === '' ? `node_modules/${name}` : `${directory}/node_modules/${name}`)
      if (node !== undefined) return node
    }
    if (directory === '') return undefined
  }
}

function findFrom(place: string, name: string, tree: Tree): Target | null {
  const node = nodeFrom(place, name, tree)
  if (node?.kind === 'pin') return { package: node.pin.id }
  return node?.kind === 'link' || node?.kind === 'copy' ? { workspace: node.path } : null
}

function isBundledAt(place: string, name: string, tree: Tree): boolean {
  return nodeFrom(place, name, tree)?.kind === 'bundled'
}

/** Version 1 has no copy of the manifest: what it says has changed where the locked version is out of its range. */
function movedRanges(service: string, requirements: readonly Requirement[], input: LockfileInput): Stale[] {
  // Overrides move versions out of their ranges, and whoever writes them knows a newer npm.
  if (readManifest(input.manifests, input.directory)?.json['overrides'] !== undefined) return []
  return requirements.flatMap(({ name, kind, specifier, range, locked }) => {
    if (range === null || locked === null || !('package' in locked) || kind === 'peer' || kind === 'optionalPeer')
      return []
    const { reference } = splitPackageId(locked.package)
    const moved = !reference.includes(':') && !input.ranges.satisfies(reference, range)
    return moved ? [{ service, name, manifest: specifier, lock: reference }] : []
  })
}
