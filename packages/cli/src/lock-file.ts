import { hash } from 'node:crypto'
import { readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'

import { digestInput } from '@polder/gather/inputs'
import type { StateInput } from '@polder/realise'
import { compareText, isErrno, PolderError } from '@polder/spec'

// What `install` asks of polder.lock as a file. Nothing here parses it, and nothing that would is loaded.

export const LOCK_FILE = 'polder.lock'

type Inputs = Readonly<Record<string, string>>

/** The text of `polder.lock`, or of a lock of another name; null if there is none. */
export function readLockText(root: string): string | null {
  return readLock(root)?.toString('utf8') ?? null
}

/** @throws PolderError `LOCK_NOT_FOUND` */
export function requireLockText(root: string): string {
  return requireLock(root).toString('utf8')
}

/**
 * The bytes of `polder.lock`.
 * @throws PolderError `LOCK_NOT_FOUND`; `LOCK_INVALID` if it cannot be read
 */
export function requireLock(root: string): Buffer {
  const bytes = readLock(root)
  if (bytes !== null) return bytes
  throw new PolderError('LOCK_NOT_FOUND', `there is no ${LOCK_FILE} in ${root}`, {
    path: join(root, LOCK_FILE),
    hint: 'run `polder lock`',
  })
}

function readLock(root: string): Buffer | null {
  try {
    return readFileSync(join(root, LOCK_FILE))
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return null
    const reason = (error as Error).message
    throw new PolderError('LOCK_INVALID', `${LOCK_FILE} cannot be read: ${reason}`, { path: LOCK_FILE, cause: error })
  }
}

/** The inputs whose digest is not the one in the lock, sorted. */
export function changedInputs(root: string, inputs: Inputs): string[] {
  return Object.entries(inputs)
    .filter(([path, digest]) => digestInput(root, path) !== digest)
    .map(([path]) => path)
    .sort(compareText)
}

/**
 * What the next `install` compares first: every input of the lock, and the lock.
 * @param lock its digest
 */
export function stateInputs(root: string, inputs: Inputs, lock: string): Record<string, StateInput> {
  const digests = { ...inputs, [LOCK_FILE]: `sha256-${lock}` }
  return Object.fromEntries(
    Object.entries(digests).map(([path, digest]) => {
      const { mtimeMs, size } = statSync(join(root, path))
      return [path, { mtimeMs, size, digest }]
    }),
  )
}

/** sha256 of the lock's text, hex. */
export function lockDigest(lock: string | Buffer): string {
  return hash('sha256', lock, 'hex')
}

/** The error of a lock that is not what would be made now. */
export function outOfDate(why: string, paths: readonly string[]): PolderError {
  return new PolderError('LOCK_OUT_OF_DATE', `${LOCK_FILE} is out of date: ${why}`, {
    path: LOCK_FILE,
    others: paths.map((path) => new PolderError('LOCK_OUT_OF_DATE', `${path} changed`, { path })),
    hint: 'run `polder lock` and commit the result',
  })
}
