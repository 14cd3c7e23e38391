import { PolderError } from '@polder/spec'

// What `plans/` and `known/` of the store have in common: both can be made again.

/** Another number where the same lock gives another plan, or where a plan is kept in another way. */
export const PLAN_FORMAT = 8

/** A store that cannot be written to still serves: what is not kept is found out again next time. */
export function ifWritable(write: () => void): void {
  try {
    write()
  } catch (error) {
    const isFull = error instanceof PolderError && (error.code === 'STORE_UNWRITABLE' || error.code === 'DISK_FULL')
    if (!isFull && !(error instanceof Error && 'code' in error)) throw error
  }
}
