import { readdirSync } from 'node:fs'
import { join } from 'node:path'

import { type Integrity, integrityFromHex, isErrno } from '@polder/spec'

import type { Store, TreeId } from '../content-path.ts'

/** Every artifact of the store, by hash. Whether it is what its name says is for `readArtifact` to find out. */
export function listArtifacts(store: Store): readonly Integrity[] {
  const root = join(store.home, 'artifacts', 'sha512')
  return names(root, /^[0-9a-f]{2}$/).flatMap((directory) =>
    names(join(root, directory), /^[0-9a-f]{126}$/).map((rest) => integrityFromHex('sha512', `${directory}${rest}`)),
  )
}

/** Every tree of the store, of artifacts, patched and built ones. */
export function listTrees(store: Store): readonly TreeId[] {
  return names(join(store.home, 'trees'), /^[0-9a-f]{40}$/) as readonly TreeId[]
}

function names(directory: string, pattern: RegExp): readonly string[] {
  try {
    return readdirSync(directory)
      .filter((name) => pattern.test(name))
      .sort()
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENOTDIR')) return []
    throw error
  }
}
