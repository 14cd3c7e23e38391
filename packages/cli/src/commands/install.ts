import { nearestRoot } from '@polder/gather/inputs'
import type { BuildRecord, BuildReport, WorkspaceRecord, WorkspaceReport } from '@polder/build'
import {
  completeState,
  linkCheckout,
  realiseEnvironment,
  requireArtifacts,
  withCheckoutLock,
  type Layout,
  type LinkReport,
  type Plan,
} from '@polder/realise'
import { PolderError } from '@polder/spec'
import { hasEnvironment, hasTree, openStore, storeHome, withLease, type Store } from '@polder/store'

import { changedInputs, outOfDate, stateInputs } from '../lock-file.ts'
import { count, duration, type Output } from '../output.ts'
import { packagePaths, planLock, type PlannedLock } from '../planned-lock.ts'
import { startProgress } from '../progress.ts'
import { polderVersion } from '../version.ts'
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
    const report = await runWorkspaceScripts(store, root, done.planned, realised.environmentPath, output)
    return { ...done, built: !wasThere, ...realised, scripts: report }
  })
  const { plan, packages } = planned
  const waiting = waitingWorkspaces(root, packagePaths(planned.inputs), scripts?.allowed ?? []).map(({ path }) => path)
  warnOfEngines(plan, output)
  for (const path of linked.replaced) output.note(`replaced: ${path}, which another tool had made`)
  printInstalled(output, {
    plan,
    packages,
    built,
    linked,
    builds,
    scripts,
    waiting,
    unenforced: planned.builds?.builds.filter((build) => build.unenforced === true).length ?? 0,
    milliseconds: Number(process.hrtime.bigint() - started) / 1e6,
  })
  const [failure, ...others] = scripts?.errors ?? []
  if (failure !== undefined) throw new PolderError(failure.code, failure.message, { ...failure.details, others })
  output.result({
    upToDate: false,
    environment: plan.id,
    environmentPath,
    layout: plan.layout,
    packages,
    built,
    ...linked,
    ...(builds === undefined ? {} : { builds: builds.records.map(summaryOf), reusedBuilds: builds.reused }),
    ...(scripts === undefined ? {} : { workspaces: scripts.records.map(summaryOf), reusedWorkspaces: scripts.reused }),
    notBuilt: plan.notBuilt,
    notRun: waiting,
    unsupported: plan.unsupported,
  })
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

function summaryOf(record: BuildRecord | WorkspaceRecord): object {
  const { level, durationMs, attempts, refused, log } = record
  return {
    package: 'path' in record ? record.path : record.package,
    level,
    durationMs,
    attempts: attempts.length,
    refused: refused.length,
    log,
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
    const linked = await linkCheckout({
      store,
      checkout: root,
      plan,
      environmentPath,
      state: {
        lock: lockDigest,
        // Without inputs it counts as unfinished, which it is until the scripts of workspace packages ran.
        inputs: workspaces === undefined ? stateInputs(root, inputs, lockDigest) : {},
        ...(layout === undefined ? {} : { layoutAsked: true }),
        ...(builds?.builds.some((build) => build.unenforced === true) === true ? { unenforced: true } : {}),
        polder: polderVersion(),
      },
      force,
      onWait: tellWaiting(output),
    })
    return { environmentPath, linked }
  } finally {
    progress.end()
  }
}

function tellWaiting(output: Output): (pid: number) => void {
  return (pid) => output.note(`polder: waiting for the installation that process ${pid} runs in this checkout`)
}

/** What npm and pnpm only warn of: a required package for another Node. */
function warnOfEngines({ unsupported }: Plan, output: Output): void {
  const [first] = unsupported
  if (first === undefined) return
  const others = unsupported.length === 1 ? '' : ` and ${count(unsupported.length - 1, 'other')}`
  output.note(
    `warning: ${first.package}${others} ${unsupported.length === 1 ? 'is' : 'are'} for another Node than ${process.version.slice(1)}: it wants ${first.node}, and ${first.neededBy} needs it`,
  )
}

const NAMED = 8

function printInstalled(
  output: Output,
  {
    plan,
    packages,
    built,
    linked,
    builds,
    scripts,
    waiting,
    unenforced,
    milliseconds,
  }: {
    plan: Plan
    packages: number
    built: boolean
    linked: LinkReport
    builds: BuildReport | undefined
    scripts: WorkspaceReport | undefined
    waiting: readonly string[]
    unenforced: number
    milliseconds: number
  },
): void {
  if (output.quiet) return
  output.line(`${count(packages, 'package')} installed in ${duration(milliseconds)}`)
  if (plan.layout === 'linked') {
    output.line(
      `  environment ${plan.id.slice(0, 12)} ${built ? 'built' : 'was there already'}, ${count(linked.links, 'link')} in this checkout`,
    )
  } else {
    output.line(`  self-contained, ${count(linked.links, 'link')}`)
  }
  const { linked: hardLinks, copied } = linked.files
  if (hardLinks + copied > 0)
    output.line(
      `  ${count(hardLinks + copied, 'file')} in this checkout${copied > 0 ? ` (${copied} copied)` : ', hard links into the store'}`,
    )
  if (builds !== undefined) printBuilds(output, builds, unenforced)
  if (scripts !== undefined) printScripts(output, scripts)
  printRefused(output, [...(builds?.records ?? []), ...(scripts?.records ?? [])])
  printList(output, 'not built (see polder approve)', plan.notBuilt)
  printList(output, 'not run (see polder approve)', waiting)
}

function printList(output: Output, what: string, list: readonly string[]): void {
  if (list.length === 0) return
  const named = list.slice(0, output.verbose ? undefined : NAMED).join(', ')
  const more = !output.verbose && list.length > NAMED ? ` and ${list.length - NAMED} more` : ''
  output.line(`  ${what}: ${named}${more}`)
}

function printBuilds(output: Output, { records, reused }: BuildReport, unenforced: number): void {
  const built = records.map(({ package: name, durationMs }) => `${name} (${duration(durationMs)})`)
  if (built.length > 0) output.line(`  built: ${built.join(', ')}`)
  if (reused > 0) output.line(`  built before: ${count(reused, 'package')}`)
  if (unenforced > 0) output.line(`  ${output.bad('unenforced')}: ${count(unenforced, 'build')} ran without a sandbox`)
}

function printScripts(output: Output, { records, reused }: WorkspaceReport): void {
  const ran = records.flatMap(({ path, durationMs, status }) =>
    status === 'built' ? [`${path} (${duration(durationMs)})`] : [],
  )
  if (ran.length > 0) output.line(`  ran the scripts of: ${ran.join(', ')}`)
  if (reused > 0) output.line(`  ran before, and nothing changed: ${count(reused, 'workspace package')}`)
}

function printRefused(output: Output, records: readonly (BuildRecord | WorkspaceRecord)[]): void {
  const attempts = records.flatMap(({ attempts: all }) => all).length
  const refused = records.flatMap(({ refused: all }) => all).length
  if (attempts + refused === 0) return
  const what = [
    ...(attempts > 0 ? [`${count(attempts, 'attempt')} to reach other places`] : []),
    ...(refused > 0 ? [`${count(refused, 'request')} for what is not pinned`] : []),
  ]
  output.line(`  refused: ${what.join(', ')} (see \`polder builds\`)`)
}
