import { isErrno, PolderError } from '@polder/spec'
import { hasTree, type Patch, type Store, type WantedTree } from '@polder/store'
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'

import type { PlannedPackage } from './planned.ts'

/**
 * What the store has to unpack for a package. Its patch is read only if the tree is not there.
 * @param checkout where the repository is, absolute: patches are its files
 * @throws PolderError `PATCH_FAILED` if the patch is missing, or is not the one that was locked
 */
export function wantedTree(
  store: Store,
  planned: Pick<PlannedPackage, 'tree' | 'integrity' | 'package' | 'bin' | 'patch'>,
  checkout: string | undefined,
): WantedTree {
  const { tree: id, integrity, package: label, bin, patch } = planned
  const wanted: WantedTree = { id, integrity, label, bin }
  return patch === undefined || hasTree(store, id) ? wanted : { ...wanted, patch: readPatch(label, patch, checkout) }
}

/**
 * The patch of a package, as it was locked.
 * @throws PolderError `PATCH_FAILED`
 */
export function readPatch(
  label: string,
  { path, hash }: NonNullable<PlannedPackage['patch']>,
  checkout: string | undefined = '.',
): Patch {
  const fail = (
    what: string,
    more: { readonly hint: string; readonly found?: string; readonly cause?: unknown },
  ): PolderError =>
    new PolderError('PATCH_FAILED', `the patch ${path} of ${label} ${what}`, {
      path,
      spec: label,
      wanted: hash,
      ...more,
    })
  let bytes: Buffer
  try {
    bytes = readFileSync(join(checkout, path))
  } catch (cause) {
    const what = isErrno(cause, 'ENOENT', 'ENOTDIR') ? 'does not exist' : `cannot be read: ${(cause as Error).message}`
    throw fail(what, { cause, hint: 'restore the file, or remove the patch where the lockfile has it from' })
  }
  const found = createHash('sha256').update(bytes).digest('hex')
  if (found !== hash) throw fail('is not the one that was locked', { found, hint: 'run `polder lock`' })
  return { path, bytes }
}
