import { relative } from 'node:path'

import type { PlannedBuild } from '@polder/build'
import type { Lock } from '@polder/lock'
import { planEnvironment, readState, type State, verifyCheckout, type Plan } from '@polder/realise'
import { currentPlatform, PolderError } from '@polder/spec'
import { runningNode } from '@polder/spec/semver-ranges'
import {
  discard,
  environmentPath,
  hasTree,
  openStore,
  storeHome,
  verifyArtifacts,
  verifyTree,
  withLease,
  type Store,
  type TreeId,
} from '@polder/store'

import { openCheckout } from '../checkout.ts'
import { count, type Output } from '../output.ts'
import { planLock } from '../planned-lock.ts'
import { startProgress } from '../progress.ts'
import { install } from './install.ts'

/**
 * `polder verify`: recomputes the hashes of the artifacts in the lock, of the environment and of what stands in the
 * checkout, and compares every link with the plan. With `repair`, what differs is made again from the artifacts.
 * @throws PolderError `NOT_INSTALLED`; `VERIFY_FAILED` with each file that differs, is missing or was added
 */
export async function verify(cwd: string, output: Output, repair: boolean): Promise<number> {
  const { root, lock } = openCheckout(cwd)
  const state = readState(root)
  if (state === undefined)
    throw new PolderError('NOT_INSTALLED', `nothing is installed in ${root}`, {
      path: root,
      hint: 'run `polder install`',
    })
  const store = openStore(storeHome(process.env))
  const { plan, builds } = await planAgain(store, root, lock, state)
  if (plan.id !== state.environment) {
    throw new PolderError('VERIFY_FAILED', 'what is installed is not what polder.lock says', {
      path: root,
      found: state.environment,
      wanted: plan.id,
      hint: 'run `polder install`',
    })
  }
  // Collected trees of artifacts are unpacked to compare with; built ones are built.
  if (builds.some(({ id }) => !hasTree(store, id))) {
    const { performBuilds } = await import('../builds.ts')
    await withLease(store, () => performBuilds(store, root, builds, output))
  }
  const progress = startProgress(output, 'Verifying')
  const onProgress = ({ done, total, label }: { done: number; total: number; label: string }): void => {
    progress.update(done, total, label)
  }
  const placed = [...plan.environment, ...plan.checkout.packages]
  let differences: readonly Found[]
  try {
    const labelled = placed.map(({ package: label, integrity }) => ({ label, integrity }))
    const artifacts = await verifyArtifacts(store, labelled, { onProgress })
    const where = plan.layout === 'linked' ? environmentPath(store, plan.id) : null
    const installed = await verifyCheckout({ store, checkout: root, plan, environmentPath: where, onProgress })
    const inIndex = artifacts.map(({ label, kind, integrity }) => ({
      path: `artifact ${integrity.slice(0, 20)}…`,
      kind,
      package: label,
    }))
    differences = [...inIndex, ...installed]
  } finally {
    progress.end()
  }
  if (differences.length === 0) {
    const packages = new Set(placed.map((entry) => entry.package)).size
    output.line(`${count(packages, 'package')} verified: artifacts, environment and checkout are as locked`)
    output.result({ clean: true, packages })
    return 0
  }
  if (repair) return repairCheckout({ cwd, root }, store, plan, differences, output)
  output.result({ clean: false, differences })
  if (output.json) return VERIFY_FAILED
  throw new PolderError('VERIFY_FAILED', `${count(differences.length, 'difference')} to what was locked`, {
    others: differences.map(({ path, kind, package: owner }) => {
      const shown = path.startsWith(`${root}/`) ? relative(root, path) : path
      return new PolderError('VERIFY_FAILED', `${kind.padEnd(8)} ${shown}${owner === null ? '' : `  (${owner})`}`, {
        path,
      })
    }),
    hint: 'run `polder verify --repair` to make what is damaged again from the artifacts',
  })
}

/** From the lock and not from the plan that the store keeps: that may be damaged as well. */
async function planAgain(
  store: Store,
  root: string,
  lock: Lock,
  { layout, unenforced }: Pick<State, 'layout' | 'unenforced'>,
): Promise<{ readonly plan: Plan; readonly builds: readonly PlannedBuild[] }> {
  const here = { ...currentPlatform(), node: runningNode() }
  if (lock.policy.builds === undefined) return { plan: planEnvironment(lock, here, layout), builds: [] }
  const locked = await (await import('../builds.ts')).planLockedBuilds(store, root, lock, here, unenforced)
  return { plan: planEnvironment(lock, here, layout, locked.builtTree), builds: locked.builds().builds }
}

interface Found {
  readonly path: string
  readonly kind: string
  readonly package: string | null
}

const VERIFY_FAILED = 5

/** Throws away the trees that are damaged and the environment made of them, and installs again from the artifacts. */
async function repairCheckout(
  { cwd, root }: { readonly cwd: string; readonly root: string },
  store: Store,
  plan: Plan,
  differences: readonly Found[],
  output: Output,
): Promise<number> {
  const placed = new Set([...plan.environment, ...plan.checkout.packages].map(({ tree }) => tree))
  const damaged: TreeId[] = []
  for (const tree of placed) {
    if (hasTree(store, tree) && (await verifyTree(store, tree)).length > 0) damaged.push(tree)
  }
  await withLease(store, () => {
    discard(store, damaged, plan.layout === 'linked' ? plan.id : undefined)
    return Promise.resolve()
  })
  output.note(
    `polder: ${count(differences.length, 'difference')}; making ${count(damaged.length, 'tree')} and the environment again`,
  )
  const configured = (await planLock(store, root, undefined)).plan.layout
  return install(cwd, output, { force: false, ...(configured === plan.layout ? {} : { layout: plan.layout }) })
}
