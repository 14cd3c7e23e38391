import type { Gathered, GatheredService, LockedEdge, Pin, Policy, Target } from '@polder/gather'
import { compareText, PolderError, type Integrity, type Manifest, type PackageId } from '@polder/spec'
import { RangeCache } from '@polder/spec/semver-ranges'

import { extendedManifest } from './locked-peers.ts'
import { PatchRule, type EdgeOwner, type SharedPatch } from './patch-rule.ts'

/** What the index knows of a pin: the manifest in its artifact, and our own hash of it. */
export interface PinnedManifest {
  /** sha512 of the artifact. */
  readonly integrity: Integrity
  readonly manifest: Manifest
  /** It has install scripts. */
  readonly needsBuild: boolean
}

/** A gathered repository as a finite problem: slots, candidates, and edges as sets of candidates. */
export interface Universe {
  /** Sorted by name. */
  readonly slots: readonly Slot[]
  /** Sorted by path. */
  readonly services: readonly ServiceOwner[]
  readonly ranges: RangeCache
  readonly sharedPatches: readonly SharedPatch[]
}

/** An install name. */
export interface Slot {
  readonly index: number
  readonly name: string
  /** Ascending by version. */
  readonly candidates: readonly Candidate[]
  /** The workspace package that some lockfile puts there; it then has the place at the root. */
  readonly workspace: string | null
}

export interface Candidate {
  readonly slot: number
  /** Position among the slot's candidates. */
  readonly index: number
  readonly id: PackageId
  readonly version: string
  readonly pin: Pin
  readonly pinned: PinnedManifest
  readonly edges: readonly Edge[]
}

export interface ServiceOwner {
  readonly service: GatheredService
  readonly edges: readonly Edge[]
}

/** `optionalPeer` constrains only where the name is visible; all others want a target. */
export type EdgeKind = 'prod' | 'optional' | 'peer' | 'optionalPeer'

export interface Edge {
  readonly slot: number
  readonly kind: EdgeKind
  /** For people; `*` where only what is locked will do. */
  readonly range: string
  /** Positions of the slot's candidates that satisfy it, ascending. */
  readonly allowed: readonly number[]
  /** True if the slot's workspace package satisfies it. */
  readonly workspace: boolean
  /** Positions of what the lockfiles chose for it, ascending. */
  readonly locked: readonly number[]
}

/** What stands behind the name in a candidate's id: its version or source, and its patch. */
export function fullReference({ id, pin }: Pick<Candidate, 'id' | 'pin'>): string {
  return id.slice(pin.name.length + 1)
}

interface SlotBuilder {
  readonly name: string
  readonly ids: Set<PackageId>
  workspace: string | null
}

/**
 * Builds the universe. The order of the input does not matter.
 * @throws PolderError `ARTIFACT_MISSING` if a pin that is needed has no manifest; `PIN_CONFLICT` if the lockfiles patch
 *   what one package uses in different ways
 */
export function compile(
  gathered: Gathered,
  manifests: ReadonlyMap<PackageId, PinnedManifest>,
  policy: Policy,
  ranges: RangeCache = new RangeCache(),
): Universe {
  const builders = collectSlots(gathered, manifests)
  const names = [...builders.keys()].sort(compareText)
  const slotIndex = new Map(names.map((name, index) => [name, index]))
  const versions = new Map<PackageId, string>()
  for (const [id, pin] of gathered.pins) versions.set(id, manifests.get(id)?.manifest.version ?? pin.reference)
  const order = names.map((name) =>
    [...(builders.get(name)?.ids ?? [])].sort(
      (a, b) => ranges.compare(versions.get(a) ?? '', versions.get(b) ?? '') || compareText(a, b),
    ),
  )

  const edgeCompiler = new EdgeCompiler(gathered, policy, slotIndex, order, builders, versions, ranges)
  const edgesOf = new Map<PackageId, readonly Edge[]>()
  const slots = names.map((name, slot): Slot => ({
    index: slot,
    name,
    workspace: builders.get(name)?.workspace ?? null,
    candidates: (order[slot] ?? []).map((id, index): Candidate => {
      const pin = gathered.pins.get(id)
      const pinned = manifests.get(id)
      if (pin === undefined || pinned === undefined) throw missing(id)
      let edges = edgesOf.get(id)
      if (edges === undefined)
        edgesOf.set(id, (edges = edgeCompiler.candidateEdges(pin, extendedManifest(pinned.manifest, pin.extension))))
      return { slot, index, id, version: versions.get(id) ?? pin.reference, pin, pinned, edges }
    }),
  }))
  const services = gathered.services
    .toSorted((a, b) => compareText(a.path, b.path))
    .map((service) => ({ service, edges: edgeCompiler.serviceEdges(service) }))
  return { slots, services, ranges, sharedPatches: edgeCompiler.patchRule.shared }
}

/** Every install name that a lockfile resolves, with the candidates that stand there in any of them. */
function collectSlots(gathered: Gathered, manifests: ReadonlyMap<PackageId, PinnedManifest>): Map<string, SlotBuilder> {
  const builders = new Map<string, SlotBuilder>()
  const add = (name: string, target: Target): void => {
    let builder = builders.get(name)
    if (builder === undefined) builders.set(name, (builder = { name, ids: new Set(), workspace: null }))
    if ('workspace' in target) {
      if (builder.workspace === null || compareText(target.workspace, builder.workspace) < 0)
        builder.workspace = target.workspace
    } else if (manifests.has(target.package)) {
      builder.ids.add(target.package)
    } else if (gathered.pins.get(target.package)?.optional !== true) {
      throw missing(target.package)
    }
  }
  for (const service of gathered.services) {
    for (const { name, locked } of service.requirements) if (locked !== null) add(name, locked)
  }
  for (const pin of gathered.pins.values()) {
    // What is left out on every platform brings nothing in.
    if (!manifests.has(pin.id)) continue
    for (const { name, targets } of pin.edges) for (const target of targets) add(name, target)
  }
  return builders
}

class EdgeCompiler {
  readonly #gathered: Gathered
  readonly #policy: Policy
  readonly #slotIndex: ReadonlyMap<string, number>
  readonly #order: readonly (readonly PackageId[])[]
  readonly #builders: ReadonlyMap<string, SlotBuilder>
  readonly #versions: ReadonlyMap<PackageId, string>
  readonly #ranges: RangeCache
  readonly patchRule: PatchRule
  /** `slot NUL real name NUL range` → positions. */
  readonly #inRange = new Map<string, readonly number[]>()

  constructor(
    gathered: Gathered,
    policy: Policy,
    slotIndex: ReadonlyMap<string, number>,
    order: readonly (readonly PackageId[])[],
    builders: ReadonlyMap<string, SlotBuilder>,
    versions: ReadonlyMap<PackageId, string>,
    ranges: RangeCache,
  ) {
    this.#gathered = gathered
    this.#policy = policy
    this.#slotIndex = slotIndex
    this.#order = order
    this.#builders = builders
    this.#versions = versions
    this.#ranges = ranges
    this.patchRule = new PatchRule(gathered.pins, order)
  }

  /** The edges that some lockfile resolved, with the ranges of the manifest. */
  candidateEdges(pin: Pin, manifest: Manifest): Edge[] {
    const edges: Edge[] = []
    for (const locked of pin.edges) {
      const slot = this.#slotIndex.get(locked.name)
      if (slot === undefined) continue
      const [kind, specifier] = declaration(manifest, locked.name)
      const edge = this.#edge(pin, slot, kind, specifier, locked)
      if (edge !== null) edges.push(edge)
    }
    // A peer that no lockfile resolved is met by whatever the flat root shows, so it still constrains that.
    for (const [name, range] of Object.entries(manifest.peerDependencies)) {
      const slot = this.#slotIndex.get(name)
      if (slot === undefined || pin.edges.some((edge) => edge.name === name)) continue
      const edge = this.#edge(pin, slot, 'optionalPeer', range, { name, targets: [] })
      if (edge !== null) edges.push(edge)
    }
    return edges.sort((a, b) => a.slot - b.slot)
  }

  serviceEdges(service: GatheredService): Edge[] {
    const edges: Edge[] = []
    for (const { name, kind, range, locked } of service.requirements) {
      const slot = this.#slotIndex.get(name)
      if (slot === undefined || (locked === null && kind === 'optional')) continue
      // A directory that is only linked to has no lockfile of its own: whatever fits its ranges will do.
      const wanted: EdgeKind = kind === 'dev' || kind === 'prod' ? 'prod' : locked === null ? 'optionalPeer' : kind
      const movable =
        this.#policy.pins === 'soft' && range !== null && isExact(range) ? `^${range.replace(/^[=v\s]+/, '')}` : range
      const owner = { id: service.path, lockfiles: [service.lockfile] }
      const edge = this.#edge(owner, slot, wanted, movable, { name, targets: locked === null ? [] : [locked] })
      if (edge !== null) edges.push(edge)
    }
    return edges.sort((a, b) => a.slot - b.slot)
  }

  /** Null if nothing can satisfy the edge: a package that is left out on every platform. */
  #edge(
    owner: EdgeOwner,
    slot: number,
    kind: EdgeKind,
    specifier: string | null,
    { name, targets }: LockedEdge,
  ): Edge | null {
    const workspace = this.#builders.get(name)?.workspace ?? null
    const order = this.#order[slot] ?? []
    const provided = kind === 'peer' || kind === 'optionalPeer'
    const found = targets
      .flatMap((target) => ('package' in target ? [order.indexOf(target.package)] : []))
      .filter((index) => index >= 0)
    found.sort((a, b) => a - b)
    // A peer sees what is provided to it, patched or not.
    const locked = provided ? found : this.patchRule.resolved(owner, slot, found)
    const toWorkspace = targets.some((target) => 'workspace' in target && target.workspace === workspace)
    const wanted =
      specifier === null ? null : this.#parse(name, specifier, locked[0] === undefined ? undefined : order[locked[0]])
    const inRange = wanted === null ? [] : this.#candidatesInRange(slot, wanted.name, wanted.range)
    // An override or an unmet peer: what the lockfiles chose although the range forbids it is the baseline and stays
    // the only answer where they all chose it, and an answer where some did.
    const respected = locked.some((index) => inRange.includes(index))
    const acceptable =
      respected || locked.length === 0 ? [...new Set([...inRange, ...locked])].sort((a, b) => a - b) : locked
    const respecting = provided ? acceptable : this.patchRule.respecting(owner, slot, acceptable, locked)
    const allowed = this.#preferred(name, kind, respecting, locked)
    if (allowed.length === 0 && !toWorkspace && kind !== 'optionalPeer') return null
    return {
      slot,
      kind,
      range: `${specifier ?? '*'}${this.patchRule.isPatched(slot, locked) ? ', patched' : ''}`,
      allowed: toWorkspace && locked.length === 0 ? [] : allowed,
      workspace: toWorkspace,
      locked,
    }
  }

  /** What the policy leaves of what would be acceptable. Peers see what is provided to them, whatever the policy. */
  #preferred(
    name: string,
    kind: EdgeKind,
    acceptable: readonly number[],
    locked: readonly number[],
  ): readonly number[] {
    if (Object.hasOwn(this.#policy.split, name) && locked.length > 0) return locked
    const provided = kind === 'peer' || kind === 'optionalPeer'
    return this.#policy.versions === 'highest' && !provided ? acceptable.slice(-1) : acceptable
  }

  /** The real name and npm range of a specifier; null for sources other than a registry, and for tags. */
  #parse(name: string, specifier: string, locked: PackageId | undefined): { name: string; range: string } | null {
    if (specifier.startsWith('npm:')) {
      const target = specifier.slice('npm:'.length)
      const at = target.indexOf('@', 1)
      return at < 0 ? { name: target, range: '*' } : { name: target.slice(0, at), range: target.slice(at + 1) }
    }
    if (!this.#ranges.isRange(specifier)) return null
    // A service's requirement comes with its alias resolved: the lock says to which name.
    return { name: locked === undefined ? name : (this.#gathered.pins.get(locked)?.name ?? name), range: specifier }
  }

  #candidatesInRange(slot: number, name: string, range: string): readonly number[] {
    const key = `${slot}\0${name}\0${range}`
    let positions = this.#inRange.get(key)
    if (positions === undefined) {
      positions = (this.#order[slot] ?? []).flatMap((id, index) => {
        const fits =
          this.#gathered.pins.get(id)?.name === name && this.#ranges.satisfies(this.#versions.get(id) ?? '', range)
        return fits ? [index] : []
      })
      this.#inRange.set(key, positions)
    }
    return positions
  }
}

/** How a manifest declares a dependency; what it does not declare (an extension, an override) is taken as locked. */
function declaration(manifest: Manifest, name: string): readonly [EdgeKind, string | null] {
  const { dependencies, optionalDependencies, peerDependencies, optionalPeers } = manifest
  if (Object.hasOwn(dependencies, name)) return ['prod', dependencies[name] ?? null]
  if (Object.hasOwn(optionalDependencies, name)) return ['optional', optionalDependencies[name] ?? null]
  if (Object.hasOwn(peerDependencies, name))
    return [optionalPeers.includes(name) ? 'optionalPeer' : 'peer', peerDependencies[name] ?? null]
  return ['prod', null]
}

/** `1.2.3`, `=1.2.3`, `v1.2.3-rc.1`: a service that writes this means just this version. */
export function isExact(range: string): boolean {
  return /^[=v\s]*\d+\.\d+\.\d+(?:[-+][\w.+-]+)?$/.test(range)
}

function missing(id: PackageId): PolderError {
  return new PolderError('ARTIFACT_MISSING', `${id} is locked, but the index has no manifest of it`, {
    spec: id,
    hint: 'run `polder index sync`',
  })
}
