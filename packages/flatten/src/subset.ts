import type { Gathered, Target } from '@polder/gather'
import type { PackageId } from '@polder/spec'

/**
 * A repository that had only some of its services: they, the workspace packages that they lead to, and the candidates
 * that their own lockfiles chose for them. To try out what flattening these together would give.
 * @param paths of services that were gathered
 */
export function onlyServices(gathered: Gathered, paths: readonly string[]): Gathered {
  const services = new Set<string>()
  const packages = new Set<PackageId>()
  const queue: Target[] = paths.map((workspace) => ({ workspace }))
  for (let target = queue.pop(); target !== undefined; target = queue.pop()) {
    if ('workspace' in target) {
      const { workspace } = target
      if (services.has(workspace)) continue
      services.add(workspace)
      const service = gathered.services.find(({ path }) => path === workspace)
      for (const { locked } of service?.requirements ?? []) if (locked !== null) queue.push(locked)
    } else if (!packages.has(target.package)) {
      packages.add(target.package)
      for (const { targets } of gathered.pins.get(target.package)?.edges ?? []) queue.push(...targets)
    }
  }
  return {
    ...gathered,
    services: gathered.services.filter(({ path }) => services.has(path)),
    pins: new Map([...gathered.pins].filter(([id]) => packages.has(id))),
  }
}
