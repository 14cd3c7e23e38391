import { isErrno, PolderError } from '@polder/spec'
import { lstatSync, mkdirSync, readdirSync, readFileSync, realpathSync, renameSync, writeFileSync } from 'node:fs'
import { dirname, join, sep } from 'node:path'

import type { EnvironmentId } from './planned.ts'

/** In every `node_modules` that polder makes: it may be replaced without asking. */
export const NODE_MODULES_MARKER = '.polder.json'

/** What polder puts into a `node_modules` under a name that begins with a dot. */
const OWN_ENTRIES: readonly string[] = ['.bin', '.polder', NODE_MODULES_MARKER]

export function writeMarker(nodeModules: string, environment: EnvironmentId): void {
  writeFileSync(
    join(nodeModules, NODE_MODULES_MARKER),
    `${JSON.stringify({ format: 1, madeBy: 'polder', environment })}\n`,
  )
}

/** `absent`; `ours`; `caches`: nothing but what tools keep there, which is carried over; `foreign`: made by somebody else. */
export function whoseNodeModules(nodeModules: string): 'absent' | 'ours' | 'caches' | 'foreign' {
  const found = lstatSync(nodeModules, { throwIfNoEntry: false })
  if (found === undefined) return 'absent'
  if (!found.isDirectory()) return 'foreign'
  if (hasMarker(nodeModules)) return 'ours'
  return readdirSync(nodeModules, { withFileTypes: true }).every((entry) => isCache(entry)) ? 'caches' : 'foreign'
}

/**
 * The directories that tools keep in a `node_modules`: `.cache`, `.vite`, `.prisma`. pnpm's `.pnpm` is no such thing.
 */
export function isCache(entry: { readonly name: string; isDirectory(): boolean }): boolean {
  return (
    entry.isDirectory() && entry.name.startsWith('.') && entry.name !== '.pnpm' && !OWN_ENTRIES.includes(entry.name)
  )
}

/**
 * Puts a finished `node_modules` in the place of another, which ends up at `trash`, with its caches carried over.
 * Between the two renames there is none; whoever is killed there runs the installation again.
 */
export function swapNodeModules(made: string, place: string, trash: string): void {
  const isReplaced = renameIfThere(place, trash)
  renameSync(made, place)
  if (!isReplaced || !lstatSync(trash).isDirectory()) return
  for (const entry of readdirSync(trash, { withFileTypes: true })) {
    if (isCache(entry)) renameSync(join(trash, entry.name), join(place, entry.name))
  }
}

/** @returns false if there was nothing */
export function renameIfThere(from: string, to: string): boolean {
  try {
    lstatSync(from)
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENOTDIR')) return false
    throw error
  }
  mkdirSync(dirname(to), { recursive: true })
  renameSync(from, to)
  return true
}

/**
 * Where a service is, following links.
 * @throws PolderError `LOCK_OUT_OF_DATE` if it is gone, `LOCK_INVALID` if it is outside of the checkout
 */
export function serviceDirectory(checkout: string, service: string): string {
  const path = join(checkout, service)
  let real: string
  try {
    real = realpathSync.native(path)
  } catch (error) {
    if (!isErrno(error, 'ENOENT', 'ENOTDIR')) throw error
    throw new PolderError('LOCK_OUT_OF_DATE', `the lock has the service ${service}, which is not in ${checkout}`, {
      path,
      hint: 'run `polder lock`',
    })
  }
  const root = realpathSync.native(checkout)
  if (real === root || real.startsWith(root.endsWith(sep) ? root : root + sep)) return path
  throw new PolderError(
    'LOCK_INVALID',
    `the service ${service} is a link to ${real}, which is outside of ${checkout}`,
    { path, found: real },
  )
}

function hasMarker(nodeModules: string): boolean {
  try {
    const marker = JSON.parse(readFileSync(join(nodeModules, NODE_MODULES_MARKER), 'utf8')) as {
      madeBy?: unknown
    } | null
    return marker?.madeBy === 'polder'
  } catch (error) {
    if (error instanceof SyntaxError || isErrno(error, 'ENOENT', 'EISDIR')) return false
    throw error
  }
}
