import { posix } from 'node:path'

import { HOSTNAME, USER, type Piece } from './file-system.ts'

interface Options {
  readonly pieces: readonly Piece[]
  readonly env: Readonly<Record<string, string>>
  readonly cwd: string
  /** The cell has a user id to spare for the build, which changes to it (as root); else bubblewrap maps its own. */
  readonly ownUser: boolean
  /** The descriptor with the filter of system calls. */
  readonly seccomp: number | undefined
}

/**
 * The options of bwrap(1), as NUL-separated words for its `--args`: on its command line everybody on the machine could
 * read them, and they have no limit of length there.
 */
export function bubblewrapArguments({ pieces, env, cwd, ownUser, seccomp }: Options): string {
  const words = ['--unshare-pid', '--unshare-ipc', '--unshare-uts', '--unshare-cgroup-try', '--hostname', HOSTNAME]
  words.push('--die-with-parent', '--new-session', '--cap-drop', 'ALL', '--clearenv')
  if (ownUser) words.push(...['CAP_SETUID', 'CAP_SETGID', 'CAP_SETPCAP'].flatMap((name) => ['--cap-add', name]))
  else words.push('--unshare-user', '--disable-userns', '--uid', String(USER.id), '--gid', String(USER.id))
  const made = new Set<string>()
  for (const piece of pieces) {
    // bwrap makes missing parents as closed as it finds the source's own, which is not for the build's user.
    for (const parent of parents(piece.target)) {
      if (!made.has(parent)) words.push('--perms', '0755', '--dir', parent)
      made.add(parent)
    }
    if (piece.kind !== 'sealed') made.add(piece.target)
    words.push(...wordsFor(piece))
  }
  for (const [name, value] of Object.entries(env)) words.push('--setenv', name, value)
  if (seccomp !== undefined) words.push('--seccomp', String(seccomp))
  words.push('--chdir', cwd)
  return words.map((word) => `${word}\0`).join('')
}

/** The directories above a path, the highest first, without the root. */
function parents(path: string): readonly string[] {
  const parent = posix.dirname(path)
  return parent === '/' || parent === path ? [] : [...parents(parent), parent]
}

function wordsFor(piece: Piece): readonly string[] {
  switch (piece.kind) {
    case 'read-only':
      return ['--ro-bind', piece.source, piece.target]
    case 'writable':
      return ['--bind', piece.source, piece.target]
    case 'memory':
      return ['--perms', piece.mode, '--size', String(piece.bytes), '--tmpfs', piece.target]
    case 'link':
      return ['--symlink', piece.to, piece.target]
    case 'processes':
      // bwrap leaves /proc/sys writable if it cannot tell that it is: to user 0 of the machine it would be.
      return ['--proc', piece.target, '--ro-bind', '/proc/sys', `${piece.target}/sys`]
    case 'devices':
      return ['--dev', piece.target]
    case 'sealed':
      return ['--remount-ro', piece.target]
  }
}
