import { existsSync, realpathSync } from 'node:fs'
import { delimiter, join } from 'node:path'

import type { InstanceId, NpmLock, Target } from '@polder/lock'
import { requirementsOf } from '@polder/lock/requirements'
import { readState } from '@polder/realise'

import { binDirectories, type Checkout } from './checkout.ts'

/** What of the environment makes a script fail that works elsewhere, a sentence each: for whoever saw one fail. */
export function possibleCauses({ root, lock }: Checkout, service: string): readonly string[] {
  const uses = packagesOf(lock.npm, service)
  const notBuilt = (readState(root)?.notBuilt ?? []).filter((id) => uses.has(id))
  const { allow } = lock.policy.builds ?? {}
  const node = otherNode(binDirectories(root, service))
  return [
    ...(notBuilt.length === 0 ? [] : [`not built here: ${notBuilt.join(', ')} (see polder approve)`]),
    ...(node !== undefined && allow !== undefined
      ? [`what is built is for Node ${process.versions.node}, which runs polder, and \`node\` here is ${node}`]
      : []),
  ]
}

/**
 * The program that `node` is, if that is not the one that runs polder.
 * @param nearer where it is looked for before the PATH
 */
export function otherNode(nearer: readonly string[] = []): string | undefined {
  const node = [...nearer, ...(process.env['PATH'] ?? '').split(delimiter)]
    .map((directory) => join(directory, 'node'))
    .find((file) => existsSync(file))
  return node !== undefined && realpathSync(node) !== realpathSync(process.execPath) ? node : undefined
}

/** The ids of all packages that a service leads to. */
function packagesOf({ services, instances }: NpmLock, service: string): ReadonlySet<string> {
  const packages = new Set<string>()
  const reached = new Set<Target>([`link:${service}`])
  for (const target of reached) {
    const instance = instances[target as InstanceId]
    if (instance !== undefined) packages.add(instance.package)
    for (const use of Object.values(instance?.links ?? {})) reached.add(use)
    if (!target.startsWith('link:')) continue
    for (const { use } of Object.values(requirementsOf(services[target.slice('link:'.length)])))
      if (use !== undefined) reached.add(use)
  }
  return packages
}
