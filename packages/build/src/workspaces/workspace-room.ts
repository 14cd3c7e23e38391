import {
  chmodSync,
  copyFileSync,
  constants,
  lstatSync,
  mkdirSync,
  readlinkSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { dirname, join, relative } from 'node:path'

import { below, directoriesAbove, isWithin, stampOf, walk } from './checkout-files.ts'
import type { PlannedWorkspace } from './planned-workspace.ts'
import { filesAbove, isForeign, type PreparedCheckout, visibleElsewhere } from './workspace-inputs.ts'
import type { BuildRoom } from '../lifecycle/build-room.ts'
import { INSTEAD, makeDirectory, seenPrograms, toolMounts, writeCommands } from '../lifecycle/room-tools.ts'
import type { Toolchain } from '../lifecycle/toolchain.ts'
import type { Mount } from '../sandbox/file-system.ts'

/** Where the scripts of a workspace package run: in a copy of it, at the path that it has in the checkout. */
export interface WorkspaceRoom extends BuildRoom {
  /** Of every file: as it was in the checkout, and as the copy was when it was made. */
  readonly copied: ReadonlyMap<string, { readonly original: string | undefined; readonly copy: string | undefined }>
}

/**
 * Furnishes a room, in an empty directory:
 *
 *     own/     a copy of the package, the only thing that can be written
 *     above/   the checkout's directories above it, with the plain files in them, and places for what is mounted
 *     bin/     npm, npx and node-gyp
 *
 * The package sees that, the `node_modules` of the checkout, the workspace packages that it leads to, and what it says
 * that it reads: nothing else of the checkout, and so nothing that could change without its scripts running again.
 * @param leaveOut paths relative to the package that are not copied
 */
export function furnishWorkspaceRoom(
  checkout: PreparedCheckout,
  workspace: PlannedWorkspace,
  path: string,
  toolchain: Toolchain,
  leaveOut: ReadonlySet<string>,
): WorkspaceRoom {
  const { root, environmentPath, packages } = checkout
  const [own, above] = [join(path, 'own'), join(path, 'above')]
  const target = join(root, workspace.path)
  const copied = copyOwn(root, workspace.path, packages, own, leaveOut)
  makeDirectory(above)
  for (const file of filesAbove(root, workspace.path)) {
    makeDirectory(dirname(join(above, file)))
    copyFileSync(join(root, file), join(above, file))
    chmodSync(join(above, file), 0o444)
  }
  const directories = [workspace.path, ...directoriesAbove(workspace.path)]
  const seen = [
    ...directories.map((directory) => below(directory, 'node_modules')),
    ...visibleElsewhere(checkout, workspace),
  ].filter((each) => lstatSync(join(root, each), { throwIfNoEntry: false }) !== undefined)
  // The lower ones come after those that they are in.
  const elsewhere = seen.sort((a, b) => a.split('/').length - b.split('/').length)
  for (const each of elsewhere) {
    const holder = isWithin(each, workspace.path) ? join(own, relative(workspace.path, each)) : join(above, each)
    if (!elsewhere.some((other) => other !== each && isWithin(each, other))) makePlace(join(root, each), holder)
  }
  const programs = seenPrograms(toolchain, true)
  writeCommands(join(path, 'bin'), programs)
  const mounts: Mount[] = [
    ...(workspace.path === '.' ? [] : [{ source: above, target: root }]),
    ...elsewhere.map((each) => ({ source: join(root, each), target: join(root, each) })),
    ...(environmentPath === null ? [] : [{ source: environmentPath, target: environmentPath }]),
    { source: join(path, 'bin'), target: BIN },
    ...toolMounts(toolchain),
  ]
  if (workspace.path !== '.') makeDirectory(join(above, workspace.path))
  return {
    path,
    inside: root,
    directory: { source: own, target },
    mounts,
    searchPath: [
      ...directories.map((directory) => join(root, directory, 'node_modules/.bin')),
      BIN,
      dirname(programs.node),
    ],
    lastPath: `${BIN}/${INSTEAD}`,
    programs,
    copied,
  }
}

const BIN = '/opt/polder/bin'

/** An empty directory or file, for something to be mounted on. */
function makePlace(source: string, place: string): void {
  if (lstatSync(source).isDirectory()) makeDirectory(place)
  else {
    makeDirectory(dirname(place))
    writeFileSync(place, '')
  }
}

/** Times stay as they are, for tools that go by them. */
function copyOwn(
  root: string,
  path: string,
  packages: readonly string[],
  own: string,
  leaveOut: ReadonlySet<string>,
): WorkspaceRoom['copied'] {
  const copied = new Map<string, { readonly original: string | undefined; readonly copy: string | undefined }>()
  mkdirSync(own)
  chmodSync(own, 0o755)
  for (const each of walk(root, path, isForeign(path, packages))) {
    const name = relative(path, each)
    if (name === '' || leaveOut.has(name)) continue
    const [from, to] = [join(root, each), join(own, name)]
    const state = lstatSync(from, { throwIfNoEntry: false })
    if (state === undefined) continue
    if (state.isDirectory()) makeDirectory(to)
    else if (state.isSymbolicLink()) symlinkSync(readlinkSync(from), to)
    else if (state.isFile()) {
      copyFileSync(from, to, constants.COPYFILE_FICLONE)
      chmodSync(to, (state.mode & 0o777) | 0o644)
      utimesSync(to, state.atimeMs / 1000, state.mtimeMs / 1000)
    } else continue
    if (!state.isDirectory()) copied.set(name, { original: stampOf(from), copy: stampOf(to) })
  }
  return copied
}
