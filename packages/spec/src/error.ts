/** Every way polder can fail on purpose. Each code has a test and a row in `docs/errors.md`. */
export type ErrorCode =
  // configuration and usage
  | 'CONFIG_INVALID'
  | 'CONFIG_NOT_FOUND'
  | 'NO_SERVICES'
  | 'SERVICE_UNKNOWN'
  | 'SCRIPT_UNKNOWN'
  | 'PACKAGE_UNKNOWN'
  | 'USAGE'
  // gather
  | 'MANIFEST_INVALID'
  | 'LOCKFILE_INVALID'
  | 'LOCKFILE_VERSION'
  | 'LOCKFILE_STALE'
  | 'LOCKFILE_CONFLICT_MARKERS'
  | 'PIN_CONFLICT'
  // polder.lock
  | 'LOCK_NOT_FOUND'
  | 'LOCK_INVALID'
  | 'LOCK_OUT_OF_DATE'
  | 'PLATFORM_NOT_LOCKED'
  | 'EXPORT_UNSUPPORTED'
  | 'PLATFORM_EXCLUDED'
  | 'ENGINE_UNSUPPORTED'
  | 'SINGLE_SPLIT'
  // index and upstream
  | 'FETCH_FAILED'
  | 'INTEGRITY_MISMATCH'
  | 'INTEGRITY_MISSING'
  | 'NPMRC_INVALID'
  | 'SOURCE_UNSUPPORTED'
  | 'PRIVATE_NAME'
  | 'SIGNATURE_INVALID'
  | 'SIGNATURE_MISSING'
  | 'SIGNING_KEY_SWAPPED'
  | 'SIGNING_KEY_UNKNOWN'
  | 'SIGNING_KEY_EXPIRED'
  | 'ATTESTATION_INVALID'
  | 'RELEASE_REFUSED'
  | 'RELEASE_DATE'
  | 'INDEX_DRIFT'
  | 'INDEX_DAMAGED'
  | 'BUNDLE_INVALID'
  | 'ADDRESS_REFUSED'
  // store
  | 'ARTIFACT_MISSING'
  | 'ARTIFACT_CORRUPT'
  | 'ARCHIVE_REFUSED'
  | 'PATCH_FAILED'
  | 'STORE_LAYOUT'
  | 'STORE_UNWRITABLE'
  | 'DISK_FULL'
  // builds
  | 'SANDBOX_UNAVAILABLE'
  | 'SANDBOX_FAILED'
  | 'BUILD_FAILED'
  // realise
  | 'NODE_MODULES_FOREIGN'
  | 'CHECKOUT_BUSY'
  | 'NOT_INSTALLED'
  | 'VERIFY_FAILED'
  | 'DUPLICATES_FOUND'

/** What an error can carry besides its message; `cli` prints `hint` and, with `--json`, all of it. */
export interface ErrorDetails {
  /** What the user can do next, as a sentence or a command. */
  readonly hint?: string
  readonly cause?: unknown
  readonly found?: string
  readonly wanted?: string
  /** The file or directory concerned. */
  readonly path?: string
  /** The package or requirement concerned. */
  readonly spec?: string
  /** Why it is so, where that takes several sentences, one a line. */
  readonly explanation?: string
  /** Further failures of the same kind that this one must not hide. */
  readonly others?: readonly PolderError[]
}

/** The one error class. The message says what happened, with the values; `details.hint` what to do about it. */
export class PolderError extends Error {
  override readonly name = 'PolderError'
  readonly code: ErrorCode
  readonly details: ErrorDetails

  constructor(code: ErrorCode, message: string, details: ErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause })
    this.code = code
    this.details = details
  }
}

/** True for a Node system error with this code, such as `ENOENT`. */
export function isErrno(error: unknown, ...codes: readonly string[]): error is NodeJS.ErrnoException {
  return error instanceof Error && codes.includes((error as NodeJS.ErrnoException).code ?? '')
}
