import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'

import { onTestFinished } from 'vitest'

/** File systems that only the commands run `inside` it see, and that end with the test. */
export interface MountNamespace {
  /** Words in front of a command. */
  readonly inside: readonly string[]
  /** Runs a shell command in it, to mount more for example, and gives its stdout. */
  readonly run: (script: string) => string
}

// The superuser needs no user namespace, which some containers refuse; everybody else cannot mount without one.
const WAYS: readonly { readonly make: readonly string[]; readonly enter: readonly string[] }[] = [
  { make: ['--mount'], enter: ['--mount'] },
  { make: ['--mount', '--user', '--map-root-user'], enter: ['--mount', '--user', '--preserve-credentials'] },
]

const way = WAYS.find(({ make }) => {
  try {
    execFileSync('unshare', [...make, 'mount', '-t', 'tmpfs', 'tmpfs', '/mnt'], { stdio: 'ignore' })
    return true
  } catch {
    return false
  }
})

/** Why there can be none; undefined if there can. */
export const noMounts: string | undefined =
  way === undefined ? 'neither this user nor a user namespace may mount a file system' : undefined

/**
 * A mount namespace for the running test. Call it only if `noMounts` is undefined.
 * @param cwd where the commands inside run
 */
export async function mountNamespace(cwd: string): Promise<MountNamespace> {
  if (way === undefined) throw new Error(noMounts)
  // `cat` holds the namespace for as long as we hold its input, so nothing is left mounted even if we are killed.
  const holder = spawn('unshare', [...way.make, 'sh', '-c', 'echo ready; exec cat'], {
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  await once(holder.stdout, 'data')
  onTestFinished(async () => {
    holder.stdin.end()
    if (holder.exitCode === null) await once(holder, 'exit')
  })
  // Entering a mount namespace leads to its root directory.
  const words = ['--target', String(holder.pid), ...way.enter, 'sh', '-c', 'cd "$0" && exec "$@"', cwd]
  return {
    inside: ['nsenter', ...words],
    run: (script) => execFileSync('nsenter', [...words, 'sh', '-ec', script], { encoding: 'utf8' }),
  }
}
