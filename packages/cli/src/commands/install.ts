import { nearestRoot } from '@polder/gather/inputs'
import { linkCheckout, realiseEnvironment, type Layout, type LinkReport, type Plan } from '@polder/realise'
import { hasEnvironment, openStore, storeHome, withLease, type Store } from '@polder/store'

import { changedInputs, outOfDate, stateInputs } from '../lock-file.ts'
import { count, duration, type Output } from '../output.ts'
import { planLock, type PlannedLock } from '../planned-lock.ts'
import { startProgress } from '../progress.ts'
import { polderVersion } from '../version.ts'

export interface InstallOptions {
  readonly layout?: Layout
  readonly force: boolean
}

/** `polder install`: the locked environment on disk, from what the store holds. Opens no connection. */
export async function install(cwd: string, output: Output, options: InstallOptions): Promise<number> {
  const started = process.hrtime.bigint()
  const root = nearestRoot(cwd) ?? (await import('@polder/gather')).findRoot(cwd)
  const store = openStore(storeHome(process.env))
  const planned = await planLock(store, root, options.layout)
  const { plan, packages } = planned
  const changed = changedInputs(root, planned.inputs)
  if (changed.length > 0) throw outOfDate(`${count(changed.length, 'file')} changed since it was made`, changed)
  const built = !hasEnvironment(store, plan.id)
  const { environmentPath, linked } = await withLease(store, () => realise(store, root, planned, options, output))
  for (const path of linked.replaced) output.note(`replaced: ${path}, which another tool had made`)
  printInstalled(output, {
    plan,
    packages,
    built,
    linked,
    milliseconds: Number(process.hrtime.bigint() - started) / 1e6,
  })
  output.result({
    upToDate: false,
    environment: plan.id,
    environmentPath,
    layout: plan.layout,
    packages,
    built,
    ...linked,
    notBuilt: plan.notBuilt,
  })
  return 0
}

async function realise(
  store: Store,
  root: string,
  { plan, inputs, lockDigest }: PlannedLock,
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
        inputs: stateInputs(root, inputs, lockDigest),
        ...(layout === undefined ? {} : { layoutAsked: true }),
        polder: polderVersion(),
      },
      force,
      onWait: (pid) => {
        output.note(`polder: waiting for the installation that process ${pid} runs in this checkout`)
      },
    })
    return { environmentPath, linked }
  } finally {
    progress.end()
  }
}

const NAMED = 8

function printInstalled(
  output: Output,
  {
    plan,
    packages,
    built,
    linked,
    milliseconds,
  }: { plan: Plan; packages: number; built: boolean; linked: LinkReport; milliseconds: number },
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
  const { notBuilt } = plan
  if (notBuilt.length > 0) {
    const named = notBuilt.slice(0, output.verbose ? undefined : NAMED).join(', ')
    const more = !output.verbose && notBuilt.length > NAMED ? ` and ${notBuilt.length - NAMED} more` : ''
    output.line(`  not built (install scripts are not run): ${named}${more}`)
  }
}
