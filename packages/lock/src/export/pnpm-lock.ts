import { compareText, sortKeys, splitPackageId } from '@polder/spec'
import { dump } from 'js-yaml'

import type {
  InstanceId,
  Lock,
  LockedInstance,
  LockedPackage,
  LockedRequirement,
  LockedService,
  Target,
} from '../lock.ts'
import { requirementsOf } from '../requirements.ts'
import { withoutPnpmPatch, withPnpmPatches } from './pnpm-patches.ts'

/** What `pnpm-workspace.yaml` says and pnpm compares with the lockfile. */
export interface PnpmWorkspaceSettings {
  /** Catalog name → package → range; the unnamed catalog is `default`. */
  readonly catalogs?: Readonly<Record<string, Readonly<Record<string, string>>>>
  readonly overrides?: Readonly<Record<string, string>>
  /** Service → package → specifier, where pnpm's own lockfile has them: as they are after overrides. */
  readonly specifiers?: Readonly<Record<string, Readonly<Record<string, string>>>>
  /** As pnpm's own lockfile has it. It says which `packageExtensions` the lockfile was made with. */
  readonly packageExtensionsChecksum?: string
  /** `name`, `name@version` or `name@range` → the patch file in the repository, and pnpm's own hash of it. */
  readonly patchedDependencies?: Readonly<Record<string, { readonly path: string; readonly hash: string }>>
  /** All other settings by name, of which those count that shape a lockfile. */
  readonly settings?: Readonly<Record<string, unknown>>
}

// What pnpm writes into a lockfile if it is set, and refuses to install without (`LockfileSettings` of
// `@pnpm/lockfile.types`).
const LOCKFILE_SETTINGS = [
  'autoInstallPeers',
  'dedupePeers',
  'excludeLinksFromLockfile',
  'injectWorkspacePackages',
  'peersSuffixMaxLength',
]

/**
 * The lock as a `pnpm-lock.yaml`, version 9.0 (pnpm's `@pnpm/lockfile.types`), with every service as an importer,
 * for `pnpm install --frozen-lockfile` in a workspace that lists the services.
 * @throws PolderError `EXPORT_UNSUPPORTED` for patches that the settings of the workspace do not have: pnpm patches
 *   every package of a version, or none
 */
export function exportPnpmLock(lock: Lock, workspace: PnpmWorkspaceSettings = {}): string {
  const { catalogs = {}, overrides = {}, specifiers = {}, packageExtensionsChecksum, settings = {} } = workspace
  const { patchedDependencies = {} } = workspace
  const npm = withPnpmPatches(lock.npm, patchedDependencies)
  const set = LOCKFILE_SETTINGS.filter((name) => settings[name] !== undefined)
  const used = usedCatalogs(npm.services, catalogs)
  return dump(
    {
      lockfileVersion: '9.0',
      settings: sortKeys({
        autoInstallPeers: true,
        excludeLinksFromLockfile: false,
        ...Object.fromEntries(set.map((name) => [name, settings[name]])),
      }),
      ...(Object.keys(used).length === 0 ? {} : { catalogs: used }),
      ...(Object.keys(overrides).length === 0 ? {} : { overrides: sortKeys(overrides) }),
      ...(packageExtensionsChecksum === undefined ? {} : { packageExtensionsChecksum }),
      ...withoutEmpty({
        patchedDependencies: Object.fromEntries(
          Object.entries(sortKeys(patchedDependencies)).map(([key, { hash }]) => [key, hash]),
        ),
      }),
      importers: Object.fromEntries(
        Object.entries(sortKeys(npm.services)).map(([path, service]) => [
          path,
          importer(
            path,
            service,
            (name, specifier) => own(own(specifiers, path) ?? {}, name) ?? overridden(overrides, name, specifier),
          ),
        ]),
      ),
      packages: packages(npm.packages, npm.instances),
      snapshots: snapshots(npm.instances, npm.packages),
    },
    { lineWidth: -1, noRefs: true, flowLevel: -1 },
  )
}

function importer(path: string, service: LockedService, compared: (name: string, specifier: string) => string): object {
  const group = (requirements: Readonly<Record<string, LockedRequirement>> = {}): Record<string, object> =>
    Object.fromEntries(
      Object.entries(sortKeys(requirements)).flatMap(([name, { specifier: declared, use }]) => {
        const specifier = compared(name, declared)
        if (use === undefined || specifier === '-') return []
        const version = use.startsWith('link:') ? relativeLink(path, use) : reference(name, use)
        return [[name, { specifier, version }]]
      }),
    )
  // pnpm lists a peer that the importer does not also declare otherwise among its dependencies (auto-install-peers).
  const declared = { ...service.dependencies, ...service.devDependencies, ...service.optionalDependencies }
  const peers = Object.fromEntries(
    Object.entries(service.peerDependencies ?? {}).filter(([name]) => !Object.hasOwn(declared, name)),
  )
  return withoutEmpty({
    dependencies: group({ ...peers, ...service.dependencies }),
    devDependencies: group(service.devDependencies),
    optionalDependencies: group(service.optionalDependencies),
  })
}

/**
 * pnpm compares an importer's specifiers after overrides. Where its own lockfile does not have them, those selectors
 * count that name just a package, or a package and the very range that the manifest has.
 */
function overridden(overrides: Readonly<Record<string, string>>, name: string, specifier: string): string {
  return own(overrides, `${name}@${specifier}`) ?? own(overrides, name) ?? specifier
}

/** There are packages called `constructor`. */
function own<T>(record: Readonly<Record<string, T>>, key: string): T | undefined {
  return Object.hasOwn(record, key) ? record[key] : undefined
}

function packages(locked: Lock['npm']['packages'], instances: Lock['npm']['instances']): Record<string, object> {
  const present = new Set(
    Object.values(instances as Readonly<Record<string, LockedInstance>>).map((instance) => instance.package as string),
  )
  return Object.fromEntries(
    Object.entries(sortKeys(locked as Readonly<Record<string, LockedPackage>>))
      .filter(([id]) => present.has(id))
      .map(([id, entry]) => {
        const peers = entry.peerDependencies ?? {}
        const optional = (entry.optionalPeers ?? []).toSorted(compareText)
        return [
          withoutPnpmPatch(id),
          {
            resolution: resolution(entry),
            ...(entry.version === undefined ? {} : { version: entry.version }),
            ...(entry.engines === undefined ? {} : { engines: entry.engines }),
            ...(entry.cpu === undefined ? {} : { cpu: entry.cpu }),
            ...(entry.os === undefined ? {} : { os: entry.os }),
            ...(entry.libc === undefined ? {} : { libc: entry.libc }),
            ...(entry.deprecated === undefined ? {} : { deprecated: entry.deprecated }),
            ...(Object.keys(entry.bin ?? {}).length === 0 ? {} : { hasBin: true }),
            ...((entry.bundled ?? []).length === 0 ? {} : { bundledDependencies: entry.bundled }),
            ...withoutEmpty({
              peerDependencies: peers,
              peerDependenciesMeta: Object.fromEntries(optional.map((name) => [name, { optional: true }])),
            }),
          },
        ]
      }),
  )
}

/** Of a commit pnpm packs its own tarball, which has no hash in the lockfile. */
function resolution({ integrity, tarball, git }: LockedPackage): object {
  if (git === undefined) return { integrity, ...(tarball === undefined ? {} : { tarball }) }
  const [, repo = '', commit = '', path] = /^([^#]*)#([0-9a-f]*)(?:&path:(.*))?$/s.exec(git) ?? []
  return { commit, ...(path === undefined ? {} : { path }), repo: repo.replace(/^git\+/, ''), type: 'git' }
}

function snapshots(instances: Lock['npm']['instances'], packages_: Lock['npm']['packages']): Record<string, object> {
  const written: Record<string, object> = {}
  for (const [id, instance] of Object.entries(instances as Readonly<Record<string, LockedInstance>>)) {
    const optionalNames = new Set(Object.keys(packages_[instance.package]?.optionalDependencies ?? {}))
    const links = Object.entries(sortKeys(instance.links ?? {}))
    const part = (wanted: boolean): Record<string, string> =>
      Object.fromEntries(
        links
          .filter(([name]) => optionalNames.has(name) === wanted)
          .map(([name, target]) => [name, reference(name, target)]),
      )
    written[snapshotKey(id)] = {
      ...withoutEmpty({ dependencies: part(false), optionalDependencies: part(true) }),
      ...(instance.optional === true ? { optional: true } : {}),
    }
  }
  return sortKeys(written)
}

/** How pnpm refers to a target from a slot: the version alone, or the whole key for an alias; links stay links. */
function reference(name: string, target: Target): string {
  if (target.startsWith('link:')) return target
  const key = snapshotKey(target)
  return key.startsWith(`${name}@`) ? key.slice(name.length + 1) : key
}

/** `old-chalk@npm:chalk@4.1.2` is `chalk@4.1.2` to pnpm. */
function snapshotKey(id: InstanceId | string): string {
  const { reference: rest } = splitPackageId(id)
  return rest.startsWith('npm:') ? rest.slice('npm:'.length) : id
}

/** pnpm writes an importer's links relative to the importer. */
function relativeLink(from: string, target: string): string {
  const to = target.slice('link:'.length)
  const [source, destination] = [from === '.' ? [] : from.split('/'), to === '.' ? [] : to.split('/')]
  let shared = 0
  while (shared < source.length && shared < destination.length && source[shared] === destination[shared]) shared++
  const up = source.slice(shared).map(() => '..')
  return `link:${[...up, ...destination.slice(shared)].join('/') || '.'}`
}

/** pnpm lists the catalog entries that importers use, each with the version it got. */
function usedCatalogs(
  services: Readonly<Record<string, LockedService>>,
  catalogs: NonNullable<PnpmWorkspaceSettings['catalogs']>,
): Record<string, Record<string, { specifier: string; version: string }>> {
  const used: Record<string, Record<string, { specifier: string; version: string }>> = {}
  for (const service of Object.values(services)) {
    for (const [name, { specifier, use }] of Object.entries(requirementsOf(service))) {
      if (!specifier.startsWith('catalog:') || use === undefined) continue
      const catalog = specifier.slice('catalog:'.length) || 'default'
      const range = catalogs[catalog]?.[name]
      if (range !== undefined)
        (used[catalog] ??= {})[name] = { specifier: range, version: reference(name, use).replace(/\(.*$/, '') }
    }
  }
  return sortKeys(Object.fromEntries(Object.entries(used).map(([catalog, entries]) => [catalog, sortKeys(entries)])))
}

function withoutEmpty(record: Readonly<Record<string, object>>): Record<string, object> {
  return Object.fromEntries(Object.entries(record).filter(([, value]) => Object.keys(value).length > 0))
}
