import { homedir } from 'node:os'
import { join } from 'node:path'

import { flatten, onlyServices, type FlattenReport, type PinnedManifest } from '@polder/flatten'
import { findRoot, gather, readConfig, type Gathered } from '@polder/gather'
import { readNpmConfig, readPinned, syncPins, type PinRequest, type SyncReport } from '@polder/index'
import { diffLocks, parseLock, serializeLock, type Lock, type LockDiff } from '@polder/lock'
import { matchesPlatform, parsePlatform, PolderError, type PackageId, type Platform } from '@polder/spec'
import { atomicWrite, openStore, storeHome } from '@polder/store'

import { findService } from '../checkout.ts'
import { LOCK_FILE, outOfDate, readLockText } from '../lock-file.ts'
import { bytes, count, duration, type Output } from '../output.ts'
import { startProgress } from '../progress.ts'
import { printDiff, versionIn } from './diff.ts'

export interface LockOptions {
  readonly check: boolean
  /** Use what the index holds; never ask an upstream. */
  readonly offline: boolean
  /** Report, and write nothing. */
  readonly dryRun: boolean
  /** Only these, by path or package name; all if it is empty. Only in a dry run. */
  readonly service: readonly string[]
}

/** `polder lock`: gather → sync → flatten → polder.lock. With `check` nothing is written and an old lock is an error. */
export async function lock(cwd: string, output: Output, options: LockOptions): Promise<number> {
  const started = performance.now()
  const root = findRoot(cwd)
  const all = await gather(root, readConfig(root))
  const gathered = options.service.length === 0 ? all : subset(all, options)
  for (const warning of gathered.warnings) output.note(`warning: ${warning}`)
  const existing = readLockText(root)
  if (options.check) return check(gathered, existing, output)
  const { manifests, sync } = await pinnedManifests(gathered, output, options.offline)
  const flattened = flatten(gathered, manifests)
  const text = serializeLock(flattened.lock)
  const changed = text !== existing
  const diff = changed && existing !== null && options.service.length === 0 ? tryDiff(existing, flattened.lock) : null
  if (changed && !options.dryRun) atomicWrite(join(root, LOCK_FILE), text)
  printSummary(output, flattened.report, flattened.lock, {
    written: options.dryRun ? 'not written (a dry run)' : changed ? 'written' : 'unchanged',
    sync,
    milliseconds: performance.now() - started,
  })
  if (diff !== null) printDiff(output, diff)
  output.result({
    changed,
    ...flattened.report,
    splits: flattened.lock.npm.splits,
    fetched: sync?.fetched ?? 0,
    bytes: sync?.bytes ?? 0,
    diff,
  })
  return 0
}

/**
 * Compares the digests of the inputs, and then the bytes that would be written. A machine whose index lacks pins, such
 * as a fresh CI runner, is content with the digests: from the same inputs, the same polder makes the same lock.
 */
async function check(gathered: Gathered, existing: string | null, output: Output): Promise<number> {
  checkInputs(gathered, existing)
  let compared: 'bytes' | 'inputs' = 'bytes'
  try {
    const { manifests } = await pinnedManifests(gathered, output, true)
    if (serializeLock(flatten(gathered, manifests).lock) !== existing)
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

/** `polder index sync`: fetches what `lock` would, and nothing else. */
export async function indexSync(cwd: string, output: Output): Promise<number> {
  const root = findRoot(cwd)
  const gathered = await gather(root, readConfig(root))
  const { manifests, sync } = await pinnedManifests(gathered, output, false)
  const fetched = sync?.fetched ?? 0
  output.line(
    `${count(manifests.size, 'pin')} in the index, ${fetched === 0 ? 'none' : `${fetched} (${bytes(sync?.bytes ?? 0)})`} fetched`,
  )
  output.result({ pins: manifests.size, fetched, bytes: sync?.bytes ?? 0 })
  return 0
}

/** The manifest of every pin that some locked platform needs, fetched where the index lacks it. */
async function pinnedManifests(
  gathered: Gathered,
  output: Output,
  offline: boolean,
): Promise<{ manifests: ReadonlyMap<PackageId, PinnedManifest>; sync: SyncReport | null }> {
  const store = openStore(storeHome(process.env))
  const platforms = gathered.config.platforms
    .map((name) => parsePlatform(name))
    .filter((platform) => platform !== undefined)
  const wanted = pinRequests(gathered, platforms)
  const known = readPinned(store, wanted)
  let pinned: ReadonlyMap<PackageId, PinnedManifest> = known.pinned
  let sync: SyncReport | null = null
  if (known.missing.length > 0) {
    if (offline) throw missingPins(known.missing)
    const progress = startProgress(output, 'Fetching')
    try {
      sync = await syncPins(store, wanted, {
        root: gathered.root,
        npm: () => readNpmConfig({ cwd: gathered.root, env: process.env, home: homedir() }),
        allowWeakIntegrity: gathered.config.index.allowWeakIntegrity,
        onProgress: ({ done, total, bytes: received }) => {
          progress.update(done, total, bytes(received))
        },
      })
    } finally {
      progress.end()
    }
    for (const warning of sync.warnings) output.note(`warning: ${warning}`)
    if (sync.failures.length > 0) throw syncFailure(sync.failures)
    pinned = sync.pinned
  }
  // Lockfiles of yarn 1 don't say which platform a package is for: its manifest does.
  const fits = ([id, { manifest }]: readonly [PackageId, PinnedManifest]): boolean =>
    gathered.pins.get(id)?.optional !== true || platforms.some((platform) => matchesPlatform(manifest, platform))
  return { manifests: new Map([...pinned].filter(fits)), sync }
}

/** Every pin but the optional ones that no locked platform can use. */
function pinRequests(gathered: Gathered, platforms: readonly Platform[]): PinRequest[] {
  const neededBy = usersOfPins(gathered)
  return [...gathered.pins.values()]
    .filter((pin) => !pin.optional || platforms.some((platform) => matchesPlatform(pin, platform)))
    .map(({ id, name, reference, integrity, hashFromRegistry = false, source, optional }) => ({
      id,
      name,
      reference,
      integrity,
      hashFromRegistry,
      source,
      optional,
      neededBy: neededBy(id),
    }))
}

/** Who asks for a pin, for the report of one that cannot be had: services first, then other pins. Made when asked. */
function usersOfPins(gathered: Gathered): (id: PackageId) => readonly string[] {
  const users = new Map<PackageId, string[]>()
  const add = (id: PackageId, user: string): void => {
    users.set(id, [...(users.get(id) ?? []), user])
  }
  for (const { path, requirements } of gathered.services) {
    for (const { locked } of requirements) if (locked !== null && 'package' in locked) add(locked.package, path)
  }
  for (const { id, edges } of gathered.pins.values()) {
    for (const { targets } of edges) for (const target of targets) if ('package' in target) add(target.package, id)
  }
  return (id) => users.get(id) ?? []
}

function missingPins(missing: readonly PinRequest[]): PolderError {
  const others = missing.map(
    ({ id, neededBy }) =>
      new PolderError('ARTIFACT_MISSING', `${id}, needed by ${neededBy[0] ?? 'nobody'}`, { spec: id }),
  )
  return new PolderError('ARTIFACT_MISSING', `the index lacks ${count(missing.length, 'pin')}`, {
    others,
    hint: 'run `polder index sync` where there is a network',
  })
}

function syncFailure(failures: readonly PolderError[]): PolderError {
  const [first, ...more] = failures
  if (first !== undefined && more.length === 0) return first
  return new PolderError(first?.code ?? 'FETCH_FAILED', `${count(failures.length, 'pin')} could not be fetched`, {
    others: failures,
    hint: 'what was fetched is kept: mend the cause and run the same command again',
  })
}

function checkInputs(gathered: Gathered, existing: string | null): void {
  if (existing === null) throw outOfDate('it does not exist', [])
  const { inputs } = parseLock(existing, LOCK_FILE)
  const now = new Map(gathered.inputs.map(({ path, digest }) => [path, digest]))
  const changed = [...now].filter(([path, digest]) => inputs[path] !== digest).map(([path]) => path)
  const gone = Object.keys(inputs).filter((path) => !now.has(path))
  if (changed.length + gone.length > 0) throw outOfDate('its inputs changed', [...changed, ...gone])
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

function printSummary(
  output: Output,
  report: FlattenReport,
  { npm }: Lock,
  { written, sync, milliseconds }: { written: string; sync: SyncReport | null; milliseconds: number },
): void {
  if (output.quiet) return
  output.line(`${output.bold(LOCK_FILE)} ${written} in ${duration(milliseconds)}`)
  output.line(`  ${count(report.services, 'service')}, ${count(report.names, 'name')}`)
  if (sync !== null)
    output.line(`  ${count(sync.fetched, 'artifact')} fetched (${bytes(sync.bytes)}), ${sync.reused} already there`)
  const bound = report.optimal ? 'proven to be the fewest' : `at least ${report.lowerBound} are needed`
  output.line(`  ${report.before} → ${report.after} packages (${bound})`)
  for (const [policy, packages] of Object.entries(report.otherPolicies)) {
    output.line(`  with policy.${policy} it would be ${count(packages, 'package')}`)
  }
  if (report.moved.length > 0) {
    output.line(`  ${count(report.moved.length, 'requirement')} of services moved to a version that others share`)
    for (const { service, name, from, to } of report.moved.slice(0, SHOWN))
      output.line(`    ${service}: ${name} ${versionIn(from, name)} → ${versionIn(to, name)}`)
    more(output, report.moved.length)
  }
  const splits = Object.entries(npm.splits)
  if (splits.length > 0) output.line(`  ${count(splits.length, 'name')} kept at several versions`)
  for (const [name, { versions, proven }] of splits.slice(0, SHOWN)) {
    output.line(`    ${name}${proven ? '' : ' (not proven)'}`)
    for (const [version, { range, owner, owners }] of Object.entries(versions)) {
      const others = owners > 1 ? ` and ${count(owners - 1, 'other')}` : ''
      output.line(`      ${version.padEnd(10)} needed by ${owner}${others} (${range})`)
    }
  }
  more(output, splits.length)
  const { length: unmet } = report.unmetPeers
  if (unmet > 0)
    output.line(output.dim(`  ${count(unmet, 'peer')} unmet or outside its range (\`polder lock --json\` lists them)`))
}

const SHOWN = 12

function more(output: Output, total: number): void {
  if (total > SHOWN) output.line(output.dim(`    … and ${total - SHOWN} more`))
}
