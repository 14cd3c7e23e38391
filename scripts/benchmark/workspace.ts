import { execFileSync } from 'node:child_process'
import { cpSync, existsSync } from 'node:fs'
import { basename, join } from 'node:path'
import { fileURLToPath } from 'node:url'

export const POLDER: string = fileURLToPath(new URL('../polder', import.meta.url))

/** A copy of the workspace that polder has locked, with a store that holds all of its pins. */
export interface Checkout {
  readonly path: string
  readonly store: string
}

const MADE = new Set(['node_modules', '.polder', '.git'])

/** Copies the workspace and locks it. This is the one step that uses the network (the user's own registry). */
export function polderCheckout(source: string, directory: string): Checkout {
  const path = join(directory, 'workspace')
  copyWorkspace(source, path)
  const store = join(directory, 'filled-store')
  const env = { ...process.env, POLDER_HOME: store }
  const polder = (...args: readonly string[]): void => {
    execFileSync(POLDER, args, { cwd: path, env, stdio: ['ignore', 'ignore', 'inherit'] })
  }
  if (!existsSync(join(path, 'polder.yaml'))) polder('init')
  polder('lock')
  return { path, store }
}

export function copyWorkspace(source: string, target: string): void {
  cpSync(source, target, { recursive: true, verbatimSymlinks: true, filter: (path) => !MADE.has(basename(path)) })
}
