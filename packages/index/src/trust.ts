// An entry of its own: it loads what reads documents, signatures and policies, which a lock that has everything needs not.
export { checkDrift, type CheckReport } from './check-drift.ts'
export type { Drift } from './drift.ts'
export { namesMatching } from './name-patterns.ts'
export { needsDate, type NewPin, refusedPins } from './release-policy.ts'
export { RangeCache } from '@polder/spec/semver-ranges'
export { type ReleaseReport, syncReleases } from './sync-releases.ts'
export { removeRelease } from './releases.ts'
export { type Damage, type IndexReport, verifyIndex } from './verify-index.ts'
