import { sortKeys } from '@polder/spec'

import type { LockedRequirement, LockedService } from './lock.ts'

/**
 * Everything that a service asks for, whatever the kind, sorted by install name. A name that it asks for twice (a peer that is
 * also a development dependency) is there once, as its package manager resolves it.
 */
export function requirementsOf(service: LockedService | undefined): Readonly<Record<string, LockedRequirement>> {
  return sortKeys({
    ...service?.peerDependencies,
    ...service?.optionalDependencies,
    ...service?.devDependencies,
    ...service?.dependencies,
  })
}
