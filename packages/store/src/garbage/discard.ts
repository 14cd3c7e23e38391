import { isErrno } from '@polder/spec'
import { renameSync, rmSync } from 'node:fs'

import { environmentPath, treePath, type Store, type TreeId } from '../content-path.ts'
import { linkPool } from '../environments/link-pool.ts'
import { temporaryPath } from '../durable/publish.ts'
import { writeFailure } from '../durable/write-failure.ts'

/**
 * Takes damaged trees, an environment and the pool of links out of the store, so that the next installation makes them
 * again, trees from the artifacts. They vanish by rename, and are deleted then; what is not there is no error. Hold a lease around this.
 * @throws PolderError `STORE_UNWRITABLE`
 */
export function discard(store: Store, trees: readonly TreeId[], environment: string | undefined): void {
  const paths = [...trees.map((id) => treePath(store, id)), linkPool(store).directory]
  if (environment !== undefined) paths.push(environmentPath(store, environment))
  for (const path of paths) {
    const aside = temporaryPath(store, 'discarded')
    try {
      renameSync(path, aside)
      rmSync(aside, { recursive: true, force: true })
    } catch (error) {
      if (!isErrno(error, 'ENOENT')) throw writeFailure(error, `discarding ${path}`, store.home)
    }
  }
}
