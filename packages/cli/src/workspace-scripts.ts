import { relative } from 'node:path'

import {
  type PlannedWorkspace,
  type PreparedCheckout,
  readWorkspaces,
  rehearseWorkspaces,
  type Rehearsed,
  runWorkspaces,
  type WorkspaceReport,
  type WorkspaceState,
} from '@polder/build'
import type { Lock, Target } from '@polder/lock'
import { requirementsOf } from '@polder/lock/requirements'
import { type Plan, readState } from '@polder/realise'
import { compareText, PolderError } from '@polder/spec'
import type { Store } from '@polder/store'

import { toolchainHere, withBuildServices } from './builds.ts'
import { listed, type Output } from './output.ts'

/** What a lock lets workspace packages run, as it is kept with its plan. */
export interface LockedWorkspaces {
  readonly workspaces: readonly (PlannedWorkspace & { readonly name?: string })[]
  /** The paths of all services and workspace packages. */
  readonly packages: readonly string[]
}

/** Undefined if the lock's policy names none. */
export function lockedWorkspaces({ policy, npm }: Lock): LockedWorkspaces | undefined {
  const { workspaces: allowed = {}, env = {} } = policy.builds ?? {}
  const paths = Object.keys(allowed).filter((path) => Object.hasOwn(npm.services, path))
  if (paths.length === 0) return undefined
  const workspaces = paths.map((path) => {
    const name = npm.services[path]?.name
    return {
      path,
      links: linksOf(npm.services, path),
      reads: allowed[path] ?? [],
      env: name !== undefined && Object.hasOwn(env, name) ? (env[name] ?? {}) : {},
      ...(name === undefined ? {} : { name }),
    }
  })
  return { workspaces, packages: Object.keys(npm.services) }
}

function linksOf(services: Lock['npm']['services'], path: string): readonly string[] {
  const reached = new Set([path])
  for (const each of reached)
    for (const { use } of Object.values(requirementsOf(services[each])))
      if (use !== undefined && isLink(use)) reached.add(use.slice('link:'.length))
  reached.delete(path)
  return [...reached].sort(compareText)
}

function isLink(target: Target): target is `link:${string}` {
  return target.startsWith('link:')
}

/** The checkout after its environment was put in place. */
export function preparedCheckout(
  store: Store,
  root: string,
  plan: Plan,
  environmentPath: string | null,
  { packages }: LockedWorkspaces,
): PreparedCheckout {
  const home = relative(root, store.home)
  // A store inside of the repository is none of its files.
  const apart = home.startsWith('..') ? [] : [home]
  return { root, environment: `${plan.layout} ${plan.id}`, environmentPath, packages: [...packages, ...apart] }
}

/** The workspace packages of an installed checkout that have scripts and may run them. */
export interface InstalledWorkspaces {
  readonly checkout: PreparedCheckout
  readonly states: readonly WorkspaceState[]
}

/** Runs nothing. */
export function installedWorkspaces(
  store: Store,
  root: string,
  { plan, workspaces: locked }: { readonly plan: Plan; readonly workspaces?: LockedWorkspaces },
): InstalledWorkspaces | undefined {
  if (locked === undefined) return undefined
  const checkout = preparedCheckout(store, root, plan, readState(root)?.environmentPath ?? null, locked)
  return { checkout, states: readWorkspaces(checkout, locked.workspaces, { toolchain: toolchainHere() }) }
}

/** By its path, or by the name in its package.json. */
export function isWorkspaceNamed({ workspace }: WorkspaceState, name: string): boolean {
  const own: LockedWorkspaces['workspaces'][number] = workspace
  return own.path === name || own.name === name
}

/**
 * Runs what changed since it ran.
 * @throws PolderError `SANDBOX_UNAVAILABLE`: they never run without one
 */
export async function performWorkspaces(
  store: Store,
  checkout: PreparedCheckout,
  { workspaces }: LockedWorkspaces,
  output: Output,
): Promise<WorkspaceReport> {
  return confined(async () =>
    withBuildServices(store, checkout.root, output, async (services) => {
      const report = await runWorkspaces(store, checkout, workspaces, services)
      for (const shortcoming of report.shortcomings) output.note(`warning: ${shortcoming}`)
      for (const { path, replaced, kept, log } of report.records) {
        if (replaced.length > 0)
          output.note(
            `polder: ${path}: its scripts changed ${listed(replaced, SHOWN)}, which they had not made; as it was: ${aside(log)}`,
          )
        if (kept.length > 0)
          output.note(`warning: ${path}: ${listed(kept, SHOWN)} changed while its scripts ran, and stays as it is`)
      }
      return report
    }),
  )
}

/**
 * Runs them all once more and brings nothing back.
 * @throws PolderError `NOT_INSTALLED`, `SANDBOX_UNAVAILABLE`
 */
export async function rehearse(
  store: Store,
  root: string,
  { checkout, states }: InstalledWorkspaces,
  output: Output,
): Promise<readonly Rehearsed[]> {
  if (readState(root) === undefined) {
    throw new PolderError('NOT_INSTALLED', `nothing is installed in ${root}`, {
      path: root,
      hint: 'run `polder install`',
    })
  }
  const workspaces = states.map(({ workspace }) => workspace)
  return confined(async () =>
    withBuildServices(store, root, output, async (services) =>
      rehearseWorkspaces(store, checkout, workspaces, services),
    ),
  )
}

async function confined<T>(run: () => Promise<T>): Promise<T> {
  try {
    return await run()
  } catch (error) {
    if (!(error instanceof PolderError) || error.code !== 'SANDBOX_UNAVAILABLE') throw error
    const { hint = '' } = error.details
    throw new PolderError(error.code, 'scripts of workspace packages run in a sandbox only, and there is none here', {
      ...error.details,
      hint: `${hint}; or take them out of builds.workspaces and run them yourself (polder run prepare)`,
    })
  }
}

const SHOWN = 3

function aside(log: string): string {
  return log.replace(/([^/]+)\.log$/, 'replaced/$1')
}
