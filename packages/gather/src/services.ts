import { existsSync } from 'node:fs'
import { join } from 'node:path'

import { compareText, PolderError } from '@polder/spec'
import { globSync } from 'tinyglobby'

import type { Config } from './config.ts'
import { type Manifests, readManifest } from './manifests.ts'
import { ancestry, directoryOf, inDirectory } from './repository-path.ts'

export type LockfileKind = 'pnpm' | 'rush' | 'npm' | 'yarn' | 'bun'

/** A lockfile that is there: relative to the repository, as is the directory it locks. */
export interface LockfileLocation {
  readonly path: string
  readonly directory: string
  readonly kind: LockfileKind
}

/** File name → the client that owns it. npm prefers its shrinkwrap, bun the text. */
const LOCKFILES: Readonly<Record<string, LockfileKind>> = {
  'pnpm-lock.yaml': 'pnpm',
  'npm-shrinkwrap.json': 'npm',
  'package-lock.json': 'npm',
  'yarn.lock': 'yarn',
  'bun.lock': 'bun',
  'bun.lockb': 'bun',
}

/** Where Rush keeps the lockfile of the directory that holds its `rush.json`. */
const RUSH_LOCKFILE = 'common/config/rush/pnpm-lock.yaml'

const NEVER: readonly string[] = ['**/node_modules/**', '**/.*/**']

export interface Discovery {
  /** Sorted by depth, then by path: a workspace's lockfile comes before those inside it. */
  readonly lockfiles: readonly LockfileLocation[]
  /** Null if every service of every lockfile is wanted, otherwise whether this directory is. */
  readonly wanted: ((directory: string) => boolean) | null
  /** The directories that the configuration names and that have no lockfile themselves → the nearest above them. */
  readonly members: ReadonlyMap<string, string>
  readonly warnings: readonly string[]
}

/**
 * The lockfiles of the repository, and which of their services the configuration asks for. A directory in `services:`
 * stands for every service of the lockfile in it or, if it has none, for itself as a part of the workspace above it.
 * @throws PolderError `SERVICE_UNKNOWN` for an entry of `services:` that matches nothing or is locked by nothing;
 * `LOCKFILE_INVALID` for two clients' lockfiles in one directory
 */
export function discover(manifests: Manifests, config: Pick<Config, 'services' | 'exclude'>): Discovery {
  const excluded = excludedDirectories(manifests.root, config.exclude)
  const kept = (directory: string): boolean => !ancestry(directory).some((above) => excluded.has(above))
  if (config.services === null) {
    const files = globSync(
      Object.keys(LOCKFILES).map((name) => `**/${name}`),
      {
        cwd: manifests.root,
        ignore: [...NEVER, ...config.exclude],
        dot: false,
        expandDirectories: false,
        followSymbolicLinks: false,
      },
    )
    const directories = [
      ...new Set(files.filter((file) => kept(directoryOf(file))).map((file) => lockedBy(file, manifests.root))),
    ]
    // The root of a workspace of pnpm's or Rush's is the one place that may do without a package.json.
    const isRoot = (directory: string): boolean =>
      readManifest(manifests, directory) !== null ||
      existsSync(join(manifests.root, directory, 'pnpm-workspace.yaml')) ||
      hasRush(manifests.root, directory)
    const [locked, orphaned] = partition(directories.sort(compareText), isRoot)
    const warnings = orphaned.map((directory) => `${directory} has a lockfile but no package.json and is left out`)
    return {
      lockfiles: locate(locked, manifests),
      wanted: config.exclude.length === 0 ? null : kept,
      members: new Map(),
      warnings,
    }
  }
  const named = config.services.flatMap((pattern) => directoriesOf(pattern, manifests.root)).filter(kept)
  const holders = new Set<string>()
  const members = new Map<string, string>()
  for (const directory of named) {
    // All of them: the lockfile of a workspace counts more than those inside it.
    const above = ancestry(directory).filter((candidate) => isLocked(manifests.root, candidate))
    const [nearest] = above
    if (nearest === undefined) {
      throw new PolderError('SERVICE_UNKNOWN', `${directory} has no lockfile, nor has any directory above it`, {
        path: directory,
        hint: `install once in ${directory} so that there is a lockfile, or remove it from "services" in polder.yaml`,
      })
    }
    if (nearest !== directory) members.set(directory, nearest)
    for (const holder of above) holders.add(holder)
  }
  const whole = new Set(named.filter((directory) => !members.has(directory)))
  const wanted = (directory: string): boolean =>
    kept(directory) && (members.has(directory) || ancestry(directory).some((above) => whole.has(above)))
  return { lockfiles: locate([...holders], manifests), wanted, members, warnings: [] }
}

function directoriesOf(pattern: string, root: string): string[] {
  const cleaned = pattern.replace(/^\.\/(?=.)/, '').replace(/(?<=.)\/$/, '')
  if (cleaned === '.') return ['.']
  const found = globSync(`${cleaned}/package.json`, {
    cwd: root,
    ignore: ['**/node_modules/**'],
    dot: false,
    expandDirectories: false,
    followSymbolicLinks: false,
  })
  if (found.length > 0) return found.map((file) => directoryOf(file))
  throw new PolderError(
    'SERVICE_UNKNOWN',
    `"${pattern}" in "services" of polder.yaml matches no directory with a package.json`,
    {
      path: 'polder.yaml',
      found: pattern,
      hint: 'paths and globs are relative to polder.yaml; without `services`, every directory with a lockfile is one',
    },
  )
}

function excludedDirectories(root: string, exclude: readonly string[]): ReadonlySet<string> {
  if (exclude.length === 0) return new Set()
  const patterns = exclude.map((pattern) => pattern.replace(/^\.\/(?=.)/, '').replace(/\/(?:\*\*)?$/, ''))
  const found = globSync(patterns, {
    cwd: root,
    ignore: [...NEVER],
    onlyDirectories: true,
    expandDirectories: false,
    followSymbolicLinks: false,
  })
  return new Set(found.map((directory) => directory.replace(/\/$/, '')))
}

function locate(directories: readonly string[], manifests: Manifests): LockfileLocation[] {
  return directories
    .flatMap((directory): LockfileLocation[] => [
      // The root of a Rush repository is not one of its projects: what it needs itself may have a lockfile of its own.
      ...(hasRush(manifests.root, directory)
        ? [{ path: inDirectory(directory, RUSH_LOCKFILE), directory, kind: 'rush' as const }]
        : []),
      ...(clientLockfiles(manifests.root, directory).length > 0 ? [choose(directory, manifests)] : []),
    ])
    .sort((a, b) => depth(a.directory) - depth(b.directory) || compareText(a.path, b.path))
}

function depth(directory: string): number {
  return directory === '.' ? 0 : directory.split('/').length
}

/** The directory that a lockfile locks: its own, or that of `rush.json`. */
function lockedBy(file: string, root: string): string {
  const rush =
    file === RUSH_LOCKFILE ? '.' : file.endsWith(`/${RUSH_LOCKFILE}`) ? file.slice(0, -RUSH_LOCKFILE.length - 1) : null
  return rush !== null && hasRush(root, rush) ? rush : directoryOf(file)
}

function hasRush(root: string, directory: string): boolean {
  return existsSync(join(root, directory, 'rush.json')) && existsSync(join(root, directory, RUSH_LOCKFILE))
}

function isLocked(root: string, directory: string): boolean {
  return hasRush(root, directory) || clientLockfiles(root, directory).length > 0
}

function clientLockfiles(root: string, directory: string): string[] {
  return Object.keys(LOCKFILES).filter((name) => existsSync(join(root, directory, name)))
}

function choose(directory: string, manifests: Manifests): LockfileLocation {
  const names = clientLockfiles(manifests.root, directory)
  const kinds = [...new Set(names.map((name) => LOCKFILES[name]))]
  const field = readManifest(manifests, directory)?.json['packageManager']
  const client = typeof field === 'string' ? /^[a-z]+/.exec(field)?.[0] : undefined
  const name = kinds.length === 1 ? names[0] : names.find((candidate) => LOCKFILES[candidate] === client)
  const kind = name === undefined ? undefined : LOCKFILES[name]
  if (name !== undefined && kind !== undefined) return { path: inDirectory(directory, name), directory, kind }
  throw new PolderError(
    'LOCKFILE_INVALID',
    `${directory} has lockfiles of different clients: ${names.map((file) => inDirectory(directory, file)).join(' and ')}`,
    {
      path: directory,
      hint: 'delete those that are out of use, or name the client in the "packageManager" field of its package.json',
    },
  )
}

function partition<T>(list: readonly T[], test: (item: T) => boolean): [T[], T[]] {
  return [list.filter(test), list.filter((item) => !test(item))]
}
