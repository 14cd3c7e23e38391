import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'

import {
  algorithmOf,
  type Integrity,
  isErrno,
  type PackageId,
  PolderError,
  sortKeys,
  strongestIntegrity,
} from '@polder/spec'
import { atomicWrite, hasArtifact, type Store, writeFiles } from '@polder/store'

import type { PinRequest } from './pin.ts'

/**
 * The sha512 by which the store knows a pin: the lockfile's own, or the one recorded when the pin first came, so that
 * from then on a weak pin means these bytes and no others. Undefined before that, and always for a tarball in the
 * repository without a hash: there the repository itself says what it is.
 */
export function recordedHash(store: Store, pin: PinRequest): Integrity | undefined {
  if (isStrong(pin.integrity)) return pin.integrity
  if (!isRecorded(pin)) return undefined
  let text: string
  try {
    text = readFileSync(recordPath(store, pin), 'utf8')
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return undefined
    throw error
  }
  const record = parse(text)
  if (record === undefined) {
    const path = recordPath(store, pin)
    throw new PolderError('INTEGRITY_MISSING', `the recorded hash of ${pin.id} is damaged: ${path}`, {
      path,
      spec: pin.id,
      hint: `delete the file to trust ${pin.id} as it is fetched next`,
    })
  }
  return record
}

/** Durable before it returns: forgetting it would mean to trust whatever comes next. */
export function recordHash(store: Store, pin: PinRequest, integrity: Integrity): void {
  if (!isRecorded(pin)) return
  const path = recordPath(store, pin)
  mkdirSync(dirname(path), { recursive: true })
  atomicWrite(path, recordText(pin, integrity))
}

/**
 * Records the sha512 that a lock has of weak pins, where this store has recorded none: they mean here what they mean where
 * the lock was made, and nothing is trusted anew. A commit says itself what it is, and another polder may pack it otherwise:
 * there only a pack that is here already, from a bundle, is taken for it. Files of the repository are what they are.
 * @param lockedHash of a pin, if the lock is of the lockfile that has it
 * @returns how many were recorded
 * @throws PolderError `DISK_FULL`, `STORE_UNWRITABLE`
 */
export async function adoptHashes(
  store: Store,
  pins: readonly PinRequest[],
  lockedHash: (id: PackageId) => Integrity | undefined,
): Promise<number> {
  const files = pins.flatMap((pin) => {
    // A record that is damaged is the sync's to report.
    const integrity = isWeak(pin) && !existsSync(recordPath(store, pin)) ? lockedHash(pin.id) : undefined
    const isTaken = integrity !== undefined && (pin.source.kind !== 'git' || hasArtifact(store, integrity))
    return isTaken ? [{ path: recordPath(store, pin), text: recordText(pin, integrity) }] : []
  })
  if (files.length > 0) await writeFiles(store, files)
  return files.length
}

/** True if the lockfile says too little of a pin that comes from elsewhere. */
export function isWeak({ integrity, source }: PinRequest): boolean {
  return !isStrong(integrity) && source.kind !== 'file'
}

function recordText({ id, integrity: lockfile }: PinRequest, integrity: Integrity): string {
  return `${JSON.stringify({ format: 1, id, lockfile, integrity })}\n`
}

function isStrong(integrity: Integrity | null): integrity is Integrity {
  return integrity !== null && algorithmOf(integrity) === 'sha512'
}

function isRecorded({ integrity, source }: PinRequest): boolean {
  return !isStrong(integrity) && !(integrity === null && source.kind === 'file')
}

/** `pins/<sha256 of id, source and the lockfile's hash>.json` */
function recordPath(store: Store, pin: PinRequest): string {
  const key = createHash('sha256')
    .update(JSON.stringify([pin.id, sortKeys({ ...pin.source }), pin.integrity]))
    .digest('hex')
  return join(store.home, 'pins', `${key}.json`)
}

function parse(text: string): Integrity | undefined {
  try {
    const record = JSON.parse(text) as { format?: unknown; integrity?: unknown } | null
    if (record?.format !== 1 || typeof record.integrity !== 'string') return undefined
    const integrity = strongestIntegrity(record.integrity)
    return algorithmOf(integrity) === 'sha512' ? integrity : undefined
  } catch {
    return undefined
  }
}
