import type { Gathered, GatheredService, LockedEdge, Pin, Target } from '@polder/gather'
import { compareText, type Manifest, type PackageId, sortKeys } from '@polder/spec'

/** What is needed of {@link PinnedManifest}. */
type Manifests = ReadonlyMap<PackageId, { readonly manifest: Manifest }>

/** The manifest with what its client adds to it (`packageExtensions`), which replaces nothing that is there. */
export function extendedManifest(manifest: Manifest, extension: Pin['extension']): Manifest {
  if (extension === undefined) return manifest
  const { dependencies, optionalDependencies, peerDependencies } = manifest
  const isThere = (name: string): boolean =>
    [dependencies, optionalDependencies, peerDependencies].some((record) => Object.hasOwn(record, name))
  const missing = (record: Readonly<Record<string, string>>): Record<string, string> =>
    Object.fromEntries(Object.entries(record).filter(([name]) => !isThere(name)))
  return {
    ...manifest,
    dependencies: sortKeys({ ...dependencies, ...missing(extension.dependencies) }),
    peerDependencies: sortKeys({ ...peerDependencies, ...missing(extension.peerDependencies) }),
    optionalPeers: [...new Set([...manifest.optionalPeers, ...extension.optionalPeers])].sort(compareText),
  }
}

/**
 * Lockfiles of yarn say nothing of what peers resolve to. It is what their users provide: a dependency of theirs, what
 * they are themselves, or the same peer of theirs in turn. So each peer of a package that yarn locked, and that no other
 * lockfile resolved, gets an edge to all that its users provide, and what is out of its range there is the baseline, as
 * it is for every other client. Where nobody provides it, there is no edge: the flat root may show something or not.
 */
export function withLockedPeers(gathered: Gathered, manifests: Manifests): Gathered {
  const open = openPeers(gathered, manifests)
  if (open.size === 0) return gathered
  const found = new Map<PackageId, Map<string, Map<string, Target>>>()
  const queue: Owner[] = [...gathered.services.map(serviceOwner), ...[...gathered.pins.values()].map(pinOwner)]
  /** What an owner provides under a name, itself, its dependencies and what was found for its own open peers. */
  const provided = ({ id, self, edges }: Owner, name: string): Target[] => {
    if (self === name && id !== null) return [{ package: id }]
    const own = edges.get(name)
    if (own !== undefined) return own
    return id === null ? [] : [...(found.get(id)?.get(name)?.values() ?? [])]
  }
  const owners = new Map(queue.flatMap((owner) => (owner.id === null ? [] : [[owner.id, owner] as const])))
  for (let owner = queue.shift(); owner !== undefined; owner = queue.shift()) {
    for (const target of owner.uses) {
      const peers = open.get(target) ?? []
      let grew = false
      for (const peer of peers) {
        for (const choice of provided(owner, peer)) grew = note(found, target, peer, choice) || grew
      }
      // What was found for its peers it provides in turn.
      const next = grew ? owners.get(target) : undefined
      if (next !== undefined) queue.push(next)
    }
  }
  const pins = new Map(gathered.pins)
  for (const [id, peers] of found) {
    const pin = pins.get(id)
    if (pin === undefined) continue
    const edges = [...peers].map(([name, targets]): LockedEdge => ({
      name,
      targets: [...targets].sort(([a], [b]) => compareText(a, b)).map(([, target]) => target),
    }))
    pins.set(id, { ...pin, edges: [...pin.edges, ...edges].sort((a, b) => compareText(a.name, b.name)) })
  }
  return { ...gathered, pins }
}

/** Who uses packages, and what it has under which name. */
interface Owner {
  /** Null for a service. */
  readonly id: PackageId | null
  readonly self: string | null
  readonly edges: ReadonlyMap<string, Target[]>
  readonly uses: readonly PackageId[]
}

function serviceOwner({ requirements }: GatheredService): Owner {
  const edges = new Map(
    requirements.flatMap(({ name, locked }): [string, Target[]][] => (locked === null ? [] : [[name, [locked]]])),
  )
  return { id: null, self: null, edges, uses: packagesOf([...edges.values()].flat()) }
}

function pinOwner({ id, name, edges: locked }: Pin): Owner {
  const edges = new Map(locked.map((edge) => [edge.name, [...edge.targets]]))
  return { id, self: name, edges, uses: packagesOf([...edges.values()].flat()) }
}

function packagesOf(targets: readonly Target[]): PackageId[] {
  return targets.flatMap((target) => ('package' in target ? [target.package] : []))
}

/** By package, the peers that no lockfile resolved, of those that yarn locked. */
function openPeers({ pins }: Gathered, manifests: Manifests): ReadonlyMap<PackageId, readonly string[]> {
  const open = new Map<PackageId, readonly string[]>()
  for (const pin of pins.values()) {
    const manifest = manifests.get(pin.id)?.manifest
    if (manifest === undefined || !pin.lockfiles.some(isYarns)) continue
    const { peerDependencies } = extendedManifest(manifest, pin.extension)
    const resolved = new Set(pin.edges.map(({ name }) => name))
    const names = Object.keys(peerDependencies).filter((name) => !resolved.has(name))
    if (names.length > 0) open.set(pin.id, names)
  }
  return open
}

function isYarns(lockfile: string): boolean {
  return lockfile === 'yarn.lock' || lockfile.endsWith('/yarn.lock')
}

/** True if it was not known. */
function note(
  found: Map<PackageId, Map<string, Map<string, Target>>>,
  id: PackageId,
  name: string,
  target: Target,
): boolean {
  let peers = found.get(id)
  if (peers === undefined) found.set(id, (peers = new Map()))
  let targets = peers.get(name)
  if (targets === undefined) peers.set(name, (targets = new Map()))
  const key = 'package' in target ? target.package : `link:${target.workspace}`
  if (targets.has(key)) return false
  targets.set(key, target)
  return true
}
