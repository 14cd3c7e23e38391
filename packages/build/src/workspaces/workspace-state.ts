import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

import { below, type SeenFiles, stampOf } from './checkout-files.ts'
import { inOrder, type PlannedWorkspace, workspaceScripts } from './planned-workspace.ts'
import { inputsOf, keyOf, type PreparedCheckout } from './workspace-inputs.ts'
import { readWorkspaceRecord, type WorkspaceRecord } from './workspace-record.ts'
import type { BuildOptions } from '../lifecycle/build-options.ts'
import type { BuildScript } from '../lifecycle/planned-build.ts'
import { toolchainIdentity } from '../lifecycle/toolchain.ts'

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

function scriptsOf(root: string, path: string): readonly BuildScript[] {
  return workspaceScripts(manifestOf(root, path), existsSync(join(root, path, 'binding.gyp')))
}

/** As it stands in the checkout. */
export function manifestOf(root: string, path: string): Readonly<Record<string, unknown>> {
  const text = readFileSync(join(root, path, 'package.json'), 'utf8')
  return JSON.parse(text.replace(/^\uFEFF/, '')) as Record<string, unknown>
}
