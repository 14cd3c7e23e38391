import { type Integrity, type PackageId, PolderError } from '@polder/spec'
import { hasArtifact, type Store } from '@polder/store'

import { readManifest } from './manifests.ts'
import type { PinnedPackage, PinRequest } from './pin.ts'
import { recordedHash } from './recorded-hashes.ts'

/**
 * What the store has of the pins, without network and without loading what only the network part needs; `missing` are
 * those that `syncPins` would have to bring (or whose manifest it would have to read again, or which it would refuse).
 */
export function readPinned<Pin extends PinRequest>(
  store: Store,
  pins: readonly Pin[],
): { readonly pinned: Map<PackageId, PinnedPackage>; readonly missing: readonly Pin[] } {
  const pinned = new Map<PackageId, PinnedPackage>()
  const missing: Pin[] = []
  for (const pin of pins) {
    const integrity = tryRecordedHash(store, pin)
    const found = integrity !== undefined && hasArtifact(store, integrity) ? readManifest(store, integrity) : undefined
    if (found === undefined) missing.push(pin)
    else pinned.set(pin.id, found)
  }
  return { pinned, missing }
}

/** A damaged record is `syncPins`'s to report, beside whatever else is wrong. */
function tryRecordedHash(store: Store, pin: PinRequest): Integrity | undefined {
  try {
    return recordedHash(store, pin)
  } catch (error) {
    if (error instanceof PolderError && error.code === 'INTEGRITY_MISSING') return undefined
    throw error
  }
}
