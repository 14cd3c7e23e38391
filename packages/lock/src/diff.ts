import { compareText, splitPackageId } from '@polder/spec'

import type { Lock, LockedKey } from './lock.ts'
import { requirementsOf } from './requirements.ts'

/** What changed between two locks, for people: everything sorted by name. */
export interface LockDiff {
  readonly packages: readonly PackageChange[]
  /** Services whose use of a dependency changed. */
  readonly services: readonly ServiceChange[]
  readonly splits: { readonly added: readonly string[]; readonly removed: readonly string[] }
  /** Same name and version, other bytes: never harmless. */
  readonly integrity: readonly { readonly id: string; readonly before: string; readonly after: string }[]
  /** Keys that registries sign with; null where one of the locks has none of that id. */
  readonly keys: readonly {
    readonly keyid: string
    readonly before: LockedKey | null
    readonly after: LockedKey | null
  }[]
  /** Pins that no lockfile has: ids and URLs. */
  readonly additions: { readonly added: readonly string[]; readonly removed: readonly string[] }
}

/** The versions of one name that are in one lock only. */
export interface PackageChange {
  readonly name: string
  readonly removed: readonly string[]
  readonly added: readonly string[]
}

export interface ServiceChange {
  readonly service: string
  readonly name: string
  readonly before: string | null
  readonly after: string | null
}

/** Compares what two locks install; the digests of their inputs are not looked at. */
export function diffLocks(before: Lock, after: Lock): LockDiff {
  const [old, young] = [before.npm, after.npm]
  return {
    packages: packageChanges(Object.keys(old.packages), Object.keys(young.packages)),
    services: serviceChanges(before, after),
    splits: namesChanged(old.splits, young.splits),
    integrity: [
      ...integrityChanges(old.packages, young.packages),
      ...integrityChanges(additions(before), additions(after)),
    ].sort((a, b) => compareText(a.id, b.id)),
    keys: keyChanges(before.index?.keys ?? {}, after.index?.keys ?? {}),
    additions: namesChanged(additions(before), additions(after)),
  }
}

/** True if nothing that is installed differs. */
export function isEmptyDiff(diff: LockDiff): boolean {
  return (
    diff.packages.length +
      diff.services.length +
      diff.splits.added.length +
      diff.splits.removed.length +
      diff.integrity.length +
      diff.keys.length +
      diff.additions.added.length +
      diff.additions.removed.length ===
    0
  )
}

type Hashes = Readonly<Record<string, { readonly integrity: string }>>

function additions({ index }: Lock): Hashes {
  return { ...index?.packages, ...index?.files }
}

function namesChanged(before: object, after: object): { readonly added: string[]; readonly removed: string[] } {
  const missing = (from: object, to: object): string[] =>
    Object.keys(from)
      .filter((key) => !Object.hasOwn(to, key))
      .sort(compareText)
  return { added: missing(after, before), removed: missing(before, after) }
}

function integrityChanges(before: Hashes, after: Hashes): LockDiff['integrity'][number][] {
  return Object.entries(before).flatMap(([id, { integrity }]) => {
    const now = after[id]?.integrity
    return now === undefined || now === integrity ? [] : [{ id, before: integrity, after: now }]
  })
}

function keyChanges(
  before: Readonly<Record<string, LockedKey>>,
  after: Readonly<Record<string, LockedKey>>,
): LockDiff['keys'] {
  const same = (a: LockedKey | null, b: LockedKey | null): boolean =>
    a?.key === b?.key && a?.keytype === b?.keytype && a?.scheme === b?.scheme && a?.expires === b?.expires
  const at = (keys: Readonly<Record<string, LockedKey>>, keyid: string): LockedKey | null =>
    (Object.hasOwn(keys, keyid) ? keys[keyid] : undefined) ?? null
  return [...new Set([...Object.keys(before), ...Object.keys(after)])]
    .sort(compareText)
    .map((keyid) => ({ keyid, before: at(before, keyid), after: at(after, keyid) }))
    .filter((change) => !same(change.before, change.after))
}

function packageChanges(before: readonly string[], after: readonly string[]): PackageChange[] {
  const changes = new Map<string, { removed: string[]; added: string[] }>()
  const note = (id: string, side: 'removed' | 'added'): void => {
    const { name } = splitPackageId(id)
    const change = changes.get(name) ?? { removed: [], added: [] }
    // Another patch of the same version is a change, too.
    change[side].push(id.slice(name.length + 1))
    changes.set(name, change)
  }
  const [old, young] = [new Set(before), new Set(after)]
  for (const id of before) if (!young.has(id)) note(id, 'removed')
  for (const id of after) if (!old.has(id)) note(id, 'added')
  return [...changes]
    .map(([name, { removed, added }]) => ({ name, removed: removed.sort(compareText), added: added.sort(compareText) }))
    .sort((a, b) => compareText(a.name, b.name))
}

function serviceChanges(before: Lock, after: Lock): ServiceChange[] {
  const [old, young] = [uses(before), uses(after)]
  const changes: ServiceChange[] = []
  for (const key of [...new Set([...old.keys(), ...young.keys()])].sort(compareText)) {
    const [was, is] = [old.get(key) ?? null, young.get(key) ?? null]
    if (was === is) continue
    const [service = '', name = ''] = key.split('\0')
    changes.push({ service, name, before: was, after: is })
  }
  return changes
}

/** `service NUL name` → what the service gets. */
function uses(lock: Lock): Map<string, string> {
  const found = new Map<string, string>()
  for (const [path, service] of Object.entries(lock.npm.services)) {
    for (const [name, { use }] of Object.entries(requirementsOf(service))) {
      if (use !== undefined) found.set(`${path}\0${name}`, use)
    }
  }
  return found
}
