import { createHash } from 'node:crypto'
import { mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'

import { planEnvironment, type Layout, type Plan } from '@polder/realise'
import { currentPlatform, PolderError } from '@polder/spec'
import { atomicWrite, hasEnvironment, type Store } from '@polder/store'

import { LOCK_FILE, requireLockText } from './lock-file.ts'
import { polderVersion } from './version.ts'

/** Another number where the same lock gives another plan. */
const PLAN_FORMAT = 2

/** What an installation needs of a lock: its inputs, to see that it is not out of date, and what goes where. */
export interface PlannedLock {
  /** Path → digest, as in the lock. */
  readonly inputs: Readonly<Record<string, string>>
  readonly plan: Plan
  readonly lockText: string
}

/**
 * The plan of the checkout's lock for this machine. A plan follows from the lock's text, so the store keeps it by that
 * text's hash: a further checkout of the same lock parses and plans nothing, and loads nothing that would.
 * @param layout undefined for the one that `polder.yaml` says, which is one of the lock's inputs
 * @throws PolderError `LOCK_NOT_FOUND`, `LOCK_INVALID`, `PLATFORM_NOT_LOCKED`, `PLATFORM_EXCLUDED`, `CONFIG_INVALID`
 */
export async function planLock(store: Store, root: string, layout: Layout | undefined): Promise<PlannedLock> {
  const lockText = requireLockText(root)
  const platform = currentPlatform()
  const shape = JSON.stringify([PLAN_FORMAT, polderVersion(), platform, layout ?? 'configured', lockText])
  const path = join(plansDirectory(store), `${sha256(shape)}.json`)
  const kept = readPlan(path)
  if (kept !== undefined) return { ...kept, lockText }
  const [{ parseLock }, { readConfig }] = await Promise.all([import('@polder/lock'), import('@polder/gather')])
  const lock = parseLock(lockText, LOCK_FILE)
  const made = { inputs: lock.inputs, plan: planEnvironment(lock, platform, layout ?? readConfig(root).layout) }
  keepPlan(store, path, made)
  return { ...made, lockText }
}

/** Drops the plans of environments that are gone; a plan that is missed is made again. */
export function dropStalePlans(store: Store): void {
  mkdirSync(plansDirectory(store), { recursive: true })
  for (const name of readdirSync(plansDirectory(store))) {
    const path = join(plansDirectory(store), name)
    const kept = readPlan(path)
    if (kept === undefined || kept.plan.layout !== 'linked' || !hasEnvironment(store, kept.plan.id))
      rmSync(path, { force: true })
  }
}

function plansDirectory(store: Store): string {
  return join(store.home, 'plans')
}

/** The plan behind its hash on the first line: one that was damaged is made again. */
function readPlan(path: string): Omit<PlannedLock, 'lockText'> | undefined {
  try {
    const [digest, text = ''] = readFileSync(path, 'utf8').split('\n')
    return digest === sha256(text) ? (JSON.parse(text) as Omit<PlannedLock, 'lockText'>) : undefined
  } catch {
    return undefined
  }
}

/** A store that cannot be written to still serves: the plan is made again next time. */
function keepPlan(store: Store, path: string, plan: Omit<PlannedLock, 'lockText'>): void {
  try {
    mkdirSync(plansDirectory(store), { recursive: true })
    const text = JSON.stringify(plan)
    atomicWrite(path, `${sha256(text)}\n${text}`)
  } catch (error) {
    const tolerable = error instanceof PolderError && (error.code === 'STORE_UNWRITABLE' || error.code === 'DISK_FULL')
    if (!tolerable && !(error instanceof Error && 'code' in error)) throw error
  }
}

function sha256(text: string): string {
  return createHash('sha256').update(text).digest('hex')
}
