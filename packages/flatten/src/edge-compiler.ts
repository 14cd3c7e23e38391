import type { Gathered, GatheredService, LockedEdge, Pin, Policy } from '@polder/gather'
import type { Manifest, PackageId } from '@polder/spec'
import type { RangeCache } from '@polder/spec/semver-ranges'

import { PatchRule, type EdgeOwner } from './patch-rule.ts'

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

/** A slot while its candidates are collected. */
export interface SlotBuilder {
  readonly name: string
  readonly ids: Set<PackageId>
  workspace: string | null
}

/** What owners declare and what lockfiles chose for it, as sets of candidates. */
export class EdgeCompiler {
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
    // Most edges share their sets with others: there are many of them.
    const acceptable = locked.every((index) => inRange.includes(index))
      ? inRange
      : respected
        ? [...new Set([...inRange, ...locked])].sort((a, b) => a - b)
        : locked
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
