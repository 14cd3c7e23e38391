import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'

import type { Registry, ServedVersion } from './registry.ts'
import { readPackageJson } from './tarball.ts'

/** A service with its own `package-lock.json`. */
export interface ServiceFiles {
  /** The fields of its package.json; the name is `@demo/<last part of the path>` unless given. */
  readonly manifest: Readonly<Record<string, unknown>>
  /** What is locked, by place: `alpha`, or `beta/node_modules/alpha` for a nested copy. */
  readonly locked: Readonly<Record<string, ServedVersion>>
  /** Other files, by path. */
  readonly files?: Readonly<Record<string, string>>
}

/**
 * Writes a repository of npm services that locks what a registry serves: `package-lock.json` version 3 with the
 * hashes of the registry's own tarballs and no `resolved` (as with npm's `omit-lockfile-registry-resolved`), and an
 * `.npmrc` that names the registry and hardly waits between attempts.
 */
export function writeMonorepo(
  root: string,
  registry: Registry,
  services: Readonly<Record<string, ServiceFiles>>,
): void {
  write(root, 'polder.yaml', `platforms:\n  - ${thisPlatform()}\n`)
  writeNpmrc(root, registry)
  for (const [path, service] of Object.entries(services)) writeService(root, path, service)
}

/** With `fetch-retries` attempts more than one. */
function writeNpmrc(root: string, registry: Registry, retries = 1): void {
  const settings = {
    registry: registry.url,
    'fetch-retries': retries,
    'fetch-retry-mintimeout': 10,
    'fetch-retry-maxtimeout': 20,
  }
  write(
    root,
    '.npmrc',
    Object.entries(settings)
      .map(([key, value]) => `${key}=${value}\n`)
      .join(''),
  )
}

function writeService(root: string, path: string, { manifest, locked, files = {} }: ServiceFiles): void {
  const own = { name: `@demo/${path.split('/').at(-1)}`, version: '1.0.0', ...manifest }
  const packages: Record<string, unknown> = { '': own }
  for (const [place, served] of Object.entries(locked).sort(([a], [b]) => (a < b ? -1 : 1))) {
    packages[`node_modules/${place}`] = lockEntry(place, served)
  }
  write(root, `${path}/package.json`, `${JSON.stringify(own, null, 2)}\n`)
  const lockfile = { name: own.name, version: own.version, lockfileVersion: 3, requires: true, packages }
  write(root, `${path}/package-lock.json`, `${JSON.stringify(lockfile, null, 2)}\n`)
  for (const [file, text] of Object.entries(files)) write(root, `${path}/${file}`, text)
}

/** As npm writes it: what of the manifest matters for installing, and the name where the place has another. */
function lockEntry(place: string, { name, version, integrity, bytes }: ServedVersion): object {
  const manifest = readPackageJson(bytes)
  const kept = [
    'dependencies',
    'optionalDependencies',
    'peerDependencies',
    'peerDependenciesMeta',
    'bin',
    'engines',
    'os',
    'cpu',
    'libc',
  ]
  const scripts = (manifest['scripts'] ?? {}) as Readonly<Record<string, string>>
  return {
    ...(place === name || place.endsWith(`node_modules/${name}`) ? {} : { name }),
    version,
    integrity,
    ...(['preinstall', 'install', 'postinstall'].some((script) => script in scripts) ? { hasInstallScript: true } : {}),
    ...Object.fromEntries(kept.filter((field) => field in manifest).map((field) => [field, manifest[field]])),
  }
}

/** `linux-x64-glibc` here, whatever the default of `polder.yaml` is. */
function thisPlatform(): string {
  const { header } = process.report.getReport() as { header: { glibcVersionRuntime?: string } }
  const libc = process.platform !== 'linux' ? '' : header.glibcVersionRuntime === undefined ? '-musl' : '-glibc'
  return `${process.platform}-${process.arch}${libc}`
}

function write(root: string, path: string, text: string): void {
  const target = join(root, path)
  mkdirSync(dirname(target), { recursive: true })
  writeFileSync(target, text)
}

/**
 * Two services that share a chain of packages (`p0` needs `p1` needs `p2` …), need two majors of `split`, and use
 * a command and a scoped package: small, and with something of everything that an installation makes.
 */
export function writeChain(
  root: string,
  registry: Registry,
  size: { readonly packages: number; readonly files: number },
): void {
  const locked: Record<string, ServedVersion> = {}
  for (let index = size.packages - 1; index >= 0; index--) {
    const files = Object.fromEntries(
      Array.from({ length: size.files }, (_, file) => [
        `lib/${file % 3}/${file}.js`,
        `module.exports = ${index * file}\n`,
      ]),
    )
    const isLast = index === size.packages - 1
    const dependencies = isLast ? { split: '^1.0.0' } : { [`p${index + 1}`]: '^1.0.0' }
    locked[`p${index}`] = registry.serve(`p${index}`, '1.0.0', {
      files: { 'index.js': `module.exports = ${index}\n`, ...files },
      dependencies,
    })
  }
  const one = registry.serve('split', '1.2.0', { files: { 'index.js': 'module.exports = 1\n' } })
  const two = registry.serve('split', '2.1.0', { files: { 'index.js': 'module.exports = 2\n' } })
  const tool = registry.serve('@demo-tools/tool', '3.0.0', {
    bin: { tool: 'cli.js' },
    files: { 'cli.js': '#!/usr/bin/env node\r\nconsole.log("tool")\r\n' },
  })
  writeMonorepo(root, registry, {
    'services/web': {
      manifest: { dependencies: { p0: '^1.0.0', '@demo-tools/tool': '3.0.0' } },
      locked: { ...locked, split: one, '@demo-tools/tool': tool },
    },
    'services/api': {
      manifest: { dependencies: { p0: '^1.0.0', split: '^2.0.0' } },
      locked: { ...locked, split: two, [`p${size.packages - 1}/node_modules/split`]: one },
    },
  })
}

/** A copy of a store by hard links, without some of its directories. Nothing in a store is ever written in place. */
export function copyStore(from: string, to: string, without: readonly string[] = []): void {
  execFileSync('cp', ['-al', from, to])
  for (const name of without) {
    rmSync(join(to, name), { recursive: true })
    mkdirSync(join(to, name))
  }
}

/** A store with nothing in it but what Node compiled. */
export function emptyStore(from: string, to: string): void {
  mkdirSync(to)
  if (existsSync(join(from, 'compile-cache'))) execFileSync('cp', ['-al', join(from, 'compile-cache'), to])
}
