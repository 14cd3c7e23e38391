import { flatten, type PinnedManifest } from '@polder/flatten'
import { declaredRequirements, type Gathered, type LockedEdge, parseConfig, type Pin, rangeOf } from '@polder/gather'
import { readManifest } from '@polder/index'
import { registryRange } from '@polder/index/build-requirements'
import type { InstanceId, Lock, LockedInstance } from '@polder/lock'
import { compareText, type Manifest, type PackageId, PolderError, splitPackageId } from '@polder/spec'
import { RangeCache } from '@polder/spec/semver-ranges'
import type { Store } from '@polder/store'

import { pinsPreparing, preparedCommit, type PreparedCommit } from './commit-requirements.ts'

/**
 * The environment that a commit is prepared in, as a lock of its own: the commit, and all that the lock pins for it,
 * flattened like a repository with one service. It follows from the lock and the manifests of the pins alone. Undefined for
 * an instance that is built with what it finds in the environment of its users, like any other package.
 * @throws PolderError `ARTIFACT_MISSING` if a pin is not in the index
 */
export function commitEnvironment(store: Store, lock: Lock, instance: InstanceId): Lock | undefined {
  const locked = lock.npm.instances[instance]
  const commit = locked === undefined ? undefined : preparedCommit(store, locked.package, lock)
  if (locked === undefined || commit === undefined) return undefined
  const ids = pinsPreparing(lock.index?.packages ?? {}, commit.id)
  if (ids.length === 0) return undefined
  const manifests = new Map(ids.map((id) => [id, manifestOf(store, lock, id)]))
  const flat = flatten(asRepository(commit, manifests, lock), manifests).lock
  const { root, services, packages, instances } = flat.npm
  const own: LockedInstance = {
    package: commit.id,
    links: Object.fromEntries(Object.entries(root).filter(([name]) => name !== splitPackageId(instance).name)),
    ...(locked.optional === undefined ? {} : { optional: locked.optional }),
  }
  return {
    ...flat,
    policy: lock.policy,
    npm: {
      services,
      root,
      splits: {},
      packages: { ...packages, [commit.id]: lock.npm.packages[commit.id] ?? { integrity: commit.integrity } },
      instances: { ...instances, [instance]: own },
    },
  }
}

function manifestOf(store: Store, lock: Lock, id: PackageId): PinnedManifest {
  const integrity = lock.index?.packages?.[id]?.integrity
  const known = integrity === undefined ? undefined : readManifest(store, integrity)
  if (known !== undefined) return known
  throw new PolderError('ARTIFACT_MISSING', `${id}, which a commit is prepared with, is not in the index`, {
    spec: id,
    hint: 'run `polder index sync`',
  })
}

/** Nobody's peers are locked in it: flattening finds them, as it does for this client's lockfiles. */
const LOCKFILE = 'yarn.lock'

function asRepository(
  { id, manifest }: PreparedCommit,
  manifests: ReadonlyMap<PackageId, PinnedManifest>,
  { policy }: Lock,
): Gathered {
  const ranges = new RangeCache()
  const pinned = [...manifests.keys()].sort((a, b) => compareText(a, b))
  const fitting = (name: string, range: string): readonly PackageId[] => {
    const all = pinned
      .map((one) => ({ id: one, ...splitPackageId(one) }))
      .filter((one) => one.name === name)
      .sort((a, b) => ranges.compare(a.reference, b.reference))
    const within = all.filter(({ reference }) => ranges.satisfies(reference, range))
    // What a lockfile chose although the range forbids it.
    return (within.length > 0 ? within : all).map((one) => one.id)
  }
  const requirements = declaredRequirements(manifest).map(({ name, kind, specifier }) => {
    const wanted = registryRange(name, specifier)
    const locked = wanted === undefined ? undefined : fitting(wanted.name, wanted.range).at(-1)
    const range = rangeOf(specifier, ranges)
    return { name, kind, specifier, range, locked: locked === undefined ? null : { package: locked } }
  })
  const pins = pinned.map((pin): [PackageId, Pin] => {
    const { name, reference } = splitPackageId(pin)
    const own = manifests.get(pin)?.manifest
    const edges = own === undefined ? [] : edgesOf(own, fitting)
    const source = { kind: 'registry' } as const
    return [pin, { id: pin, name, reference, integrity: null, source, edges, lockfiles: [LOCKFILE], optional: false }]
  })
  const config = parseConfig('')
  return {
    root: '/',
    config: { ...config, platforms: policy.platforms, builds: { ...config.builds, ...policy.builds } },
    services: [
      { path: '.', manifest: { ...manifest, name: splitPackageId(id).name }, lockfile: LOCKFILE, requirements },
    ],
    pins: new Map(pins),
    inputs: [],
    warnings: [],
  }
}

function edgesOf(
  { dependencies, optionalDependencies }: Manifest,
  fitting: (name: string, range: string) => readonly PackageId[],
): readonly LockedEdge[] {
  return Object.entries({ ...dependencies, ...optionalDependencies })
    .flatMap(([name, specifier]): LockedEdge[] => {
      const wanted = registryRange(name, specifier)
      const targets = wanted === undefined ? [] : fitting(wanted.name, wanted.range)
      return targets.length === 0 ? [] : [{ name, targets: targets.map((target) => ({ package: target })) }]
    })
    .sort((a, b) => compareText(a.name, b.name))
}
