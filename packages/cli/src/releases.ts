import { join } from 'node:path'

import type { Gathered } from '@polder/gather'
import {
  type PinRequest,
  readRelease,
  recalledKeys,
  remembersKeys,
  type SigningKeys,
  unrecorded,
  type WantedRelease,
} from '@polder/index'
import type { AskedKeys, Drift, NewPin, ReleaseReport } from '@polder/index/trust'
import { parseLock, parseSigningKeys, type Lock } from '@polder/lock'
import { type PackageId, PolderError, splitPackageId, unpatchedId } from '@polder/spec'
import type { Store } from '@polder/store'

import { requiredByBuilds } from './added-pins.ts'
import { LOCK_FILE } from './lock-file.ts'
import { count, type Output } from './output.ts'
import { startProgress } from './progress.ts'
import { npmConfigOf } from './upstream-config.ts'

/** What `lock` knows of its pins and of the lock that is there. */
export interface LockReleases {
  readonly store: Store
  readonly pins: readonly WantedRelease[]
  /** The text of the lock that is there. */
  readonly existing: string | null
  /** True if an upstream was asked for artifacts. */
  readonly fetched: boolean
  readonly offline: boolean
  readonly acceptKeys: boolean
  /** What registries were asked for before anything was fetched. */
  readonly asked: AskedKeys
}

/** For `pinnedManifests` to call: that there are signatures has to be known before there is what they are of. */
export function firstKeys(
  gathered: Gathered,
  locked: SigningKeys,
  asked: Map<string, SigningKeys>,
): (store: Store, pins: readonly PinRequest[]) => Promise<void> {
  return async (store, pins) => {
    if (gathered.config.index.signatures === 'off' || Object.keys(locked).length > 0) return
    const { askFirstKeys } = await import('@polder/index/trust')
    for (const [registry, keys] of await askFirstKeys(store, pins, npmConfigOf(gathered))) asked.set(registry, keys)
  }
}

/** The signing keys of the lock that is there; none of one that cannot be read. */
export function lockedKeys(existing: string | null): SigningKeys {
  return existing === null ? {} : parseSigningKeys(existing)
}

/**
 * Verifies the signatures of what came, and says which keys to pin. An upstream is asked only if that was necessary for
 * the artifacts, or if a new pin has no record although keys are known: an earlier run was killed before it verified.
 * @throws PolderError what is wrong with a signature
 */
export async function verifyReleases(gathered: Gathered, known: LockReleases, output: Output): Promise<SigningKeys> {
  const { store, pins, existing, fetched, offline, acceptKeys, asked } = known
  const keys = lockedKeys(existing)
  if (gathered.config.index.signatures === 'off') return keys
  const pinned = Object.keys(keys).length > 0
  if (!offline && (fetched || acceptKeys || ((pinned || remembersKeys(store)) && hasUnverified(known)))) {
    const report = await bringReleases(gathered, store, pins, output, { keys, acceptKeys, asked, scope: 'signed' })
    if (Object.keys(report.keys).length > 0) return report.keys
  }
  return pinned
    ? keys
    : recalledKeys(
        store,
        pins.map(({ id }) => id),
      )
}

function hasUnverified({ store, pins, existing }: LockReleases): boolean {
  const unverified = unrecorded(store, pins, 'signed')
  if (unverified.length === 0) return false
  const before = packagesOf(existing)
  return unverified.some(({ id }) => !before.has(id))
}

/**
 * Holds the versions that the lock that is there does not have to `policy` in polder.yaml, asking the registries for
 * the dates that are not recorded yet.
 * @throws PolderError `RELEASE_REFUSED`, `RELEASE_DATE`
 */
export async function holdToPolicy(gathered: Gathered, lock: Lock, known: LockReleases, output: Output): Promise<void> {
  const { newPins: policy } = gathered.config
  if (policy.minimumReleaseAge === 0 && policy.allow.length === 0 && policy.deny.length === 0) return
  const before = packagesOf(known.existing)
  const requests = new Map(known.pins.map((pin) => [pin.id, pin]))
  // What builds are to find is chosen by nobody's lockfile, so it is held to it most of all.
  const forBuilds = Object.keys(requiredByBuilds(lock)).map((id): [string, { readonly version?: string }] => [id, {}])
  const fresh = [...forBuilds, ...Object.entries(lock.npm.packages)].flatMap(([patched, { version }]): NewPin[] => {
    const id = unpatchedId(patched as PackageId)
    if (before.has(id)) return []
    const pin = requests.get(id)
    const { name, reference } = splitPackageId(id)
    const fromRegistry = pin?.source.kind === 'registry'
    return [{ id, name, version: version ?? reference, fromRegistry, neededBy: pin?.neededBy ?? [] }]
  })
  const { needsDate, refusedPins, RangeCache } = await import('@polder/index/trust')
  const ranges = new RangeCache()
  const undated = fresh.flatMap((pin) => {
    const request = requests.get(pin.id)
    return request !== undefined && needsDate(policy, pin, ranges) && readRelease(known.store, pin.id) === undefined
      ? [request]
      : []
  })
  if (undated.length > 0 && !known.offline)
    await bringReleases(gathered, known.store, undated, output, {
      keys: lockedKeys(known.existing),
      acceptKeys: known.acceptKeys,
      asked: known.asked,
      scope: 'all',
    })
  const refused = refusedPins(fresh, policy, {
    now: Date.now(),
    releaseOf: (id) => readRelease(known.store, id),
  })
  const [first, ...others] = refused
  if (first === undefined) return
  if (others.length === 0) throw first
  throw new PolderError(first.code, `${count(refused.length, 'new version')} may not be pinned`, {
    others: refused,
    hint: `${LOCK_FILE} stays as it is; each line names the rule that refuses it`,
  })
}

interface WhatToBring {
  /** Those that the lock pins. */
  readonly keys: SigningKeys
  readonly acceptKeys?: boolean
  readonly scope: 'all' | 'signed'
  readonly asked?: AskedKeys
}

/**
 * Asks the registries about pins of which nothing is recorded.
 * @throws PolderError the failures, if there are any
 */
export async function bringReleases(
  gathered: Gathered,
  store: Store,
  pins: readonly WantedRelease[],
  output: Output,
  { keys, acceptKeys = false, scope, asked = new Map() }: WhatToBring,
): Promise<ReleaseReport> {
  const { syncReleases } = await import('@polder/index/trust')
  const { signatures, trustedRoot } = gathered.config.index
  const progress = startProgress(output, 'Asking registries')
  let report: ReleaseReport
  try {
    report = await syncReleases(store, pins, {
      npm: npmConfigOf(gathered, output),
      keys,
      acceptKeys,
      signatures,
      asked,
      scope,
      trustedRoot: trustedRoot === null ? null : join(gathered.root, trustedRoot),
      onProgress: ({ done, total }) => {
        progress.update(done, total)
      },
    })
  } finally {
    progress.end()
  }
  for (const warning of report.warnings) output.note(`warning: ${warning}`)
  noteList(
    output,
    report.unverifiable.map(({ id, reason }) => `the signature of ${id} cannot be verified: ${reason}`),
  )
  noteList(
    output,
    report.unsigned.map((id) => `${id} has no signature, although its registry signs`),
  )
  noteDrift(output, report.drift)
  if (report.failures.length > 0) throw releaseFailure(report.failures)
  return report
}

/** What upstreams say otherwise, but for tags that moved on, which they do every day. */
export function noteDrift(output: Output, drift: readonly Drift[]): void {
  const shown = drift.filter(({ expected }) => expected !== true || output.verbose)
  noteList(
    output,
    shown.map(({ subject, message }) => `${subject}: ${message}`),
    'drift',
  )
}

const SHOWN = 12

function noteList(output: Output, lines: readonly string[], kind = 'warning'): void {
  for (const line of output.verbose ? lines : lines.slice(0, SHOWN)) output.note(`${kind}: ${line}`)
  if (lines.length > SHOWN && !output.verbose) output.note(`${kind}: … and ${lines.length - SHOWN} more (--verbose)`)
}

function releaseFailure(failures: readonly PolderError[]): PolderError {
  const [first, ...more] = failures
  if (first !== undefined && more.length === 0) return first
  // What is wrong with a signature is worse than what could not be asked.
  const worst = failures.find(({ code }) => code !== 'FETCH_FAILED') ?? first
  return new PolderError(worst?.code ?? 'FETCH_FAILED', `${count(failures.length, 'release')} could not be verified`, {
    others: failures,
    hint: 'nothing was recorded of them, and polder.lock stays as it is',
  })
}

function packagesOf(existing: string | null): ReadonlySet<PackageId> {
  const lock = existing === null ? undefined : tryParse(existing)
  const ids = lock === undefined ? [] : [...Object.keys(lock.npm.packages), ...Object.keys(lock.index?.packages ?? {})]
  return new Set(ids.map((id) => unpatchedId(id as PackageId)))
}

function tryParse(text: string): Lock | undefined {
  try {
    return parseLock(text, LOCK_FILE)
  } catch (error) {
    if (error instanceof PolderError && error.code === 'LOCK_INVALID') return undefined
    throw error
  }
}
