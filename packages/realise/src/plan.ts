import type { InstanceId, Lock } from '@polder/lock'
import { compareText, parsePlatform, platformName, PolderError, type Platform } from '@polder/spec'
import type { TreeId } from '@polder/store'
import { createHash } from 'node:crypto'

import { placeInstances, planPackages } from './placement.ts'
import type { EnvironmentId, Layout, Plan, PlannedPackage } from './planned.ts'
import { lookUp, reachableInstances } from './reach.ts'
import { planCheckoutLinks } from './service-links.ts'

/** Part of every environment's id: another number where the same lock is laid out in another way. */
const FORMAT = 2

/**
 * What stands where for a lock on one platform. Pure: the same lock, platform (with the same Node) and layout give the
 * same plan on every machine and for every checkout.
 *
 * The environment's id covers the format, the platform, and each package's tree, commands, place and links, and
 * nothing else, so locks that differ in their services only share an environment.
 * @param builtTree the tree of an instance whose install scripts run; undefined for all others
 * @throws PolderError `PLATFORM_NOT_LOCKED`; `PLATFORM_EXCLUDED`, `ENGINE_UNSUPPORTED` (all, in `details.others`); `LOCK_INVALID`
 */
export function planEnvironment(
  lock: Lock,
  platform: Platform,
  layout: Layout,
  builtTree: (instance: InstanceId) => TreeId | undefined = () => undefined,
): Plan {
  const name = platformName(platform)
  const locked = lock.policy.platforms.map((text) => parsePlatform(text)).filter((one) => one !== undefined)
  if (!locked.some((one) => platformName(one) === name)) {
    const wanted = lock.policy.platforms.join(', ')
    throw new PolderError('PLATFORM_NOT_LOCKED', `the lock is for ${wanted}, and this is ${name}`, {
      found: name,
      wanted,
      hint: `add ${name} to the platforms in polder.yaml and run \`polder lock\``,
    })
  }
  const { npm } = lock
  const { instances: reached, unsupported } = reachableInstances(npm, platform, lock.policy.engines === 'strict')
  const placement = placeInstances(npm, reached, layout)
  const environment = planPackages(npm, placement, 'environment', builtTree)
  const packages = planPackages(npm, placement, 'checkout', builtTree)
  const built = new Set(
    [...environment, ...packages].filter((planned) => planned.built).map(({ instance }) => instance),
  )
  const unbuilt = [...reached].filter((id) => lookUp(npm, id).pkg.needsBuild === true && !built.has(id))
  const notBuilt = new Set(unbuilt.map((id) => lookUp(npm, id).instance.package))
  return {
    layout,
    platform: name,
    id: environmentId(name, layout === 'linked' ? environment : packages),
    environment,
    checkout: { packages, ...planCheckoutLinks(npm, placement) },
    notBuilt: [...notBuilt].sort(compareText),
    unsupported,
  }
}

function environmentId(platform: string, packages: readonly PlannedPackage[]): EnvironmentId {
  const shape = packages.map(({ directory, tree, bin, links }) => [
    directory,
    tree,
    Object.entries(bin),
    links.map(({ path, target }) => [path, target.place, target.path]),
  ])
  return createHash('sha256')
    .update(JSON.stringify([FORMAT, platform, shape]))
    .digest('hex')
    .slice(0, 40) as EnvironmentId
}
