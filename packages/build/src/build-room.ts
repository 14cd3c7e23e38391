import { chmodSync, copyFileSync, linkSync, mkdirSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'

import type { InstanceId } from '@polder/lock'
import { isErrno } from '@polder/spec'
import { readTree, type Store, type Tree } from '@polder/store'

import type { BuildSource, ClosureEntry, PlannedBuild } from './build-plan.ts'
import type { Mount } from './file-system.ts'
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
  /** As the build sees them. */
  readonly nodedir?: string
  readonly npm?: string
}

const INSIDE = '/build'

/**
 * Furnishes a room, in an empty directory:
 *
 *     node_modules/<name>/                            a copy of the package, the only thing that can be written
 *     node_modules/<dependency>  →  .instances/3/…    what it can load
 *     node_modules/.bin/
 *     node_modules/.instances/3/node_modules/<name>/  one instance, with links to those that it leads to
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
  const places = new Map<InstanceId, string>()
  for (const [index, { instance, name }] of build.closure.entries()) {
    const holder = instance === build.instance ? 'node_modules' : `node_modules/.instances/${index}/node_modules`
    places.set(instance, join(path, holder, name))
  }
  for (const entry of build.closure) furnish(store, entry, places, build, confined)
  writePrograms(join(path, 'bin'), toolchain, confined)
  const own = `node_modules/${build.name}`
  const opt = confined ? '/opt' : undefined
  const { headers, program } = toolchain.node
  return {
    path,
    inside,
    directory: { source: join(path, own), target: `${inside}/${own}` },
    mounts: !confined
      ? []
      : [
          { source: join(path, 'node_modules'), target: `${inside}/node_modules` },
          { source: join(path, 'bin'), target: `${inside}/bin` },
          { source: program, target: '/opt/node/bin/node' },
          ...(headers === undefined ? [] : [{ source: headers, target: '/opt/node/include/node' }]),
          ...(toolchain.npm === undefined ? [] : [{ source: toolchain.npm.directory, target: '/opt/npm' }]),
        ],
    searchPath: [
      `${inside}/${own}/node_modules/.bin`,
      `${inside}/node_modules/.bin`,
      `${inside}/bin`,
      opt === undefined ? dirname(program) : '/opt/node/bin',
    ],
    ...(headers === undefined ? {} : { nodedir: opt === undefined ? dirname(dirname(headers)) : '/opt/node' }),
    ...(toolchain.npm === undefined ? {} : { npm: opt === undefined ? toolchain.npm.directory : '/opt/npm' }),
  }
}

function furnish(
  store: Store,
  entry: ClosureEntry,
  places: ReadonlyMap<InstanceId, string>,
  build: PlannedBuild,
  confined: boolean,
): void {
  const to = places.get(entry.instance) ?? ''
  const isOwn = entry.instance === build.instance
  // Unconfined, what can be reached can be written to, so nothing may share its bytes with the store.
  place(
    readTree(store, isOwn ? build.source.tree : entry.tree),
    to,
    isOwn ? 'writable' : confined ? 'linked' : 'copied',
  )
  const nodeModules = entry.name.startsWith('@') ? dirname(dirname(to)) : dirname(to)
  for (const [name, target] of Object.entries(entry.links)) {
    const found = places.get(target)
    if (found === undefined || found === join(nodeModules, name)) continue
    makeLink(join(nodeModules, name), found)
    const bin: BuildSource['bin'] = build.closure.find(({ instance }) => instance === target)?.source.bin ?? {}
    for (const [command, file] of Object.entries(bin)) {
      if (isFileName(command)) makeLink(join(nodeModules, '.bin', command), join(found, file))
    }
  }
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

/** The superuser's builds are another user, who could not look into it under a strict umask. */
function makeDirectory(path: string): void {
  const made = mkdirSync(path, { recursive: true })
  for (let at = path; made !== undefined && at.length >= made.length; at = dirname(at)) chmodSync(at, 0o755)
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

/** npm's own programs, for scripts that call them by name. */
function writePrograms(bin: string, { npm, node }: Toolchain, confined: boolean): void {
  makeDirectory(bin)
  if (npm === undefined) return
  const directory = confined ? '/opt/npm' : npm.directory
  const program = confined ? '/opt/node/bin/node' : node.program
  const scripts = {
    npm: 'bin/npm-cli.js',
    npx: 'bin/npx-cli.js',
    'node-gyp': 'node_modules/node-gyp/bin/node-gyp.js',
  }
  for (const [name, script] of Object.entries(scripts)) {
    writeFileSync(join(bin, name), `#!/bin/sh\nexec ${quoted(program)} ${quoted(`${directory}/${script}`)} "$@"\n`, {
      mode: 0o755,
    })
    chmodSync(join(bin, name), 0o755)
  }
}

function quoted(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`
}
