import { createHash } from 'node:crypto'
import { statSync } from 'node:fs'
import { join } from 'node:path'

import { digestInput, readConfig } from '@polder/gather'
import {
  linkCheckout,
  planEnvironment,
  realiseEnvironment,
  type Layout,
  type LinkReport,
  type Plan,
  type State,
  type StateInput,
} from '@polder/realise'
import { compareText, currentPlatform } from '@polder/spec'
import { hasEnvironment, openStore, storeHome, withLease, type Store } from '@polder/store'

import { LOCK_FILE, openCheckout, type Checkout } from '../checkout.ts'
import { count, duration, type Output } from '../output.ts'
import { startProgress } from '../progress.ts'
import { polderVersion } from '../version.ts'
import { outOfDate } from './lock.ts'

export interface InstallOptions {
  readonly layout?: Layout
  readonly force: boolean
}

/** `polder install`: the locked environment on disk, from what the store holds. Opens no connection. */
export async function install(cwd: string, output: Output, options: InstallOptions): Promise<number> {
  const started = performance.now()
  const checkout = openCheckout(cwd)
  const layout = options.layout ?? readConfig(checkout.root).layout
  const changed = changedInputs(checkout)
  if (changed.length > 0) throw outOfDate(`${count(changed.length, 'file')} changed since it was made`, changed)
  const store = openStore(storeHome(process.env))
  const plan = planEnvironment(checkout.lock, currentPlatform(), layout)
  const built = !hasEnvironment(store, plan.id)
  const { environmentPath, linked } = await withLease(store, () => realise(store, checkout, plan, options, output))
  for (const path of linked.replaced) output.note(`replaced: ${path}, which another tool had made`)
  const packages = plan.environment.length + plan.checkout.packages.length
  printInstalled(output, { plan, packages, built, linked, milliseconds: performance.now() - started })
  output.result({
    upToDate: false,
    environment: plan.id,
    environmentPath,
    layout,
    packages,
    built,
    ...linked,
    notBuilt: plan.notBuilt,
  })
  return 0
}

async function realise(
  store: Store,
  checkout: Checkout,
  plan: Plan,
  { force }: InstallOptions,
  output: Output,
): Promise<{ environmentPath: string | null; linked: LinkReport }> {
  const progress = startProgress(output, 'Installing')
  try {
    const environmentPath = await realiseEnvironment(store, plan, {
      onProgress: ({ done, total, label }) => {
        progress.update(done, total, label)
      },
    })
    const linked = await linkCheckout({
      store,
      checkout: checkout.root,
      plan,
      environmentPath,
      state: { lock: sha256(checkout.lockText), inputs: stateInputs(checkout), polder: polderVersion() },
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

/** The inputs whose digest is not the one in the lock, sorted. */
export function changedInputs({ root, lock }: Checkout): string[] {
  return Object.entries(lock.inputs)
    .filter(([path, digest]) => digestInput(root, path) !== digest)
    .map(([path]) => path)
    .sort(compareText)
}

/** True if the last installation is what the lock asks for now. */
export function isCurrent(state: State | undefined, checkout: Checkout): boolean {
  return state !== undefined && state.lock === sha256(checkout.lockText) && changedInputs(checkout).length === 0
}

/** What the next `install` compares first: every input of the lock, and the lock. */
function stateInputs({ root, lock, lockText }: Checkout): Record<string, StateInput> {
  const digests = { ...lock.inputs, [LOCK_FILE]: `sha256-${sha256(lockText)}` }
  return Object.fromEntries(
    Object.entries(digests).map(([path, digest]) => {
      const { mtimeMs, size } = statSync(join(root, path))
      return [path, { mtimeMs, size, digest }]
    }),
  )
}

function sha256(text: string): string {
  return createHash('sha256').update(text).digest('hex')
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
