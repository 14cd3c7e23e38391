import { spawn } from 'node:child_process'
import { cpSync, existsSync, readFileSync, writeFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { fileURLToPath } from 'node:url'

import { parseDocument } from 'yaml'

export const POLDER: string = fileURLToPath(new URL('../polder', import.meta.url))

/** A copy of the workspace that polder has locked, with a store that holds all of its pins. */
export interface Checkout {
  readonly path: string
  readonly store: string
}

const MADE = new Set(['node_modules', '.polder', '.git'])

/** Copies the workspace and locks it. This is the one step that uses the network: the user's own registry, or the one given. */
export async function polderCheckout(source: string, directory: string, registry?: string): Promise<Checkout> {
  const path = join(directory, 'workspace')
  copyWorkspace(source, path)
  const config = join(path, 'polder.yaml')
  if (existsSync(config)) writeFileSync(config, withoutBuilds(readFileSync(config, 'utf8')))
  const store = join(directory, 'filled-store')
  const upstream = registry === undefined ? {} : { npm_config_registry: registry }
  const env = { ...process.env, ...upstream, POLDER_HOME: store }
  // Not synchronously: the registry may be one of this process.
  const polder = (...args: readonly string[]): Promise<void> =>
    new Promise((done, fail) => {
      const child = spawn(POLDER, args, { cwd: path, env, stdio: ['ignore', 'ignore', 'inherit'] })
      child.on('error', fail)
      child.on('close', (code) => (code === 0 ? done() : fail(new Error(`polder ${args.join(' ')} failed`))))
    })
  if (!existsSync(config)) await polder('init')
  await polder('lock')
  return { path, store }
}

/** Its peers are told to run no install scripts either. */
function withoutBuilds(text: string): string {
  const document = parseDocument(text)
  document.delete('builds')
  return document.toString()
}

export function copyWorkspace(source: string, target: string): void {
  cpSync(source, target, { recursive: true, verbatimSymlinks: true, filter: (path) => !MADE.has(basename(path)) })
}
