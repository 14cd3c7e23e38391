import { type BuildRecord, describeAttempt, type PlannedBuild, readBuildRecord } from '@polder/build'
import { findRoot } from '@polder/gather'
import { readState } from '@polder/realise'
import { hasTree, openStore, type Store, storeHome } from '@polder/store'

import { isNamed, requireNamed, withNeeded } from '../builds.ts'
import { bytes, count, duration, type Output } from '../output.ts'
import { planLock } from '../planned-lock.ts'

interface Listed {
  readonly build: PlannedBuild
  readonly status: 'built' | 'failed' | 'not yet'
  readonly record: BuildRecord | undefined
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
  const { builds: locked, plan } = await planLock(store, root, undefined, readState(root)?.unenforced)
  const all = (locked?.builds ?? []).map((build) => listed(store, build))
  requireNamed(
    all.map(({ build }) => build),
    names,
    plan.notBuilt,
  )
  const shown = names.length === 0 ? all : all.filter(({ build }) => names.some((name) => isNamed(build, name)))
  if (learn)
    return (await import('../learn-builds.ts')).learnBuilds(
      { store, root, output },
      withNeeded(
        store,
        shown.map(({ build }) => build),
        all.map(({ build }) => build),
      ),
    )
  for (const one of shown) print(output, one, names.length > 0 || output.verbose)
  if (all.length === 0) output.line('no install scripts are allowed in polder.yaml (builds.allow)')
  if (plan.notBuilt.length > 0) output.line(`not allowed: ${plan.notBuilt.join(', ')} (\`polder approve\`)`)
  output.result({
    builds: shown.map(({ build, status, record }) => ({
      package: build.package,
      instance: build.instance,
      id: build.id,
      status,
      scripts: build.scripts,
      ...(record === undefined ? {} : { record }),
    })),
    notAllowed: plan.notBuilt,
  })
  return 0
}

function listed(store: Store, build: PlannedBuild): Listed {
  const record = readBuildRecord(store, build.id)
  const status = hasTree(store, build.id) ? 'built' : record?.status === 'failed' ? 'failed' : 'not yet'
  return { build, status, record }
}

function print(output: Output, { build, status, record }: Listed, whole: boolean): void {
  const state = status === 'failed' ? output.bad(status) : status === 'built' ? output.good(status) : output.dim(status)
  const facts = record === undefined ? [] : factsOf(record)
  output.line([`${output.bold(build.package)}  ${state}`, ...facts].join(', '))
  if (!whole) return
  for (const { event, command } of build.scripts) output.line(`  ${event}: ${command}`)
  if (record === undefined) return
  for (const attempt of record.attempts) output.line(`  tried to reach ${describeAttempt(attempt)}`)
  for (const attempt of record.attempts.filter(({ command }) => command !== undefined).slice(0, 1))
    output.line(output.dim(`    by ${attempt.command ?? ''}`))
  for (const { what, count: times } of record.refused)
    output.line(`  asked the index for ${what}, which is not pinned${times > 1 ? `, ${times} times` : ''}`)
  if (record.attempts.length + record.refused.length === 0) output.line(`  ${NOTHING_REACHED[reachOf(record)]}`)
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

function reachOf({ recorded, level }: BuildRecord): keyof typeof NOTHING_REACHED {
  return recorded ?? (level === 'unenforced' ? 'nothing' : 'names')
}

function factsOf({ durationMs, level, attempts, refused, files, bytes: size }: BuildRecord): readonly string[] {
  return [
    duration(durationMs),
    level,
    ...(files === undefined ? [] : [`${count(files, 'file')} (${bytes(size ?? 0)})`]),
    ...(attempts.length === 0 ? [] : [`${count(attempts.length, 'attempt')} to reach other places`]),
    ...(refused.length === 0 ? [] : [`${count(refused.length, 'request')} for what is not pinned`]),
  ]
}
