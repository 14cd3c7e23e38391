import type { Pin } from '@polder/gather'
import { PolderError, type PackageId, unpatchedId } from '@polder/spec'

/** A package, or a service, and the lockfiles that know it. */
export interface EdgeOwner {
  readonly id: string
  readonly lockfiles: readonly string[]
}

/** A package that several lockfiles have and that uses another one, which only some of them patch. */
export interface SharedPatch {
  readonly owner: string
  /** What it gets, for all of them. */
  readonly uses: PackageId
  /** The lockfiles that know nothing of the patch. */
  readonly unpatchedIn: readonly string[]
}

/**
 * Which candidates may stand for which, where some are patched. A patch is a decision of one lockfile: whoever was
 * locked to a patched candidate keeps a candidate with that patch, and nobody gets a patched candidate, or loses one,
 * that its own lockfiles do not have that way. So the same version, patched here and not there, is a split.
 *
 * One package cannot be split over what it uses, though: if two lockfiles have it, and one of them patches what it
 * uses, it gets the patched one for both, and that is reported.
 */
export class PatchRule {
  readonly shared: SharedPatch[] = []
  /** By slot, the pins in the order of its candidates; only slots with a patched one. */
  readonly #slots = new Map<number, readonly Pin[]>()

  constructor(pins: ReadonlyMap<PackageId, Pin>, order: readonly (readonly PackageId[])[]) {
    for (const [slot, ids] of order.entries()) {
      const candidates = ids.flatMap((id) => pins.get(id) ?? [])
      if (candidates.some(({ patch }) => patch !== undefined)) this.#slots.set(slot, candidates)
    }
  }

  isPatched(slot: number, positions: readonly number[]): boolean {
    const pins = this.#slots.get(slot)
    return pins !== undefined && positions.some((position) => pins[position]?.patch !== undefined)
  }

  /**
   * What several lockfiles chose for an edge: of a version that is patched in some, the patched one.
   * @throws PolderError `PIN_CONFLICT` if there are two patches
   */
  resolved(owner: EdgeOwner, slot: number, locked: readonly number[]): readonly number[] {
    const pins = this.#slots.get(slot)
    if (pins === undefined || locked.length < 2) return locked
    return locked.filter((position) => {
      const pin = pins[position]
      const siblings = locked.flatMap((other) => pins[other] ?? []).filter((other) => isSameArtifact(other, pin))
      const patched = siblings.filter(({ patch }) => patch !== undefined)
      if (patched.length > 1) throw conflict(owner, patched)
      const [only] = patched
      if (pin === undefined || only === undefined || only === pin) return true
      this.shared.push({ owner: owner.id, uses: only.id, unpatchedIn: pin.lockfiles })
      return false
    })
  }

  /** Those of the acceptable candidates that take no patch from the owner and give it none. */
  respecting(
    owner: EdgeOwner,
    slot: number,
    acceptable: readonly number[],
    locked: readonly number[],
  ): readonly number[] {
    const pins = this.#slots.get(slot)
    if (pins === undefined) return acceptable
    const hashes = new Set(locked.flatMap((position) => pins[position]?.patch?.hash ?? []))
    return acceptable.filter((position) => {
      const pin = pins[position]
      if (pin === undefined || locked.includes(position)) return true
      if (hashes.size > 0) return pin.patch !== undefined && hashes.has(pin.patch.hash)
      if (pin.patch !== undefined) return owner.lockfiles.every((lockfile) => pin.lockfiles.includes(lockfile))
      return !pins.some(
        (other) =>
          other.patch !== undefined &&
          isSameArtifact(other, pin) &&
          other.lockfiles.some((lockfile) => owner.lockfiles.includes(lockfile)),
      )
    })
  }
}

function isSameArtifact(a: Pin, b: Pin | undefined): boolean {
  return b !== undefined && unpatchedId(a.id) === unpatchedId(b.id)
}

function conflict(owner: EdgeOwner, patched: readonly Pin[]): PolderError {
  const all = patched.map(({ patch, lockfiles }) => `${patch?.path ?? ''} (${lockfiles.join(', ')})`).join(' and ')
  const id = unpatchedId(patched[0]?.id ?? ('' as PackageId))
  return new PolderError('PIN_CONFLICT', `${owner.id} uses ${id}, which is patched in two ways: ${all}`, {
    spec: id,
    hint: 'use one patch for both, or keep the two services in repositories of their own',
  })
}
