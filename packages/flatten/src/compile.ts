import type { Gathered, GatheredService, Pin, Policy, Target } from '@polder/gather'
import { compareText, PolderError, type Integrity, type Manifest, type PackageId } from '@polder/spec'
import { RangeCache } from '@polder/spec/semver-ranges'

import { EdgeCompiler, type Edge, type SlotBuilder } from './edge-compiler.ts'
import { extendedManifest } from './locked-peers.ts'
import type { SharedPatch } from './patch-rule.ts'

export { isExact, type Edge, type EdgeKind } from './edge-compiler.ts'

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
  readonly policy: Policy
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

/** What stands behind the name in a candidate's id: its version or source, and its patch. */
export function fullReference({ id, pin }: Pick<Candidate, 'id' | 'pin'>): string {
  return id.slice(pin.name.length + 1)
}

/**
 * Builds the universe. The order of the input does not matter.
 * @param known of the same input under another policy: what does not depend on that is taken over
 * @throws PolderError `ARTIFACT_MISSING` if a pin that is needed has no manifest; `PIN_CONFLICT` if the lockfiles patch
 *   what one package uses in different ways
 */
export function compile(
  gathered: Gathered,
  manifests: ReadonlyMap<PackageId, PinnedManifest>,
  policy: Policy,
  known?: Universe,
): Universe {
  const ranges = known?.ranges ?? new RangeCache()
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
  const isKnown =
    known !== undefined && known.policy.versions === policy.versions && known.policy.split === policy.split
  const slotAt = (name: string, slot: number): Slot => ({
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
  })
  const slots = isKnown ? known.slots : names.map(slotAt)
  const services = gathered.services
    .toSorted((a, b) => compareText(a.path, b.path))
    .map((service) => ({ service, edges: edgeCompiler.serviceEdges(service) }))
  return { slots, services, policy, ranges, sharedPatches: edgeCompiler.patchRule.shared }
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

function missing(id: PackageId): PolderError {
  return new PolderError('ARTIFACT_MISSING', `${id} is locked, but the index has no manifest of it`, {
    spec: id,
    hint: 'run `polder index sync`',
  })
}
