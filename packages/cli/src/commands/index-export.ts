import { resolve } from 'node:path'

import { type Integrity, type PackageId, PolderError } from '@polder/spec'
import { openStore, storeHome, withLease } from '@polder/store'

import { builtTreesOf } from '../carried-trees.ts'
import { findService, openCheckout } from '../checkout.ts'
import { changedInputs, LOCK_FILE } from '../lock-file.ts'
import { bytes, count, type Output } from '../output.ts'
import { startProgress } from '../progress.ts'
import { readLockAt } from './diff.ts'

export interface ExportFlags {
  /** Only what these need, by path or package name; everything if it is empty. */
  readonly service: readonly string[]
  /** The path of an older lock: what it has is left out. */
  readonly since?: string
  /** Also what the lockfiles have and polder.lock did not choose. */
  readonly withCandidates: boolean
}

/**
 * `polder index export FILE`: everything that polder.lock pins, in one file.
 * @throws PolderError `USAGE`, `SERVICE_UNKNOWN`, `LOCK_NOT_FOUND`, `LOCK_INVALID`, `ARTIFACT_MISSING`, `ARTIFACT_CORRUPT`
 */
export async function indexExport(cwd: string, output: Output, file: string, flags: ExportFlags): Promise<number> {
  if (flags.withCandidates && flags.service.length > 0) {
    throw new PolderError('USAGE', 'candidates are of the whole repository: --with-candidates goes without --service', {
      spec: '--with-candidates',
    })
  }
  const { root, lock, lockText } = openCheckout(cwd)
  const changed = changedInputs(root, lock.inputs)
  if (changed.length > 0)
    output.note(`warning: ${LOCK_FILE} is out of date (${changed.join(', ')}): the bundle has what it pins`)
  const services = flags.service.map((wanted) => findService(lock.npm.services, wanted))
  const since = flags.since === undefined ? undefined : readLockAt(resolve(cwd, flags.since))
  const path = resolve(cwd, file)
  const store = openStore(storeHome(process.env))
  const { exportBundle } = await import('@polder/index/bundle')
  const progress = startProgress(output, 'Exporting')
  const report = await withLease(store, async () =>
    exportBundle(store, path, {
      lock,
      lockText,
      ...(services.length === 0 ? {} : { services: [...new Set(services)] }),
      ...(since === undefined ? {} : { since }),
      ...(flags.withCandidates ? { candidates: await candidatesOf(root) } : {}),
      builtTrees: await builtTreesOf(store, root, lock, since?.lock),
      onProgress: ({ done, total }) => {
        progress.update(done, total, bytes(done))
      },
    }),
  ).finally(() => {
    progress.end()
  })
  const { withoutRelease } = report
  if (withoutRelease.length > 0) {
    output.note(
      `polder: of ${count(withoutRelease.length, 'package')} there is no record of what the registry says; a bundle that is made where \`polder index sync\` recorded it differs`,
    )
  }
  output.line(`${file} (${bytes(report.bytes)}) has ${contentsLine(report)}`)
  output.result({ file: path, ...report })
  return 0
}

/** Everything that `polder lock` chooses from, by its hash. */
async function candidatesOf(
  root: string,
): Promise<readonly { readonly id: PackageId; readonly integrity: Integrity }[]> {
  const [{ gather, readConfig }, { knownPins }] = await Promise.all([
    import('@polder/gather'),
    import('../pinned-manifests.ts'),
  ])
  return knownPins(await gather(root, readConfig(root))).pins
}

/** `92 artifacts, 3 files, 92 release records`. */
export function contentsLine(held: {
  readonly artifacts: number
  readonly candidates: number
  readonly files: number
  readonly trees: number
  readonly releases: number
}): string {
  const parts = [
    count(held.artifacts, 'artifact'),
    ...(held.candidates === 0 ? [] : [count(held.candidates, 'further candidate')]),
    ...(held.files === 0 ? [] : [count(held.files, 'file')]),
    ...(held.trees === 0 ? [] : [count(held.trees, 'built package')]),
    ...(held.releases === 0 ? [] : [count(held.releases, 'release record')]),
  ]
  return parts.join(', ')
}
