import { compareText, type PackageId, PolderError } from '@polder/spec'
import { RangeCache } from '@polder/spec/semver-ranges'

import { ruleFor } from './name-patterns.ts'
import type { Release } from './releases.ts'

/** What a version has to be that is pinned for the first time. */
export interface ReleasePolicy {
  /** Minutes since it was published; 0 for none. */
  readonly minimumReleaseAge: number
  /** Rules of names, patterns and ranges, as `ruleFor` reads them. */
  readonly minimumReleaseAgeExclude: readonly string[]
  readonly allow: readonly string[]
  readonly deny: readonly string[]
}

/** A version that the lock does not have yet. */
export interface NewPin {
  readonly id: PackageId
  readonly name: string
  readonly version: string
  /** False for what comes from no registry, whose date nobody says. */
  readonly fromRegistry: boolean
  readonly neededBy: readonly string[]
}

const MINUTE_MS = 60_000
// Clocks of registries and of machines differ by seconds, not by more.
const SKEW_MS = 10 * MINUTE_MS

/** True if the policy asks for the date of a version. */
export function needsDate(
  { minimumReleaseAge, minimumReleaseAgeExclude }: ReleasePolicy,
  pin: NewPin,
  ranges: RangeCache,
): boolean {
  return (
    minimumReleaseAge > 0 &&
    pin.fromRegistry &&
    ruleFor(minimumReleaseAgeExclude, pin.name, pin.version, ranges) === undefined
  )
}

/**
 * Holds new pins to the policy, by the date that was recorded and not by what a registry says later.
 * @returns one refusal a pin, sorted by id: `RELEASE_REFUSED`, or `RELEASE_DATE` where the age cannot be known
 */
export function refusedPins(
  pins: readonly NewPin[],
  policy: ReleasePolicy,
  { now, releaseOf }: { readonly now: number; readonly releaseOf: (id: PackageId) => Release | undefined },
): readonly PolderError[] {
  const ranges = new RangeCache()
  return [...pins]
    .sort((a, b) => compareText(a.id, b.id))
    .flatMap((pin) => {
      const error = refusal(pin, policy, now, releaseOf(pin.id), ranges)
      return error === undefined ? [] : [error]
    })
}

function refusal(
  pin: NewPin,
  policy: ReleasePolicy,
  now: number,
  release: Release | undefined,
  ranges: RangeCache,
): PolderError | undefined {
  const { id, name, version, neededBy } = pin
  const published = release?.published
  const refused = (code: 'RELEASE_REFUSED' | 'RELEASE_DATE', problem: string, hint: string): PolderError => {
    const users = neededBy.length === 0 ? 'nobody' : neededBy.slice(0, 3).join(', ')
    return new PolderError(code, `${id} ${problem}; needed by ${users}`, { spec: id, hint })
  }
  const date = published === undefined ? '' : `, published ${published}`
  const denied = ruleFor(policy.deny, name, version, ranges)
  if (denied !== undefined)
    return refused(
      'RELEASE_REFUSED',
      `is denied by policy.deny: ${denied}${date}`,
      'lock another version in its service, or change the rule',
    )
  if (policy.allow.length > 0 && ruleFor(policy.allow, name, version, ranges) === undefined)
    return refused(
      'RELEASE_REFUSED',
      `is not among policy.allow${date}`,
      `add ${name}, or a range of it, to policy.allow in polder.yaml`,
    )
  if (!needsDate(policy, pin, ranges)) return undefined
  const exclude = `list ${name}@${version} under policy.minimumReleaseAgeExclude in polder.yaml if it is to be pinned all the same`
  if (published === undefined) {
    return refused(
      'RELEASE_DATE',
      'has no known date of publication, which policy.minimumReleaseAge asks for',
      release === undefined
        ? `\`polder index sync\` asks its registry; or ${exclude}`
        : `its registry does not say it; ${exclude}`,
    )
  }
  const ageMs = now - Date.parse(published)
  if (ageMs < -SKEW_MS) {
    return refused(
      'RELEASE_DATE',
      `was published at ${published}, which by this machine's clock (${new Date(now).toISOString()}) is yet to come`,
      `set the clock right; if it is right, do not trust the registry, or ${exclude}`,
    )
  }
  if (ageMs >= policy.minimumReleaseAge * MINUTE_MS) return undefined
  const allowedAt = new Date(Date.parse(published) + policy.minimumReleaseAge * MINUTE_MS).toISOString()
  return refused(
    'RELEASE_REFUSED',
    `was published at ${published}, less than policy.minimumReleaseAge (${duration(policy.minimumReleaseAge)}) ago`,
    `it may be pinned from ${allowedAt}; ${exclude}`,
  )
}

/** `3 days`, `90 minutes`. */
function duration(minutes: number): string {
  const [size, unit] = minutes % 1440 === 0 ? [1440, 'day'] : minutes % 60 === 0 ? [60, 'hour'] : [1, 'minute']
  const number = minutes / size
  return `${number} ${unit}${number === 1 ? '' : 's'}`
}
