import type { Integrity } from './integrity.ts'
import type { PackageId } from './package-id.ts'

/** Pins that no lockfile has: what `polder index add` wrote into `polder.pins.yaml`, and `polder.lock` took over. */
export interface Additions {
  /** By `name@version`. */
  readonly packages: Readonly<Record<PackageId, AddedPackage>>
  /** Files that are on no registry, by URL. */
  readonly files: Readonly<Record<string, AddedFile>>
}

/** A vendored tarball, or a packed workspace package. */
export interface AddedPackage {
  /** sha512 */
  readonly integrity: Integrity
  /** Where the repository has the tarball; without it there is only the hash. */
  readonly file?: string
  readonly workspace?: true
  /** No public upstream is ever asked for its name. */
  readonly private?: true
  /** The package whose install script installs it; only in a lock, which finds that out. */
  readonly neededBy?: PackageId
  /** The commits that are prepared with it; only in a lock. Sorted. */
  readonly preparing?: readonly PackageId[]
}

export interface AddedFile {
  /** sha512 */
  readonly integrity: Integrity
  readonly bytes?: number
  /** Who fetches it, where its URL does not say so: a tool, a package with prebuilt binaries, or `VARIABLE=BASE`. */
  readonly for?: string
}
