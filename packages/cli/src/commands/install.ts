import { nearestRoot } from '@polder/gather/inputs'
import type { BuildReport, WorkspaceReport } from '@polder/build'
import {
  completeState,
  realiseEnvironment,
  requireArtifacts,
  withCheckoutLock,
  type Layout,
  type LinkReport,
} from '@polder/realise'
import { PolderError } from '@polder/spec'
import { hasEnvironment, hasTree, openStore, storeHome, withLease, type Store } from '@polder/store'

import { makeCheckoutLinks, tellWaiting } from '../checkout-links.ts'
import { reportInstallation } from '../installation-report.ts'
import { rememberLock } from '../known-lock.ts'
import { changedInputs, outOfDate, stateInputs } from '../lock-file.ts'
import { count, type Output } from '../output.ts'
import { packagePaths, planLock, type PlannedLock } from '../planned-lock.ts'
import { startProgress } from '../progress.ts'
import { waitingWorkspaces } from '../waiting-workspaces.ts'

export interface InstallOptions {
  readonly layout?: Layout
  readonly force: boolean
  /** Undefined: in CI, builds that cannot be confined are refused. */
  readonly requireSandbox?: boolean
}

/** `polder install`: the locked environment on disk, from what the store holds. Opens no connection. */
export async function install(cwd: string, output: Output, options: InstallOptions): Promise<number> {
  const started = process.hrtime.bigint()
  const root = nearestRoot(cwd) ?? (await import('@polder/gather')).findRoot(cwd)
  const store = openStore(storeHome(process.env))
  const first = await planLock(store, root, options.layout)
  const changed = changedInputs(root, first.inputs)
  if (changed.length > 0) throw outOfDate(`${count(changed.length, 'file')} changed since it was made`, changed)
  const { planned, built, environmentPath, linked, builds, scripts } = await withLease(store, async () => {
    const done = await buildPackages(store, root, first, options, output)
    const wasThere = hasEnvironment(store, done.planned.plan.id)
    const realised = await realise(store, root, done.planned, options, output)
    if (done.builds !== undefined && done.builds.records.length > 0) {
      const { warnOfOtherNodes } = await import('../addon-warning.ts')
      warnOfOtherNodes(done.builds.records, root, packagePaths(done.planned.inputs), output)
    }
    const report = await runWorkspaceScripts(store, root, done.planned, realised.environmentPath, output)
    return { ...done, built: !wasThere, ...realised, scripts: report }
  })
  const notRun = waitingWorkspaces(root, packagePaths(planned.inputs), scripts?.allowed ?? []).map(({ path }) => path)
  const unenforced = planned.builds?.builds.filter((build) => build.unenforced === true).length ?? 0
  reportInstallation(output, {
    plan: planned.plan,
    packages: planned.packages,
    built,
    environmentPath,
    linked,
    ...(builds === undefined ? {} : { builds: { ...builds, unenforced } }),
    ...(scripts === undefined ? {} : { scripts }),
    notRun,
    started,
  })
  rememberLock(store, root, options.layout, { ...planned, notRun })
  return 0
}

// Scripts may take long.
const WAIT_MS = 60 * 60 * 1000

type ScriptsReport = WorkspaceReport & { readonly allowed: readonly string[] }

/** Runs the scripts of workspace packages that the lock allows, where something changed; then the installation is complete. */
async function runWorkspaceScripts(
  store: Store,
  root: string,
  { plan, inputs, lockDigest, workspaces }: PlannedLock,
  environmentPath: string | null,
  output: Output,
): Promise<ScriptsReport | undefined> {
  if (workspaces === undefined) return undefined
  const { performWorkspaces, preparedCheckout } = await import('../workspace-scripts.ts')
  const checkout = preparedCheckout(store, root, plan, environmentPath, workspaces)
  const report = await withCheckoutLock(root, { waitMs: WAIT_MS, onWait: tellWaiting(output) }, () =>
    performWorkspaces(store, checkout, workspaces, output),
  )
  if (report.errors.length === 0)
    completeState(root, { inputs: stateInputs(root, inputs, lockDigest), watched: report.watched })
  return { ...report, allowed: workspaces.workspaces.map(({ path }) => path) }
}

interface Built {
  readonly builds: BuildReport | undefined
  /** What the builds are of: another one than was asked for, if nothing can be confined here. */
  readonly planned: PlannedLock
}

/** Runs the install scripts that the lock allows, where that was not done yet. */
async function buildPackages(
  store: Store,
  root: string,
  planned: PlannedLock,
  { layout, requireSandbox }: InstallOptions,
  output: Output,
): Promise<Built> {
  if (planned.builds === undefined) return { planned, builds: undefined }
  const { builds } = planned.builds
  // So it is in every further checkout, which has no use for what follows.
  if (builds.every(({ id }) => hasTree(store, id)))
    return { planned, builds: { records: [], reused: builds.length, shortcomings: [] } }
  const { isSandboxRequired, performBuilds } = await import('../builds.ts')
  try {
    return { planned, builds: await performBuilds(store, root, builds, output) }
  } catch (error) {
    if (error instanceof PolderError && error.code === 'ARTIFACT_MISSING') requireArtifacts(store, planned.plan)
    const isUnconfined = error instanceof PolderError && error.code === 'SANDBOX_UNAVAILABLE'
    if (!isUnconfined || isSandboxRequired(requireSandbox)) throw error
    const unenforced = await planLock(store, root, layout, true)
    const wanted = unenforced.builds?.builds ?? []
    return {
      planned: unenforced,
      builds: await performBuilds(store, root, wanted, output, { requireSandbox: false }),
    }
  }
}

async function realise(
  store: Store,
  root: string,
  { plan, inputs, lockDigest, builds, workspaces }: PlannedLock,
  { layout, force }: InstallOptions,
  output: Output,
): Promise<{ environmentPath: string | null; linked: LinkReport }> {
  const progress = startProgress(output, 'Installing')
  try {
    const environmentPath = await realiseEnvironment(store, plan, {
      checkout: root,
      onProgress: ({ done, total, label }) => {
        progress.update(done, total, label)
      },
    })
    const links = {
      plan,
      environmentPath,
      lockDigest,
      // Without inputs it counts as unfinished, which it is until the scripts of workspace packages ran.
      inputs: workspaces === undefined ? stateInputs(root, inputs, lockDigest) : {},
      layout,
      unenforced: builds?.builds.some((build) => build.unenforced === true) === true,
      force,
    }
    const linked = await makeCheckoutLinks(store, root, links, output)
    return { environmentPath, linked }
  } finally {
    progress.end()
  }
}
