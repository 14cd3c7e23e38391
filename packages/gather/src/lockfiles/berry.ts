import { compareText, type PlatformCondition, splitPackageId } from '@polder/spec'

import type { Requirement, Target } from '../gathered.ts'
import { requireManifest } from '../manifests.ts'
import { type Declared, declaredRequirements, rangeOf } from '../specifier.ts'
import { type BerryDocument, type BerryEntry, readBerryDocument } from './berry-document.ts'
import { parseRange, type Place, placeOf, splitDescriptor } from './berry-locator.ts'
import {
  type BerrySettings,
  catalogRange,
  type Extension,
  readBerrySettings,
  resolvedRange,
  same,
} from './berry-settings.ts'
import { identityOf, Patches } from './patches.ts'
import {
  byName,
  checkedId,
  checkedName,
  type LockfileInput,
  type ReadEdge,
  type ReadLockfile,
  type ReadPin,
  type ReadService,
  type Stale,
} from './reader.ts'

/**
 * `yarn.lock` of yarn 3 and 4: descriptors (`name@npm:^1`) and the locator that each was resolved to, workspaces among
 * them. Peers are not in it, and its checksums are of archives that yarn makes itself: pins have no hash.
 */
export function readBerryLockfile(input: LockfileInput): ReadLockfile {
  const document = readBerryDocument(input)
  const lock: Lock = {
    document,
    root: [...document.values()].find(({ resolution }) => resolution.endsWith('@workspace:.'))?.resolution ?? '',
    settings: readBerrySettings(input),
    input,
    places: new Map(),
    patches: new Patches(input),
  }
  const services: ReadService[] = []
  const stale: Stale[] = []
  const pins: ReadPin[] = []
  const builtin = new Set<string>()
  for (const entry of new Set(document.values())) {
    const place = placeAt(entry.resolution, lock)
    if (place.kind === 'package') {
      pins.push(pinOf(entry, place, lock))
      if (place.builtin) builtin.add(`${place.name}@${place.reference}`)
      continue
    }
    const linked = place.kind === 'directory'
    const { manifest } = requireManifest(input.manifests, place.path, `${input.path} has it as ${entry.resolution}`)
    const declared = declaredRequirements(linked ? { ...manifest, devDependencies: {} } : manifest)
    const requirements = byName(declared.map((line) => requirementOf(line, entry.resolution, lock)))
    services.push({ path: place.path, linked, requirements })
    if (!linked) stale.push(...findStale(place.path, declared, requirements, entry))
  }
  const warnings =
    builtin.size === 0
      ? []
      : [
          `${input.path} has patches that yarn brings along, for Plug'n'Play, of ${[...builtin].sort().join(', ')}: they are left out`,
        ]
  // What `link:` leads to is locked without its dependencies, what else leads to the same directory with them.
  services.sort((a, b) => openCount(a) - openCount(b))
  return { services, pins, stale, warnings, inputs: [...lock.settings.inputs, ...lock.patches.inputs] }
}

interface Lock {
  readonly document: BerryDocument
  /** The locator of the root, which resolutions are relative to. */
  readonly root: string
  readonly settings: BerrySettings
  readonly input: LockfileInput
  readonly places: Map<string, Place>
  readonly patches: Patches
}

function openCount({ requirements }: ReadService): number {
  return requirements.filter(({ locked }) => locked === null).length
}

function placeAt(locator: string, { places, input }: Lock): Place {
  let place = places.get(locator)
  if (place === undefined) places.set(locator, (place = placeOf(locator, input)))
  return place
}

function requirementOf({ name, kind, specifier }: Declared, owner: string, lock: Lock): Requirement {
  const locked = targetOf(owner, name, specifier, lock)
  // Whoever requires the service provides its peers; only those inside the workspace are certain.
  const missing = (kind === 'peer' || kind === 'optionalPeer') && locked !== null && 'package' in locked
  const text = catalogRange(lock.settings, name, specifier)
  return { name, kind, specifier, range: berryRange(text, lock.input), locked: missing ? null : locked }
}

/** The npm range of a specifier, those of `npm:^1.0.0` and of what a patch is for among them. */
function berryRange(specifier: string, { ranges }: LockfileInput): string | null {
  const { protocol, source } = parseRange(specifier)
  if (protocol === 'workspace:') return null
  if (protocol === 'patch:') {
    try {
      return rangeOf(splitDescriptor(decodeURIComponent(source)).range.replace(/^npm:/, ''), ranges)
    } catch {
      return null
    }
  }
  const plain = protocol === 'npm:' && ranges.isRange(source) ? source : specifier
  return rangeOf(plain, ranges)
}

function pinOf(entry: BerryEntry, place: Place & { readonly kind: 'package' }, lock: Lock): ReadPin {
  const { input, settings } = lock
  const { id, patch } = identify(place, lock)
  const edges: ReadEdge[] = []
  const absent: string[] = []
  const extensions = settings.extensions.filter(
    ({ name, range }) => name === place.name && input.ranges.satisfies(entry.version, range),
  )
  // An extension adds what is missing and replaces nothing, the first one first.
  const added = new Map(extensions.toReversed().flatMap(({ dependencies }) => Object.entries(dependencies)))
  const own = Object.entries(entry.dependencies ?? {})
  for (const [name, range] of new Map([...added, ...own])) {
    const meta = entry.dependenciesMeta ?? {}
    const optional = Object.hasOwn(meta, name) && meta[name]?.optional === 'true'
    const target = targetOf(entry.resolution, checkedName(name, input.path), range, lock)
    if (target !== null) edges.push({ name, target, optional })
    // A yarn of the time of the lockfile may not have had the extension yet.
    else if (!optional && Object.hasOwn(entry.dependencies ?? {}, name)) absent.push(name)
  }
  const extension = extensionOf(extensions, added)
  return {
    id,
    name: place.name,
    reference: splitPackageId(id).reference,
    integrity: null,
    ...(place.source.kind === 'registry' ? { hashFromRegistry: true } : {}),
    source: place.source,
    ...(patch === undefined ? {} : { patch }),
    ...(extension === undefined ? {} : { extension }),
    edges,
    absent,
    ...conditionsOf(entry.conditions),
  }
}

/** What the extensions of a package add to its manifest. */
function extensionOf(
  extensions: readonly Extension[],
  dependencies: ReadonlyMap<string, string>,
): ReadPin['extension'] {
  if (extensions.length === 0) return undefined
  return {
    dependencies: Object.fromEntries(dependencies),
    peerDependencies: Object.fromEntries(
      extensions.toReversed().flatMap(({ peerDependencies }) => Object.entries(peerDependencies)),
    ),
    optionalPeers: [...new Set(extensions.flatMap(({ optionalPeers }) => optionalPeers))].sort(compareText),
  }
}

function identify(
  place: Place & { readonly kind: 'package' },
  { input, patches }: Lock,
): ReturnType<typeof identityOf> {
  const id = checkedId(place.name, place.reference, input.path)
  const { patch } = place
  return identityOf(id, patch === null ? undefined : patches.read(patch.directory, patch.link, id))
}

/** What `name: range` of an owner was resolved to, after resolutions, which count as the root's own. */
function targetOf(owner: string, name: string, range: string, lock: Lock): Target | null {
  const { settings } = lock
  const replacement = resolvedRange(settings, owner, name, range)
  const replaced = replacement === undefined ? undefined : entryOf(lock.root, name, replacement, lock)
  const entry = replaced ?? entryOf(owner, name, catalogRange(settings, name, range), lock)
  if (entry !== undefined) {
    const place = placeAt(entry.resolution, lock)
    return place.kind === 'package' ? { package: identify(place, lock).id } : { workspace: place.path }
  }
  return null
}

/** Descriptors are as in the manifest, with npm's protocol, and with their owner where they are relative to it. */
function entryOf(owner: string, name: string, range: string, { document }: Lock): BerryEntry | undefined {
  return (
    document.get(`${name}@${range}`) ??
    document.get(`${name}@npm:${range}`) ??
    document.get(`${name}@${range}${bound(owner)}`)
  )
}

function bound(owner: string): string {
  return `::locator=${encodeURIComponent(owner)}`
}

/** `os=darwin & (cpu=x64 | cpu=arm64)`, `!os=win32` */
function conditionsOf(text: string | undefined): PlatformCondition {
  const conditions = new Map<string, string[]>()
  for (const [, not = '', field = '', value = ''] of (text ?? '').matchAll(/(!?)(os|cpu|libc)=([\w-]+)/g)) {
    conditions.set(field, [...(conditions.get(field) ?? []), `${not}${value}`])
  }
  return Object.fromEntries(conditions)
}

/** A workspace's entry lists what its manifest required: all kinds but peers, with npm's protocol since yarn 4. */
function findStale(
  service: string,
  declared: readonly Declared[],
  requirements: readonly Requirement[],
  { dependencies = {} }: BerryEntry,
): Stale[] {
  const recorded = new Map(Object.entries(dependencies))
  const stale: Stale[] = []
  for (const { name, kind, specifier } of declared) {
    if (kind === 'peer' || kind === 'optionalPeer') continue
    const lock = recorded.get(name)
    recorded.delete(name)
    if (lock === undefined || !same(lock, specifier.trim()))
      stale.push({ service, name, manifest: specifier, lock: lock ?? null })
    else if (kind !== 'optional' && requirements.find((one) => one.name === name)?.locked === null)
      stale.push({ service, name, manifest: specifier, lock: null })
  }
  for (const [name, lock] of recorded) stale.push({ service, name, manifest: null, lock })
  return stale
}
