import { findRoot, gather, readConfig, type Gathered } from '@polder/gather'
import type { SigningKeys, WantedRelease } from '@polder/index'
import type { CheckReport, ReleaseReport } from '@polder/index/trust'
import { PolderError } from '@polder/spec'
import type { Store } from '@polder/store'

import { bringAdditions } from '../added-pins.ts'
import { bringBuildRequirements } from '../build-requirements.ts'
import { LOCK_FILE, readLockText } from '../lock-file.ts'
import { bytes, count, type Output } from '../output.ts'
import { knownPins, pinnedManifests } from '../pinned-manifests.ts'
import { startProgress } from '../progress.ts'
import { bringReleases, firstKeys, lockedKeys, noteDrift } from '../releases.ts'
import { npmConfigOf } from '../upstream-config.ts'

/**
 * `polder index sync`: fetches what `lock` would, and what the registries say of each pin. With `check` it only compares.
 * @throws PolderError what is wrong with a signature or could not be fetched; `INDEX_DRIFT`
 */
export async function indexSync(cwd: string, output: Output, check: boolean): Promise<number> {
  const root = findRoot(cwd)
  const gathered = await gather(root, readConfig(root))
  const keys = lockedKeys(readLockText(root))
  if (check) return checkIndex(gathered, keys, output)
  const { pins, fetched, received, report } = await bringAll(gathered, keys, output)
  output.line(
    `${count(pins, 'pin')} in the index, ${fetched === 0 ? 'none' : `${fetched} (${bytes(received)})`} fetched`,
  )
  printReleases(output, report, keys)
  const { recorded, verified, unsigned, unverifiable, attestations, drift } = report
  output.result({
    pins,
    fetched,
    bytes: received,
    releases: { recorded, verified, unsigned, unverifiable, attestations },
    drift,
  })
  return 0
}

/** What `index sync` does, without its result: for those who need everything to be there. */
export async function syncIndex(cwd: string, output: Output): Promise<void> {
  const root = findRoot(cwd)
  await bringAll(await gather(root, readConfig(root)), lockedKeys(readLockText(root)), output)
}

interface Brought {
  readonly pins: number
  readonly fetched: number
  /** Bytes. */
  readonly received: number
  readonly report: ReleaseReport
}

async function bringAll(gathered: Gathered, keys: SigningKeys, output: Output): Promise<Brought> {
  const asked = new Map<string, SigningKeys>()
  const whileFetching = firstKeys(gathered, keys, asked)
  const { manifests, sync, store, pins, durable } = await pinnedManifests(gathered, output, false, whileFetching)
  await durable
  const added = await bringAdditions(gathered, store, output, false)
  const all = [...pins, ...(await bringBuildRequirements(gathered, store, output))]
  const report = await bringReleases(gathered, store, all, output, { keys, scope: 'all', asked })
  await renewLock(store, gathered)
  return {
    pins: manifests.size,
    fetched: (sync?.fetched ?? 0) + added.fetched,
    received: (sync?.bytes ?? 0) + added.bytes,
    report,
  }
}

/** More may be known now of what the lock that is there pins. */
async function renewLock(store: Store, gathered: Gathered): Promise<void> {
  const text = readLockText(gathered.root)
  if (text === null) return
  const { renewServedLock } = await import('../served-lock.ts')
  try {
    await renewServedLock(store, text, LOCK_FILE, gathered)
  } catch (error) {
    // A lock that cannot be read is `lock`'s to write anew.
    if (!(error instanceof PolderError && error.code === 'LOCK_INVALID')) throw error
  }
}

function printReleases(output: Output, report: ReleaseReport, pinned: SigningKeys): void {
  const { verified, key, unverified } = report.attestations
  const parts = [
    ...(report.recorded === 0 ? [] : [`${count(report.recorded, 'release')} recorded`]),
    ...(report.verified === 0 ? [] : [`${count(report.verified, 'signature')} verified`]),
    ...(verified === 0 ? [] : [`${count(verified, 'attestation')} verified`]),
    ...(key === 0 ? [] : [`${count(key, 'attestation')} verified by the registry's key only`]),
    ...(unverified === 0 ? [] : [`${count(unverified, 'attestation')} not verified (no index.trustedRoot)`]),
  ]
  if (parts.length > 0) output.line(`  ${parts.join(', ')}`)
  if (Object.keys(pinned).length === 0 && Object.keys(report.keys).length > 0)
    output.note('polder: the signing keys were trusted as they came; `polder lock` pins them')
}

/** Nothing is written: what upstreams say is compared with what is pinned and recorded. */
async function checkIndex(gathered: Gathered, keys: SigningKeys, output: Output): Promise<number> {
  const { store, pins } = knownPins(gathered)
  const report = await compareWithUpstreams(gathered, store, pins, keys, output)
  const drift = report.drift.filter(({ expected }) => expected !== true)
  if (report.failures.length > 0) {
    const [first, ...others] = report.failures
    throw new PolderError('FETCH_FAILED', `${count(report.failures.length, 'upstream')} could not be asked`, {
      ...(first === undefined ? {} : { others: [first, ...others] }),
      hint: 'run the same command again later; what has not changed is not sent again',
    })
  }
  output.result(report)
  if (drift.length === 0) {
    output.line(`${count(report.checked, 'pin')} compared with their upstreams: nothing changed`)
    return 0
  }
  if (output.json) return DRIFT
  noteDrift(
    output,
    report.drift.filter(({ expected }) => expected === true),
  )
  throw new PolderError('INDEX_DRIFT', `upstreams say something else of ${count(drift.length, 'fact')}`, {
    others: drift.map(
      ({ subject, message }) => new PolderError('INDEX_DRIFT', `${subject}: ${message}`, { spec: subject }),
    ),
    hint: 'what is pinned stays what it is; find out why before you lock again',
  })
}

const DRIFT = 3

async function compareWithUpstreams(
  gathered: Gathered,
  store: Store,
  pins: readonly WantedRelease[],
  keys: SigningKeys,
  output: Output,
): Promise<CheckReport> {
  const { checkDrift } = await import('@polder/index/trust')
  const progress = startProgress(output, 'Comparing')
  try {
    return await checkDrift(store, pins, {
      npm: npmConfigOf(gathered, output),
      keys,
      onProgress: ({ done, total }) => {
        progress.update(done, total)
      },
    })
  } finally {
    progress.end()
  }
}
