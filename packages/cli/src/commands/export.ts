import { existsSync, mkdirSync, readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'

import { exportPnpmLock, type PnpmWorkspaceSettings } from '@polder/lock'
import { atomicWrite } from '@polder/store'
import { parse, stringify } from 'yaml'

import { openCheckout } from '../checkout.ts'
import type { Output } from '../output.ts'

/**
 * `polder export pnpm-lock`: to stdout, or with `--output DIR` as `pnpm-lock.yaml` there, beside a
 * `pnpm-workspace.yaml` that lists the services unless there is one.
 */
export function exportLock(cwd: string, directory: string | undefined, output: Output): number {
  const { root, lock } = openCheckout(cwd)
  const text = exportPnpmLock(lock, workspaceSettings(root))
  if (directory === undefined) {
    process.stdout.write(text)
    return 0
  }
  const target = resolve(cwd, directory)
  mkdirSync(target, { recursive: true })
  atomicWrite(join(target, 'pnpm-lock.yaml'), text)
  const written = [join(target, 'pnpm-lock.yaml')]
  const workspaceFile = join(target, 'pnpm-workspace.yaml')
  if (!existsSync(workspaceFile)) {
    atomicWrite(workspaceFile, stringify({ packages: Object.keys(lock.npm.services).filter((path) => path !== '.') }))
    written.push(workspaceFile)
  }
  for (const path of written) output.line(`written: ${path}`)
  output.result({ written })
  return 0
}

/** What pnpm will compare with the lockfile; the repository's own `pnpm-workspace.yaml` has it, if there is one. */
function workspaceSettings(root: string): PnpmWorkspaceSettings {
  const path = join(root, 'pnpm-workspace.yaml')
  if (!existsSync(path)) return {}
  const document = (parse(readFileSync(path, 'utf8')) ?? {}) as Record<string, unknown>
  const catalogs = {
    ...(document['catalogs'] as object | undefined),
    ...(document['catalog'] === undefined ? {} : { default: document['catalog'] }),
  }
  return {
    catalogs: catalogs as Record<string, Record<string, string>>,
    overrides: (document['overrides'] ?? {}) as Record<string, string>,
  }
}
