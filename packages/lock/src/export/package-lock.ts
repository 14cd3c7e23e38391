import { compareText, PolderError, sortKeys, splitPackageId, unpatchedId, type PackageId } from '@polder/spec'

import type { InstanceId, Lock, LockedPackage, LockedRequirement, LockedService, NpmLock, Target } from '../lock.ts'
import { requirementsOf } from '../requirements.ts'

/**
 * The lock as a `package-lock.json`, version 3 (npm's "package-lock.json" document), of a root whose `workspaces` are
 * the services, for `npm ci`. Without `resolved`: npm asks the registry that it is configured for.
 * @throws PolderError `EXPORT_UNSUPPORTED` for requirements that npm does not understand (`workspace:`, `catalog:`), and
 *   for patched packages
 */
export function exportPackageLock({ npm }: Lock): string {
  refuseForeignProtocols(npm)
  refuseWhatNpmLacks(npm)
  const { name = 'polder-export', version } = npm.services['.'] ?? {}
  const placed = new Placement(npm).place()
  const workspaces = Object.keys(npm.services).filter((path) => path !== '.')
  const root = { name, ...(version === undefined ? {} : { version }), workspaces, ...manifestOf(npm.services['.']) }
  const packages: Record<string, object> = { '': root }
  for (const path of workspaces) {
    const service = npm.services[path]
    packages[path] = {
      name: packageName(npm, path),
      version: service?.version,
      bin: service?.bin,
      ...manifestOf(service),
    }
    packages[`node_modules/${packageName(npm, path)}`] = { resolved: path, link: true }
  }
  const [required, prod] = [reached(npm, (edge) => edge !== 'optional'), reached(npm, (edge) => edge !== 'dev')]
  for (const [path, id] of placed) packages[path] = entry(npm, id, { optional: !required.has(id), dev: !prod.has(id) })
  const document = {
    name,
    ...(version === undefined ? {} : { version }),
    lockfileVersion: 3,
    requires: true,
    packages: sortKeys(packages),
  }
  return `${JSON.stringify(document, null, 2)}\n`
}

function refuseForeignProtocols({ services }: NpmLock): void {
  const foreign = Object.entries(services).flatMap(([path, service]) =>
    Object.entries(requirementsOf(service))
      .filter(([, { specifier }]) => /^(?:workspace|catalog|link|portal|patch):/.test(specifier))
      .map(
        ([name, { specifier }]) => new PolderError('EXPORT_UNSUPPORTED', `${path} asks for ${name} as ${specifier}`),
      ),
  )
  if (foreign.length === 0) return
  throw new PolderError(
    'EXPORT_UNSUPPORTED',
    `npm does not understand ${foreign.length} of the services' requirements`,
    {
      others: foreign,
      hint: 'npm takes a range where pnpm and yarn take workspace: and catalog:; or use `polder export pnpm-lock`',
    },
  )
}

function refuseWhatNpmLacks({ packages }: NpmLock): void {
  const patched = Object.entries(packages as Readonly<Record<string, LockedPackage>>).flatMap(([id, { patch }]) =>
    patch === undefined ? [] : [new PolderError('EXPORT_UNSUPPORTED', `${unpatchedId(id as PackageId)} by ${patch}`)],
  )
  if (patched.length > 0)
    throw new PolderError('EXPORT_UNSUPPORTED', 'npm applies no patches, and the lock has packages that are patched', {
      others: patched,
      hint: 'use `polder export pnpm-lock`',
    })
  const directories = Object.entries(packages).filter(([, { git }]) => git?.includes('&path:') === true)
  if (directories.length > 0)
    throw new PolderError('EXPORT_UNSUPPORTED', 'npm takes whole commits, and the lock has directories of some', {
      others: directories.map(([id]) => new PolderError('EXPORT_UNSUPPORTED', id)),
      hint: 'use `polder export pnpm-lock`',
    })
}

/** npm gives a workspace without a name that of its directory. */
function packageName({ services }: NpmLock, path: string): string {
  return services[path]?.name ?? path.split('/').at(-1) ?? path
}

/** Where instances stand when Node's lookup alone has to find them: the root's, and copies below who sees another. */
class Placement {
  readonly #npm: NpmLock
  /** By place, `node_modules/a/node_modules/b`. */
  readonly #placed = new Map<string, InstanceId>()

  constructor(npm: NpmLock) {
    this.#npm = npm
  }

  place(): ReadonlyMap<string, InstanceId> {
    const queue: [string, InstanceId][] = []
    for (const [name, target] of Object.entries(this.#npm.root)) {
      if (isInstance(target)) queue.push([`node_modules/${name}`, target])
    }
    for (const [path, id] of queue) this.#placed.set(path, id)
    for (const [path, service] of Object.entries(this.#npm.services)) {
      if (path === '.') continue
      for (const [name, { use }] of Object.entries(requirementsOf(service))) this.#ensure(path, name, use, queue)
    }
    // What is placed may in turn see the wrong thing: nearest to the root first, so that a copy serves all below it.
    for (let next = queue.shift(); next !== undefined; next = queue.shift()) {
      const [path, id] = next
      for (const [name, target] of Object.entries(sortKeys(this.#npm.instances[id]?.links ?? {}))) {
        this.#ensure(path, name, target, queue)
      }
    }
    return this.#placed
  }

  #ensure(from: string, name: string, target: Target | undefined, queue: [string, InstanceId][]): void {
    if (target === undefined || !isInstance(target) || this.#seenFrom(from, name) === target) return
    const path = `${from}/node_modules/${name}`
    this.#placed.set(path, target)
    queue.push([path, target])
  }

  /** Node's lookup: the directory's own `node_modules`, then those of its parents. */
  #seenFrom(from: string, name: string): InstanceId | undefined {
    for (
      let directory = from;
      ;
      directory = directory.includes('/') ? directory.slice(0, directory.lastIndexOf('/')) : ''
    ) {
      if (!directory.endsWith('node_modules')) {
        const found = this.#placed.get(directory === '' ? `node_modules/${name}` : `${directory}/node_modules/${name}`)
        if (found !== undefined) return found
      }
      if (directory === '') return undefined
    }
  }
}

function entry(npm: NpmLock, id: InstanceId, flags: { readonly optional: boolean; readonly dev: boolean }): object {
  const instance = npm.instances[id]
  const locked: LockedPackage | undefined = instance && npm.packages[instance.package]
  if (instance === undefined || locked === undefined) return {}
  const { name, reference } = splitPackageId(instance.package)
  const { tarball, file, git } = locked
  const resolved = tarball ?? (file === undefined ? git : `file:${file}`)
  return {
    // Only an alias stands under another name than its own.
    ...(installName(id) === name ? {} : { name }),
    version: locked.version ?? reference,
    ...(resolved === undefined ? {} : { resolved }),
    // Of a commit npm packs its own tarball, which has another hash than ours.
    ...(git === undefined ? { integrity: locked.integrity } : {}),
    ...(flags.dev ? { dev: true } : {}),
    ...(flags.optional ? { optional: true } : {}),
    ...(locked.needsBuild === true ? { hasInstallScript: true } : {}),
    dependencies: nonEmpty(locked.dependencies),
    optionalDependencies: nonEmpty(locked.optionalDependencies),
    peerDependencies: nonEmpty(locked.peerDependencies),
    peerDependenciesMeta: nonEmpty(
      Object.fromEntries((locked.optionalPeers ?? []).map((peer) => [peer, { optional: true }])),
    ),
    engines: nonEmpty(locked.engines),
    bin: nonEmpty(locked.bin),
    os: locked.os,
    cpu: locked.cpu,
    libc: locked.libc,
    ...(locked.deprecated === undefined ? {} : { deprecated: locked.deprecated }),
  }
}

function manifestOf(service: LockedService | undefined): object {
  const group = (requirements: Readonly<Record<string, LockedRequirement>> | undefined): object | undefined =>
    nonEmpty(Object.fromEntries(Object.entries(requirements ?? {}).map(([name, { specifier }]) => [name, specifier])))
  return {
    dependencies: group(service?.dependencies),
    devDependencies: group(service?.devDependencies),
    optionalDependencies: group(service?.optionalDependencies),
    peerDependencies: group(service?.peerDependencies),
  }
}

type Edge = 'prod' | 'dev' | 'optional'

/** What services reach over the edges that `follow` allows. */
function reached(npm: NpmLock, follow: (edge: Edge) => boolean): ReadonlySet<Target> {
  const seen = new Set<Target>()
  const stack: Target[] = []
  for (const service of Object.values(npm.services)) {
    const group = (requirements: Readonly<Record<string, LockedRequirement>> | undefined, edge: Edge): void => {
      if (follow(edge)) for (const { use } of Object.values(requirements ?? {})) if (use !== undefined) stack.push(use)
    }
    group(service.dependencies, 'prod')
    group(service.peerDependencies, 'prod')
    group(service.devDependencies, 'dev')
    group(service.optionalDependencies, 'optional')
  }
  for (let target = stack.pop(); target !== undefined; target = stack.pop()) {
    if (seen.has(target) || !isInstance(target)) continue
    seen.add(target)
    const instance = npm.instances[target]
    const optional = new Set(Object.keys((instance && npm.packages[instance.package]?.optionalDependencies) ?? {}))
    for (const [name, next] of Object.entries(instance?.links ?? {})) {
      if (!optional.has(name) || follow('optional')) stack.push(next)
    }
  }
  return seen
}

function isInstance(target: Target): target is InstanceId {
  return !target.startsWith('link:')
}

function installName(id: InstanceId): string {
  return id.slice(0, id.indexOf('@', 1))
}

function nonEmpty(record: object | undefined): object | undefined {
  if (record === undefined || Object.keys(record).length === 0) return undefined
  return Object.fromEntries(Object.entries(record).sort(([a], [b]) => compareText(a, b)))
}
