import { relative } from 'node:path'

import { planEnvironment, readState, verifyCheckout } from '@polder/realise'
import { currentPlatform, PolderError } from '@polder/spec'
import { environmentPath, openStore, storeHome, verifyArtifacts } from '@polder/store'

import { openCheckout } from '../checkout.ts'
import { count, type Output } from '../output.ts'
import { startProgress } from '../progress.ts'

/**
 * `polder verify`: recomputes the hashes of the artifacts in the lock, of the environment and of what stands in the
 * checkout, and compares every link with the plan.
 * @throws PolderError `NOT_INSTALLED`; `VERIFY_FAILED` with each file that differs, is missing or was added
 */
export async function verify(cwd: string, output: Output): Promise<number> {
  const { root, lock } = openCheckout(cwd)
  const state = readState(root)
  if (state === undefined)
    throw new PolderError('NOT_INSTALLED', `nothing is installed in ${root}`, {
      path: root,
      hint: 'run `polder install`',
    })
  const store = openStore(storeHome(process.env))
  const plan = planEnvironment(lock, currentPlatform(), state.layout)
  if (plan.id !== state.environment) {
    throw new PolderError('VERIFY_FAILED', 'what is installed is not what polder.lock says', {
      path: root,
      found: state.environment,
      wanted: plan.id,
      hint: 'run `polder install`',
    })
  }
  const progress = startProgress(output, 'Verifying')
  const onProgress = ({ done, total, label }: { done: number; total: number; label: string }): void => {
    progress.update(done, total, label)
  }
  try {
    const placed = [...plan.environment, ...plan.checkout.packages]
    const artifacts = await verifyArtifacts(
      store,
      placed.map(({ package: label, integrity }) => ({ label, integrity })),
      { onProgress },
    )
    const where = plan.layout === 'linked' ? environmentPath(store, plan.id) : null
    const installed = await verifyCheckout({ store, checkout: root, plan, environmentPath: where, onProgress })
    const differences = [
      ...artifacts.map(({ label, kind, integrity }) => ({
        path: `artifact ${integrity.slice(0, 20)}…`,
        kind,
        package: label,
      })),
      ...installed,
    ]
    if (differences.length === 0) {
      output.line(
        `${count(new Set(placed.map((entry) => entry.package)).size, 'package')} verified: artifacts, environment and checkout are as locked`,
      )
      output.result({ clean: true, packages: placed.length })
      return 0
    }
    output.result({ clean: false, differences })
    if (output.json) return VERIFY_FAILED
    throw new PolderError('VERIFY_FAILED', `${count(differences.length, 'difference')} to what was locked`, {
      others: differences.map(({ path, kind, package: owner }) => {
        const shown = path.startsWith(`${root}/`) ? relative(root, path) : path
        return new PolderError('VERIFY_FAILED', `${kind.padEnd(8)} ${shown}${owner === null ? '' : `  (${owner})`}`, {
          path,
        })
      }),
      hint: 'remove .polder and run `polder install` to make the checkout anew; `polder store gc` drops environments that nothing uses',
    })
  } finally {
    progress.end()
  }
}

const VERIFY_FAILED = 5
