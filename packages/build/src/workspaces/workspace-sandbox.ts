import { mkdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'

import { type Store, withWorkDirectory } from '@polder/store'

import type { PreparedCheckout } from './workspace-inputs.ts'
import { writeWorkspaceLog } from './workspace-record.ts'
import { furnishWorkspaceRoom, type WorkspaceRoom } from './workspace-room.ts'
import { manifestOf, type WorkspaceState } from './workspace-state.ts'
import { buildEnvironment } from '../lifecycle/build-environment.ts'
import type { BuildOptions } from '../lifecycle/build-options.ts'
import { withSocketDirectory } from '../lifecycle/run-builds.ts'
import { type Ran, runScripts, wholeLog } from '../lifecycle/run-scripts.ts'
import { openSandboxes } from '../sandbox/ladder.ts'
import type { Sandboxes } from '../sandbox/sandboxes.ts'

/** Runs the scripts of one, in a copy without these files, and gives what `use` makes of it before the copy goes. */
export type InSandbox = <T>(
  state: WorkspaceState,
  leaveOut: ReadonlySet<string>,
  use: (room: WorkspaceRoom, ran: Ran & { readonly startedAt: string; readonly sandboxes: Sandboxes }) => T,
) => Promise<T>

/**
 * Opens sandboxes for as long as `run` takes.
 * @returns why not everything could be recorded, a sentence each
 * @throws PolderError `SANDBOX_UNAVAILABLE`, `SANDBOX_FAILED`
 */
export async function withRooms(
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
