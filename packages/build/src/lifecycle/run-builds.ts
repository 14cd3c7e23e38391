import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import { PolderError } from '@polder/spec'
import { hasTree, type Store, withWorkDirectory } from '@polder/store'

import type { BuildOptions } from './build-options.ts'
import type { PlannedBuild } from './planned-build.ts'
import type { BuildRecord } from './build-record.ts'
import { openSandboxes } from '../sandbox/ladder.ts'
import type { Sandboxes } from '../sandbox/sandboxes.ts'
import { Workshop } from './workshop.ts'

export interface BuildReport {
  /** Of the builds that ran, in the order of the plan. */
  readonly records: readonly BuildRecord[]
  /** How many trees were there already. */
  readonly reused: number
  /** Why not everything could be confined or recorded, a sentence each. Empty if nothing ran. */
  readonly shortcomings: readonly string[]
}

/**
 * Runs the builds whose trees are not in the store, each after those that it needs, as many at a time as there are
 * places. The trees that they start from, and all that is beside them, have to be there. A tree appears complete or not
 * at all; being killed loses what was under way only. Hold a lease on the store around this.
 * @param builds in any order
 * @throws PolderError `BUILD_FAILED` (the first; all others in `details.others`), `SANDBOX_UNAVAILABLE`,
 *   `SANDBOX_FAILED`, `DISK_FULL`, `STORE_UNWRITABLE`
 */
export async function runBuilds(
  store: Store,
  builds: readonly PlannedBuild[],
  options: BuildOptions,
): Promise<BuildReport> {
  const wanted = options.inspect === undefined ? builds.filter(({ id }) => !hasTree(store, id)) : builds
  const reused = builds.length - wanted.length
  if (wanted.length === 0) return { records: [], reused, shortcomings: [] }
  return withWorkDirectory(store, 'build', (scratch) =>
    withSocketDirectory(scratch, async (sockets) => {
      let sandboxes: Sandboxes | undefined
      try {
        sandboxes = await openSandboxes({ scratch: join(scratch, 'sandboxes'), require: options.requireSandbox })
        const outcomes = await new Workshop({ store, builds: wanted, options, sandboxes, scratch, sockets }).runAll()
        const records = outcomes.map(({ record }) => record).filter((record) => record !== undefined)
        const [first, ...others] = outcomes.map(({ error }) => error).filter((error) => error !== undefined)
        if (first !== undefined) throw new PolderError(first.code, first.message, { ...first.details, others })
        return { records, reused, shortcomings: sandboxes.shortcomings }
      } finally {
        await sandboxes?.close()
      }
    }),
  )
}

/** The kernel takes at most this many bytes for the path of a socket. */
const SOCKET_PATH_BYTES = 107

/** Where a store has a long path, its scratch is no place for sockets. */
export async function withSocketDirectory<T>(scratch: string, fn: (directory: string) => Promise<T>): Promise<T> {
  if (Buffer.byteLength(join(scratch, 'index-99999.sock')) <= SOCKET_PATH_BYTES) return fn(scratch)
  const directory = mkdtempSync(join(tmpdir(), 'polder-'))
  try {
    return await fn(directory)
  } finally {
    rmSync(directory, { recursive: true, force: true })
  }
}
