import { spawnSync } from 'node:child_process'

import type { BuildRecord } from '@polder/build'
import { otherDeclaredNodes } from '@polder/gather'

import { listed, type Output } from './output.ts'
import { otherNode } from './possible-causes.ts'

const SHOWN = 3
const PATIENCE_MS = 5000

/**
 * Warns of addons that were built for the Node that runs polder only, where `node` is another one, or the repository says
 * that it runs on another.
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
  const said = [
    ...nodeOnPath(major),
    ...otherDeclaredNodes(root, [...new Set(['.', ...directories])], major).map(
      ({ path, wanted }) => `${path} says ${wanted}`,
    ),
  ]
  if (said.length === 0) return
  output.note(
    `warning: what was built of ${listed(bound, SHOWN)} loads in Node ${major} only, which runs polder, but ${listed(said, SHOWN)}: run polder with the Node that runs the services`,
  )
}

/** What scripts would run on here, if that is of another major version. */
function nodeOnPath(major: number): readonly string[] {
  const node = otherNode()
  if (node === undefined) return []
  const { stdout } = spawnSync(node, ['--version'], { encoding: 'utf8', timeout: PATIENCE_MS })
  const version = /^v(\d+)\.[\d.]+/.exec(stdout ?? '')
  return version === null || Number(version[1]) === major ? [] : [`${node} is ${version[0].slice(1)}`]
}
