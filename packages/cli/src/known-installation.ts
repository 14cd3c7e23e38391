import { nearestRoot } from '@polder/gather/inputs'
import { realisedEnvironment, type Layout } from '@polder/realise'
import { hasTree, openStore, storeHome, withLease } from '@polder/store'

import { makeCheckoutLinks } from './checkout-links.ts'
import { reportInstallation } from './installation-report.ts'
import { recallLock } from './known-lock.ts'
import type { Output } from './output.ts'

/**
 * `polder install` where everything but the links of this checkout is there: nothing is parsed, hashed or planned, and
 * nothing is loaded that would.
 * @returns false, with nothing done, where that is not so: `install` then does it all, and says what is wrong
 */
export async function installKnown(cwd: string, output: Output, layout: Layout | undefined): Promise<boolean> {
  const started = process.hrtime.bigint()
  const root = nearestRoot(cwd)
  if (root === null) return false
  const store = openStore(storeHome(process.env))
  const recalled = recallLock(store, root, layout)
  if (recalled === undefined) return false
  const { known, stateInputs } = recalled
  const { plan, packages, builds, notRun } = known
  const done = await withLease(store, async () => {
    const environmentPath = realisedEnvironment(store, plan)
    if (environmentPath === undefined || builds?.trees.every((tree) => hasTree(store, tree)) === false) return undefined
    const { lockDigest } = known
    const links = { plan, environmentPath, lockDigest, inputs: stateInputs, layout }
    const linked = await makeCheckoutLinks(store, root, links, output)
    return { environmentPath, linked }
  })
  if (done === undefined) return false
  const reused = builds === undefined ? {} : { builds: { records: [], reused: builds.trees.length, unenforced: 0 } }
  reportInstallation(output, { plan, packages, built: false, ...done, ...reused, notRun, started })
  return true
}
