import {
  type BuildPlan,
  type BuildReport,
  planBuilds,
  type PlannedBuild,
  readToolchain,
  runBuilds,
  type Toolchain,
  toolchainIdentity,
} from '@polder/build'
import { toolchainFiles } from '@polder/build/toolchain-files'
import { readConfig } from '@polder/gather'
import { type InstanceId, parseLock, type Lock } from '@polder/lock'
import { wantedTree } from '@polder/realise'
import { type PackageId, type Platform, PolderError, splitPackageId } from '@polder/spec'
import { hasTree, type Store, unpackTrees } from '@polder/store'

import { allowedScripts } from './install-scripts.ts'
import { LOCK_FILE, requireLockText } from './lock-file.ts'
import type { Output } from './output.ts'
import { startProgress } from './progress.ts'

/** What of a lock is built on this machine. */
export interface LockedBuilds {
  /** What they are built with, and the files that it comes from. */
  readonly toolchain: string
  readonly toolchainFiles: string
  readonly builds: readonly PlannedBuild[]
}

/** A lock's builds while its environment is planned: those count whose trees that asked for. */
export interface LockedBuildPlan {
  readonly builtTree: BuildPlan['builtTree']
  readonly recipe: BuildPlan['recipe']
  readonly builds: () => LockedBuilds
}

/** One text for everything about this machine that can make a difference to what is built. */
export function currentToolchain(toolchain: Toolchain = toolchainHere()): string {
  return toolchainIdentity(toolchain, true).join('\n')
}

/**
 * @param unenforced what was built where nothing could be confined, or is to be
 * @param root where the patches are
 * @throws PolderError `ARTIFACT_MISSING` if a package that may run scripts is not in the index; `PATCH_FAILED`
 */
export async function planLockedBuilds(
  store: Store,
  root: string,
  lock: Lock,
  platform: Platform,
  unenforced: boolean = false,
): Promise<LockedBuildPlan> {
  const toolchain = toolchainHere()
  const scripts = new Map(await allowedScripts(store, root, lock))
  const environments = await commitEnvironments(store, lock, scripts)
  for (const environment of environments.values())
    for (const [id, found] of await allowedScripts(store, root, environment)) scripts.set(id, found)
  const plan = planBuilds(lock, toolchain, platform, (id) => scripts.get(id), { unenforced, environments })
  return {
    builtTree: plan.builtTree,
    recipe: plan.recipe,
    builds: () => ({
      toolchain: currentToolchain(toolchain),
      toolchainFiles: toolchainFiles(),
      builds: plan.builds(),
    }),
  }
}

/** The environments that commits are prepared in, by instance. */
async function commitEnvironments(
  store: Store,
  lock: Lock,
  scripts: ReadonlyMap<PackageId, unknown>,
): Promise<ReadonlyMap<InstanceId, Lock>> {
  const environments = new Map<InstanceId, Lock>()
  for (const [key, { package: id }] of Object.entries(lock.npm.instances)) {
    if (!scripts.has(id) || lock.npm.packages[id]?.git === undefined) continue
    const { commitEnvironment } = await import('./commit-environment.ts')
    const environment = commitEnvironment(store, lock, key as InstanceId)
    if (environment !== undefined) environments.set(key as InstanceId, environment)
  }
  return environments
}

/** These, and what of all builds they need that is not built. */
export function withNeeded(
  store: Store,
  wanted: readonly PlannedBuild[],
  all: readonly PlannedBuild[],
): readonly PlannedBuild[] {
  const needed = new Set(wanted)
  for (const build of needed) {
    for (const other of all) if (build.after.includes(other.id) && !hasTree(store, other.id)) needed.add(other)
  }
  return [...needed]
}

/** The builds of a package, by its name or its id. */
export function isNamed({ package: id }: PlannedBuild, name: string): boolean {
  return id === name || splitPackageId(id).name === name
}

/**
 * @param notBuilt packages whose scripts are not allowed
 * @throws PolderError `USAGE` if none of the builds has that name
 */
export function requireNamed(
  builds: readonly PlannedBuild[],
  names: readonly string[],
  notBuilt: readonly PackageId[],
): void {
  const unknown = names.find((name) => !builds.some((build) => isNamed(build, name)))
  if (unknown === undefined) return
  throw new PolderError('USAGE', `${unknown} is not among the builds of this lock`, {
    spec: unknown,
    hint: notBuilt.some((id) => splitPackageId(id).name === unknown)
      ? `its scripts are not allowed: polder approve ${unknown}`
      : `the builds are: ${builds.map((build) => build.package).join(', ') || 'none'}`,
  })
}

export interface BuildOptions extends Pick<Parameters<typeof runBuilds>[2], 'inspect'> {
  /** What is planned as unenforced runs without a sandbox. */
  readonly requireSandbox?: boolean
}

/** Unless somebody says otherwise, in CI whatever cannot be confined is refused. */
export function isSandboxRequired(asked: boolean | undefined): boolean {
  return asked ?? (process.env['CI'] ?? '') !== ''
}

/**
 * Builds what is not built yet. Nothing else runs meanwhile in the checkout: its environment is not there yet. Without a
 * sandbox runs only what was planned as unenforced.
 * @throws PolderError `BUILD_FAILED`, `SANDBOX_UNAVAILABLE`, and what unpacking throws
 */
export async function performBuilds(
  store: Store,
  root: string,
  builds: readonly PlannedBuild[],
  output: Output,
  options: BuildOptions = {},
): Promise<BuildReport> {
  const { inspect } = options
  const missing = inspect === undefined ? builds.filter(({ id }) => !hasTree(store, id)) : builds
  if (missing.length === 0) return { records: [], reused: builds.length, shortcomings: [] }
  const built = new Set(builds.map(({ id }) => id))
  // What they start from, and what stands beside them; what is built itself comes from its own build.
  const sources = missing.flatMap(({ source, package: name, closure }) => [
    { ...source, package: name },
    ...closure.filter(({ tree }) => !built.has(tree)).map((entry) => ({ ...entry.source, package: entry.package })),
  ])
  await unpackTrees(
    store,
    sources.map((source) => wantedTree(store, source, root)),
  )
  return withBuildServices(store, root, output, async (services) => {
    const report = await runBuilds(store, builds, {
      ...services,
      requireSandbox: builds.some((build) => build.unenforced !== true) || isSandboxRequired(options.requireSandbox),
      ...(inspect === undefined ? {} : { inspect }),
    })
    for (const shortcoming of report.shortcomings) output.note(`warning: ${shortcoming}`)
    return report
  })
}

type Services = Omit<Parameters<typeof runBuilds>[2], 'inspect'>

/** What every build gets: the toolchain, the pinned index of the checkout's lock, and the limits of its polder.yaml. */
export async function withBuildServices<T>(
  store: Store,
  root: string,
  output: Output,
  use: (services: Services) => Promise<T>,
): Promise<T> {
  const [{ openIndex, openRefusedRecord, startIndexServer }, { toolEnvironment }, { clientEnvironment }, served] =
    await Promise.all([
      import('@polder/index/server'),
      import('@polder/index/files'),
      import('./commands/index-env.ts'),
      import('./served-lock.ts'),
    ])
  const lockText = requireLockText(root)
  const lock = parseLock(lockText, LOCK_FILE)
  const locks = [await served.servedLock(store, lockText, LOCK_FILE)]
  const index = openIndex(store, locks, { memoryBytes: 64 * 2 ** 20 })
  const refused = openRefusedRecord(store)
  const progress = startProgress(output, 'Building')
  try {
    return await use({
      toolchain: toolchainHere(),
      requireSandbox: true,
      serveIndex: async ({ socket, asker, onRefused }) =>
        startIndexServer(index, {
          listen: { socket },
          asker,
          onRefused: (refusal) => {
            // Where the socket was for this one build tells nobody anything.
            refused.note({ ...refusal, socket: 'sandbox' })
            onRefused(refusal.what)
          },
        }),
      indexVariables: (url) => ({ ...clientEnvironment(url), ...toolEnvironment(lock.index?.files ?? {}, url) }),
      limits: limitsOf(readConfig(root).builds.limits),
      onProgress: ({ done, total, label }) => progress.update(done, total, label),
    })
  } finally {
    refused.close()
    progress.end()
  }
}

const MEGABYTE = 10 ** 6

function limitsOf(configured: ReturnType<typeof readConfig>['builds']['limits']): object {
  const { minutes, memoryMB, processes, outputMB, diskMB } = configured
  const limits = {
    timeMs: scaled(minutes, 60_000),
    memoryBytes: scaled(memoryMB, MEGABYTE),
    processes,
    outputBytes: scaled(outputMB, MEGABYTE),
    diskBytes: scaled(diskMB, MEGABYTE),
  }
  return Object.fromEntries(Object.entries(limits).filter(([, value]) => value !== undefined))
}

function scaled(value: number | undefined, by: number): number | undefined {
  return value === undefined ? undefined : value * by
}

export function toolchainHere(): Toolchain {
  return readToolchain(process.env['PATH'] ?? '')
}
