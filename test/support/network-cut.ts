import { spawnSync } from 'node:child_process'

/** A way to run a command without a network, or why this kernel gives none. */
export type NetworkCut = { readonly inside: readonly string[] } | { readonly refused: string }

// Runs in the namespace, before the command: that the network is cut is checked each time, not assumed. Nothing but
// lo in the list of interfaces, and not one route, so that no packet can go anywhere.
const PROOF = `
interfaces=$(sed -n 's/^ *\\([^ :]*\\):.*/\\1/p' /proc/net/dev | tr '\\n' ' ')
routes=$(sed 1d /proc/net/route)
if [ "$interfaces" != 'lo ' ] || [ -n "$routes" ]; then
  echo "the network is not cut: interfaces $interfaces, routes $routes" >&2
  exit 97
fi
exec "$@"`

/** Put before a command, refuses (97) to start it where there is an interface other than lo, or a route. */
export const WITH_PROOF: readonly string[] = ['sh', '-c', PROOF, 'sh']

/** A network namespace of its own: as root if we may, else through a user namespace. */
export function networkCut(): NetworkCut {
  const refusals: string[] = []
  for (const flags of ['-n', '-rn']) {
    const inside = ['unshare', flags, ...WITH_PROOF]
    const { status, stderr, error } = spawnSync('unshare', [flags, ...WITH_PROOF, 'true'], { encoding: 'utf8' })
    if (status === 0) return { inside }
    refusals.push((error?.message ?? stderr).trim())
  }
  return { refused: `no network namespace here: ${refusals.join('; ')}` }
}
