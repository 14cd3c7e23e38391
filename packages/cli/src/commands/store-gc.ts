import { collectGarbage, openStore, storeHome } from '@polder/store'

import { bytes, count, type Output } from '../output.ts'
import { forgetStaleLocks } from '../known-lock.ts'
import { dropStalePlans } from '../planned-lock.ts'
import { startProgress } from '../progress.ts'
import { dropStaleServed } from '../served-lock.ts'

/** `polder store gc`: removes what no checkout uses, and what was made for it; artifacts are the index and stay. */
export async function storeGc(output: Output): Promise<number> {
  const store = openStore(storeHome(process.env))
  const progress = startProgress(output, 'Removing')
  const report = await collectGarbage(store, {
    now: Date.now(),
    onProgress: ({ done, total, label }) => {
      progress.update(done, total, label)
    },
  })
  progress.end()
  if (!report.busy) {
    dropStalePlans(store)
    forgetStaleLocks(store)
    dropStaleServed(store, Date.now())
  }
  if (report.busy) output.line('An installation is running: nothing was removed')
  else {
    const removed = [count(report.environments.length, 'environment'), count(report.trees.length, 'tree')]
    output.line(
      `Removed ${removed.join(', ')} (${bytes(report.bytes)}); forgot ${count(report.roots.length, 'checkout that is gone', 'checkouts that are gone')}`,
    )
  }
  output.result({ ...report })
  return 0
}
