import { execFile, spawnSync } from 'node:child_process'
import { delimiter, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'

import { describe, expect, onTestFinished, test } from 'vitest'

import { startRegistry } from '../../../test/support/registry.ts'
import type { Gathered } from '../src/gathered.ts'
import { gather, parseConfig } from '../src/index.ts'
import { edges, type Files, pin, repository, requirement } from './support/repository.ts'

const TOOLS = join(import.meta.dirname, '../../../tools/node_modules/.bin')

/** What the client locks in a workspace that has a little of everything. */
async function locked(
  command: string,
  args: readonly string[],
  files: (registry: string) => Files,
  workspaceRange: string,
  settings: { readonly env?: Readonly<Record<string, string>>; readonly config?: string } = {},
): Promise<Gathered> {
  const registry = await startRegistry()
  onTestFinished(() => registry.close())
  registry.serve('react', '17.0.2')
  registry.serve('react', '18.3.1')
  registry.serve('dom', '18.0.0', { peerDependencies: { react: '^18' } })
  registry.serve('chalk', '4.1.2', { dependencies: { ansi: '^1' } })
  registry.serve('chalk', '5.0.0')
  registry.serve('ansi', '1.0.0')
  registry.serve('ansi', '2.0.0')
  registry.serve('host', '1.0.0', { optionalDependencies: { mac: '1.0.0', linux: '1.0.0' } })
  registry.serve('mac', '1.0.0', { os: ['darwin'] })
  registry.serve('linux', '1.0.0', { os: ['linux'] })
  const inner = { 'node_modules/inner/package.json': JSON.stringify({ name: 'inner', version: '1.0.0' }) }
  // bun and yarn look up what a bundle holds.
  registry.serve('inner', '1.0.0')
  registry.serve('bundler', '1.0.0', { dependencies: { inner: '^1' }, bundleDependencies: ['inner'], files: inner })
  registry.serve('@s/scoped', '1.0.0', { dependencies: { ansi: '^2' } })
  const { bytes } = registry.serve('vendored', '1.0.0', { dependencies: { ansi: '^1' } })
  const remote = registry.serveFile('/other/remote.tgz', bytes)
  const dependencies = {
    lib: workspaceRange,
    old: 'npm:chalk@^4',
    react: '^18',
    dom: '^18',
    bundler: '1',
    host: '1',
    '@s/scoped': '1',
    vendored: 'file:../../vendor/v.tgz',
    directory: 'file:../../directory',
    remote,
  }
  const root = repository({
    '.npmrc': `registry=${registry.url}\n`,
    'packages/web/package.json': { name: 'web', version: '1.0.0', dependencies },
    'packages/lib/package.json': {
      name: 'lib',
      version: '1.2.0',
      peerDependencies: { react: '>=17' },
      devDependencies: { react: '^17' },
    },
    'directory/package.json': { name: 'directory', version: '1.0.0', dependencies: { ansi: '^2' } },
    'vendor/v.tgz': Buffer.from(bytes),
    ...files(registry.url),
  })
  const home = repository({ '.npmrc': '' })
  const env = {
    PATH: `${TOOLS}${delimiter}${process.env['PATH'] ?? ''}`,
    HOME: home,
    XDG_CACHE_HOME: home,
    npm_config_cache: join(home, 'npm'),
    CI: '1',
    ...settings.env,
  }
  await promisify(execFile)(command, args, { cwd: root, env })
  return gather(root, parseConfig(settings.config ?? ''))
}

/** What must be the same whichever client made the lockfile. */
function expectAll(result: Gathered): void {
  expectMost(result)
  expect(requirement(result, 'packages/web', 'remote').locked).toMatchObject({
    package: expect.stringMatching(/^vendored@http:.*\/other\/remote\.tgz$/) as string,
  })
  expect(edges(result, 'dom@18.0.0')).toEqual({ react: ['react@18.3.1'] })
  expect(edges(result, 'bundler@1.0.0')).toEqual({})
  for (const { integrity } of result.pins.values()) expect(integrity).toMatch(/^sha512-/)
}

/** The part of it that yarn's lockfiles have as well. */
function expectMost(result: Gathered): void {
  expect(result.warnings).toEqual([])
  expect(result.services.map(({ path }) => path)).toEqual(['.', 'directory', 'packages/lib', 'packages/web'])
  const web = (name: string): unknown => requirement(result, 'packages/web', name).locked
  expect(web('lib')).toEqual({ workspace: 'packages/lib' })
  expect(web('directory')).toEqual({ workspace: 'directory' })
  expect(web('old')).toEqual({ package: 'chalk@4.1.2' })
  expect(web('react')).toEqual({ package: 'react@18.3.1' })
  expect(web('vendored')).toEqual({ package: 'vendored@file:vendor/v.tgz' })
  expect(requirement(result, 'packages/lib', 'react')).toMatchObject({
    kind: 'dev',
    locked: { package: 'react@17.0.2' },
  })
  expect(requirement(result, 'directory', 'ansi').locked).toEqual({ package: 'ansi@2.0.0' })
  expect(edges(result, 'chalk@4.1.2')).toEqual({ ansi: ['ansi@1.0.0'] })
  expect(edges(result, 'vendored@file:vendor/v.tgz')).toEqual({ ansi: ['ansi@1.0.0'] })
  expect(edges(result, 'host@1.0.0')).toEqual({ linux: ['linux@1.0.0'], mac: ['mac@1.0.0'] })
  expect(pin(result, 'mac@1.0.0')).toMatchObject({ optional: true, os: ['darwin'] })
  expect(pin(result, 'host@1.0.0').optional).toBe(false)
  // An override: its range is ^2.
  expect(edges(result, '@s/scoped@1.0.0')).toEqual({ ansi: ['ansi@1.0.0'] })
}

/** Where bun is: `POLDER_BUN`, or on the path. Its packages are too large to be among the development dependencies. */
function findBun(): string | undefined {
  const candidates = [process.env['POLDER_BUN'], 'bun'].filter((path) => path !== undefined)
  return candidates.find((path) => spawnSync(path, ['--version']).status === 0)
}

const BUN = findBun()

describe('a lockfile that the real client made', () => {
  test('is read: pnpm', async () => {
    const files = (registry: string): Files => ({
      'package.json': { name: 'root', dependencies: { chalk: '^5.0.0' } },
      'pnpm-workspace.yaml': `packages: ["packages/*"]\nregistries:\n  default: ${registry}\noverrides:\n  "@s/scoped>ansi": 1.0.0\n`,
    })
    expectAll(await locked('pnpm', ['install', '--lockfile-only', '--no-frozen-lockfile'], files, 'workspace:*'))
  })

  test('is read: npm', async () => {
    const files = (): Files => ({
      'package.json': {
        name: 'root',
        workspaces: ['packages/*'],
        dependencies: { chalk: '^5.0.0' },
        overrides: { '@s/scoped': { ansi: '1.0.0' } },
      },
    })
    expectAll(await locked('npm', ['install', '--package-lock-only', '--no-audit', '--no-fund'], files, '^1.0.0'))
  })

  test('is read: npm, version 1', async () => {
    const registry = await startRegistry()
    onTestFinished(() => registry.close())
    registry.serve('a', '1.0.0', { dependencies: { b: '^1' }, optionalDependencies: { mac: '1.0.0' } })
    registry.serve('b', '1.0.0')
    registry.serve('b', '2.0.0')
    registry.serve('mac', '1.0.0', { os: ['darwin'] })
    const root = repository({
      '.npmrc': `registry=${registry.url}\n`,
      'package.json': {
        name: 'root',
        dependencies: { a: '1', old: 'npm:b@^2', lib: 'file:lib' },
        devDependencies: { b: '2' },
      },
      'lib/package.json': { name: 'lib', version: '1.0.0', dependencies: { b: '^1' } },
    })
    const home = repository({ '.npmrc': '' })
    const env = { PATH: `${TOOLS}${delimiter}${process.env['PATH'] ?? ''}`, HOME: home, npm_config_cache: home }
    const args = ['install', '--package-lock-only', '--lockfile-version=1', '--no-audit', '--no-fund']
    await promisify(execFile)('npm', args, { cwd: root, env })
    const result = await gather(root, parseConfig(''))
    expect(result.warnings).toEqual([])
    expect(edges(result, 'a@1.0.0')).toEqual({ b: ['b@1.0.0'], mac: ['mac@1.0.0'] })
    expect(pin(result, 'mac@1.0.0').optional).toBe(true)
    expect(requirement(result, '.', 'old').locked).toEqual({ package: 'b@2.0.0' })
    expect(requirement(result, '.', 'lib').locked).toEqual({ workspace: 'lib' })
    expect(requirement(result, 'lib', 'b').locked).toEqual({ package: 'b@1.0.0' })
  })

  test.each(['8', '10'])('is read: yarn 4, version %s', async (version) => {
    const files = (registry: string): Files => ({
      'package.json': {
        name: 'root',
        workspaces: ['packages/*'],
        dependencies: { chalk: '^5.0.0' },
        resolutions: { '@s/scoped/ansi': '1.0.0' },
      },
      '.yarnrc.yml': `npmRegistryServer: "${registry}"\nunsafeHttpWhitelist: ["127.0.0.1"]\nenableTelemetry: false\nenableImmutableInstalls: false\n`,
      'yarn.lock': '',
    })
    const yarn = fileURLToPath(import.meta.resolve('@yarnpkg/cli-dist/bin/yarn.js'))
    const result = await locked(process.execPath, [yarn, 'install', '--mode=update-lockfile'], files, 'workspace:*', {
      env: { YARN_LOCKFILE_VERSION_OVERRIDE: version },
      config: 'index: { allowWeakIntegrity: [remote] }',
    })
    expectMost(result)
    expect(requirement(result, 'packages/web', 'remote').locked).toMatchObject({
      package: expect.stringMatching(/^remote@http:.*\/other\/remote\.tgz$/) as string,
    })
    for (const { source, integrity, hashFromRegistry } of result.pins.values()) {
      expect([integrity, hashFromRegistry]).toEqual([null, source.kind === 'registry' ? true : undefined])
    }
  })

  test.skipIf(BUN === undefined)('is read: bun (POLDER_BUN or `bun` on the path; skipped without)', async () => {
    const files = (registry: string): Files => ({
      'package.json': {
        name: 'root',
        workspaces: ['packages/*'],
        dependencies: { chalk: '^5.0.0' },
        // bun knows overrides for some places since 1.4 only.
        overrides: { '@s/scoped>ansi': '1.0.0' },
      },
      'bunfig.toml': `[install]\nregistry = "${registry}"\n`,
    })
    expectAll(await locked(BUN ?? '', ['install', '--lockfile-only'], files, 'workspace:*'))
  })
})
