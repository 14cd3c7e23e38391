import {
  hasEnvironment,
  environmentPath,
  hasTree,
  missingTrees,
  publishEnvironment,
  readTree,
  unpackTrees,
  type Store,
} from '@polder/store'

import { newTransfer, placePackage } from './package-files.ts'
import type { LinkPlan, Plan } from './planned.ts'
import { wantedTree } from './wanted-tree.ts'

/** How far realising is; `label` is the last package. */
export interface RealiseProgress {
  readonly phase: 'unpack' | 'link'
  readonly done: number
  readonly total: number
  readonly label: string
}

/**
 * For whoever misses an artifact before realising begins: all that are missing are named, not only the first.
 * @throws PolderError `ARTIFACT_MISSING` (all of them, in `details.others`)
 */
export function requireArtifacts(store: Store, { environment, checkout }: Plan): void {
  missingTrees(
    store,
    [...environment, ...checkout.packages].map(({ tree: id, integrity, package: label, bin }) => ({
      id,
      integrity,
      label,
      bin,
    })),
  )
}

/**
 * Where the environment is, as {@link realiseEnvironment} says, if that has nothing to do; undefined if it has. Hold a
 * lease on the store around this, too.
 */
export function realisedEnvironment(store: Store, plan: LinkPlan): string | null | undefined {
  const shared = plan.layout === 'linked'
  if (shared && !hasEnvironment(store, plan.id)) return undefined
  if (!plan.checkout.packages.every(({ tree }) => hasTree(store, tree))) return undefined
  return shared ? environmentPath(store, plan.id) : null
}

/**
 * Makes sure that everything a checkout links to is there: unpacks what is not unpacked, and builds the shared
 * environment unless the store has it. Safe to be killed at any point and to run several times at once. Hold a lease
 * on the store (`withLease`) around this and {@link linkCheckout}.
 * @param checkout where patch files are, absolute; this process's directory unless told
 * @returns where the environment is, or null in the self-contained layout
 * @throws PolderError `ARTIFACT_MISSING` (all of them, in `details.others`), `ARTIFACT_CORRUPT`, `ARCHIVE_REFUSED`,
 *   `PATCH_FAILED`, `DISK_FULL`, `STORE_UNWRITABLE`
 */
export async function realiseEnvironment(
  store: Store,
  plan: Plan,
  {
    checkout,
    onProgress,
  }: { readonly checkout?: string; readonly onProgress?: (progress: RealiseProgress) => void } = {},
): Promise<string | null> {
  const shared = plan.layout === 'linked'
  const isThere = shared && hasEnvironment(store, plan.id)
  const wanted = [...(isThere ? [] : plan.environment), ...plan.checkout.packages]
  await unpackTrees(
    store,
    wanted.filter(({ built }) => built !== true).map((planned) => wantedTree(store, planned, checkout)),
    { onProgress: ({ done, total, label }) => onProgress?.({ phase: 'unpack', done, total, label }) },
  )
  if (!shared) return null
  if (isThere) return environmentPath(store, plan.id)

  const trees = [...new Set(plan.environment.map(({ tree }) => tree))].sort()
  return publishEnvironment(
    store,
    plan.id,
    async (directory) => {
      const transfer = newTransfer(store)
      for (const [index, planned] of plan.environment.entries()) {
        placePackage(planned, readTree(store, planned.tree), directory, undefined, transfer)
        onProgress?.({ phase: 'link', done: index + 1, total: plan.environment.length, label: planned.package })
        // Lets signals and the progress display have their turn.
        if (index % 16 === 15) await new Promise((resolve) => setImmediate(resolve))
      }
      return transfer.copied > 0
    },
    { trees },
  )
}
