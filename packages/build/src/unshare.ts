import { statSync } from 'node:fs'
import { posix } from 'node:path'

import { HOSTNAME, type Piece } from './file-system.ts'

interface Options {
  readonly pieces: readonly Piece[]
  /** An empty directory, to make the new root on. */
  readonly root: string
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
 * it. It runs with the capabilities of a user namespace, in new mount and process namespaces. One `mount --all` makes
 * nearly all mounts: a process each would take as long as many builds do.
 */
export function unshareScript({ pieces, root, programs, cwd, command, env, ownNamespace }: Options): string {
  const { stages, writable } = describe(pieces, root)
  const variables = Object.entries(env).map(([name, value]) => quote(`${name}=${value}`))
  return `set -e
umask 022
mount=${quote(programs.mount)}
"$mount" -n --make-rprivate /
"$mount" -n -t tmpfs -o mode=755,size=16m,nosuid,nodev tmpfs ${quote(root)}
mkdir ${quote(`${root}/old`)}
${stages.map((stage, at) => stageScript(stage, root, `${root}/old/fstab-${at}`)).join('')}\
# What is mounted below a read-only mount came along with it, writable.
while read -r _ _ _ _ target options _; do
  case "$target" in ${quote(root)}/*) ;; *) continue;; esac
  case "$target" in ${writable.map((path) => quote(root + path)).join('|')}) continue;; esac
  case "$options" in rw,*|rw) "$mount" -n -o remount,bind,ro "$target";; esac
done < /proc/self/mountinfo
hostname ${HOSTNAME} 2>/dev/null || :
${ownNamespace ? 'echo 1 > /proc/sys/user/max_user_namespaces' : ''}
cd ${quote(root)}
${quote(programs.pivotRoot)} . old
"$mount" -n -o remount,bind,ro /
umount -n -l /old
cd ${quote(cwd)}
exec env -i ${variables.join(' ')} ${command.map(quote).join(' ')}
`
}

/** One word of a shell script. */
function quote(word: string): string {
  return `'${word.replaceAll("'", `'\\''`)}'`
}

/** Mounts that are made at once, and what has to be there before, none of it on one of them. */
interface Stage {
  readonly directories: Set<string>
  readonly files: Set<string>
  readonly links: string[]
  readonly table: string[]
}

function stageScript({ directories, files, links, table }: Stage, root: string, file: string): string {
  const inRoot = (paths: Iterable<string>): string => [...paths].map((path) => quote(root + path)).join(' ')
  return `mkdir -p ${inRoot(directories)}
for file in ${inRoot(files)}; do : > "$file"; done
${links.join('\n')}
cat > ${quote(file)} <<'END-OF-FSTAB'
${table.join('\n')}
END-OF-FSTAB
"$mount" -n --all --fstab ${quote(file)}
`
}

interface Description {
  readonly stages: readonly Stage[]
  /** Mounts that stay writable, or that nothing can be written into anyway. */
  readonly writable: string[]
}

function describe(pieces: readonly Piece[], root: string): Description {
  let stage: Stage = { directories: new Set(), files: new Set(), links: [], table: [] }
  const stages = [stage]
  const writable: string[] = []
  const mount = (source: string, target: string, type: string, options: string): void => {
    stage.table.push([source, root + target, type, options, '0', '0'].map(fstabWord).join(' '))
  }
  const link = (target: string, to: string): void => {
    stage.directories.add(posix.dirname(target))
    stage.links.push(`ln -s ${quote(to)} ${quote(root + target)}`)
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
      stage = { directories: new Set(), files: new Set(), links: [], table: [] }
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

/** fstab(5): white space and backslashes as octal numbers. */
function fstabWord(word: string): string {
  return word.replaceAll(/[\s\\#]/g, (letter) => `\\${letter.charCodeAt(0).toString(8).padStart(3, '0')}`)
}
