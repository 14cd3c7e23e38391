import { splitPackageId, PolderError, type PackageId } from '@polder/spec'
import type { InstanceId, Lock, LockedInstance } from '@polder/lock'

import { findService, nearestText, openCheckout, requirementsOf } from '../checkout.ts'
import { count, type Output } from '../output.ts'

export interface Reason {
  /** A service's path or a package's instance. */
  readonly owner: string
  readonly range: string
  /** The shortest way from a service to the owner, the service first. */
  readonly path: readonly string[]
}

/**
 * `polder why NAME`: for each version in the environment who needs it, with which range, over which path, and why it
 * is this version.
 */
export function why(cwd: string, name: string, serviceName: string | undefined, output: Output): number {
  const { lock } = openCheckout(cwd)
  const service = serviceName === undefined ? undefined : findService(lock, serviceName)
  const versions = reasonsFor(lock, name, service)
  if (versions.size === 0) {
    const known = [...new Set(Object.keys(lock.npm.instances).map((id) => splitPackageId(id).name))]
    const nearest = nearestText(name, known)
    throw new PolderError(
      'PACKAGE_UNKNOWN',
      `${name} is not in the environment${service === undefined ? '' : ` of ${service}`}`,
      {
        spec: name,
        hint: nearest === undefined ? 'names are install names, as in package.json' : `did you mean ${nearest}?`,
      },
    )
  }
  const split = lock.npm.splits[name]
  const atRoot = lock.npm.root[name]
  for (const [target, reasons] of versions) {
    output.line(`${output.bold(target)}${target === atRoot ? '' : output.dim('  (a variant; not at the flat root)')}`)
    for (const { owner, range, path } of reasons.slice(0, SHOWN)) {
      output.line(`  ${owner} needs ${range}${path.length > 1 ? output.dim(`   ${path.join(' > ')}`) : ''}`)
    }
    if (reasons.length > SHOWN) output.line(output.dim(`  … and ${reasons.length - SHOWN} more (--json lists them)`))
  }
  output.line()
  output.line(choice(name, versions.size, split))
  output.result({ name, root: atRoot ?? null, split: split ?? null, versions: Object.fromEntries(versions) })
  return 0
}

const SHOWN = 15

function choice(name: string, versions: number, split: Lock['npm']['splits'][string] | undefined): string {
  if (split === undefined) {
    return versions === 1
      ? `One version satisfies everyone who needs ${name}.`
      : `One version of ${name}, once for each set of peers that it is used with.`
  }
  const demands = Object.entries(split.versions).map(([version, { range, owner, owners }]) => {
    return `  ${version} is the only one kept that ${owner}${owners > 1 ? ` (and ${count(owners - 1, 'other')})` : ''} accepts: ${range}`
  })
  const verdict = split.proven
    ? 'No locked version satisfies any two of these.'
    : 'That no fewer would do is not proven.'
  return [`${name} is kept at ${Object.keys(split.versions).length} versions:`, ...demands, verdict].join('\n')
}

/** Target → who leads to it, nearest first. With `service`, only what that service reaches. */
function reasonsFor({ npm }: Lock, name: string, service: string | undefined): Map<string, Reason[]> {
  const instances = npm.instances as Readonly<Record<string, LockedInstance>>
  const found = new Map<string, Reason[]>()
  const note = (target: string, reason: Reason): void => {
    found.set(target, [...(found.get(target) ?? []), reason])
  }
  const paths = new Map<string, readonly string[]>()
  const queue: InstanceId[] = []
  const visit = (target: string, path: readonly string[]): void => {
    if (paths.has(target) || instances[target] === undefined) return
    paths.set(target, path)
    queue.push(target as InstanceId)
  }
  for (const [path, locked] of Object.entries(npm.services)) {
    if (service !== undefined && path !== service) continue
    for (const [dependency, { specifier, use }] of Object.entries(requirementsOf(locked))) {
      if (use === undefined) continue
      if (dependency === name) note(use, { owner: path, range: specifier, path: [path] })
      visit(use, [path])
    }
  }
  for (let index = 0; index < queue.length; index++) {
    const id = queue[index] as InstanceId
    const instance = instances[id]
    if (instance === undefined) continue
    const path = [...(paths.get(id) ?? []), id]
    for (const [dependency, target] of Object.entries(instance.links ?? {})) {
      if (dependency === name)
        note(target, { owner: id, range: rangeOf(npm.packages, instance.package, dependency), path })
      visit(target, path)
    }
  }
  return new Map([...found].sort(([a], [b]) => (a < b ? -1 : 1)))
}

function rangeOf(packages: Lock['npm']['packages'], id: PackageId, dependency: string): string {
  const { dependencies, optionalDependencies, peerDependencies } = packages[id] ?? {}
  const peer = peerDependencies?.[dependency]
  return (
    dependencies?.[dependency] ??
    optionalDependencies?.[dependency] ??
    (peer === undefined ? 'what its lockfile has' : `${peer} (peer)`)
  )
}
