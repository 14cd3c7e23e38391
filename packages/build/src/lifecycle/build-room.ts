import { chmodSync, copyFileSync, existsSync, linkSync, rmSync, statSync, symlinkSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'

import type { InstanceId } from '@polder/lock'
import { isErrno } from '@polder/spec'
import { readTree, type Store, type Tree } from '@polder/store'

import type { ClosureEntry, PlannedBuild } from './planned-build.ts'
import type { Mount } from '../sandbox/file-system.ts'
import { INSTEAD, makeDirectory, type SeenPrograms, seenPrograms, toolMounts, writeCommands } from './room-tools.ts'
import type { Toolchain } from './toolchain.ts'

/** What a build stands in: its package, which it may write to, and what that can load, which it may not. */
export interface BuildRoom {
  /** Where it is outside. */
  readonly path: string
  /** Where it is for the build: paths in what is compiled are the same on every machine. */
  readonly inside: string
  /** The package's own directory. */
  readonly directory: Required<Mount>
  readonly mounts: readonly Mount[]
  /** For `PATH`, as the build sees them, most important first. */
  readonly searchPath: readonly string[]
  /** Where what the system lacks is looked for. */
  readonly lastPath: string
  readonly programs: SeenPrograms
}

/** A package of the closure, and where it stands outside. */
interface Placed extends ClosureEntry {
  readonly to: string
}

const INSIDE = '/build'

/**
 * Furnishes a room, in an empty directory:
 *
 *     node_modules/<name>/                            a copy of the package, the only thing that can be written
 *     node_modules/<dependency>  →  .instances/3/…    what it can load
 *     node_modules/.bin/
 *     node_modules/.instances/3/node_modules/<name>/  one instance, with links to those that it leads to
 *     node_modules/<name>/node_modules  →  ../.own    the same once more, for what has an environment of its own
 *     bin/                                            npm, npx and node-gyp
 *
 * @param confined false where the build sees the file system as it is
 */
export function furnishRoom(
  store: Store,
  build: PlannedBuild,
  path: string,
  toolchain: Toolchain,
  confined: boolean,
): BuildRoom {
  const inside = confined ? INSIDE : path
  const placed = new Map<InstanceId, Placed>()
  for (const [index, entry] of build.closure.entries()) {
    const holder = entry.instance === build.instance ? 'node_modules' : `node_modules/.instances/${index}/node_modules`
    placed.set(entry.instance, { ...entry, to: join(path, holder, entry.name) })
  }
  for (const entry of placed.values()) furnish(store, entry, placed, build, confined)
  if (build.ownEnvironment === true) furnishWithin(build, placed, path)
  const programs = seenPrograms(toolchain, confined)
  writeCommands(join(path, 'bin'), programs)
  const own = `node_modules/${build.name}`
  return {
    path,
    inside,
    directory: { source: join(path, own), target: `${inside}/${own}` },
    mounts: !confined
      ? []
      : [
          { source: join(path, 'node_modules'), target: `${inside}/node_modules` },
          { source: join(path, 'bin'), target: `${inside}/bin` },
          ...toolMounts(toolchain),
        ],
    searchPath: [
      `${inside}/${own}/node_modules/.bin`,
      `${inside}/node_modules/.bin`,
      `${inside}/bin`,
      dirname(programs.node),
    ],
    lastPath: `${inside}/bin/${INSTEAD}`,
    programs,
  }
}

function furnish(
  store: Store,
  entry: Placed,
  placed: ReadonlyMap<InstanceId, Placed>,
  build: PlannedBuild,
  confined: boolean,
): void {
  const { to } = entry
  const isOwn = entry.instance === build.instance
  // Unconfined, what can be reached can be written to, so nothing may share its bytes with the store.
  place(
    readTree(store, isOwn ? build.source.tree : entry.tree),
    to,
    isOwn ? 'writable' : confined ? 'linked' : 'copied',
  )
  const nodeModules = entry.name.startsWith('@') ? dirname(dirname(to)) : dirname(to)
  for (const [name, target] of Object.entries(entry.links)) {
    const found = placed.get(target)
    if (found === undefined || found.to === join(nodeModules, name)) continue
    makeLink(join(nodeModules, name), found.to)
    for (const [command, file] of Object.entries(found.source.bin)) {
      if (isFileName(command)) makeLink(join(nodeModules, '.bin', command), join(found.to, file))
    }
  }
}

/** Scripts call what they are developed with by its path as well: `node_modules/typescript/bin/tsc`. */
function furnishWithin(build: PlannedBuild, placed: ReadonlyMap<InstanceId, Placed>, path: string): void {
  const own = placed.get(build.instance)
  if (own === undefined || existsSync(join(own.to, 'node_modules'))) return
  const within = join(path, 'node_modules/.own')
  makeDirectory(within)
  for (const [name, target] of Object.entries(own.links)) {
    const found = placed.get(target)
    if (found === undefined) continue
    makeLink(join(within, name), found.to)
    for (const [command, file] of Object.entries(found.source.bin))
      if (isFileName(command)) makeLink(join(within, '.bin', command), join(found.to, file))
  }
  makeLink(join(own.to, 'node_modules'), within)
}

/** What only stood inside the package while it was built: no part of what is kept. */
export function clearRoom(build: PlannedBuild, { directory, path }: BuildRoom): void {
  if (build.ownEnvironment !== true || !existsSync(join(path, 'node_modules/.own'))) return
  rmSync(join(directory.source, 'node_modules'), { recursive: true, force: true })
}

/** Installing refuses a lock with others; what is only beside a build is left out. */
function isFileName(command: string): boolean {
  return /^[A-Za-z0-9@._~+-]+$/.test(command) && command !== '.' && command !== '..'
}

function place(tree: Tree, to: string, how: 'linked' | 'copied' | 'writable'): void {
  const directories = [to, ...tree.directories.map((directory) => join(to, directory))]
  for (const directory of directories) makeDirectory(directory)
  const executable = new Set(tree.executable)
  const linked = how === 'linked' && isForEverybody(tree)
  for (const [index, file] of tree.files.entries()) {
    const [from, target] = [join(tree.path, file), join(to, file)]
    if (linked) linkOrCopy(from, target)
    else {
      copyFileSync(from, target)
      chmodSync(target, (executable.has(index) ? 0o555 : 0o444) | (how === 'writable' ? 0o200 : 0))
    }
  }
}

/** Not so where the store was filled under a strict umask. */
function isForEverybody({ path, files: [first] }: Tree): boolean {
  return first === undefined || (statSync(join(path, first)).mode & 0o004) !== 0
}

function linkOrCopy(from: string, to: string): void {
  try {
    linkSync(from, to)
  } catch (error) {
    if (!isErrno(error, 'EXDEV', 'EPERM', 'EMLINK')) throw error
    copyFileSync(from, to)
  }
}

/** Relative, so that it leads to the same place inside. The first one of a name stays. */
function makeLink(path: string, to: string): void {
  makeDirectory(dirname(path))
  try {
    symlinkSync(relative(dirname(path), to), path)
  } catch (error) {
    if (!isErrno(error, 'EEXIST')) throw error
  }
}
