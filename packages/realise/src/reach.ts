import type { InstanceId, LockedInstance, LockedPackage, NpmLock, Target } from '@polder/lock'
import { requirementsOf } from '@polder/lock/requirements'
import { compareText, matchesPlatform, platformName, PolderError, sortKeys, type Platform } from '@polder/spec'

/**
 * The instances that exist on a platform, sorted: what services require and what those link to. An instance whose
 * platform condition does not hold is left out with everything that only it leads to, if it is optional.
 * @throws PolderError `PLATFORM_EXCLUDED` if something required does not run there; `LOCK_INVALID`
 */
export function reachableInstances(npm: NpmLock, platform: Platform): ReadonlySet<InstanceId> {
  const neededBy = new Map<InstanceId, string>()
  const excluded = new Set<InstanceId>()
  const failures: PolderError[] = []
  const queue: InstanceId[] = []
  const visit = (target: Target, owner: string): void => {
    if (isWorkspace(target) || neededBy.has(target) || excluded.has(target)) return
    const { instance, pkg } = lookUp(npm, target)
    if (!matchesPlatform(pkg, platform)) {
      excluded.add(target)
      if (instance.optional !== true) failures.push(platformExcluded(target, owner, pkg, platform))
      return
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
  return new Set([...neededBy.keys()].sort(compareText))
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
