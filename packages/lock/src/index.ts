export { diffLocks, isEmptyDiff, type LockDiff } from './diff.ts'
export type {
  InstanceId,
  Lock,
  LockedIndex,
  LockedInstance,
  LockedKey,
  LockedPackage,
  LockedRequirement,
  LockedService,
  NpmLock,
  Split,
  SplitDemand,
  Target,
} from './lock.ts'
export { parseLock, parseSigningKeys } from './parse.ts'
export { serializeLock } from './serialize.ts'
export { exportPackageLock } from './export/package-lock.ts'
export { exportPnpmLock, type PnpmWorkspaceSettings } from './export/pnpm-lock.ts'
