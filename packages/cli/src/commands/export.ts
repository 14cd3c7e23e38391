import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readFileSync } from 'node:fs'
import { basename, join, normalize, relative, resolve } from 'node:path'

import {
  exportPackageLock,
  exportPnpmLock,
  type Lock,
  type LockedPackage,
  type PnpmWorkspaceSettings,
} from '@polder/lock'
import { type PackageId, unpatchedId } from '@polder/spec'
import { atomicWrite } from '@polder/store'
import { parse, parseAllDocuments, stringify } from 'yaml'

import { openCheckout } from '../checkout.ts'
import type { Output } from '../output.ts'

/** `polder export pnpm-lock`: a `pnpm-lock.yaml`, and a `pnpm-workspace.yaml` that lists the services unless there is one. */
export function exportPnpm(cwd: string, directory: string | undefined, output: Output): number {
  const { root, lock } = openCheckout(cwd)
  const settings = workspaceSettings(root)
  const patchedDependencies = pnpmPatches(root, settings.settings, lock)
  const text = exportPnpmLock(lock, { ...settings, patchedDependencies })
  const target = resolve(cwd, directory ?? root)
  const links = Object.entries(patchedDependencies).map(([key, { path }]) => [key, relative(target, join(root, path))])
  const workspace = stringify({
    packages: workspacesOf(lock),
    ...(links.length === 0 ? {} : { patchedDependencies: Object.fromEntries(links) as Record<string, string> }),
  })
  return writeExport(cwd, directory, output, { 'pnpm-lock.yaml': text, 'pnpm-workspace.yaml': workspace })
}

/** `polder export package-lock`: a `package-lock.json`, and a `package.json` with the services as workspaces unless there is one. */
export function exportNpm(cwd: string, directory: string | undefined, output: Output): number {
  const { lock } = openCheckout(cwd)
  const manifest = { name: 'polder-export', private: true, workspaces: workspacesOf(lock) }
  const root = `${JSON.stringify(manifest, null, 2)}\n`
  return writeExport(cwd, directory, output, { 'package-lock.json': exportPackageLock(lock), 'package.json': root })
}

/** The first file to stdout, or into `directory`: the first one always, the others where there is none. */
function writeExport(
  cwd: string,
  directory: string | undefined,
  output: Output,
  files: Readonly<Record<string, string>>,
): number {
  const [lockfile = '', ...more] = Object.keys(files)
  if (directory === undefined) {
    process.stdout.write(files[lockfile] ?? '')
    return 0
  }
  const target = resolve(cwd, directory)
  mkdirSync(target, { recursive: true })
  const written = [lockfile, ...more.filter((name) => !existsSync(join(target, name)))].map((name) =>
    join(target, name),
  )
  for (const path of written) {
    atomicWrite(path, files[basename(path)] ?? '')
    output.line(`written: ${path}`)
  }
  output.result({ written })
  return 0
}

function workspacesOf(lock: Lock): string[] {
  return Object.keys(lock.npm.services).filter((path) => path !== '.')
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
    settings: document,
    ...ownLockfile(root),
  }
}

/**
 * The patches as pnpm is told of them, with its own hash of each, which is that of the text whatever its line ends: by
 * the settings of the repository, or else by the lock.
 */
function pnpmPatches(
  root: string,
  settings: PnpmWorkspaceSettings['settings'],
  { npm }: Lock,
): NonNullable<PnpmWorkspaceSettings['patchedDependencies']> {
  const own = settings?.['patchedDependencies'] as Readonly<Record<string, string>> | undefined
  const locked = Object.entries(npm.packages as Readonly<Record<string, LockedPackage>>).flatMap(([id, { patch }]) =>
    patch === undefined ? [] : [[unpatchedId(id as PackageId), patch] as const],
  )
  const entries = settings === undefined ? locked : Object.entries(own ?? {})
  const hashes = new Map(Object.values(npm.packages).map(({ patch, patchHash }) => [patch, patchHash]))
  return Object.fromEntries(
    entries.map(([key, path]) => {
      const text = existsSync(join(root, path)) ? readFileSync(join(root, path), 'utf8').replaceAll('\r\n', '\n') : null
      const hash = text === null ? (hashes.get(path) ?? '') : createHash('sha256').update(text).digest('hex')
      return [key, { path: normalize(path), hash }]
    }),
  )
}

/** What pnpm itself wrote into its lockfile for these settings, if the repository has such a file. */
function ownLockfile(
  root: string,
): Pick<PnpmWorkspaceSettings, 'overrides' | 'specifiers' | 'packageExtensionsChecksum'> {
  const path = join(root, 'pnpm-lock.yaml')
  if (!existsSync(path)) return {}
  // Of two documents the second is the repository's; the first is about pnpm itself.
  const [document] = parseAllDocuments(readFileSync(path, 'utf8')).slice(-1)
  const {
    importers = {},
    overrides,
    packageExtensionsChecksum,
  } = (document?.toJS({ maxAliasCount: -1 }) ?? {}) as OwnLockfile
  const specifiers = Object.entries(importers).map(([service, groups]) => {
    const all = Object.values(groups).flatMap((group) => Object.entries(group))
    return [service, Object.fromEntries(all.map(([name, { specifier }]) => [name, specifier]))] as const
  })
  return {
    specifiers: Object.fromEntries(specifiers),
    // With `$name` and `catalog:` replaced by what they stand for.
    ...(overrides === undefined ? {} : { overrides }),
    ...(packageExtensionsChecksum === undefined ? {} : { packageExtensionsChecksum }),
  }
}

interface OwnLockfile {
  readonly importers?: Readonly<
    Record<string, Readonly<Record<string, Readonly<Record<string, { specifier: string }>>>>>
  >
  readonly overrides?: Readonly<Record<string, string>>
  readonly packageExtensionsChecksum?: string
}
