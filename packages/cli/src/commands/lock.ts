import { join } from 'node:path'

import { flatten, onlyServices } from '@polder/flatten'
import { findRoot, gather, readConfig, type Gathered } from '@polder/gather'
import type { SigningKeys } from '@polder/index'
import { diffLocks, parseLock, serializeLock, type Lock, type LockDiff } from '@polder/lock'
import { PolderError } from '@polder/spec'
import { atomicWrite } from '@polder/store'

import { bringAdditions, withAdditions } from '../added-pins.ts'
import { pinBuildRequirements } from '../build-requirements.ts'
import { findService } from '../checkout.ts'
import { LOCK_FILE, outOfDate, readLockText } from '../lock-file.ts'
import type { Output } from '../output.ts'
import { pinnedManifests } from '../pinned-manifests.ts'
import { firstKeys, holdToPolicy, lockedKeys, verifyReleases } from '../releases.ts'
import { requireKnownWorkspaces } from '../waiting-workspaces.ts'
import { boundYoungGeneration } from '../young-generation.ts'
import { printDiff } from './diff.ts'
import { printSummary } from './lock-summary.ts'

export interface LockOptions {
  readonly check: boolean
  /** Use what the index holds; never ask an upstream. */
  readonly offline: boolean
  /** Report, and write nothing. */
  readonly dryRun: boolean
  /** Pin the signing keys that the registries have now, whatever is pinned. */
  readonly acceptKeys: boolean
  /** Only these, by path or package name; all if it is empty. Only in a dry run. */
  readonly service: readonly string[]
}

/** `polder lock`: gather → sync → flatten → polder.lock. With `check` nothing is written and an old lock is an error. */
export async function lock(cwd: string, output: Output, options: LockOptions): Promise<number> {
  const started = performance.now()
  boundYoungGeneration()
  if (options.acceptKeys && (options.offline || options.check))
    throw new PolderError('USAGE', '--accept-keys asks the registries for their keys: not with --offline or --check', {
      spec: '--accept-keys',
    })
  const root = findRoot(cwd)
  const all = await gather(root, readConfig(root))
  requireKnownWorkspaces(
    Object.keys(all.config.builds.workspaces),
    all.services.map(({ path }) => path),
  )
  boundYoungGeneration()
  const gathered = options.service.length === 0 ? all : subset(all, options)
  for (const warning of gathered.warnings) output.note(`warning: ${warning}`)
  const existing = readLockText(root)
  if (options.check) return check(gathered, existing, output)
  const { offline, acceptKeys } = options
  const asked = new Map<string, SigningKeys>()
  const whileFetching = firstKeys(gathered, lockedKeys(existing), asked)
  const { manifests, sync, store, pins, durable } = await pinnedManifests(gathered, output, offline, whileFetching)
  const flattened = await beside(durable, () => flatten(gathered, manifests))
  const required = await pinBuildRequirements(gathered, flattened.lock, { store, existing, offline })
  for (const warning of required.warnings) output.note(`warning: ${warning}`)
  const fetched = sync !== null || required.fetched
  const known = { store, pins: [...pins, ...required.pins], existing, fetched, offline, acceptKeys, asked }
  const keys = await verifyReleases(gathered, known, output)
  const added = await bringAdditions(gathered, store, output, offline)
  const locked = withAdditions(withKeys(flattened.lock, keys), gathered.additions, required.packages)
  await holdToPolicy(gathered, locked, known, output)
  for (const { owner, uses, unpatchedIn } of flattened.report.sharedPatches)
    output.note(
      `warning: ${owner} gets ${uses}, patched, also for ${unpatchedIn.join(' and ')}, which does not patch it`,
    )
  const text = serializeLock(locked)
  const changed = text !== existing
  const diff = changed && existing !== null && options.service.length === 0 ? tryDiff(existing, locked) : null
  if (changed && !options.dryRun) {
    atomicWrite(join(root, LOCK_FILE), text)
  }
  if ((changed || fetched) && !options.dryRun) {
    const [{ planAhead }, { keepServedLock }] = await Promise.all([
      import('../planned-lock.ts'),
      import('../served-lock.ts'),
    ])
    await planAhead(store, root, locked, text)
    await keepServedLock(store, text, locked, { before: existing, fetched, gathered })
  }
  printSummary(output, flattened.report, locked, {
    written: options.dryRun ? 'not written (a dry run)' : changed ? 'written' : 'unchanged',
    sync,
    milliseconds: performance.now() - started,
  })
  if (diff !== null) printDiff(output, diff)
  output.result({
    changed,
    ...flattened.report,
    splits: flattened.lock.npm.splits,
    fetched: (sync?.fetched ?? 0) + added.fetched,
    bytes: (sync?.bytes ?? 0) + added.bytes,
    diff,
  })
  return 0
}

/** Does what takes no artifacts while the disk is busy with them. */
async function beside<T>(waiting: Promise<void>, work: () => T): Promise<T> {
  try {
    return work()
  } finally {
    await waiting
  }
}

/**
 * Compares the digests of the inputs, and then the bytes that would be written. A machine whose index lacks pins, such
 * as a fresh CI runner, is content with the digests: from the same inputs, the same polder makes the same lock.
 */
async function check(gathered: Gathered, existing: string | null, output: Output): Promise<number> {
  checkInputs(gathered, existing)
  let compared: 'bytes' | 'inputs' = 'bytes'
  try {
    const { manifests, store } = await pinnedManifests(gathered, output, true)
    const again = withKeys(flatten(gathered, manifests).lock, lockedKeys(existing))
    const { packages } = await pinBuildRequirements(gathered, again, { store, existing, offline: true })
    if (serializeLock(withAdditions(again, gathered.additions, packages)) !== existing)
      throw outOfDate('it would be written differently', [])
  } catch (error) {
    if (!(error instanceof PolderError && error.code === 'ARTIFACT_MISSING')) throw error
    compared = 'inputs'
    output.note(`polder: only the inputs were compared: ${error.message}`)
  }
  output.line(`${LOCK_FILE} is up to date`)
  output.result({ upToDate: true, compared })
  return 0
}

/** @throws PolderError `USAGE` without a dry run, since a lock is of the whole repository; `SERVICE_UNKNOWN` */
function subset(gathered: Gathered, { dryRun, service }: LockOptions): Gathered {
  if (!dryRun) {
    throw new PolderError('USAGE', 'a lock is of the whole repository: --service needs --dry-run', {
      hint: 'polder lock --dry-run --service A --service B shows what these two would come to',
    })
  }
  const services = Object.fromEntries(gathered.services.map(({ path, manifest }) => [path, manifest]))
  return onlyServices(
    gathered,
    service.map((wanted) => findService(services, wanted)),
  )
}

function checkInputs(gathered: Gathered, existing: string | null): void {
  if (existing === null) throw outOfDate('it does not exist', [])
  const { inputs } = parseLock(existing, LOCK_FILE)
  const now = new Map(gathered.inputs.map(({ path, digest }) => [path, digest]))
  const changed = [...now].filter(([path, digest]) => inputs[path] !== digest).map(([path]) => path)
  const gone = Object.keys(inputs).filter((path) => !now.has(path))
  if (changed.length + gone.length > 0) throw outOfDate('its inputs changed', [...changed, ...gone])
}

function withKeys(lock: Lock, keys: SigningKeys): Lock {
  return Object.keys(keys).length === 0 ? lock : { ...lock, index: { ...lock.index, keys } }
}

/** A lock that cannot be read is written anew all the same; only the comparison is lost. */
function tryDiff(existing: string, now: Lock): LockDiff | null {
  try {
    return diffLocks(parseLock(existing, LOCK_FILE), now)
  } catch (error) {
    if (error instanceof PolderError && error.code === 'LOCK_INVALID') return null
    throw error
  }
}
