import type { InstanceId, Lock, LockedInstance, LockedPackage, LockedService, Target } from '@polder/lock'
import { packageId, splitPackageId, type Integrity, type PackageId, type Platform } from '@polder/spec'
import { openStore, withLease, writeArtifact, type Store } from '@polder/store'
import { mkdirSync, mkdtempSync, readFileSync, realpathSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'

import { packTarball, type FileContent } from '../../../test/support/tarball.ts'
import {
  linkCheckout,
  planEnvironment,
  realiseEnvironment,
  type Layout,
  type LinkReport,
  type Plan,
} from '../src/index.ts'

export const LINUX: Platform = { os: 'linux', cpu: 'x64', libc: 'glibc' }
export const LAYOUTS: readonly Layout[] = ['linked', 'self-contained']

/** An instance, written short: `links` as install name → instance id or `link:<path>`. */
export interface InstanceSpec {
  readonly package?: string
  readonly links?: Readonly<Record<string, string>>
  readonly files?: Readonly<Record<string, FileContent>>
  readonly bin?: Readonly<Record<string, string>>
  readonly os?: readonly string[]
  readonly engines?: Readonly<Record<string, string>>
  readonly needsBuild?: true
  readonly optional?: true
  readonly inCheckout?: true
}

export interface ServiceSpec {
  readonly uses?: Readonly<Record<string, string>>
  readonly name?: string
  readonly bin?: Readonly<Record<string, string>>
}

export interface LockSpec {
  readonly services: Readonly<Record<string, ServiceSpec>>
  readonly instances: Readonly<Record<string, InstanceSpec>>
  /** The flat root. An instance id stands there under its own name. */
  readonly root: readonly string[]
  /** Workspace packages of the flat root. */
  readonly workspace?: Readonly<Record<string, string>>
}

const integrities = new WeakMap<Store, Map<string, Integrity>>()

/** A store and directories of its own, removed by `dispose`. */
export class World {
  readonly directory: string = realpathSync(mkdtempSync(join(tmpdir(), 'polder-realise-')))
  readonly store: Store = openStore(join(this.directory, 'home'))
  #checkouts = 0

  async lock(spec: LockSpec): Promise<Lock> {
    const packages: Record<PackageId, LockedPackage> = {}
    const instances: Record<InstanceId, LockedInstance> = {}
    for (const [id, instance] of Object.entries(spec.instances)) {
      const real = realPackage(id, instance)
      packages[real] = {
        integrity: await artifactOf(this.store, real, instance),
        ...(instance.bin === undefined ? {} : { bin: instance.bin }),
        ...(instance.os === undefined ? {} : { os: instance.os }),
        ...(instance.engines === undefined ? {} : { engines: instance.engines }),
        ...(instance.needsBuild === undefined ? {} : { needsBuild: true }),
      }
      instances[id as InstanceId] = {
        package: real,
        ...(instance.links === undefined ? {} : { links: instance.links as Readonly<Record<string, Target>> }),
        ...(instance.optional === undefined ? {} : { optional: true }),
        ...(instance.inCheckout === undefined ? {} : { inCheckout: true }),
      }
    }
    const services: Record<string, LockedService> = {}
    for (const [path, { uses = {}, name, bin }] of Object.entries(spec.services)) {
      const dependencies = Object.fromEntries(
        Object.entries(uses).map(([dependency, use]) => [dependency, { specifier: '*', use: use as Target }]),
      )
      services[path] = {
        lockfile: 'package-lock.json',
        dependencies,
        ...(name === undefined ? {} : { name }),
        ...(bin === undefined ? {} : { bin }),
      }
    }
    const root = Object.fromEntries([
      ...spec.root.map((id) => [splitPackageId(id).name, id]),
      ...Object.entries(spec.workspace ?? {}),
    ]) as Record<string, Target>
    return {
      lockfileVersion: 1,
      policy: { versions: 'fewest', platforms: ['linux-x64-glibc', 'darwin-arm64'] },
      inputs: {},
      npm: { services, packages, instances, root, splits: {} },
    }
  }

  /** A directory with the lock's services in it, each with a package.json. */
  checkout(lock: Lock): string {
    this.#checkouts += 1
    const checkout = join(this.directory, `checkout-${this.#checkouts}`)
    for (const [path, { name }] of Object.entries(lock.npm.services)) {
      mkdirSync(join(checkout, path), { recursive: true })
      writeFileSync(join(checkout, path, 'package.json'), JSON.stringify({ name, version: '0.0.0' }))
      writeFileSync(join(checkout, path, 'index.js'), 'module.exports = __dirname')
    }
    return checkout
  }

  async install(lock: Lock, checkout: string, layout: Layout, options: { force?: boolean } = {}): Promise<Installed> {
    return install(this.store, lock, checkout, layout, options)
  }

  dispose(): void {
    rmSync(this.directory, { recursive: true, force: true })
  }
}

export interface Installed {
  readonly plan: Plan
  readonly environmentPath: string | null
  readonly report: LinkReport
}

export async function install(
  store: Store,
  lock: Lock,
  checkout: string,
  layout: Layout,
  options: { force?: boolean; waitMs?: number } = {},
): Promise<Installed> {
  const plan = planEnvironment(lock, LINUX, layout)
  return withLease(store, async () => {
    const environmentPath = await realiseEnvironment(store, plan)
    const state = {
      lock: 'a'.repeat(64),
      inputs: { 'polder.lock': { mtimeMs: 1, size: 2, digest: 'sha256-00' } },
      polder: '0.1.0',
    }
    const report = await linkCheckout({ store, checkout, plan, environmentPath, state, ...options })
    return { plan, environmentPath, report }
  })
}

/** `a@1.0.0` of `a@1.0.0(b@2.0.0)`, `b@1.0.0` of `a@npm:b@1.0.0`. */
function realPackage(id: string, instance: InstanceSpec): PackageId {
  if (instance.package !== undefined) return instance.package as PackageId
  const plain = id.replace(/\(.*$/, '')
  return plain.replace(/^[^/]*\/?[^/@]*@npm:/, '') as PackageId
}

async function artifactOf(store: Store, id: PackageId, { files = {}, bin }: InstanceSpec): Promise<Integrity> {
  const known = integrities.get(store) ?? new Map<string, Integrity>()
  integrities.set(store, known)
  const key = JSON.stringify([id, files, bin])
  const found = known.get(key)
  if (found !== undefined) return found
  const { name, reference } = splitPackageId(id)
  const tarball = packTarball({
    'package.json': JSON.stringify({
      name,
      version: reference,
      main: 'lib/index.js',
      ...(bin === undefined ? {} : { bin }),
    }),
    'lib/index.js': `module.exports = ${JSON.stringify(packageId(name, reference))}\n`,
    ...files,
  })
  const { integrity } = await writeArtifact(store, once(tarball), { expected: null, maxBytes: 1e9, label: id })
  known.set(key, integrity)
  return integrity
}

async function* once(bytes: Uint8Array): AsyncIterable<Uint8Array> {
  yield bytes
}

/**
 * Node's own algorithm for a bare name (nodejs.org/api/modules.html, "all together"), from a real directory: written
 * here again, so that the plan is not checked with itself.
 */
function resolveLikeNode(name: string, from: string): string | undefined {
  for (let directory = realpathSync(from); ; directory = dirname(directory)) {
    if (!directory.endsWith('/node_modules')) {
      try {
        const found = join(directory, 'node_modules', name)
        readFileSync(join(found, 'package.json'))
        return realpathSync(found)
      } catch {
        // Further up, as Node does.
      }
    }
    if (dirname(directory) === directory) return undefined
  }
}

/**
 * Follows every edge of the lock through the installed checkout. Each instance must be at one real place, no two at
 * the same, and what stands there must be its package. Instances in `absent` must not be led to.
 * @returns instance or `link:<path>` → real directory
 */
export function walkInstalled(
  lock: Lock,
  checkout: string,
  absent: ReadonlySet<string> = new Set(),
): ReadonlyMap<string, string> {
  const places = new Map<string, string>()
  const owners = new Map<string, string>()
  const queue: { readonly from: string; readonly owner: string; readonly name: string; readonly target: string }[] = []
  for (const [path, service] of Object.entries(lock.npm.services)) {
    for (const [name, { use }] of Object.entries(service.dependencies ?? {})) {
      if (use !== undefined) queue.push({ from: join(checkout, path), owner: path, name, target: use })
    }
  }
  for (let edge = queue.shift(); edge !== undefined; edge = queue.shift()) {
    const { from, owner, name, target } = edge
    const found = resolveLikeNode(name, from)
    if (absent.has(target)) {
      if (found !== undefined) throw new Error(`${owner} finds ${name} at ${found}, which should be absent`)
      continue
    }
    if (found === undefined) throw new Error(`${owner} does not find ${name} (${target}) from ${from}`)
    const known = places.get(target)
    if (known !== undefined) {
      if (known !== found) throw new Error(`${owner} finds ${target} at ${found}, others at ${known}`)
      continue
    }
    const other = owners.get(found)
    if (other !== undefined) throw new Error(`${owner} finds ${other} at ${found} instead of ${target}`)
    places.set(target, found)
    owners.set(found, target)
    if (target.startsWith('link:')) {
      if (found !== realpathSync(join(checkout, target.slice('link:'.length))))
        throw new Error(`${target} is at ${found}`)
      continue
    }
    const instance = lock.npm.instances[target as InstanceId]
    const { name: realName, reference } = splitPackageId(instance?.package ?? '')
    const manifest = JSON.parse(readFileSync(join(found, 'package.json'), 'utf8')) as { name: string; version: string }
    if (manifest.name !== realName || manifest.version !== reference)
      throw new Error(`${owner} finds ${manifest.name}@${manifest.version} instead of ${target}`)
    for (const [link, to] of Object.entries(instance?.links ?? {}))
      queue.push({ from: found, owner: target, name: link, target: to })
  }
  return places
}
