import { type PackageId, splitPackageId } from '@polder/spec'
import type { RangeCache } from '@polder/spec/semver-ranges'

import type { Lock } from './lock.ts'

/** True if a package has install scripts, and the lock's policy lets this version of it run them. */
export function mayRunScripts({ npm, policy }: Lock, id: PackageId, ranges: RangeCache): boolean {
  const { allow = {} } = policy.builds ?? {}
  const pkg = npm.packages[id]
  if (pkg?.needsBuild !== true) return false
  const { name, reference } = splitPackageId(id)
  const range = Object.hasOwn(allow, name) ? allow[name] : undefined
  if (range === undefined) return false
  // Also what is no version, such as a commit's URL.
  return range === '*' || ranges.satisfies(pkg.version ?? reference, range)
}
