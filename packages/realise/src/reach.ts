import type { InstanceId, LockedInstance, LockedPackage, NpmLock, Target } from '@polder/lock'
import { requirementsOf } from '@polder/lock/requirements'
import {
  compareText,
  matchesEngines,
  matchesPlatform,
  platformName,
  PolderError,
  sortKeys,
  type Platform,
} from '@polder/spec'

import type { Unsupported } from './planned.ts'

/** What exists on a platform. */
export interface Reachable {
  /** Sorted: what services require and what those link to. */
  readonly instances: ReadonlySet<InstanceId>
  /** Those among them that are for another Node, by `engines`. */
  readonly unsupported: readonly Unsupported[]
}

/**
 * An instance whose platform condition or `engines.node` does not hold is left out with everything that only it leads
 * to, if it is optional, as npm and pnpm do. What is required has to run on the platform; for which Node it is, is only
 * reported, unless `strict` says that it has to be for this one, also as npm and pnpm do.
 * @throws PolderError `PLATFORM_EXCLUDED`, `ENGINE_UNSUPPORTED` if something required does not run there; `LOCK_INVALID`
 */
export function reachableInstances(npm: NpmLock, platform: Platform, strict: boolean): Reachable {
  const neededBy = new Map<InstanceId, string>()
  const excluded = new Set<InstanceId>()
  const failures: PolderError[] = []
  const unsupported: Unsupported[] = []
  const queue: InstanceId[] = []
  const visit = (target: Target, owner: string): void => {
    if (isWorkspace(target) || neededBy.has(target) || excluded.has(target)) return
    const { instance, pkg } = lookUp(npm, target)
    if (!matchesPlatform(pkg, platform)) {
      excluded.add(target)
      if (instance.optional !== true) failures.push(platformExcluded(target, owner, pkg, platform))
      return
    }
    if (!matchesEngines(pkg, platform)) {
      if (instance.optional === true) {
        excluded.add(target)
        return
      }
      const found = { package: instance.package, node: pkg.engines?.['node'] ?? '', neededBy: owner }
      unsupported.push(found)
      if (strict) failures.push(engineUnsupported(found, platform))
    }
    neededBy.set(target, owner)
    queue.push(target)
  }
  for (const path of Object.keys(npm.services).sort(compareText)) {
    for (const { use } of Object.values(requirementsOf(npm.services[path]))) if (use !== undefined) visit(use, path)
  }
  for (let next = queue.shift(); next !== undefined; next = queue.shift()) {
    for (const target of Object.values(sortKeys(lookUp(npm, next).instance.links ?? {}))) visit(target, next)
  }
  const [first, ...others] = failures
  if (first !== undefined) throw new PolderError(first.code, first.message, { ...first.details, others })
  return {
    instances: new Set([...neededBy.keys()].sort(compareText)),
    unsupported: unsupported.sort((a, b) => compareText(a.package, b.package)),
  }
}

/** True for `link:<path>`. */
export function isWorkspace(target: Target): target is `link:${string}` {
  return target.startsWith('link:')
}

/** @throws PolderError `LOCK_INVALID` if the lock does not hold it */
export function lookUp(
  npm: NpmLock,
  id: InstanceId,
): { readonly instance: LockedInstance; readonly pkg: LockedPackage } {
  const instance = Object.hasOwn(npm.instances, id) ? npm.instances[id] : undefined
  const pkg =
    instance === undefined || !Object.hasOwn(npm.packages, instance.package)
      ? undefined
      : npm.packages[instance.package]
  if (instance === undefined || pkg === undefined) throw lockInvalid(`the lock does not hold ${id}`, id)
  return { instance, pkg }
}

export function lockInvalid(message: string, spec: string): PolderError {
  return new PolderError('LOCK_INVALID', message, { spec, hint: 'run `polder lock` to make the lock anew' })
}

function engineUnsupported({ package: id, node, neededBy }: Unsupported, platform: Platform): PolderError {
  const version = platform.node?.version ?? ''
  return new PolderError(
    'ENGINE_UNSUPPORTED',
    `${id} is for Node ${node}, and this is ${version}; ${neededBy} needs it`,
    {
      spec: id,
      found: version,
      wanted: node,
      hint: `use such a Node, make it an optional dependency of ${neededBy}, or take "policy.engines: strict" out of polder.yaml`,
    },
  )
}

function platformExcluded(id: InstanceId, owner: string, pkg: LockedPackage, platform: Platform): PolderError {
  const condition = (['os', 'cpu', 'libc'] as const)
    .flatMap((field) => (pkg[field] === undefined ? [] : [`${field} ${pkg[field].join(', ')}`]))
    .join('; ')
  const name = platformName(platform)
  return new PolderError('PLATFORM_EXCLUDED', `${id} does not run on ${name} (${condition}), and ${owner} needs it`, {
    spec: id,
    found: name,
    wanted: condition,
    hint: `make it an optional dependency of ${owner}, or leave ${name} out of the platforms in polder.yaml`,
  })
}
