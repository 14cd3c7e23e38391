export { isErrno, PolderError, type ErrorCode, type ErrorDetails } from './error.ts'
export {
  algorithmOf,
  hexDigest,
  integrityFromHash,
  integrityFromHex,
  integrityOf,
  strongestIntegrity,
  type Algorithm,
  type Integrity,
} from './integrity.ts'
export { INSTALL_SCRIPTS, installScripts, manifestFromJson, parseManifest, type Manifest } from './manifest.ts'
export { compareText, isPackageName, packageId, sortKeys, splitPackageId, type PackageId } from './package-id.ts'
export {
  currentPlatform,
  matchesPlatform,
  parsePlatform,
  platformName,
  type Platform,
  type PlatformCondition,
} from './platform.ts'
export { RangeCache } from './semver-ranges.ts'
