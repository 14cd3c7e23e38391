import { PolderError } from '@polder/spec'
import { ownSuffix, readTree, recordRoot, writeFailure, type Store } from '@polder/store'
import { lstatSync, mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

import { withCheckoutLock } from './checkout-lock.ts'
import { renameIfThere, serviceDirectory, swapNodeModules, whoseNodeModules, writeMarker } from './node-modules.ts'
import { makeLinks, newTransfer, placePackage } from './package-files.ts'
import type { LinkPlan } from './planned.ts'
import { readAnyState, writeState, type State } from './state.ts'

export interface LinkOptions {
  readonly store: Store
  /** Absolute. */
  readonly checkout: string
  readonly plan: LinkPlan
  /** What `realiseEnvironment` returned. */
  readonly environmentPath: string | null
  /** What the caller knows of the state to write. */
  readonly state: Pick<State, 'lock' | 'inputs' | 'layoutAsked' | 'unenforced' | 'polder'>
  /** Replace a `node_modules` that somebody else made. */
  readonly force?: boolean
  /** How long to wait for another installation in this checkout, in milliseconds. Default: ten minutes. */
  readonly waitMs?: number
  readonly onWait?: (pid: number) => void
}

export interface LinkReport {
  /** The `node_modules` of others that were removed, relative to the checkout. */
  readonly replaced: readonly string[]
  /** Top-level, service and `.bin` links. */
  readonly links: number
  /** Files of packages that stand in the checkout: hard links, or copies where there can be none. */
  readonly files: { readonly linked: number; readonly copied: number }
}

/** One `node_modules` of the checkout. */
interface Part {
  /** `.` or the service's path. */
  readonly service: string
  readonly nodeModules: string
}

/**
 * Makes the `node_modules` of a checkout and its services and records the environment as used.
 *
 * Built aside, then swapped in by renames, with `.polder/state.json` marked before and completed after: an error
 * while building leaves the checkout as it was, and killed at any point, the next call does it over. Tools' caches inside `node_modules` (`.cache`, `.vite`) are kept.
 * @throws PolderError `NODE_MODULES_FOREIGN` (all of them, in `details.others`) without `force`, `CHECKOUT_BUSY`,
 *   `LOCK_OUT_OF_DATE`, `LOCK_INVALID`, `ARTIFACT_MISSING`, `ARCHIVE_REFUSED`, `DISK_FULL`, `STORE_UNWRITABLE`
 */
export async function linkCheckout(options: LinkOptions): Promise<LinkReport> {
  const { checkout, waitMs = 10 * 60 * 1000, onWait } = options
  try {
    prepareOwnDirectory(checkout)
    return await withCheckoutLock(checkout, { waitMs, ...(onWait === undefined ? {} : { onWait }) }, () =>
      replaceNodeModules(options),
    )
  } catch (error) {
    throw writeFailure(error, 'installing', checkout)
  }
}

function replaceNodeModules({ store, checkout, plan, environmentPath, state, force = false }: LinkOptions): LinkReport {
  removeLeftovers(checkout)
  const parts = ['.', ...plan.checkout.services].map((service) => ({
    service,
    nodeModules: join(serviceDirectory(checkout, service), 'node_modules'),
  }))
  const before = readAnyState(checkout)
  const stale = staleParts(checkout, before, plan)
  const replaced = foreignParts(parts)
  if (!force) refuse(replaced)

  const unfinished: State = {
    format: 1,
    storeHome: store.home,
    platform: '',
    environment: before?.environment ?? plan.id,
    environmentPath: before?.environmentPath ?? environmentPath,
    layout: plan.layout,
    lock: '',
    inputs: {},
    services: [...new Set([...(before?.services ?? []), ...plan.checkout.services])],
    notBuilt: [],
    polder: state.polder,
  }
  const id = ownSuffix()
  const [made, trash] = [join(checkout, '.polder', `tmp-${id}`), join(checkout, '.polder', `trash-${id}`)]
  const files = build(store, plan, environmentPath, made)
  // Without a state, and without services to remember, a checkout counts as unfinished anyway.
  if (before !== undefined || unfinished.services.length > 0) writeState(checkout, unfinished)
  for (const [index, { service, nodeModules }] of parts.entries())
    swapNodeModules(join(made, service, 'node_modules'), nodeModules, join(trash, String(index)))
  for (const [index, { nodeModules }] of stale.entries()) renameIfThere(nodeModules, join(trash, `stale-${index}`))
  // First the root, then the state: an environment that a complete checkout uses is never garbage.
  if (environmentPath !== null) recordUse(store, checkout, plan)
  writeState(checkout, {
    ...unfinished,
    ...state,
    platform: `${process.platform}-${process.arch}-${process.version}`,
    environment: plan.id,
    environmentPath,
    services: plan.checkout.services,
    notBuilt: plan.notBuilt,
  })
  for (const path of [made, trash]) rmSync(path, { recursive: true, force: true })
  return { replaced: replaced.map((part) => relativeNodeModules(part)), links: countLinks(plan), files }
}

function countLinks({ checkout }: LinkPlan): number {
  return checkout.links.reduce((sum, { names, others }) => sum + names.length + others.length, 0)
}

/** A store that we cannot write to serves all the same: whoever collects in it has to know who else mounts it. */
function recordUse(store: Store, checkout: string, plan: LinkPlan): void {
  try {
    recordRoot(store, { checkout, environment: plan.id })
  } catch (error) {
    if (!(error instanceof PolderError && error.code === 'STORE_UNWRITABLE')) throw error
  }
}

/** Every `node_modules`, below `made` as it will be below the checkout; nothing if that fails. */
function build(store: Store, plan: LinkPlan, environmentPath: string | null, made: string): LinkReport['files'] {
  const transfer = newTransfer(store)
  const environment = environmentPath ?? undefined
  try {
    for (const service of ['.', ...plan.checkout.services]) {
      const nodeModules = join(made, service, 'node_modules')
      mkdirSync(nodeModules, { recursive: true })
      writeMarker(nodeModules, plan.id)
    }
    for (const planned of plan.checkout.packages) {
      placePackage(planned, readTree(store, planned.tree), made, environment, transfer)
    }
    for (const directory of plan.checkout.links) makeLinks(directory, made, environment, transfer)
  } catch (error) {
    rmSync(made, { recursive: true, force: true })
    throw error
  }
  return { linked: transfer.linked, copied: transfer.copied }
}

/**
 * Makes `.polder`, which keeps itself out of version control, if it is not there.
 * @throws PolderError `NODE_MODULES_FOREIGN` if something else is in its place
 */
export function prepareOwnDirectory(checkout: string): void {
  const path = join(checkout, '.polder')
  const found = lstatSync(path, { throwIfNoEntry: false })
  if (found !== undefined && !found.isDirectory()) {
    throw new PolderError('NODE_MODULES_FOREIGN', `${path} is not a directory`, {
      path,
      hint: 'polder keeps its state there: remove it',
    })
  }
  if (found !== undefined) return
  mkdirSync(path, { recursive: true })
  writeFileSync(join(path, '.gitignore'), '*\n')
}

/** What killed installations left. */
function removeLeftovers(checkout: string): void {
  const own = join(checkout, '.polder')
  for (const name of readdirSync(own))
    if (/^(?:tmp|trash)-/.test(name)) rmSync(join(own, name), { recursive: true, force: true })
}

/** The parts of earlier installations that are not planned any more, if they are still ours. */
function staleParts(checkout: string, before: State | undefined, plan: LinkPlan): readonly Part[] {
  const planned = new Set(plan.checkout.services)
  return (before?.services ?? [])
    .filter(
      (service) =>
        !planned.has(service) &&
        !service.startsWith('/') &&
        service.split('/').every((part) => part !== '' && part !== '.' && part !== '..'),
    )
    .map((service) => ({ service, nodeModules: join(checkout, service, 'node_modules') }))
    .filter(({ nodeModules }) => whoseNodeModules(nodeModules) === 'ours')
}

function foreignParts(parts: readonly Part[]): readonly Part[] {
  return parts.filter(({ nodeModules }) => whoseNodeModules(nodeModules) === 'foreign')
}

function refuse(foreign: readonly Part[]): void {
  const [first, ...others] = foreign.map(
    (part) =>
      new PolderError('NODE_MODULES_FOREIGN', `${relativeNodeModules(part)} was not made by polder`, {
        path: part.nodeModules,
        hint: 'remove it, or run `polder install --force` to replace it',
      }),
  )
  if (first !== undefined) throw new PolderError(first.code, first.message, { ...first.details, others })
}

function relativeNodeModules({ service }: Part): string {
  return service === '.' ? 'node_modules' : `${service}/node_modules`
}
