import type { Candidate, Edge, EdgeKind, ServiceOwner, Universe } from './compile.ts'
import { isService, type DerivedDemand, type Owner } from './demands.ts'

/** What an edge resolved to: a candidate with the peers it sees, or the slot's workspace package. */
export type Resolved = Node | 'workspace'

/** A candidate in one peer context. */
export interface Node {
  readonly candidate: Candidate
  /** The slots on which its subtree sees something that depends on who uses it: slot → position, or -1 for the workspace. */
  readonly context: Context
  /** By slot, sorted; every edge that resolved to something. */
  readonly links: ReadonlyMap<number, Link>
}

export interface Link {
  readonly to: Resolved
  readonly kind: EdgeKind
}

export type Context = ReadonlyMap<number, number>

/** The instance graph before equal instances are merged. */
export interface Resolution {
  readonly nodes: readonly Node[]
  readonly services: ReadonlyMap<ServiceOwner, ReadonlyMap<number, Link>>
  /** Demands that have to be added before this selection can satisfy all peers. */
  readonly derived: readonly DerivedDemand[]
  /** Peers that meet something outside their range, by owner and slot. */
  readonly unmetPeers: readonly UnmetPeer[]
  /**
   * Slots that should not stand at the flat root, and whom that spares: packages that have the name as an optional peer,
   * have none of it, and would see there what does not suit them, by owner. For everybody else there is a link.
   */
  readonly hidden: ReadonlyMap<number, ReadonlyMap<string, UnmetPeer>>
}

export interface UnmetPeer {
  readonly owner: string
  readonly name: string
  readonly range: string
  /** What it sees; null for nothing. */
  readonly sees: string | null
}

const WORKSPACE = -1
const NOTHING: Context = new Map()

interface OpenNode {
  readonly candidate: Candidate
  readonly context: Context
  readonly links: Map<number, Link>
}

/**
 * Resolves every edge of the selected candidates, peers per context: a peer is what the nearest owner above provides.
 * Only slots that hold more than one thing need a context, so most candidates have one node.
 *
 * Worked example: `react` is split into 17 and 18, `dialog` has the peer `react: >=17`. A service on react 17 and a
 * service on react 18 both use dialog: two nodes, dialog{react: 17} and dialog{react: 18}.
 *
 * @param rootOf the position that the flat root prefers, by slot
 */
export function resolvePeers(
  universe: Universe,
  selected: readonly (readonly number[])[],
  rootOf: readonly (number | undefined)[],
): Resolution {
  const contextual = contextualSlots(universe, selected)
  const open = openPeers(universe, selected, contextual)
  const nodes = new Map<string, OpenNode>()
  const queue: OpenNode[] = []
  const derived: DerivedDemand[] = []
  const unmetPeers = new Map<string, UnmetPeer>()
  const hidden = new Map<number, Map<string, UnmetPeer>>()
  const needed = new Set<number>()

  const enter = (candidate: Candidate, scope: Context): OpenNode => {
    const wanted = open.get(candidate)
    const context =
      wanted === undefined || wanted.size === 0
        ? NOTHING
        : new Map([...scope].filter(([slot]) => wanted.has(slot)).sort(([a], [b]) => a - b))
    const key = `${candidate.slot}/${candidate.index}/${[...context].map(([slot, position]) => `${slot}:${position}`).join(',')}`
    let node = nodes.get(key)
    if (node === undefined) {
      nodes.set(key, (node = { candidate, context, links: new Map() }))
      queue.push(node)
    }
    return node
  }

  const resolveOwner = (owner: Owner, name: string, above: Context): Map<number, Link> => {
    const choices = new Map<number, number>()
    for (const edge of owner.edges) {
      const choice = isPeer(edge) ? peerChoice(edge, above) : ownChoice(edge)
      if (choice !== undefined) choices.set(edge.slot, choice)
    }
    // What it provides to what it uses must also suit the peers of those, where there is a choice.
    for (const edge of owner.edges) {
      if (isPeer(edge) || !contextual.has(edge.slot) || edge.workspace) continue
      const suited = suitedChoice(owner, edge, choices)
      if (suited !== undefined) choices.set(edge.slot, suited)
    }
    const scope = new Map(above)
    if (!isService(owner) && contextual.has(owner.slot)) scope.set(owner.slot, owner.index)
    for (const [slot, choice] of choices) if (contextual.has(slot)) scope.set(slot, choice)
    const links = new Map<number, Link>()
    for (const edge of owner.edges) {
      const choice = choices.get(edge.slot)
      if (isPeer(edge)) noteUnmet(owner, name, edge, choice)
      if (choice === undefined) continue
      const candidate = universe.slots[edge.slot]?.candidates[choice]
      links.set(edge.slot, { kind: edge.kind, to: candidate === undefined ? 'workspace' : enter(candidate, scope) })
    }
    return links
  }

  const ownChoice = (edge: Edge): number | undefined => (edge.workspace ? WORKSPACE : best(edge.slot, edge.allowed))

  const peerChoice = (edge: Edge, above: Context): number | undefined => {
    const provided = above.get(edge.slot)
    if (provided !== undefined && satisfies(edge, provided)) return provided
    // Not provided in this context, although in some: the only candidate there is, unless nobody ever resolved it.
    if (edge.workspace && provided === undefined) return WORKSPACE
    const fallback = best(edge.slot, edge.allowed)
    if (edge.kind === 'peer' || edge.locked.length > 0) return fallback
    const visible = universe.slots[edge.slot]?.workspace === null ? rootOf[edge.slot] : WORKSPACE
    return visible === undefined || satisfies(edge, visible) ? undefined : fallback
  }

  /** The root's version if it is allowed, else the highest. */
  const best = (slot: number, allowed: readonly number[]): number | undefined => {
    const there = allowed.filter((position) => selected[slot]?.includes(position))
    const root = rootOf[slot]
    return root !== undefined && there.includes(root) ? root : there.at(-1)
  }

  const suitedChoice = (owner: Owner, edge: Edge, choices: ReadonlyMap<number, number>): number | undefined => {
    let suited: readonly number[] = edge.allowed
    const ranges: string[] = []
    for (const [slot, choice] of choices) {
      const child = universe.slots[slot]?.candidates[choice]
      if (child === undefined || slot === edge.slot) continue
      for (const peer of open.get(child)?.get(edge.slot) ?? []) {
        if (peer.kind === 'optionalPeer' && peer.locked.length === 0) continue
        const narrowed = suited.filter((position) => peer.allowed.includes(position))
        if (narrowed.length === 0) return undefined
        if (narrowed.length < suited.length) ranges.push(peer.range)
        suited = narrowed
      }
    }
    if (suited.length === edge.allowed.length) return undefined
    const choice = best(edge.slot, suited)
    if (choice === undefined)
      derived.push({
        owner,
        slot: edge.slot,
        allowed: suited,
        range: [edge.range, ...new Set(ranges)].join(' and '),
        locked: [],
      })
    return choice
  }

  const noteUnmet = (of: Owner, owner: string, edge: Edge, choice: number | undefined): void => {
    const slot = universe.slots[edge.slot]
    if (slot === undefined) return
    const sees = choice ?? (slot.workspace === null ? rootOf[edge.slot] : WORKSPACE)
    const mayBeAbsent = !isService(of) && of.pinned.manifest.optionalPeers.includes(slot.name)
    if (choice === undefined && !mayBeAbsent) needed.add(edge.slot)
    if (sees === undefined ? edge.kind === 'optionalPeer' : satisfies(edge, sees)) return
    const version =
      sees === undefined
        ? null
        : sees === WORKSPACE
          ? `link:${slot.workspace ?? ''}`
          : (slot.candidates[sees]?.version ?? null)
    const unmet = { owner, name: slot.name, range: edge.range, sees: version }
    if (choice === undefined && mayBeAbsent && slot.workspace === null)
      hidden.set(edge.slot, (hidden.get(edge.slot) ?? new Map<string, UnmetPeer>()).set(owner, unmet))
    else unmetPeers.set(`${owner}\0${slot.name}`, unmet)
  }

  const services = new Map<ServiceOwner, ReadonlyMap<number, Link>>()
  for (const owner of universe.services) services.set(owner, resolveOwner(owner, owner.service.path, NOTHING))
  for (let node = queue.shift(); node !== undefined; node = queue.shift()) {
    for (const [slot, link] of resolveOwner(node.candidate, node.candidate.id, node.context)) node.links.set(slot, link)
  }
  // Whoever has it as a peer that nobody provides, and cannot do without, sees it at the root or not at all.
  for (const slot of needed) {
    for (const unmet of hidden.get(slot)?.values() ?? []) unmetPeers.set(`${unmet.owner}\0${unmet.name}`, unmet)
    hidden.delete(slot)
  }
  return { nodes: [...nodes.values()], services, derived, unmetPeers: [...unmetPeers.values()], hidden }
}

/** Slots that peers ask for and that hold more than one thing. */
function contextualSlots(universe: Universe, selected: readonly (readonly number[])[]): ReadonlySet<number> {
  const slots = new Set<number>()
  for (const { candidates } of universe.slots) {
    for (const { edges } of candidates) {
      for (const edge of edges) {
        if (!isPeer(edge)) continue
        const copies = (selected[edge.slot]?.length ?? 0) + (universe.slots[edge.slot]?.workspace === null ? 0 : 1)
        if (copies > 1) slots.add(edge.slot)
      }
    }
  }
  return slots
}

/** Per candidate, the peer edges in its subtree that nothing on the way provides: they see what stands above it. */
function openPeers(
  universe: Universe,
  selected: readonly (readonly number[])[],
  contextual: ReadonlySet<number>,
): ReadonlyMap<Candidate, ReadonlyMap<number, ReadonlySet<Edge>>> {
  const open = new Map<Candidate, Map<number, Set<Edge>>>()
  if (contextual.size === 0) return open
  const users = new Map<Candidate, Candidate[]>()
  const all: Candidate[] = universe.slots.flatMap((slot) =>
    (selected[slot.index] ?? []).flatMap((position) => slot.candidates[position] ?? []),
  )
  const queue: Candidate[] = []
  for (const candidate of all) {
    const own = new Map<number, Set<Edge>>()
    for (const edge of candidate.edges) {
      if (isPeer(edge) && contextual.has(edge.slot)) own.set(edge.slot, new Set([edge]))
      for (const position of edge.allowed) {
        const used = universe.slots[edge.slot]?.candidates[position]
        if (used === undefined || selected[edge.slot]?.includes(position) !== true) continue
        const known = users.get(used)
        if (known === undefined) users.set(used, [candidate])
        else known.push(candidate)
      }
    }
    if (own.size > 0) queue.push(candidate)
    open.set(candidate, own)
  }
  // What is open in a package is open in its users, unless they provide it themselves.
  for (let candidate = queue.shift(); candidate !== undefined; candidate = queue.shift()) {
    for (const user of users.get(candidate) ?? []) {
      const provided = new Set(user.edges.filter((edge) => !isPeer(edge)).map((edge) => edge.slot))
      const known = open.get(user) ?? new Map<number, Set<Edge>>()
      let grew = false
      for (const [slot, edges] of open.get(candidate) ?? []) {
        if (provided.has(slot) || slot === user.slot) continue
        const there = known.get(slot) ?? new Set<Edge>()
        for (const edge of edges) {
          grew ||= !there.has(edge)
          there.add(edge)
        }
        known.set(slot, there)
      }
      open.set(user, known)
      if (grew) queue.push(user)
    }
  }
  return open
}

function isPeer(edge: Edge): boolean {
  return edge.kind === 'peer' || edge.kind === 'optionalPeer'
}

function satisfies(edge: Edge, position: number): boolean {
  return position === WORKSPACE ? edge.workspace : edge.allowed.includes(position)
}
