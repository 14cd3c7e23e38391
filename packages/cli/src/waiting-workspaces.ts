import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

import { workspaceScripts } from '@polder/build/workspaces'
import { compareText, isErrno, PolderError } from '@polder/spec'

// Every installation looks for these, so nothing of what runs them is loaded here.

/** A workspace package with scripts that nobody allowed. */
export interface WaitingWorkspace {
  readonly path: string
  /** `prepare: node build.js` */
  readonly scripts: readonly string[]
}

// Most packages have none of these, and need not be parsed.
const MAY_HAVE_SCRIPTS = /"(?:(?:pre|post)?(?:install|prepare))"\s*:/

/**
 * @param paths of services and workspace packages
 * @param allowed by policy
 */
export function waitingWorkspaces(
  root: string,
  paths: readonly string[],
  allowed: readonly string[],
): readonly WaitingWorkspace[] {
  return paths
    .filter((path) => !allowed.includes(path))
    .sort(compareText)
    .flatMap((path): WaitingWorkspace[] => {
      const hasGyp = existsSync(join(root, path, 'binding.gyp'))
      const text = readText(join(root, path, 'package.json'))
      if (!hasGyp && !MAY_HAVE_SCRIPTS.test(text)) return []
      const scripts = workspaceScripts(JSON.parse(text.replace(/^\uFEFF/, '')), hasGyp)
      return scripts.length === 0
        ? []
        : [{ path, scripts: scripts.map(({ event, command }) => `${event}: ${command}`) }]
    })
}

function readText(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return '{}'
    throw error
  }
}

/** @throws PolderError `SERVICE_UNKNOWN` if the configuration lets run what is no workspace package */
export function requireKnownWorkspaces(allowed: readonly string[], known: readonly string[]): void {
  const unknown = allowed.find((path) => !known.includes(path))
  if (unknown === undefined) return
  throw new PolderError(
    'SERVICE_UNKNOWN',
    `"${unknown}" in "builds.workspaces" of polder.yaml is no workspace package`,
    {
      path: 'polder.yaml',
      found: unknown,
      hint: `they are named by path: ${known.slice(0, 8).join(', ')}${known.length > 8 ? ' …' : ''}`,
    },
  )
}
