import { mkdtempSync, rmSync } from 'node:fs'
import { join } from 'node:path'

import { PolderError } from '@polder/spec'
import type { Store } from '@polder/store'

import type { SeenFile } from './checkout-files.ts'
import type { PlannedWorkspace } from './planned-workspace.ts'
import { keyOf, type PreparedCheckout } from './workspace-inputs.ts'
import { bringBack, type BroughtBack, compareOutputs, type OutputDifference } from './workspace-outputs.ts'
import { type WorkspaceRecord, workspaceLogPath, writeWorkspaceRecord } from './workspace-record.ts'
import { type InSandbox, withRooms } from './workspace-sandbox.ts'
import { readWorkspaces, type WorkspaceState } from './workspace-state.ts'
import { buildFailure } from '../lifecycle/build-failure.ts'
import type { BuildOptions } from '../lifecycle/build-options.ts'
import { failureOf, type Ran } from '../lifecycle/run-scripts.ts'
import { toolchainIdentity } from '../lifecycle/toolchain.ts'
import type { Sandboxes } from '../sandbox/sandboxes.ts'

export interface WorkspaceReport {
  /** Of what ran, in the order in which it did. */
  readonly records: readonly WorkspaceRecord[]
  /** How many had nothing to do. */
  readonly reused: number
  readonly errors: readonly PolderError[]
  readonly shortcomings: readonly string[]
  /** Every file and directory that matters, by path: while none of these changes there is nothing to do. */
  readonly watched: Readonly<Record<string, Pick<SeenFile, 'mtimeMs' | 'size'>>>
}

/**
 * Runs the scripts of the workspace packages that have something to do, each in a copy of its own in a sandbox, and
 * brings what they wrote back. What fails changes nothing in the checkout, and keeps only those from running that lead to
 * it. Never without a sandbox. Hold a lease on the store around this.
 * @throws PolderError `SANDBOX_UNAVAILABLE`, `SANDBOX_FAILED`, `DISK_FULL`, `STORE_UNWRITABLE`
 */
export async function runWorkspaces(
  store: Store,
  checkout: PreparedCheckout,
  workspaces: readonly PlannedWorkspace[],
  options: BuildOptions,
): Promise<WorkspaceReport> {
  const errors: PolderError[] = []
  const failed = new Set<string>()
  const records: WorkspaceRecord[] = []
  let shortcomings: readonly string[] = []
  let reused = 0
  const first = readWorkspaces(checkout, workspaces, options)
  const run = async (inSandbox: InSandbox): Promise<void> => {
    for (const { workspace } of first) {
      // What it leads to may have changed by now.
      const [state] = readWorkspaces(checkout, [workspace], options)
      if (state?.current === true) reused += 1
      if (state === undefined || state.current) continue
      const { path } = workspace
      const lacking = workspace.links.find((link) => failed.has(link))
      if (lacking !== undefined) {
        failed.add(path)
        const message = `the scripts of ${path} did not run, because those of ${lacking} failed`
        errors.push(new PolderError('BUILD_FAILED', message, { spec: path }))
        continue
      }
      const record = await inSandbox(state, new Set(), (room, ran) => {
        const earlier = new Set(state.record?.outputs ?? [])
        const brought =
          ran.failed === undefined
            ? inScratch(checkout.root, (scratch) => bringBack(checkout, path, room, earlier, scratch))
            : { outputs: [...earlier].sort(), replaced: [], kept: [], leftOut: [] }
        return recordOf(checkout, state, ran, brought)
      })
      writeWorkspaceRecord(checkout.root, record)
      records.push(record)
      if (record.failure === undefined) continue
      failed.add(path)
      errors.push(workspaceFailure(record))
    }
  }
  if (first.every(({ current }) => current)) reused = first.length
  else shortcomings = await withRooms(store, checkout, options, run)
  const last = readWorkspaces(checkout, workspaces, options)
  const done = new Map(records.map((record) => [record.path, record]))
  for (const { workspace, scripts, inputs } of last) {
    const record = done.get(workspace.path)
    // Of those that lead to each other the first saw the others as they were before: that is as good as it gets.
    if (record?.status === 'built')
      writeWorkspaceRecord(checkout.root, {
        ...record,
        key: keyOf(checkout, workspace, scripts, toolchainIdentity(options.toolchain, true), inputs),
        inputs: Object.fromEntries(inputs.files),
      })
  }
  const watched = last.flatMap(({ inputs }) => [...inputs.files, ...inputs.directories])
  return {
    records,
    reused,
    errors,
    shortcomings,
    watched: Object.fromEntries(watched.map(([path, { mtimeMs, size }]) => [path, { mtimeMs, size }])),
  }
}

/** What running the scripts again would give. The checkout stays as it is. */
export interface Rehearsed {
  readonly record: WorkspaceRecord
  /** From what the checkout has. */
  readonly differences: readonly OutputDifference[]
}

/** As {@link runWorkspaces}, of all that are named, without bringing anything back. */
export async function rehearseWorkspaces(
  store: Store,
  checkout: PreparedCheckout,
  workspaces: readonly PlannedWorkspace[],
  options: BuildOptions,
): Promise<readonly Rehearsed[]> {
  const rehearsed: Rehearsed[] = []
  await withRooms(store, checkout, options, async (inSandbox) => {
    for (const state of readWorkspaces(checkout, workspaces, options)) {
      const outputs = state.record?.outputs ?? []
      rehearsed.push(
        await inSandbox(state, new Set(outputs), (room, ran) => ({
          record: recordOf(checkout, state, ran, { outputs, replaced: [], kept: [], leftOut: [] }),
          differences: compareOutputs(checkout, state.workspace.path, room, outputs),
        })),
      )
    }
  })
  return rehearsed
}

function recordOf(
  { root }: PreparedCheckout,
  { workspace: { path }, scripts, inputs }: WorkspaceState,
  { failed, startedAt, sandboxes, ...did }: Ran & { readonly startedAt: string; readonly sandboxes: Sandboxes },
  { outputs, replaced, kept, leftOut }: BroughtBack,
): WorkspaceRecord {
  return {
    format: 1,
    path,
    status: failed === undefined ? 'built' : 'failed',
    level: sandboxes.level,
    recorded: sandboxes.recorded,
    scripts,
    startedAt,
    ...did,
    log: workspaceLogPath(root, path),
    // Until it is known what everything came to.
    key: '',
    inputs: Object.fromEntries(inputs.files),
    outputs,
    replaced,
    kept,
    ...(leftOut.length === 0 ? {} : { leftOut }),
    ...(failed === undefined ? {} : { failure: failureOf(failed) }),
  }
}

function workspaceFailure(record: WorkspaceRecord): PolderError {
  const { code, message, details } = buildFailure({ ...record, package: record.path })
  const stays = 'nothing of what they wrote was brought into the checkout'
  return new PolderError(code, message, { ...details, hint: `${details.hint ?? ''}; ${stays}` })
}

/** On the file system of the checkout; what a killed run leaves there goes with the next installation. */
function inScratch<T>(root: string, use: (scratch: string) => T): T {
  const scratch = mkdtempSync(join(root, '.polder', 'tmp-'))
  try {
    return use(scratch)
  } finally {
    rmSync(scratch, { recursive: true, force: true })
  }
}
