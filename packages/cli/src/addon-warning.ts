import type { BuildRecord } from '@polder/build'
import { otherDeclaredNodes } from '@polder/gather'

import { listed, type Output } from './output.ts'

const SHOWN = 3

/**
 * Warns of addons that were built for the Node that runs polder only, where the repository says that it runs on another.
 * @param directories of the repository's packages
 */
export function warnOfOtherNodes(
  records: readonly BuildRecord[],
  root: string,
  directories: readonly string[],
  output: Output,
): void {
  const bound = records.filter(({ addons = [] }) => addons.length > 0).map((record) => record.package)
  if (bound.length === 0) return
  const major = Number.parseInt(process.versions.node, 10)
  const others = otherDeclaredNodes(root, [...new Set(['.', ...directories])], major)
  if (others.length === 0) return
  const said = others.map(({ path, wanted }) => `${path} says ${wanted}`)
  output.note(
    `warning: what was built of ${listed(bound, SHOWN)} loads in Node ${major} only, which runs polder, but ${listed(said, SHOWN)}: run polder with the Node that runs the services`,
  )
}
