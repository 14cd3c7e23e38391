import { compareText } from '@polder/spec'

import type { BuildScript } from '../lifecycle/planned-build.ts'

/** A workspace package that may run its own scripts. Paths are relative to the checkout, POSIX, `.` for the one at its top. */
export interface PlannedWorkspace {
  readonly path: string
  /** The workspace packages that it leads to, directly or not, itself not among them. Sorted. */
  readonly links: readonly string[]
  /** What else of the repository it reads. Sorted. */
  readonly reads: readonly string[]
  /** Declared in polder.yaml, on top of what every build gets. */
  readonly env: Readonly<Record<string, string>>
}

const EVENTS = ['preinstall', 'install', 'postinstall', 'preprepare', 'prepare', 'postprepare'] as const

/**
 * What npm, pnpm and bun run of a workspace package when they install, in order. As for any other package, what has a
 * `binding.gyp` and no script of its own to compile it is compiled by node-gyp.
 * @param manifest its package.json, as it was parsed
 */
export function workspaceScripts(manifest: unknown, hasBindingGyp: boolean): readonly BuildScript[] {
  const { scripts, gypfile } = recordOf(manifest)
  const declared = EVENTS.flatMap((event): BuildScript[] => {
    const command = recordOf(scripts)[event]
    return typeof command !== 'string' || command.trim() === '' ? [] : [{ event, command }]
  })
  const own = declared.some(({ event }) => event === 'preinstall' || event === 'install')
  return own || !hasBindingGyp || gypfile === false
    ? declared
    : [{ event: 'install', command: 'node-gyp rebuild' }, ...declared]
}

/** Each after those that it leads to; of two that lead to each other the first by path comes first. */
export function inOrder(workspaces: readonly PlannedWorkspace[]): readonly PlannedWorkspace[] {
  const sorted = [...workspaces].sort((a, b) => compareText(a.path, b.path))
  const ordered = new Set<PlannedWorkspace>()
  const visit = (workspace: PlannedWorkspace, above: readonly string[]): void => {
    if (ordered.has(workspace) || above.includes(workspace.path)) return
    for (const other of sorted) if (workspace.links.includes(other.path)) visit(other, [...above, workspace.path])
    ordered.add(workspace)
  }
  for (const workspace of sorted) visit(workspace, [])
  return [...ordered]
}

function recordOf(value: unknown): Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null ? { ...value } : {}
}
