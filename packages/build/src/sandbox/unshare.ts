import { mkdirSync, writeFileSync } from 'node:fs'
import { posix } from 'node:path'

import { type MountTable, type Stage, tableLine } from './mount-table.ts'

interface Options {
  /** Where the part that all builds have is mounted, with all that the others are mounted on. */
  readonly common: string
  /** What is the build's own, below the new root. */
  readonly table: MountTable
  /** An empty directory of ours, or none yet. */
  readonly root: string
  /** A directory of ours, for the script. */
  readonly scratch: string
  readonly programs: { readonly mount: string; readonly pivotRoot: string }
  readonly cwd: string
  /** What to go on with inside; its environment is that of the script. */
  readonly command: readonly string[]
  /** Whether the user namespace it runs in is its own, in which it may then allow no more than the one of the build. */
  readonly ownNamespace: boolean
}

// The environment is the build's.
const PATH = 'PATH=/usr/sbin:/usr/bin:/sbin:/bin'

/**
 * A shell script that makes the same file system as bubblewrap does, where that is missing, and starts the command in
 * it. It runs with the capabilities of a user namespace, in new mount and process namespaces. Each process that it
 * starts takes as long as all that a small build does: one `mount --all` makes all mounts.
 * @returns the file of the script
 */
export function writeUnshareScript(options: Options): string {
  const { common, table, root, scratch, programs, cwd, command, ownNamespace } = options
  mkdirSync(root, { recursive: true })
  const mount = `${quote(programs.mount)} -n`
  const script = posix.join(scratch, 'enter.sh')
  const mountAll = (stage: Stage, at: number): string => {
    const file = posix.join(scratch, `own-${at}.fstab`)
    const first = at === 0 ? [tableLine(common, root, 'none', 'rbind')] : []
    writeFileSync(file, `${[...first, ...stage.table].join('\n')}\n`)
    return `${mount} --all --fstab ${quote(file)}`
  }
  const lines = [
    'set -e',
    'umask 022',
    ...table.stages.flatMap((stage, at) => [...mountPoints(stage, root, at), mountAll(stage, at)]),
    ...table.toSeal.map((path) => `${mount} -o remount,bind,ro,nosuid,nodev ${quote(path)}`),
    ...(ownNamespace ? ['echo 1 > /proc/sys/user/max_user_namespaces'] : []),
    `cd ${quote(root)}`,
    `${quote(programs.pivotRoot)} . old`,
    `${PATH} umount -n -l /old`,
    `cd ${quote(cwd)}`,
    `exec ${command.map(quote).join(' ')}`,
  ]
  writeFileSync(script, `${lines.join('\n')}\n`, { mode: 0o600 })
  return script
}

/** One word of a shell script. */
function quote(word: string): string {
  return `'${word.replaceAll("'", `'\\''`)}'`
}

/** What is mounted on is there for the first stage, and made by the script in the file systems of an earlier one. */
function mountPoints({ points: { directories, files } }: Stage, root: string, at: number): readonly string[] {
  if (at === 0) return []
  const inRoot = (paths: Iterable<string>): string => [...paths].map((path) => quote(root + path)).join(' ')
  return [`${PATH} mkdir -p ${inRoot(directories)}`, `for file in ${inRoot(files)}; do : > "$file"; done`]
}
