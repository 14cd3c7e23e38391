import { algorithmOf, compareText, type Integrity } from '@polder/spec'

import type { NameDocument } from './release-document.ts'
import type { KeyChange } from './signing-keys.ts'
import type { Known } from './wanted-releases.ts'

/** Something that an upstream says otherwise than when it was pinned. What is pinned stays what it is. */
export interface Drift {
  readonly kind: 'bytes' | 'unpublished' | 'deprecated' | 'date' | 'signatures' | 'rollback' | 'future' | 'tag' | 'key'
  /** A package id, a name, or a key id. */
  readonly subject: string
  /** A sentence without its subject: `is deprecated now: use the other one`. */
  readonly message: string
  /** It happens every day: a tag that moved on to a higher version. */
  readonly expected?: true
}

const DAY_MS = 86_400_000

/**
 * Compares what a registry says of the pins of one name with what is pinned and what was recorded: other bytes, a version
 * that is gone or newly deprecated, and what TUF calls rollback, fast-forward and mix-and-match ("The Update Framework
 * Specification", 1.5.2), as far as a registry's documents show it.
 * @param compare orders versions
 */
export function driftOf(
  name: string,
  document: NameDocument | 'missing',
  pins: readonly Known[],
  { now, compare }: { readonly now: number; readonly compare: (a: string, b: string) => number },
): readonly Drift[] {
  const drift = pins.flatMap((known) => driftOfPin(document === 'missing' ? undefined : document, known))
  if (document === 'missing') return drift
  const recorded = pins
    .flatMap(({ release }) => (release?.modified === undefined ? [] : [release]))
    .filter(({ registry }) => registry === document.registry)
    .sort((a, b) => compareText(a.modified ?? '', b.modified ?? ''))
    .at(-1)
  if (document.modified !== undefined && Date.parse(document.modified) > now + DAY_MS)
    drift.push({
      kind: 'future',
      subject: name,
      message: `its document is of ${document.modified}, which is yet to come`,
    })
  if (recorded?.modified === undefined) return drift
  if (document.modified !== undefined && document.modified < recorded.modified) {
    drift.push({
      kind: 'rollback',
      subject: name,
      message: `its document is of ${document.modified}, older than the recorded one of ${recorded.modified}`,
    })
  }
  return [...drift, ...tagDrift(name, recorded.distTags ?? {}, document.distTags, compare)]
}

function driftOfPin(document: NameDocument | undefined, { pin, release, sha1 }: Known): Drift[] {
  const found = document?.releases.get(pin.reference)
  const drift = (kind: Drift['kind'], message: string): Drift => ({ kind, subject: pin.id, message })
  if (found === undefined)
    return [
      drift(
        'unpublished',
        document === undefined ? 'its registry has no such name' : 'its registry no longer lists it',
      ),
    ]
  const pinned = pinnedHash(found.integrity, pin.integrity, sha1)
  const all: Drift[] = []
  if (found.integrity !== undefined && pinned !== undefined && found.integrity !== pinned)
    all.push(drift('bytes', `its registry has other bytes, ${found.integrity} instead of ${pinned}`))
  if (release === undefined || release.unlisted === true) return all
  if (found.deprecated !== undefined && release.deprecated === undefined)
    all.push(drift('deprecated', `is deprecated now: ${found.deprecated}`))
  if (release.published !== undefined && found.published !== release.published)
    all.push(
      drift(
        'date',
        `was published at ${found.published ?? 'no known time'}, says its registry, and recorded is ${release.published}`,
      ),
    )
  if (release.signatures !== undefined && found.signatures === undefined)
    all.push(drift('signatures', 'had signatures, and has none any more'))
  return all
}

/** The hash of the pinned bytes that can be compared with what a document has; undefined if that is of another kind. */
export function pinnedHash(
  found: Integrity | undefined,
  pinned: Integrity,
  sha1: () => Integrity | undefined,
): Integrity | undefined {
  if (found === undefined || algorithmOf(found) === algorithmOf(pinned)) return pinned
  return algorithmOf(found) === 'sha1' ? sha1() : undefined
}

function tagDrift(
  name: string,
  before: Readonly<Record<string, string>>,
  after: Readonly<Record<string, string>>,
  compare: (a: string, b: string) => number,
): Drift[] {
  return Object.entries(before).flatMap(([tag, was]): Drift[] => {
    const is = Object.hasOwn(after, tag) ? after[tag] : undefined
    if (is === was) return []
    const moved = { kind: 'tag', subject: name, message: `${tag} moved from ${was} to ${is ?? 'nothing'}` } as const
    return [is !== undefined && compare(is, was) > 0 ? { ...moved, expected: true } : moved]
  })
}

/** A key that is not pinned is no reason to refuse anything until something is signed by it alone. */
export function driftOfKeys(registry: string, changes: readonly KeyChange[]): readonly Drift[] {
  return changes.map(({ keyid, kind, before, after }) => ({
    kind: 'key',
    subject: keyid,
    message: {
      new: `is a new signing key of ${registry}, and not pinned`,
      swapped: `is another key at ${registry} than the pinned one`,
      expires: `expires at ${registry} ${after.expires ?? 'never'}, and as pinned ${before?.expires ?? 'never'}`,
    }[kind],
  }))
}

/** By subject, then by kind. */
export function sortDrift(drift: readonly Drift[]): readonly Drift[] {
  return [...drift].sort(
    (a, b) => compareText(a.subject, b.subject) || compareText(a.kind, b.kind) || compareText(a.message, b.message),
  )
}
