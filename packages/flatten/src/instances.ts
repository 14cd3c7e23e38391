import type { InstanceId, Target } from '@polder/lock'
import { compareText } from '@polder/spec'

import { fullReference, type EdgeKind, type ServiceOwner, type Universe } from './compile.ts'
import type { Link, Node, Resolution } from './resolve.ts'

/** An instance: all nodes of one candidate that see the same things. */
export interface Instance {
  readonly id: InstanceId
  readonly node: Node
  /** Install name → target, sorted. */
  readonly links: ReadonlyMap<string, { readonly target: Target; readonly kind: EdgeKind }>
}

export interface Instances {
  /** Those that a service reaches, sorted by id. */
  readonly instances: ReadonlyMap<InstanceId, Instance>
  /** Per service, install name → target. */
  readonly services: ReadonlyMap<ServiceOwner, ReadonlyMap<string, Target>>
  /** Reached through optional edges only. */
  readonly optional: ReadonlySet<InstanceId>
  /** Reaching a workspace package. */
  readonly inCheckout: ReadonlySet<InstanceId>
  /** Links and requirements that lead to each. */
  readonly uses: ReadonlyMap<Target, number>
}

/** Merges nodes that cannot be told apart, names them, and leaves out what no service reaches. */
export function formInstances(universe: Universe, resolution: Resolution): Instances {
  const idOf = nameClasses(universe, resolution.nodes, equivalenceClasses(resolution.nodes))
  const targetOf = (slot: number, link: Link): Target => {
    if (link.to !== 'workspace') return idOf.get(link.to) ?? ('' as InstanceId)
    return `link:${universe.slots[slot]?.workspace ?? ''}`
  }
  const all = new Map<InstanceId, Instance>()
  for (const node of resolution.nodes) {
    const id = idOf.get(node)
    if (id === undefined || all.has(id)) continue
    const links = [...node.links].sort(([a], [b]) => a - b)
    all.set(id, {
      id,
      node,
      links: new Map(
        links.map(([slot, link]) => [slotName(universe, slot), { target: targetOf(slot, link), kind: link.kind }]),
      ),
    })
  }
  const services = new Map<ServiceOwner, ReadonlyMap<string, Target>>()
  const starts: { target: Target; kind: EdgeKind }[] = []
  for (const [owner, links] of resolution.services) {
    const targets = new Map<string, Target>()
    for (const [slot, link] of [...links].sort(([a], [b]) => a - b)) {
      const target = targetOf(slot, link)
      targets.set(slotName(universe, slot), target)
      starts.push({ target, kind: link.kind })
    }
    services.set(owner, targets)
  }
  const reached = reach(all, starts, () => true)
  const required = reach(all, starts, (kind) => kind !== 'optional')
  const instances = new Map([...all].filter(([id]) => reached.has(id)).sort(([a], [b]) => compareText(a, b)))
  return {
    instances,
    services,
    optional: new Set([...reached].filter((id) => !required.has(id))),
    inCheckout: reachingWorkspace(instances),
    uses: countUses(instances, starts),
  }
}

/**
 * Partition refinement (Moore): start with one class a candidate, split classes whose nodes' links lead to different
 * classes, until nothing changes. A candidate with one node is a class of its own from the start.
 */
function equivalenceClasses(nodes: readonly Node[]): ReadonlyMap<Node, number> {
  const ofCandidate = [...Map.groupBy(nodes, ({ candidate }) => candidate).values()]
  const classOf = new Map(ofCandidate.flatMap((siblings, number) => siblings.map((node) => [node, number] as const)))
  const several = ofCandidate.filter(({ length }) => length > 1)
  const open = several.flat()
  for (let count = several.length; ;) {
    const numbers = new Map<string, number>()
    const next = open.map((node) => {
      const links = [...node.links]
        .sort(([a], [b]) => a - b)
        .map(([slot, { to }]) => `${slot}=${to === 'workspace' ? 'w' : (classOf.get(to) ?? '')}`)
      const signature = `${classOf.get(node) ?? ''} ${links.join(' ')}`
      const number = numbers.get(signature) ?? ofCandidate.length + numbers.size
      numbers.set(signature, number)
      return [node, number] as const
    })
    if (numbers.size === count) return classOf
    for (const [node, number] of next) classOf.set(node, number)
    count = numbers.size
  }
}

/** The only class of a candidate has the candidate's id; several are told apart by the first of their contexts. */
function nameClasses(
  universe: Universe,
  nodes: readonly Node[],
  classOf: ReadonlyMap<Node, number>,
): ReadonlyMap<Node, InstanceId> {
  const contexts = new Map<number, string>()
  const classesOf = new Map<string, Set<number>>()
  for (const node of nodes) {
    const number = classOf.get(node) ?? -1
    const text = contextText(universe, node)
    const known = contexts.get(number)
    if (known === undefined || compareText(text, known) < 0) contexts.set(number, text)
    const base = baseId(universe, node)
    classesOf.set(base, (classesOf.get(base) ?? new Set()).add(number))
  }
  return new Map(
    nodes.map((node) => {
      const base = baseId(universe, node)
      const several = (classesOf.get(base)?.size ?? 0) > 1
      return [node, (several ? base + (contexts.get(classOf.get(node) ?? -1) ?? '') : base) as InstanceId]
    }),
  )
}

/** `dialog@1.0.0`; for an alias, `old-chalk@npm:chalk@4.1.2`. */
function baseId(universe: Universe, { candidate }: Node): string {
  const name = slotName(universe, candidate.slot)
  return candidate.pin.name === name ? candidate.id : `${name}@npm:${candidate.id}`
}

/** `(react@17.0.2)(vue@link:packages/vue)` */
function contextText(universe: Universe, node: Node): string {
  return [...node.context]
    .map(([slot, position]) => {
      const { candidates = [], name = '', workspace = null } = universe.slots[slot] ?? {}
      const candidate = candidates[position]
      return `(${name}@${candidate === undefined ? `link:${workspace ?? ''}` : fullReference(candidate)})`
    })
    .join('')
}

function reach(
  instances: ReadonlyMap<InstanceId, Instance>,
  starts: readonly { readonly target: Target; readonly kind: EdgeKind }[],
  follow: (kind: EdgeKind) => boolean,
): Set<InstanceId> {
  const reached = new Set<InstanceId>()
  const stack = starts.filter(({ kind }) => follow(kind)).map(({ target }) => target)
  for (let target = stack.pop(); target !== undefined; target = stack.pop()) {
    const instance = instances.get(target as InstanceId)
    if (instance === undefined || reached.has(instance.id)) continue
    reached.add(instance.id)
    for (const link of instance.links.values()) if (follow(link.kind)) stack.push(link.target)
  }
  return reached
}

/** Backwards from the links that lead to a workspace package. */
function reachingWorkspace(instances: ReadonlyMap<InstanceId, Instance>): Set<InstanceId> {
  const users = new Map<Target, InstanceId[]>()
  const stack: InstanceId[] = []
  for (const { id, links } of instances.values()) {
    for (const { target } of links.values()) {
      const known = users.get(target)
      if (target.startsWith('link:')) stack.push(id)
      else if (known === undefined) users.set(target, [id])
      else known.push(id)
    }
  }
  const found = new Set<InstanceId>()
  for (let id = stack.pop(); id !== undefined; id = stack.pop()) {
    if (found.has(id)) continue
    found.add(id)
    stack.push(...(users.get(id) ?? []))
  }
  return found
}

function countUses(
  instances: ReadonlyMap<InstanceId, Instance>,
  starts: readonly { readonly target: Target }[],
): ReadonlyMap<Target, number> {
  const uses = new Map<Target, number>()
  const count = (target: Target): unknown => uses.set(target, (uses.get(target) ?? 0) + 1)
  for (const { target } of starts) count(target)
  for (const { links } of instances.values()) for (const { target } of links.values()) count(target)
  return uses
}

function slotName(universe: Universe, slot: number): string {
  return universe.slots[slot]?.name ?? ''
}
