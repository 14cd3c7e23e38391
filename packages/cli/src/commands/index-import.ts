import { join, resolve } from 'node:path'

import { nearestRoot } from '@polder/gather/inputs'
import { atomicWrite, openStore, storeHome } from '@polder/store'

import { LOCK_FILE } from '../lock-file.ts'
import { bytes, count, type Output, printFirst } from '../output.ts'
import { startProgress } from '../progress.ts'
import { contentsLine } from './index-export.ts'

export interface ImportFlags {
  /** Write the bundle's polder.lock into the repository, or into this directory if it is in none. */
  readonly writeLock: boolean
}

const MISSING = 4
const SHOWN = 12

/**
 * `polder index import FILE`: a bundle into the store, all of it or nothing.
 * @returns 4 if the lock pins what neither the bundle nor the store has: it was made against a lock that is not here
 * @throws PolderError `BUNDLE_INVALID`, and what is wrong with an archive, a signature or the store
 */
export async function indexImport(
  cwd: string,
  output: Output,
  file: string,
  { writeLock }: ImportFlags,
): Promise<number> {
  const store = openStore(storeHome(process.env))
  const { importBundle } = await import('@polder/index/bundle')
  const progress = startProgress(output, 'Importing')
  const { lock, lockText, ...report } = await importBundle(store, resolve(cwd, file), {
    onProgress: ({ done, total }) => {
      progress.update(done, total, bytes(done))
    },
  }).finally(() => {
    progress.end()
  })
  const lockPath = join(nearestRoot(cwd) ?? cwd, LOCK_FILE)
  if (writeLock) atomicWrite(lockPath, lockText)
  const { keepServedLock } = await import('../served-lock.ts')
  await keepServedLock(store, lockText, lock, { before: null, fetched: true })
  const { missing, services, since, added, unenforced } = report
  output.line(`${file} verified: ${contentsLine(report)}; ${added === 0 ? 'nothing was new' : `${added} were new`}`)
  if (services !== undefined) output.line(`  for ${services.join(', ')}`)
  if (unenforced > 0)
    output.line(
      `  ${output.bad('unenforced')}: ${count(unenforced, 'package')} built without a sandbox; built again where one is required or can be had`,
    )
  if (writeLock) output.line(`  ${LOCK_FILE} written`)
  if (missing.length > 0) {
    output.line(
      output.bad(
        `  ${count(missing.length, 'pin')} of its lock ${missing.length === 1 ? 'is' : 'are'} not in the store:`,
      ),
    )
    printFirst(output, missing, { shown: SHOWN, indent: '    ' }, (name) => output.line(`    ${name}`))
    if (since !== undefined)
      output.note(`polder: it was made against an older lock (${since}): import the bundle of that one too`)
  }
  output.result({ file: resolve(cwd, file), ...report, lock: writeLock ? lockPath : null })
  return missing.length > 0 ? MISSING : 0
}
