import { execFile } from 'node:child_process'
import { delimiter, join } from 'node:path'
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
  }
  await promisify(execFile)(command, args, { cwd: root, env })
  return gather(root, parseConfig(''))
}

/** What must be the same whichever client made the lockfile. */
function expectAll(result: Gathered): void {
  expect(result.warnings).toEqual([])
  expect(result.services.map(({ path }) => path)).toEqual(['.', 'directory', 'packages/lib', 'packages/web'])
  const web = (name: string): unknown => requirement(result, 'packages/web', name).locked
  expect(web('lib')).toEqual({ workspace: 'packages/lib' })
  expect(web('directory')).toEqual({ workspace: 'directory' })
  expect(web('old')).toEqual({ package: 'chalk@4.1.2' })
  expect(web('react')).toEqual({ package: 'react@18.3.1' })
  expect(web('vendored')).toEqual({ package: 'vendored@file:vendor/v.tgz' })
  expect(web('remote')).toMatchObject({
    package: expect.stringMatching(/^vendored@http:.*\/other\/remote\.tgz$/) as string,
  })
  expect(requirement(result, 'packages/lib', 'react')).toMatchObject({
    kind: 'dev',
    locked: { package: 'react@17.0.2' },
  })
  expect(requirement(result, 'directory', 'ansi').locked).toEqual({ package: 'ansi@2.0.0' })
  expect(edges(result, 'dom@18.0.0')).toEqual({ react: ['react@18.3.1'] })
  expect(edges(result, 'chalk@4.1.2')).toEqual({ ansi: ['ansi@1.0.0'] })
  expect(edges(result, 'vendored@file:vendor/v.tgz')).toEqual({ ansi: ['ansi@1.0.0'] })
  expect(edges(result, 'host@1.0.0')).toEqual({ linux: ['linux@1.0.0'], mac: ['mac@1.0.0'] })
  expect(pin(result, 'mac@1.0.0')).toMatchObject({ optional: true, os: ['darwin'] })
  expect(pin(result, 'host@1.0.0').optional).toBe(false)
  expect(edges(result, 'bundler@1.0.0')).toEqual({})
  // An override: its range is ^2.
  expect(edges(result, '@s/scoped@1.0.0')).toEqual({ ansi: ['ansi@1.0.0'] })
  for (const { integrity } of result.pins.values()) expect(integrity).toMatch(/^sha512-/)
}

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
})
