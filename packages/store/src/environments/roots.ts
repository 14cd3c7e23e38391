import { integrityOf, hexDigest, isErrno } from '@polder/spec'
import { readdirSync, readFileSync, readlinkSync, renameSync, statSync, symlinkSync } from 'node:fs'
import { basename, join } from 'node:path'

import { atomicWrite, syncDirectory, temporaryBeside } from '../durable/atomic-write.ts'
import { environmentPath, type Store } from '../content-path.ts'
import { writeFailure } from '../durable/write-failure.ts'

/** Of the 255 bytes that a name may have, less what that of a temporary file has more. */
const LONGEST_NAME = 200

/** A checkout that uses an environment. */
export interface Root {
  /** Of the record, absolute. */
  readonly path: string
  /** Absolute. */
  readonly checkout: string
  readonly environment: string
}

/**
 * Remembers that a checkout uses an environment, which keeps it from being collected. A checkout has one root: the
 * next call replaces it.
 *
 * It is a link to the environment, under the percent-encoded path of the checkout. Like the links of a checkout it is
 * nothing but a name, and file systems with a journal make names durable in the order in which they were made: where
 * the checkout survives a power cut, so does its root, without anybody having to wait for the disk. That is not so if
 * the two are on different file systems, or if the path is too long for a name, which takes a file then.
 * @throws PolderError `DISK_FULL`, `STORE_UNWRITABLE`
 */
export function recordRoot(
  store: Store,
  { checkout, environment }: { readonly checkout: string; readonly environment: string },
): void {
  const directory = join(store.home, 'roots')
  const name = encodeURIComponent(checkout)
  if (name.length > LONGEST_NAME) {
    const hash = hexDigest(integrityOf('sha256', Buffer.from(checkout))).slice(0, 40)
    atomicWrite(join(directory, `${hash}.json`), `${JSON.stringify({ checkout, environment })}\n`)
    return
  }
  const path = join(directory, name)
  try {
    replaceLink(`../envs/${basename(environmentPath(store, environment))}`, path)
    if (deviceOf(checkout) !== deviceOf(directory)) syncDirectory(directory)
  } catch (error) {
    throw writeFailure(error, `writing ${name}`, path)
  }
}

/** Every recorded root, in the order of their names. What is not one is left out. */
export function readRoots(store: Store): readonly Root[] {
  const roots: Root[] = []
  for (const name of readdirSync(join(store.home, 'roots')).sort()) {
    const path = join(store.home, 'roots', name)
    const root = name.startsWith('%2F') ? readLink(path) : name.endsWith('.json') ? readFile(path) : undefined
    if (root !== undefined) roots.push(root)
  }
  return roots
}

function replaceLink(text: string, path: string): void {
  try {
    symlinkSync(text, path)
  } catch (error) {
    if (!isErrno(error, 'EEXIST')) throw error
    const temporary = temporaryBeside(path)
    symlinkSync(text, temporary)
    renameSync(temporary, path)
  }
}

function deviceOf(path: string): number | undefined {
  return statSync(path, { throwIfNoEntry: false })?.dev
}

function readLink(path: string): Root | undefined {
  try {
    return { path, checkout: decodeURIComponent(basename(path)), environment: basename(readlinkSync(path)) }
  } catch (error) {
    if (error instanceof URIError || isErrno(error, 'ENOENT', 'EINVAL')) return undefined
    throw error
  }
}

function readFile(path: string): Root | undefined {
  try {
    const root = JSON.parse(readFileSync(path, 'utf8')) as Partial<Root> | null
    if (typeof root?.checkout !== 'string' || typeof root.environment !== 'string') return undefined
    return { path, checkout: root.checkout, environment: root.environment }
  } catch (error) {
    if (error instanceof SyntaxError || isErrno(error, 'ENOENT')) return undefined
    throw error
  }
}
