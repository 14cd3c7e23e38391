import { existsSync } from 'node:fs'
import { join, relative } from 'node:path'

import { findRoot } from '@polder/gather'
import { parseLock, type Lock } from '@polder/lock'
import { compareText, PolderError } from '@polder/spec'
import { distance } from 'fastest-levenshtein'

import { LOCK_FILE, requireLockText } from './lock-file.ts'
import { listed } from './output.ts'

const SHOWN = 12

/** The repository's root for a working directory, and its lock. */
export interface Checkout {
  /** Absolute. */
  readonly root: string
  readonly lock: Lock
  /** As it stands in the file. */
  readonly lockText: string
}

/** @throws PolderError `CONFIG_NOT_FOUND`, `LOCK_NOT_FOUND`, `LOCK_INVALID` */
export function openCheckout(cwd: string): Checkout {
  const root = findRoot(cwd)
  const lockText = requireLockText(root)
  return { root, lock: parseLock(lockText, LOCK_FILE), lockText }
}

/**
 * The service that a user names: by path, by package name, or by the last part of its path where that is clear.
 * @param known by path
 * @throws PolderError `SERVICE_UNKNOWN`
 */
export function findService(known: Readonly<Record<string, { readonly name?: string }>>, wanted: string): string {
  const services = Object.entries(known)
  const path = wanted.replace(/^\.\//, '').replace(/\/+$/, '') || '.'
  const exact = services.find(([servicePath, { name }]) => servicePath === path || name === wanted)
  if (exact !== undefined) return exact[0]
  const byLastPart = services.filter(([servicePath]) => servicePath.split('/').at(-1) === path)
  if (byLastPart.length === 1 && byLastPart[0] !== undefined) return byLastPart[0][0]
  const paths = services.map(([servicePath]) => servicePath)
  const nearest = nearestText(
    wanted,
    services.flatMap(([servicePath, { name }]) => [servicePath, ...(name === undefined ? [] : [name])]),
  )
  throw new PolderError('SERVICE_UNKNOWN', `there is no service ${JSON.stringify(wanted)}`, {
    spec: wanted,
    hint: nearest === undefined ? `the services are: ${listed(paths, SHOWN)}` : `did you mean ${nearest}?`,
  })
}

/** The service that a working directory lies in, undefined outside of all. */
export function serviceOf(checkout: Checkout, cwd: string): string | undefined {
  const inside = relative(checkout.root, cwd).split('\\').join('/') || '.'
  return (
    Object.keys(checkout.lock.npm.services)
      .filter((path) => path === '.' || inside === path || inside.startsWith(`${path}/`))
      // The root is around all others, however short their paths are.
      .sort((a, b) => Number(a === '.') - Number(b === '.') || b.length - a.length || compareText(a, b))[0]
  )
}

/** The directories of commands for a service, nearest first. */
export function binDirectories(root: string, service: string | undefined): string[] {
  const own = service === undefined || service === '.' ? [] : [join(root, service, 'node_modules', '.bin')]
  return [...own.filter((path) => existsSync(path)), join(root, 'node_modules', '.bin')]
}

/** The candidate that is likely meant, if one is close. */
export function nearestText(wanted: string, known: readonly string[]): string | undefined {
  const ranked = known
    .map((text) => ({ text, distance: distance(wanted, text) }))
    .sort((a, b) => a.distance - b.distance || compareText(a.text, b.text))
  const best = ranked[0]
  return best !== undefined && best.distance <= Math.max(2, wanted.length / 3) ? best.text : undefined
}
