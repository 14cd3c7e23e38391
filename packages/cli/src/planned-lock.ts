import { hash } from 'node:crypto'
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'

import { toolchainFiles } from '@polder/build/toolchain-files'
import type { Lock } from '@polder/lock'
import { planEnvironment, requireArtifacts, type Layout, type Plan } from '@polder/realise'
import { currentPlatform, PolderError } from '@polder/spec'
import { atomicWrite, hasEnvironment, type Store } from '@polder/store'

import type { LockedBuildPlan, LockedBuilds } from './builds.ts'
import { ifWritable, PLAN_FORMAT } from './kept-plan.ts'
import { LOCK_FILE, lockDigest, requireLock } from './lock-file.ts'
import { polderVersion } from './version.ts'
import type { LockedWorkspaces } from './workspace-scripts.ts'

/** What an installation needs of a lock: its inputs, to see that it is not out of date, and what goes where. */
export interface PlannedLock extends KeptPlan {
  /** sha256 of the lock's text, hex. */
  readonly lockDigest: string
}

interface KeptPlan {
  /** Path → digest, as in the lock. */
  readonly inputs: Readonly<Record<string, string>>
  readonly plan: Plan
  /** How many packages are installed, each counted once. */
  readonly packages: number
  /** Absent if the lock allows no install scripts. */
  readonly builds?: LockedBuilds
  /** Absent if the lock lets no workspace package run its own scripts. */
  readonly workspaces?: LockedWorkspaces
}

/**
 * The plan of the checkout's lock for this machine. A plan follows from the lock's text, so the store keeps it by that
 * text's hash: a further checkout of the same lock parses and plans nothing, and loads nothing that would.
 * @param layout undefined for the one that `polder.yaml` says, which is one of the lock's inputs
 * @param unenforced with what is built without a sandbox
 * @throws PolderError `LOCK_NOT_FOUND`, `LOCK_INVALID`, `PLATFORM_NOT_LOCKED`, `PLATFORM_EXCLUDED`, `ENGINE_UNSUPPORTED`,
 *   `CONFIG_INVALID`
 */
export async function planLock(
  store: Store,
  root: string,
  layout: Layout | undefined,
  unenforced: boolean = false,
): Promise<PlannedLock> {
  const bytes = requireLock(root)
  const digest = lockDigest(bytes)
  const path = planPath(store, digest, layout, unenforced)
  const kept = readPlan(path)
  if (kept !== undefined && (kept.builds === undefined || (await hasToolchain(kept.builds))))
    return { ...kept, lockDigest: digest }
  const { parseLock } = await import('@polder/lock')
  const made = await makePlan(store, root, parseLock(bytes.toString('utf8'), LOCK_FILE), layout, unenforced)
  keepPlan(store, path, made)
  return { ...made, lockDigest: digest }
}

/**
 * Keeps the plan of a lock that was just made, and so need not be parsed: the installation that follows finds it. A lock
 * that allows install scripts is left to that, since planning builds reads archives; and so is what is wrong with it here.
 * @param text the lock's, as it is written
 */
export async function planAhead(store: Store, root: string, lock: Lock, text: string): Promise<void> {
  const path = planPath(store, lockDigest(text))
  if (lock.policy.builds !== undefined || existsSync(path)) return
  try {
    keepPlan(store, path, await makePlan(store, root, lock))
  } catch (error) {
    if (!(error instanceof PolderError)) throw error
  }
}

async function makePlan(
  store: Store,
  root: string,
  lock: Lock,
  layout?: Layout,
  unenforced: boolean = false,
): Promise<KeptPlan> {
  const [{ readConfig }, { runningNode }] = await Promise.all([
    import('@polder/gather'),
    import('@polder/spec/semver-ranges'),
  ])
  const allowed = lock.policy.builds === undefined ? undefined : await import('./builds.ts')
  const here = { ...currentPlatform(), node: runningNode() }
  const planFor = (built?: LockedBuildPlan['builtTree']): Plan =>
    planEnvironment(lock, here, layout ?? readConfig(root).layout, built)
  let planned: LockedBuildPlan | undefined
  try {
    planned = await allowed?.planLockedBuilds(store, root, lock, here, unenforced)
  } catch (error) {
    if (error instanceof PolderError && error.code === 'ARTIFACT_MISSING') requireArtifacts(store, planFor())
    throw error
  }
  const plan = planFor(planned?.builtTree)
  const packages = new Set([...plan.environment, ...plan.checkout.packages].map((placed) => placed.package)).size
  const builds = planned?.builds()
  const workspaces =
    lock.policy.builds?.workspaces === undefined
      ? undefined
      : (await import('./workspace-scripts.ts')).lockedWorkspaces(lock)
  return {
    inputs: lock.inputs,
    packages,
    plan,
    ...(builds === undefined ? {} : { builds }),
    ...(workspaces === undefined ? {} : { workspaces }),
  }
}

/** The directories of packages among a lock's inputs. */
export function packagePaths(inputs: PlannedLock['inputs']): readonly string[] {
  return Object.keys(inputs).flatMap((path) => {
    const [, directory] = /^(?:(.+)\/)?package\.json$/.exec(path) ?? [null, null]
    return directory === null ? [] : [directory ?? '.']
  })
}

/** What is built depends on what it is built with. */
async function hasToolchain({ toolchain, toolchainFiles: files }: LockedBuilds): Promise<boolean> {
  return files === toolchainFiles() || toolchain === (await import('./builds.ts')).currentToolchain()
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

function planPath(store: Store, digest: string, layout?: Layout, unenforced: boolean = false): string {
  const shape = [PLAN_FORMAT, polderVersion(), currentPlatform(), process.version, layout ?? 'configured', digest]
  return join(plansDirectory(store), `${sha256(JSON.stringify([...shape, unenforced]))}.json`)
}

function plansDirectory(store: Store): string {
  return join(store.home, 'plans')
}

/**
 * Three lines: the hash of the other two, so that a plan that was damaged is made again; what a further checkout needs;
 * and the environment's packages, four fifths of it all, which are parsed when somebody asks for them.
 */
function readPlan(path: string): KeptPlan | undefined {
  try {
    const bytes = readFileSync(path)
    const first = bytes.indexOf('\n')
    const second = bytes.indexOf('\n', first + 1)
    if (bytes.toString('latin1', 0, first) !== sha256(bytes.subarray(first + 1))) return undefined
    const { plan, ...kept } = JSON.parse(bytes.toString('utf8', first + 1, second)) as KeptPlan
    let environment: Plan['environment'] | undefined
    const whole: Plan = {
      ...plan,
      get environment() {
        environment ??= JSON.parse(bytes.toString('utf8', second + 1)) as Plan['environment']
        return environment
      },
    }
    return { ...kept, plan: whole }
  } catch {
    return undefined
  }
}

function keepPlan(store: Store, path: string, { plan, ...kept }: KeptPlan): void {
  ifWritable(() => {
    mkdirSync(plansDirectory(store), { recursive: true })
    const { environment, ...needed } = plan
    const text = `${JSON.stringify({ ...kept, plan: needed })}\n${JSON.stringify(environment)}`
    // Of what a power cut left of it the hash is wrong.
    atomicWrite(path, `${sha256(text)}\n${text}`, { durable: false })
  })
}

function sha256(text: string | Buffer): string {
  return hash('sha256', text, 'hex')
}
