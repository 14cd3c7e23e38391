import type { BuiltTree } from '@polder/index/bundle'
import type { InstanceId, Lock } from '@polder/lock'
import { currentPlatform, PolderError } from '@polder/spec'
import { hasTree, type Store } from '@polder/store'

import type { LockedBuildPlan } from './builds.ts'

/**
 * What the packages of a lock were built to with this machine's toolchain, as far as it is in the store. What was built
 * without a sandbox comes along, under its own id, where nothing better is there.
 * @param older those that this lock builds too are left out
 */
export async function builtTreesOf(
  store: Store,
  root: string,
  lock: Lock,
  older: Lock | undefined,
): Promise<readonly BuiltTree[]> {
  const trees = await allBuiltTrees(store, root, lock)
  if (older === undefined || trees.length === 0) return trees
  const known = new Set((await allBuiltTrees(store, root, older)).map(({ id }) => id))
  return trees.filter(({ id }) => !known.has(id))
}

async function allBuiltTrees(store: Store, root: string, lock: Lock): Promise<readonly BuiltTree[]> {
  if (lock.policy.builds === undefined) return []
  const [{ planLockedBuilds }, { runningNode }] = await Promise.all([
    import('./builds.ts'),
    import('@polder/spec/semver-ranges'),
  ])
  const here = { ...currentPlatform(), node: runningNode() }
  const plans: LockedBuildPlan[] = []
  try {
    for (const unenforced of [false, true]) plans.push(await planLockedBuilds(store, root, lock, here, unenforced))
  } catch (error) {
    // A bundle may need less than the lock has, and nobody needs what an older lock has: export says what is missing.
    if (!(error instanceof PolderError) || !['ARTIFACT_MISSING', 'PATCH_FAILED'].includes(error.code)) throw error
    return []
  }
  return (Object.keys(lock.npm.instances) as InstanceId[]).flatMap((instance): BuiltTree[] => {
    const found = plans.flatMap((plan): BuiltTree[] => {
      const id = plan.builtTree(instance)
      const recipe = plan.recipe(instance)
      return id === undefined || recipe === undefined || !hasTree(store, id) ? [] : [{ id, instance, recipe }]
    })
    return found.slice(0, 1)
  })
}
