import { mkdirSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { posix } from 'node:path'

import { HOSTNAME, type Piece } from './file-system.ts'

interface Options {
  readonly pieces: readonly Piece[]
  /** A directory of ours: the new root is made there, and the script beside it. */
  readonly scratch: string
  readonly programs: { readonly mount: string; readonly pivotRoot: string }
  readonly cwd: string
  /** What to go on with inside, and its whole environment. */
  readonly command: readonly string[]
  readonly env: Readonly<Record<string, string>>
  /** Whether the user namespace it runs in is its own, in which it may then allow no more than the one of the build. */
  readonly ownNamespace: boolean
}

/**
 * A shell script that makes the same file system as bubblewrap does, where that is missing, and starts the command in
 * it. It runs with the capabilities of a user namespace, in new mount and process namespaces. A process for each mount
 * would take as long as many builds do: one `mount --all` makes nearly all, and what they are mounted on is made here.
 * @returns the file of the script
 */
export function writeUnshareScript({ pieces, scratch, programs, cwd, command, env, ownNamespace }: Options): string {
  const root = posix.join(scratch, 'root')
  rmSync(root, { recursive: true, force: true })
  mkdirSync(posix.join(root, 'old'), { recursive: true, mode: 0o755 })
  const { stages, writable } = describe(pieces, root)
  const variables = Object.entries(env).map(([name, value]) => quote(`${name}=${value}`))
  const script = posix.join(scratch, 'enter.sh')
  const text = `set -e
umask 022
mount=${quote(programs.mount)}
"$mount" -n --make-rprivate /
"$mount" -n --bind ${quote(root)} ${quote(root)}
${stages.map((stage, at) => mountStage(stage, root, `${scratch}/fstab-${at}`, at === 0)).join('')}\
# What is mounted below a read-only mount came along with it, writable.
while read -r _ _ _ _ target options _; do
  case "$target" in ${quote(root)}/*) ;; *) continue;; esac
  case "$target" in ${writable.map((path) => quote(escape(root + path))).join('|')}) continue;; esac
  case "$options" in rw,*|rw) "$mount" -n -o remount,bind,ro "$(printf %b "$target")";; esac
done < /proc/self/mountinfo
hostname ${HOSTNAME} 2>/dev/null || :
${ownNamespace ? 'echo 1 > /proc/sys/user/max_user_namespaces' : ''}
cd ${quote(root)}
${quote(programs.pivotRoot)} . old
"$mount" -n -o remount,bind,ro,nosuid,nodev /
umount -n -l /old
cd ${quote(cwd)}
exec env -i ${variables.join(' ')} ${command.map(quote).join(' ')}
`
  writeFileSync(script, text, { mode: 0o600 })
  return script
}

/** One word of a shell script. */
function quote(word: string): string {
  return `'${word.replaceAll("'", `'\\''`)}'`
}

/** Mounts that are made at once, and what has to be there before, none of it on one of them. */
interface Stage {
  readonly directories: Set<string>
  readonly files: Set<string>
  readonly links: Map<string, string>
  readonly table: string[]
}

/** What is mounted on is made now for the first stage, and by the script for what is on a mount of an earlier one. */
function mountStage({ directories, files, links, table }: Stage, root: string, file: string, first: boolean): string {
  writeFileSync(file, `${table.join('\n')}\n`)
  const mounting = `"$mount" -n --all --fstab ${quote(file)}\n`
  if (first) {
    for (const path of directories) mkdirSync(root + path, { recursive: true, mode: 0o755 })
    for (const path of files) writeFileSync(root + path, '')
    for (const [path, to] of links) symlinkSync(to, root + path)
    return mounting
  }
  const inRoot = (paths: Iterable<string>): string => [...paths].map((path) => quote(root + path)).join(' ')
  return `mkdir -p ${inRoot(directories)}\nfor file in ${inRoot(files)}; do : > "$file"; done\n${mounting}`
}

interface Description {
  readonly stages: readonly Stage[]
  /** Mounts that stay writable, or that nothing can be written into anyway. */
  readonly writable: string[]
}

function describe(pieces: readonly Piece[], root: string): Description {
  let stage: Stage = { directories: new Set(), files: new Set(), links: new Map(), table: [] }
  const stages = [stage]
  const writable: string[] = []
  const mount = (source: string, target: string, type: string, options: string): void => {
    stage.table.push([source, root + target, type, options, '0', '0'].map(fstabWord).join(' '))
  }
  const link = (target: string, to: string): void => {
    stage.directories.add(posix.dirname(target))
    stage.links.set(target, to)
  }
  const place = (source: string, target: string): void => {
    if (statSync(source).isDirectory()) stage.directories.add(target)
    else {
      stage.directories.add(posix.dirname(target))
      stage.files.add(target)
    }
  }
  let inMemory: string[] = []
  for (const piece of pieces) {
    if (inMemory.some((target) => piece.target.startsWith(`${target}/`))) {
      stage = { directories: new Set(), files: new Set(), links: new Map(), table: [] }
      stages.push(stage)
      inMemory = []
    }
    switch (piece.kind) {
      case 'read-only':
        place(piece.source, piece.target)
        mount(piece.source, piece.target, 'none', 'rbind,ro,nosuid,nodev')
        break
      case 'writable':
        place(piece.source, piece.target)
        mount(piece.source, piece.target, 'none', 'bind,nosuid,nodev')
        writable.push(piece.target)
        break
      case 'memory':
        stage.directories.add(piece.target)
        inMemory.push(piece.target)
        mount('tmpfs', piece.target, 'tmpfs', `size=${piece.bytes},mode=${piece.mode},nosuid,nodev`)
        writable.push(piece.target)
        break
      case 'link':
        link(piece.target, piece.to)
        break
      case 'processes':
        stage.directories.add(piece.target)
        mount('proc', piece.target, 'proc', 'nosuid,nodev,noexec')
        mount('/proc/sys', `${piece.target}/sys`, 'none', 'bind,ro,nosuid,nodev,noexec')
        writable.push(piece.target)
        break
      case 'devices':
        for (const name of DEVICES) {
          place(`/dev/${name}`, `${piece.target}/${name}`)
          mount(`/dev/${name}`, `${piece.target}/${name}`, 'none', 'bind')
          writable.push(`${piece.target}/${name}`)
        }
        for (const [name, to] of DEVICE_LINKS) link(`${piece.target}/${name}`, to)
        break
      case 'sealed':
        // The root is sealed last, by the script itself; /dev is a part of it here.
        break
    }
  }
  return { stages, writable }
}

const DEVICES = ['null', 'zero', 'full', 'random', 'urandom', 'tty']
const DEVICE_LINKS = [
  ['fd', '/proc/self/fd'],
  ['stdin', '/proc/self/fd/0'],
  ['stdout', '/proc/self/fd/1'],
  ['stderr', '/proc/self/fd/2'],
] as const

/** fstab(5): white space and backslashes as octal numbers, and what would begin a comment. */
function fstabWord(word: string): string {
  return escape(word).replaceAll('#', '\\043')
}

/** As /proc/self/mountinfo has paths. */
function escape(path: string): string {
  return path.replaceAll(/[ \t\n\\]/g, (letter) => `\\${letter.charCodeAt(0).toString(8).padStart(3, '0')}`)
}
