// `./manifest` and `./semver-ranges` are entries of their own: they load zod and semver, which an install needs neither of.
export type { AddedFile, AddedPackage, Additions } from './additions.ts'
export { isErrno, PolderError, type ErrorCode } from './error.ts'
export {
  algorithmOf,
  hexDigest,
  integrityFromHash,
  integrityFromHex,
  integrityOf,
  strongestIntegrity,
  type Integrity,
} from './integrity.ts'
export type { Manifest } from './manifest.ts'
export {
  compareText,
  isPackageName,
  packageId,
  patchedId,
  sortKeys,
  splitPackageId,
  unpatchedId,
  type PackageId,
} from './package-id.ts'
export type { PackageSource } from './package-source.ts'
export {
  currentPlatform,
  matchesEngines,
  matchesPlatform,
  parsePlatform,
  platformName,
  type Platform,
  type PlatformCondition,
} from './platform.ts'
