import { findRoot, PINS_FILE } from '@polder/gather'
import { openStore, storeHome } from '@polder/store'

import type { Output } from '../output.ts'
import { changePins } from '../pins-file.ts'

/**
 * `polder index remove`: takes back what `index add` pinned, in polder.pins.yaml and, if there is one, in polder.lock. What
 * the store has of it stays.
 * @param what packages as `name@version` or `name`, files by their URL
 * @throws PolderError `USAGE` if one of them was not added; nothing is removed then
 */
export async function indexRemove(cwd: string, output: Output, what: readonly string[]): Promise<number> {
  const removed: string[] = []
  const lock = await changePins(findRoot(cwd), openStore(storeHome(process.env)), output, (pins) => {
    for (const one of new Set(what)) removed.push(pins.remove(one))
  })
  for (const name of removed) output.line(`removed ${name} from ${PINS_FILE}`)
  output.result({ removed, lock })
  return 0
}
