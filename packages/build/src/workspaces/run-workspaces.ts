import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'

import { PolderError } from '@polder/spec'
import { type Store, withWorkDirectory } from '@polder/store'

import { below, type SeenFile, type SeenFiles, stampOf } from './checkout-files.ts'
import { inOrder, type PlannedWorkspace, workspaceScripts } from './planned-workspace.ts'
import { inputsOf, keyOf, type PreparedCheckout } from './workspace-inputs.ts'
import { bringBack, type BroughtBack, compareOutputs, type OutputDifference } from './workspace-outputs.ts'
import {
  readWorkspaceRecord,
  type WorkspaceRecord,
  workspaceLogPath,
  writeWorkspaceLog,
  writeWorkspaceRecord,
} from './workspace-record.ts'
import { furnishWorkspaceRoom, type WorkspaceRoom } from './workspace-room.ts'
import { buildEnvironment } from '../lifecycle/build-environment.ts'
import { buildFailure } from '../lifecycle/build-failure.ts'
import type { BuildOptions } from '../lifecycle/build-options.ts'
import type { BuildScript } from '../lifecycle/build-plan.ts'
import { withSocketDirectory } from '../lifecycle/run-builds.ts'
import { failureOf, type Ran, runScripts, wholeLog } from '../lifecycle/run-scripts.ts'
import { toolchainIdentity } from '../lifecycle/toolchain.ts'
import { openSandboxes } from '../sandbox/ladder.ts'
import type { Sandboxes } from '../sandbox/sandboxes.ts'

/** A workspace package, and what there is to do for it. */
export interface WorkspaceState {
  readonly workspace: PlannedWorkspace
  readonly scripts: readonly BuildScript[]
  /** Of the last time. */
  readonly record?: WorkspaceRecord
  /** Nothing changed since the scripts ran, and what they made is there. */
  readonly current: boolean
  readonly inputs: SeenFiles
}

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

/** Those that have scripts, each after those that it leads to. */
export function readWorkspaces(
  checkout: PreparedCheckout,
  workspaces: readonly PlannedWorkspace[],
  { toolchain }: Pick<BuildOptions, 'toolchain'>,
): readonly WorkspaceState[] {
  return inOrder(workspaces).flatMap((workspace): WorkspaceState[] => {
    const { path } = workspace
    const scripts = scriptsOf(checkout.root, path)
    if (scripts.length === 0) return []
    const record = readWorkspaceRecord(checkout.root, path)
    const outputs = record?.outputs ?? []
    const known = new Map(Object.entries(record?.inputs ?? {}))
    const inputs = inputsOf(checkout, workspace, new Set(outputs), known)
    const key = keyOf(checkout, workspace, scripts, toolchainIdentity(toolchain, true), inputs)
    const isThere = (output: string): boolean => stampOf(join(checkout.root, below(path, output))) !== undefined
    const current = record?.status === 'built' && record.key === key && outputs.every(isThere)
    return [{ workspace, scripts, current, inputs, ...(record === undefined ? {} : { record }) }]
  })
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

/** Runs the scripts of one, in a copy without these files, and gives what `use` makes of it before the copy goes. */
type InSandbox = <T>(
  state: WorkspaceState,
  leaveOut: ReadonlySet<string>,
  use: (room: WorkspaceRoom, ran: Ran & { readonly startedAt: string; readonly sandboxes: Sandboxes }) => T,
) => Promise<T>

async function withRooms(
  store: Store,
  checkout: PreparedCheckout,
  options: BuildOptions,
  run: (inSandbox: InSandbox) => Promise<void>,
): Promise<readonly string[]> {
  const { toolchain, now = Date.now } = options
  return withWorkDirectory(store, 'build', (scratch) =>
    withSocketDirectory(scratch, async (sockets) => {
      const sandboxes = await openSandboxes({ scratch: join(scratch, 'sandboxes'), require: true })
      let number = 0
      const inSandbox: InSandbox = async ({ workspace, scripts }, leaveOut, use) => {
        const { path, env } = workspace
        const startedAt = new Date(now()).toISOString()
        const directory = join(scratch, `workspace-${(number += 1)}`)
        mkdirSync(directory)
        const room = furnishWorkspaceRoom(checkout, workspace, directory, toolchain, leaveOut)
        const manifest = manifestOf(checkout.root, path)
        const ran = await runScripts(
          {
            label: path,
            scripts,
            directory: room.directory,
            mounts: room.mounts,
            logs: directory,
            socket: join(sockets, `index-${number}.sock`),
            envOf: (script, index) => buildEnvironment({ name: path, env }, script, room, toolchain, index, manifest),
          },
          sandboxes,
          options,
        )
        writeWorkspaceLog(checkout.root, path, wholeLog(scripts, directory))
        const used = use(room, { ...ran, startedAt, sandboxes })
        rmSync(directory, { recursive: true, force: true })
        options.onProgress?.({ done: number, total: number, label: path })
        return used
      }
      try {
        await run(inSandbox)
        return sandboxes.shortcomings
      } finally {
        await sandboxes.close()
      }
    }),
  )
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

function scriptsOf(root: string, path: string): readonly BuildScript[] {
  return workspaceScripts(manifestOf(root, path), existsSync(join(root, path, 'binding.gyp')))
}

function manifestOf(root: string, path: string): Readonly<Record<string, unknown>> {
  const text = readFileSync(join(root, path, 'package.json'), 'utf8')
  return JSON.parse(text.replace(/^\uFEFF/, '')) as Record<string, unknown>
}
