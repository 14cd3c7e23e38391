import {
  algorithmOf,
  compareText,
  type Integrity,
  type PackageId,
  type PlatformCondition,
  PolderError,
  unpatchedId,
} from '@polder/spec'

import type { LockedEdge, Pin, Target } from './gathered.ts'
import type { ReadPin } from './lockfiles/reader.ts'

/** A candidate while its places are being collected. */
export interface Draft {
  readonly first: ReadPin
  readonly lockfiles: Set<string>
  integrity: { readonly value: Integrity; readonly lockfile: string } | null
  hashFromRegistry: boolean
  condition: PlatformCondition
  deprecated: string | undefined
  extension: ReadPin['extension']
  /** Install name → target (as a key) → the target, and whether every edge to it is optional. */
  readonly edges: Map<string, Map<string, DraftEdge>>
}

interface DraftEdge {
  readonly target: Target
  optional: boolean
}

/**
 * Adds what a lockfile says about its candidates, each of which may have several places or contexts of peers.
 * The caller keeps to a stated order of lockfiles.
 * @throws PolderError `PIN_CONFLICT` if one version comes with two hashes
 */
export function mergePins(drafts: Map<PackageId, Draft>, pins: readonly ReadPin[], lockfile: string): void {
  for (const pin of pins) {
    let draft = drafts.get(pin.id)
    if (draft === undefined) {
      draft = {
        first: pin,
        lockfiles: new Set(),
        integrity: null,
        hashFromRegistry: false,
        condition: {},
        deprecated: undefined,
        extension: undefined,
        edges: new Map(),
      }
      drafts.set(pin.id, draft)
    }
    draft.lockfiles.add(lockfile)
    draft.deprecated ??= pin.deprecated
    draft.extension ??= pin.extension
    // yarn.lock knows no conditions, so "none" may be ignorance.
    if (Object.keys(draft.condition).length === 0) draft.condition = conditionOf(pin)
    draft.hashFromRegistry ||= pin.hashFromRegistry === true
    addIntegrity(draft, pin, lockfile)
    for (const edge of pin.edges) addEdge(draft, edge)
  }
}

/**
 * A patched candidate and the same version as it was published are the same artifact: the hash of one is that of the
 * other.
 * @throws PolderError `PIN_CONFLICT` if they differ
 */
export function shareHashes(drafts: ReadonlyMap<PackageId, Draft>): void {
  for (const patched of drafts.values()) {
    if (patched.first.patch === undefined) continue
    const { id } = patched.first
    const siblings = [...drafts.values()].filter(({ first }) => unpatchedId(first.id) === unpatchedId(id))
    for (const { integrity } of siblings)
      if (integrity !== null)
        addIntegrity(patched, { ...patched.first, integrity: integrity.value }, integrity.lockfile)
    for (const sibling of siblings) sibling.integrity = patched.integrity
  }
}

/** The finished pin, everything in it sorted. */
export function pinOf(draft: Draft, optional: boolean): Pin {
  const { first, lockfiles, integrity, hashFromRegistry, condition, deprecated, edges } = draft
  const { id, name, reference, source, patch } = first
  const { extension } = draft
  return {
    id,
    name,
    reference,
    integrity: integrity?.value ?? null,
    ...(integrity === null && hashFromRegistry ? { hashFromRegistry } : {}),
    source,
    ...(patch === undefined ? {} : { patch }),
    ...(extension === undefined ? {} : { extension }),
    edges: sortedEntries(edges).map(([edge, targets]): LockedEdge => ({
      name: edge,
      targets: sortedEntries(targets).map(([, { target }]) => target),
    })),
    lockfiles: [...lockfiles].sort(compareText),
    optional,
    ...condition,
    ...(deprecated === undefined ? {} : { deprecated }),
  }
}

function conditionOf({ os, cpu, libc }: PlatformCondition): PlatformCondition {
  return {
    ...(os === undefined ? {} : { os }),
    ...(cpu === undefined ? {} : { cpu }),
    ...(libc === undefined ? {} : { libc }),
  }
}

function addIntegrity(draft: Draft, { id, integrity, source }: ReadPin, lockfile: string): void {
  // What a client packed of a commit has the client's own hash; the commit says which it is.
  if (integrity === null || source.kind === 'git') return
  const known = draft.integrity
  if (known === null) {
    draft.integrity = { value: integrity, lockfile }
    return
  }
  const [ours, theirs] = [algorithmOf(known.value), algorithmOf(integrity)]
  if (ours === theirs && known.value !== integrity) {
    const where = known.lockfile === lockfile ? `in ${lockfile}, at two places` : `in ${known.lockfile} and ${lockfile}`
    throw new PolderError('PIN_CONFLICT', `${id} has two different hashes, ${where}`, {
      spec: id,
      path: lockfile,
      found: integrity,
      wanted: known.value,
      hint: 'one of them is not what was published under that version: find out which before you install either',
    })
  }
  // sha1, sha256, sha384 and sha512 sort by strength.
  if (theirs > ours) draft.integrity = { value: integrity, lockfile }
}

function addEdge(draft: Draft, { name, target, optional }: ReadPin['edges'][number]): void {
  let targets = draft.edges.get(name)
  if (targets === undefined) draft.edges.set(name, (targets = new Map()))
  const key = 'package' in target ? target.package : `link:${target.workspace}`
  const known = targets.get(key)
  if (known === undefined) targets.set(key, { target, optional })
  else known.optional &&= optional
}

function sortedEntries<T>(map: ReadonlyMap<string, T>): [string, T][] {
  return [...map].sort(([a], [b]) => compareText(a, b))
}
