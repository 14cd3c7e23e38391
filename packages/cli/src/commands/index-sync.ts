import { findRoot, gather, readConfig } from '@polder/gather'

import { bytes, count, type Output } from '../output.ts'
import { pinnedManifests } from '../pinned-manifests.ts'

/** `polder index sync`: fetches what `lock` would, and nothing else. */
export async function indexSync(cwd: string, output: Output): Promise<number> {
  const root = findRoot(cwd)
  const gathered = await gather(root, readConfig(root))
  const { manifests, sync } = await pinnedManifests(gathered, output, false)
  const fetched = sync?.fetched ?? 0
  output.line(
    `${count(manifests.size, 'pin')} in the index, ${fetched === 0 ? 'none' : `${fetched} (${bytes(sync?.bytes ?? 0)})`} fetched`,
  )
  output.result({ pins: manifests.size, fetched, bytes: sync?.bytes ?? 0 })
  return 0
}
