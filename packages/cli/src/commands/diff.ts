import { readFileSync } from 'node:fs'

import { diffLocks, isEmptyDiff, parseLock, type Lock, type LockDiff } from '@polder/lock'
import { isErrno, PolderError } from '@polder/spec'

import type { Output } from '../output.ts'

/** `polder diff OLD NEW`: what changes for whom between two locks. Exit code 0 either way. */
export function diff(oldPath: string, newPath: string, output: Output): number {
  const changes = diffLocks(readLockAt(oldPath).lock, readLockAt(newPath).lock)
  if (isEmptyDiff(changes)) output.line('Both locks install the same')
  else printDiff(output, changes)
  output.result(changes)
  return 0
}

export function printDiff(output: Output, { packages, services, splits, integrity, keys, additions }: LockDiff): void {
  if (output.quiet) return
  for (const { id, before, after } of integrity)
    output.line(output.bad(`! ${id}: other bytes, ${before.slice(0, 20)}… → ${after.slice(0, 20)}…`))
  for (const { keyid, before, after } of keys) {
    if (before === null) output.line(output.good(`+ signing key ${keyid}`))
    else if (after === null) output.line(output.bad(`- signing key ${keyid}`))
    else if (before.key !== after.key) output.line(output.bad(`! signing key ${keyid}: another key`))
    else output.line(`~ signing key ${keyid}: expires ${before.expires ?? 'never'} → ${after.expires ?? 'never'}`)
  }
  for (const { name, removed, added } of packages) {
    if (removed.length === 0) output.line(output.good(`+ ${name} ${added.join(', ')}`))
    else if (added.length === 0) output.line(output.bad(`- ${name} ${removed.join(', ')}`))
    else output.line(`~ ${name} ${removed.join(', ')} → ${added.join(', ')}`)
  }
  for (const { service, name, before, after } of services)
    output.line(`  ${service}: ${name} ${versionIn(before, name)} → ${versionIn(after, name)}`)
  for (const added of additions.added) output.line(output.good(`+ ${added} (in no lockfile)`))
  for (const removed of additions.removed) output.line(output.bad(`- ${removed} (in no lockfile)`))
  for (const name of splits.added) output.line(`  ${name} is now split`)
  for (const name of splits.removed) output.line(`  ${name} is no longer split`)
}

/** `1.1.0` of `alpha@1.1.0`; the whole where an alias has another package. */
export function versionIn(id: string | null, name: string): string {
  if (id === null) return 'nothing'
  return id.startsWith(`${name}@`) ? id.slice(name.length + 1) : id
}

/**
 * Any `polder.lock`, as a value and as it stands in the file.
 * @throws PolderError `LOCK_NOT_FOUND`, `LOCK_INVALID`
 */
export function readLockAt(path: string): { readonly lock: Lock; readonly text: string } {
  try {
    const text = readFileSync(path, 'utf8')
    return { lock: parseLock(text, path), text }
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'EISDIR'))
      throw new PolderError('LOCK_NOT_FOUND', `there is no lock at ${path}`, {
        path,
        cause: error,
        hint: 'give the paths of two polder.lock files',
      })
    throw error
  }
}
