import type { InstanceId, Lock, Target } from '@polder/lock'
import { requirementsOf } from '@polder/lock/requirements'
import { compareText, type Integrity, type PackageId } from '@polder/spec'

import type { ContentKind } from './bundle-format.ts'

/** Bytes that a lock pins, and what they are: several packages may be the same artifact. */
export interface Content {
  readonly kind: ContentKind
  readonly integrity: Integrity
  /** Ids, or the URLs of files. Sorted, at least one. */
  readonly names: readonly [string, ...string[]]
}

/**
 * What a lock needs, on all of its platforms: the artifacts of its packages, and everything that was added by hand.
 * @param services only the packages that these need; what was added by hand comes along, since builds may need it
 * @returns sorted by name
 */
export function contentsOf(lock: Lock, services?: readonly string[]): readonly Content[] {
  const found = new Map<Integrity, { kind: Content['kind']; names: Set<string> }>()
  const add = (kind: Content['kind'], name: string, integrity: Integrity): void => {
    const content = found.get(integrity) ?? { kind, names: new Set() }
    found.set(integrity, content)
    content.names.add(name)
  }
  const needed = services === undefined ? undefined : packagesOf(lock, services)
  for (const [id, { integrity }] of Object.entries(lock.npm.packages))
    if (needed?.has(id as PackageId) !== false) add('artifact', id, integrity)
  for (const [id, { integrity }] of Object.entries(lock.index?.packages ?? {})) add('artifact', id, integrity)
  for (const [url, { integrity }] of Object.entries(lock.index?.files ?? {})) add('file', url, integrity)
  return [...found]
    .map(([integrity, { kind, names }]) => ({
      kind,
      integrity,
      names: [...names].sort(compareText) as [string, ...string[]],
    }))
    .sort((a, b) => compareText(a.names[0], b.names[0]))
}

/** What of these candidates a lock did not choose, sorted by name. */
export function candidatesBeside(
  contents: readonly Content[],
  candidates: Iterable<{ readonly id: PackageId; readonly integrity: Integrity }>,
): readonly Content[] {
  const known = new Set(contents.map(({ integrity }) => integrity))
  const others = new Map<Integrity, PackageId>()
  for (const { id, integrity } of candidates) if (!known.has(integrity)) others.set(integrity, id)
  return [...others]
    .map(([integrity, id]): Content => ({ kind: 'candidate', integrity, names: [id] }))
    .sort((a, b) => compareText(a.names[0], b.names[0]))
}

function packagesOf(lock: Lock, services: readonly string[]): ReadonlySet<PackageId | undefined> {
  return new Set([...instancesOf(lock, services)].map((instance) => lock.npm.instances[instance]?.package))
}

/** The instances that services lead to, through workspace packages too. */
export function instancesOf({ npm }: Lock, services: readonly string[]): ReadonlySet<InstanceId> {
  const instances = new Set<InstanceId>()
  const seen = new Set<Target>()
  const queue: Target[] = services.map((path): Target => `link:${path}`)
  for (let target = queue.pop(); target !== undefined; target = queue.pop()) {
    if (seen.has(target)) continue
    seen.add(target)
    if (isLink(target)) {
      for (const { use } of Object.values(requirementsOf(npm.services[target.slice('link:'.length)])))
        if (use !== undefined) queue.push(use)
      continue
    }
    const instance = npm.instances[target]
    if (instance === undefined) continue
    instances.add(target)
    queue.push(...Object.values(instance.links ?? {}))
  }
  return instances
}

function isLink(target: Target): target is `link:${string}` {
  return target.startsWith('link:')
}
