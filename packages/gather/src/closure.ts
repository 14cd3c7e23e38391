import type { PackageId } from '@polder/spec'

import type { GatheredService, Target } from './gathered.ts'
import type { Draft } from './merge-pins.ts'

/** What is reached from some services: further services, and candidates. */
export interface Closure {
  readonly services: ReadonlySet<string>
  readonly packages: ReadonlySet<PackageId>
}

/**
 * Follows requirements and edges from the services at `start`; with `hard`, only those that are not optional.
 * @param serviceAt the service of a directory; `from` is the lockfile that leads to it
 */
export function closureOf(
  start: readonly string[],
  drafts: ReadonlyMap<PackageId, Draft>,
  serviceAt: (path: string, from: string | undefined) => GatheredService,
  hard: boolean,
): Closure {
  const services = new Set<string>()
  const packages = new Set<PackageId>()
  const queue: { readonly target: Target; readonly from: string | undefined }[] = start.map((workspace) => ({
    target: { workspace },
    from: undefined,
  }))
  for (let next = queue.pop(); next !== undefined; next = queue.pop()) {
    const { target, from } = next
    if ('workspace' in target) {
      if (services.has(target.workspace)) continue
      services.add(target.workspace)
      const { requirements, lockfile } = serviceAt(target.workspace, from)
      for (const { kind, locked } of requirements) {
        if (locked !== null && !(hard && (kind === 'optional' || kind === 'optionalPeer')))
          queue.push({ target: locked, from: lockfile })
      }
    } else if (!packages.has(target.package)) {
      packages.add(target.package)
      const draft = drafts.get(target.package)
      for (const targets of draft?.edges.values() ?? []) {
        for (const edge of targets.values())
          if (!(hard && edge.optional))
            queue.push({ target: edge.target, from: draft?.lockfiles.values().next().value })
      }
    }
  }
  return { services, packages }
}
