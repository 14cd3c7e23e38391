import {
  type BuildRecord,
  type BuildScript,
  describeAttempt,
  type PlannedBuild,
  readBuildRecord,
  type WorkspaceRecord,
  type WorkspaceState,
} from '@polder/build'
import { findRoot } from '@polder/gather'
import { readState } from '@polder/realise'
import { hasTree, openStore, type Store, storeHome } from '@polder/store'

import { isNamed, requireNamed, withNeeded } from '../builds.ts'
import { bytes, count, duration, type Output } from '../output.ts'
import { packagePaths, planLock } from '../planned-lock.ts'
import { waitingWorkspaces } from '../waiting-workspaces.ts'
import { installedWorkspaces, isWorkspaceNamed } from '../workspace-scripts.ts'

/** A build, or the scripts of a workspace package. */
interface Listed {
  /** `name@version`, or a path. */
  readonly label: string
  readonly status: 'built' | 'failed' | 'changed' | 'not yet'
  readonly scripts: readonly BuildScript[]
  readonly record: BuildRecord | WorkspaceRecord | undefined
  /** What else the JSON has. */
  readonly more: object
}

/**
 * `polder builds`: the builds of this checkout's lock on this machine, and what is known of each. With names, everything
 * about these.
 * @throws PolderError `USAGE` for a name that is not built
 */
export async function builds(
  cwd: string,
  output: Output,
  names: readonly string[],
  { learn }: { readonly learn: boolean },
): Promise<number> {
  const root = findRoot(cwd)
  const store = openStore(storeHome(process.env))
  const planned = await planLock(store, root, undefined, readState(root)?.unenforced)
  const { plan } = planned
  const all = planned.builds?.builds ?? []
  const installed = installedWorkspaces(store, root, planned)
  const states = installed?.states ?? []
  const ofWorkspaces = names.filter((name) => states.some((state) => isWorkspaceNamed(state, name)))
  requireNamed(
    all,
    names.filter((name) => !ofWorkspaces.includes(name)),
    plan.notBuilt,
  )
  const shown = all.filter((build) => names.length === 0 || names.some((name) => isNamed(build, name)))
  const shownStates = states.filter(
    (state) => names.length === 0 || names.some((name) => isWorkspaceNamed(state, name)),
  )
  if (learn) {
    const workspaces = installed === undefined ? undefined : { ...installed, states: shownStates }
    const { learnBuilds } = await import('../learn-builds.ts')
    return learnBuilds({ store, root, output }, withNeeded(store, shown, all), workspaces)
  }
  const listed = [...shown.map((build) => listedBuild(store, build)), ...shownStates.map(listedWorkspace)]
  for (const one of listed) print(output, one, names.length > 0 || output.verbose)
  if (all.length + states.length === 0)
    output.line('no install scripts are allowed in polder.yaml (builds.allow, builds.workspaces)')
  const waiting = waitingWorkspaces(
    root,
    packagePaths(planned.inputs),
    planned.workspaces?.workspaces.map(({ path }) => path) ?? [],
  )
  const notAllowed = [...plan.notBuilt, ...waiting.map(({ path }) => path)]
  if (notAllowed.length > 0) output.line(`not allowed: ${notAllowed.join(', ')} (\`polder approve\`)`)
  output.result({
    builds: listed.map(({ label, status, scripts, record, more }) => ({
      package: label,
      ...more,
      status,
      scripts,
      ...(record === undefined ? {} : { record: withoutInputs(record) }),
    })),
    notAllowed,
  })
  return 0
}

function listedBuild(store: Store, build: PlannedBuild): Listed {
  const record = readBuildRecord(store, build.id)
  const status = hasTree(store, build.id) ? 'built' : record?.status === 'failed' ? 'failed' : 'not yet'
  const more = { instance: build.instance, id: build.id }
  return { label: build.package, status, scripts: build.scripts, record, more }
}

function listedWorkspace({ workspace, scripts, record, current }: WorkspaceState): Listed {
  const status =
    record === undefined ? 'not yet' : record.status === 'failed' ? 'failed' : current ? 'built' : 'changed'
  return { label: workspace.path, status, scripts, record, more: { workspace: true } }
}

/** Thousands of lines that tell nobody anything. */
function withoutInputs(record: BuildRecord | WorkspaceRecord): object {
  if (!('inputs' in record)) return record
  const { inputs: _, key: __, ...rest } = record
  return rest
}

function print(output: Output, { label, status, scripts, record }: Listed, whole: boolean): void {
  const state = status === 'failed' ? output.bad(status) : status === 'built' ? output.good(status) : output.dim(status)
  const facts = record === undefined ? [] : factsOf(record)
  output.line([`${output.bold(label)}  ${state}`, ...facts].join(', '))
  if (!whole) return
  for (const { event, command } of scripts) output.line(`  ${event}: ${command}`)
  if (record === undefined) return
  for (const attempt of record.attempts) output.line(`  tried to reach ${describeAttempt(attempt)}`)
  for (const attempt of record.attempts.filter(({ command }) => command !== undefined).slice(0, 1))
    output.line(output.dim(`    by ${attempt.command ?? ''}`))
  for (const { what, count: times } of record.refused)
    output.line(`  asked the index for ${what}, which is not pinned${times > 1 ? `, ${times} times` : ''}`)
  if (record.attempts.length + record.refused.length === 0) output.line(`  ${NOTHING_REACHED[reachOf(record)]}`)
  for (const path of ('addons' in record ? record.addons : undefined) ?? [])
    output.line(`  ${path} loads in Node ${process.versions.node.replace(/\..*$/, '')} only`)
  for (const path of record.leftOut ?? []) output.line(`  left out: ${path}, which leads out of the package`)
  if (record.failure !== undefined)
    for (const line of record.failure.tail.trimEnd().split('\n').slice(-20)) output.line(`  | ${line}`)
  output.line(`  log: ${record.log}`)
}

/** What no attempt on record means, by what was recorded. */
const NOTHING_REACHED = {
  everything: 'tried to reach nothing but the index',
  names: 'asked for no name and for nothing that is not pinned (addresses were not recorded)',
  nothing: 'what it tried to reach was not recorded, as nothing kept it in',
}

function reachOf({ recorded, level }: BuildRecord | WorkspaceRecord): keyof typeof NOTHING_REACHED {
  return recorded ?? (level === 'unenforced' ? 'nothing' : 'names')
}

function factsOf(record: BuildRecord | WorkspaceRecord): readonly string[] {
  const { durationMs, level, attempts, refused } = record
  return [
    duration(durationMs),
    level,
    ...madeBy(record),
    ...(attempts.length === 0 ? [] : [`${count(attempts.length, 'attempt')} to reach other places`]),
    ...(refused.length === 0 ? [] : [`${count(refused.length, 'request')} for what is not pinned`]),
  ]
}

function madeBy(record: BuildRecord | WorkspaceRecord): readonly string[] {
  if ('outputs' in record) return [count(record.outputs.length, 'file')]
  return record.files === undefined ? [] : [`${count(record.files, 'file')} (${bytes(record.bytes ?? 0)})`]
}
