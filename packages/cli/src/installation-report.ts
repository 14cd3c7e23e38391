import type { BuildRecord, BuildReport, WorkspaceRecord, WorkspaceReport } from '@polder/build'
import type { LinkPlan, LinkReport } from '@polder/realise'
import { PolderError } from '@polder/spec'

import { count, duration, listed, type Output } from './output.ts'

/** What an installation did. */
export interface Installation {
  readonly plan: LinkPlan
  readonly packages: number
  /** The environment was not there before. */
  readonly built: boolean
  readonly environmentPath: string | null
  readonly linked: LinkReport
  /** Absent if the lock allows no install scripts. */
  readonly builds?: Pick<BuildReport, 'records' | 'reused'> & { readonly unenforced: number }
  /** Absent if the lock lets no workspace package run its own scripts. */
  readonly scripts?: Pick<WorkspaceReport, 'records' | 'reused' | 'errors'>
  /** The workspace packages with scripts that nobody allowed. */
  readonly notRun: readonly string[]
  /** By `process.hrtime.bigint`. */
  readonly started: bigint
}

/**
 * The lines of `polder install`, or its document.
 * @throws PolderError the first failure of a workspace package's scripts, with the others
 */
export function reportInstallation(output: Output, done: Installation): void {
  const { plan, packages, built, environmentPath, linked, builds, scripts, notRun } = done
  warnOfEngines(plan, output)
  for (const path of linked.replaced) output.note(`replaced: ${path}, which another tool had made`)
  if (!output.quiet) printInstallation(output, done)
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
    notRun,
    unsupported: plan.unsupported,
  })
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

/** What npm and pnpm only warn of: a required package for another Node. */
function warnOfEngines({ unsupported }: LinkPlan, output: Output): void {
  const [first] = unsupported
  if (first === undefined) return
  const others = unsupported.length === 1 ? '' : ` and ${count(unsupported.length - 1, 'other')}`
  output.note(
    `warning: ${first.package}${others} ${unsupported.length === 1 ? 'is' : 'are'} for another Node than ${process.version.slice(1)}: it wants ${first.node}, and ${first.neededBy} needs it`,
  )
}

const NAMED = 8

function printInstallation(output: Output, done: Installation): void {
  const { plan, packages, built, linked, builds, scripts, notRun } = done
  const milliseconds = Number(process.hrtime.bigint() - done.started) / 1e6
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
  if (builds !== undefined) printBuilds(output, builds)
  if (scripts !== undefined) printScripts(output, scripts)
  printRefused(output, [...(builds?.records ?? []), ...(scripts?.records ?? [])])
  printList(output, 'not built (see polder approve)', plan.notBuilt)
  printList(output, 'not run (see polder approve)', notRun)
}

function printList(output: Output, what: string, list: readonly string[]): void {
  if (list.length === 0) return
  output.line(`  ${what}: ${listed(list, output.verbose ? undefined : NAMED)}`)
}

function printBuilds(output: Output, { records, reused, unenforced }: NonNullable<Installation['builds']>): void {
  const built = records.map(({ package: name, durationMs }) => `${name} (${duration(durationMs)})`)
  if (built.length > 0) output.line(`  built: ${built.join(', ')}`)
  if (reused > 0) output.line(`  built before: ${count(reused, 'package')}`)
  if (unenforced > 0) output.line(`  ${output.bad('unenforced')}: ${count(unenforced, 'build')} ran without a sandbox`)
}

function printScripts(output: Output, { records, reused }: NonNullable<Installation['scripts']>): void {
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
