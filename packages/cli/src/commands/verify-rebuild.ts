import { buildFailure, type PlannedBuild } from '@polder/build'
import { findRoot } from '@polder/gather'
import { readState } from '@polder/realise'
import { PolderError } from '@polder/spec'
import { compareWithTree, type Difference, hasTree, openStore, storeHome, withLease } from '@polder/store'

import { isNamed, performBuilds, requireNamed } from '../builds.ts'
import { count, type Output } from '../output.ts'
import { planLock } from '../planned-lock.ts'
import { installedWorkspaces, isWorkspaceNamed, rehearse } from '../workspace-scripts.ts'

interface Rebuilt {
  readonly package: string
  /** Absent for workspace packages. */
  readonly id?: string
  readonly reproducible: boolean
  readonly differences: readonly Pick<Difference, 'path' | 'kind'>[]
}

/**
 * `polder verify --rebuild NAME`: builds again, and compares what comes out with the tree that is there, which stays.
 * @throws PolderError `USAGE` for a name that is not built; `NOT_INSTALLED`; `BUILD_FAILED`; `VERIFY_FAILED` with each
 *   file that comes out differently
 */
export async function verifyRebuild(cwd: string, output: Output, names: readonly string[]): Promise<number> {
  const root = findRoot(cwd)
  const store = openStore(storeHome(process.env))
  const planned = await planLock(store, root, undefined, readState(root)?.unenforced)
  const all = planned.builds?.builds ?? []
  const installed = installedWorkspaces(store, root, planned)
  const states = installed?.states.filter((state) => names.some((name) => isWorkspaceNamed(state, name))) ?? []
  requireNamed(
    all,
    names.filter((name) => !states.some((state) => isWorkspaceNamed(state, name))),
    planned.plan.notBuilt,
  )
  const wanted = all.filter((build) => names.some((name) => isNamed(build, name)))
  const missing =
    wanted.find(({ id, after }) => [id, ...after].some((tree) => !hasTree(store, tree)))?.package ??
    states.find(({ record }) => record?.status !== 'built')?.workspace.path
  if (missing !== undefined) {
    throw new PolderError('NOT_INSTALLED', `${missing} is not built, so there is nothing to compare with`, {
      spec: missing,
      hint: 'run `polder install`',
    })
  }
  const rebuilt: Rebuilt[] = []
  const inspect = async ({ package: name, id, source }: PlannedBuild, directory: string): Promise<void> => {
    const differences = await compareWithTree(store, id, directory, source.bin)
    rebuilt.push({ package: name, id, reproducible: differences.length === 0, differences })
  }
  await withLease(store, async () => {
    await performBuilds(store, root, wanted, output, { inspect })
    if (installed === undefined || states.length === 0) return
    for (const { record, differences } of await rehearse(store, root, { ...installed, states }, output)) {
      if (record.failure !== undefined) throw buildFailure({ ...record, package: record.path })
      rebuilt.push({ package: record.path, reproducible: differences.length === 0, differences })
    }
  })
  rebuilt.sort((a, b) => (a.package < b.package ? -1 : 1))
  const different = rebuilt.filter(({ reproducible }) => !reproducible)
  if (different.length === 0 || output.json) output.result({ builds: rebuilt })
  if (different.length === 0) {
    output.line(
      `${count(rebuilt.length, 'build')} gave the same again: ${rebuilt.map((one) => one.package).join(', ')}`,
    )
    return 0
  }
  if (output.json) return VERIFY_FAILED
  throw new PolderError('VERIFY_FAILED', `${count(different.length, 'build')} came out differently`, {
    others: different.flatMap(({ package: name, differences }) =>
      differences.map(
        ({ path, kind }) => new PolderError('VERIFY_FAILED', `${kind.padEnd(8)} ${path}  (${name})`, { path }),
      ),
    ),
    hint: 'what is installed stays as it is; a time, a path or a random number may be in these files',
  })
}

const VERIFY_FAILED = 5
