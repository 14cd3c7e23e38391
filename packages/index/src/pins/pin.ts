import { type Integrity, type Manifest, type PackageId, type PackageSource, PolderError } from '@polder/spec'

/** A candidate that has to be in the store, as its lockfiles describe it. */
export interface PinRequest {
  readonly id: PackageId
  /** The real name, never an alias. */
  readonly name: string
  /** As in the id after the name: the version of a registry's package. */
  readonly reference: string
  /** The strongest hash that a lockfile has for it. */
  readonly integrity: Integrity | null
  /** True if no lockfile that has it can have a hash: what the registry's document says is then trusted, once. */
  readonly hashFromRegistry?: boolean
  readonly source: PackageSource
  /** Who has it on their path: services, lockfiles or packages, for messages. */
  readonly neededBy: readonly string[]
  /** Nobody breaks without it. It is pinned all the same. */
  readonly optional: boolean
}

/** A pin whose artifact is in the store. */
export interface PinnedPackage {
  /** sha512 of the artifact: the lockfile's, or our own where that has a weaker one. */
  readonly integrity: Integrity
  readonly manifest: Manifest
  /** It has install scripts, or a `binding.gyp` that npm would build. */
  readonly needsBuild: boolean
  /** sha1 of the artifact, hex, for clients that know nothing better. Absent if nobody has computed it yet. */
  readonly shasum?: string
}

/** The error with the pin, where its bytes came from and who needs it. */
export function attributed(error: PolderError, pin: PinRequest, origin = ''): PolderError {
  const { code, message, details } = error
  const about = message.includes(pin.id) ? message : `${pin.id} cannot be fetched: ${message}`
  const from = origin === '' || about.includes(origin) ? '' : `, from ${origin}`
  return new PolderError(code, `${about}${from}, ${neededBy(pin)}`, { ...details, spec: pin.id })
}

function neededBy({ neededBy: owners, optional }: PinRequest): string {
  const shown = owners.slice(0, 3)
  const rest = owners.length - shown.length
  const list = rest > 0 ? `${shown.join(', ')} and ${rest} others` : shown.join(' and ')
  return `needed by ${list === '' ? 'nobody' : list}${optional ? ' (optional)' : ''}`
}
