import { createHash } from 'node:crypto'

import { type Integrity, integrityFromHash, PolderError } from '@polder/spec'
import { readArtifact, type Store } from '@polder/store'

import type { PinRequest } from '../pins/pin.ts'
import { hasReleaseFile, readAttestations, readRelease, type Release } from './releases.ts'

/** A pin of which a registry's document is to say when it was published and who signed it: with the sha512 it is known by. */
export type WantedRelease = PinRequest & { readonly integrity: Integrity }

/** What is known of a pin beside what its document says now. `sha1` is of the pinned bytes, for documents without better. */
export interface Known {
  readonly pin: WantedRelease
  readonly release: Release | undefined
  readonly sha1: () => Integrity | undefined
}

/** The pins that registries are to be asked about: of a registry, and nothing (or no attestation that is known of) recorded. */
export function unrecorded<Pin extends WantedRelease>(
  store: Store,
  pins: readonly Pin[],
  scope: 'all' | 'signed',
): readonly Pin[] {
  return pins.filter(({ id, source }) => {
    if (source.kind !== 'registry') return false
    // Where only signatures matter, what is there was verified when it came.
    if (scope === 'signed') return !hasReleaseFile(store, id)
    const release = readRelease(store, id)
    return (
      release === undefined ||
      release.unlisted === true ||
      (release.attestations !== undefined && readAttestations(store, id) === undefined)
    )
  })
}

/** name → its pins. */
export function byName<Pin extends { readonly name: string }>(pins: readonly Pin[]): Map<string, Pin[]> {
  const names = new Map<string, Pin[]>()
  for (const pin of pins) {
    const list = names.get(pin.name)
    if (list === undefined) names.set(pin.name, [pin])
    else list.push(pin)
  }
  return names
}

/** What is known of a pin beside its document. */
export function knownOf(store: Store, pin: WantedRelease): Known {
  const sha1 = (): ReturnType<Known['sha1']> => {
    try {
      return integrityFromHash('sha1', createHash('sha1').update(readArtifact(store, pin.integrity, pin.id)))
    } catch (error) {
      if (error instanceof PolderError) return undefined
      throw error
    }
  }
  return { pin, release: readRelease(store, pin.id), sha1 }
}
