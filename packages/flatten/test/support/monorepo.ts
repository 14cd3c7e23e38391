import type { Gathered, GatheredService, Pin, Policy, Requirement, RequirementKind, Target } from '@polder/gather'
import { integrityOf, packageId, splitPackageId, type Manifest, type PackageId } from '@polder/spec'
import { manifestFromJson } from '@polder/spec/manifest'
import { RangeCache } from '@polder/spec/semver-ranges'

import type { PinnedManifest } from '../../src/compile.ts'

/** A package as a test writes it: the fields of its `package.json`, and what its lockfile resolved where that is not the highest in range. */
export interface PackageSpec {
  readonly dependencies?: Readonly<Record<string, string>>
  readonly optionalDependencies?: Readonly<Record<string, string>>
  readonly peerDependencies?: Readonly<Record<string, string>>
  readonly peerDependenciesMeta?: Readonly<Record<string, { optional: boolean }>>
  readonly os?: readonly string[]
  /** Install name → version or `link:path`; null for what the lockfile leaves out. */
  readonly locked?: Readonly<Record<string, string | null>>
}

export interface ServiceSpec extends PackageSpec {
  readonly version?: string
  readonly name?: string
  readonly devDependencies?: Readonly<Record<string, string>>
}

export interface Monorepo {
  readonly gathered: Gathered
  readonly manifests: ReadonlyMap<PackageId, PinnedManifest>
}

/** A gathered repository from `{ 'services/a': { dependencies: { x: '^1' } } }` and `{ 'x@1.0.0': {} }`. */
export function monorepo(
  services: Readonly<Record<string, ServiceSpec>>,
  packages: Readonly<Record<string, PackageSpec>>,
  policy: Partial<Policy> = {},
): Monorepo {
  const ranges = new RangeCache()
  const manifests = new Map<PackageId, PinnedManifest>()
  const pins = new Map<PackageId, Pin>()
  const resolve = (name: string, specifier: string, locked: PackageSpec['locked']): Target | null => {
    const told = locked?.[name]
    if (told === null) return null
    if (told?.startsWith('link:') === true) return { workspace: told.slice('link:'.length) }
    const { name: real, reference: range } = specifier.startsWith('npm:')
      ? splitPackageId(specifier.slice('npm:'.length))
      : { name, reference: specifier }
    if (told !== undefined) return { package: packageId(real, told) }
    const versions = Object.keys(packages)
      .map((id) => splitPackageId(id))
      .filter((id) => id.name === real && ranges.satisfies(id.reference, range))
    const highest = versions
      .map(({ reference }) => reference)
      .sort((a, b) => ranges.compare(a, b))
      .at(-1)
    return highest === undefined ? null : { package: packageId(real, highest) }
  }
  for (const [id, spec] of Object.entries(packages)) {
    const { name, reference } = splitPackageId(id)
    const manifest = manifestFromJson({ name, version: reference, ...spec }, id)
    const edges = Object.entries({
      ...manifest.peerDependencies,
      ...manifest.optionalDependencies,
      ...manifest.dependencies,
    }).flatMap(([to, range]) => {
      const optionalPeer = manifest.optionalPeers.includes(to) && spec.locked?.[to] === undefined
      const target = optionalPeer ? null : resolve(to, range, spec.locked)
      return target === null ? [] : [{ name: to, targets: [target] }]
    })
    const pin = packageId(name, reference)
    manifests.set(pin, { manifest, integrity: integrityOf('sha512', Buffer.from(id)), needsBuild: false })
    pins.set(pin, {
      id: pin,
      name,
      reference,
      integrity: integrityOf('sha512', Buffer.from(id)),
      source: { kind: 'registry' },
      edges,
      lockfiles: ['package-lock.json'],
      optional: false,
    })
  }
  const gatheredServices = Object.entries(services).map(([path, spec]): GatheredService => {
    const manifest = manifestFromJson({ name: path, version: '1.0.0', ...spec }, path)
    const group = (kind: RequirementKind, record: Manifest['dependencies']): Requirement[] =>
      Object.entries(record).map(([name, specifier]) => {
        const locked = resolve(name, specifier, spec.locked)
        const range = specifier.startsWith('npm:')
          ? splitPackageId(specifier.slice('npm:'.length)).reference
          : specifier
        return { name, kind, specifier, range: specifier.startsWith('workspace:') ? null : range, locked }
      })
    return {
      path,
      manifest,
      lockfile: `${path}/package-lock.json`,
      requirements: [
        ...group('prod', manifest.dependencies),
        ...group('dev', manifest.devDependencies),
        ...group('optional', manifest.optionalDependencies),
        ...group('peer', manifest.peerDependencies),
      ],
    }
  })
  return {
    manifests,
    gathered: {
      root: '/repository',
      config: {
        services: null,
        exclude: [],
        platforms: ['linux-x64-glibc'],
        policy: { versions: 'fewest', pins: 'hard', engines: null, single: [], split: {}, ...policy },
        layout: 'linked',
        newPins: { minimumReleaseAge: 0, minimumReleaseAgeExclude: [], allow: [], deny: [] },
        builds: { allow: {}, env: {}, workspaces: {}, limits: {} },
        index: { allowWeakIntegrity: [], private: [], signatures: 'verify', trustedRoot: null },
      },
      services: gatheredServices,
      pins,
      inputs: [],
      warnings: [],
    },
  }
}
