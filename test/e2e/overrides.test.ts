import { execFileSync } from 'node:child_process'
import { mkdirSync, readFileSync, realpathSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'

import { afterAll, beforeAll, expect, test } from 'vitest'
import { parse } from 'yaml'

import type { InstanceId, NpmLock } from '../../packages/lock/src/index.ts'
import { finish, polderDone, scrubbedEnvironment, temporaryDirectory, TOOLS } from '../support/cli.ts'
import { startRegistry, type Registry } from '../support/registry.ts'

// What a client's overrides make of dependencies is in its lockfile. polder has to keep all of it, whatever the syntax.
const TIMEOUT = 120_000
const PNPM = join(TOOLS, 'pnpm')
// The yarn that gather is tested with, which is no dependency of this directory.
const YARN = createRequire(new URL('../../packages/gather/package.json', import.meta.url)).resolve(
  [['@yarnpkg', 'cli-dist'].join('/'), 'bin/yarn.js'].join('/'),
)

let registry: Registry
let home: string
beforeAll(async () => {
  registry = await startRegistry()
  home = realpathSync(temporaryDirectory('overrides-store'))
  for (const name of ['plain', 'ranged', 'nested', 'deep', 'referred', 'replaced', 'cataloged', 'added'])
    for (const version of ['1.0.0', '1.1.0', '2.0.0']) registry.serve(name, version)
  registry.serve('gone', '1.0.0')
  const dependencies = {
    plain: '^2.0.0',
    ranged: '^1.0.0',
    nested: '^2.0.0',
    deep: '^1.0.0',
    referred: '^2.0.0',
    replaced: '^1.0.0',
    cataloged: '^2.0.0',
    gone: '^1.0.0',
  }
  registry.serve('host', '1.0.0', { dependencies })
  registry.serve('other', '1.0.0', { dependencies: { nested: '^2.0.0', deep: '^2.0.0', ranged: '^2.0.0' } })
})
afterAll(() => registry.close())

function write(cwd: string, files: Readonly<Record<string, unknown>>): void {
  for (const [path, content] of Object.entries(files)) {
    mkdirSync(dirname(join(cwd, path)), { recursive: true })
    writeFileSync(join(cwd, path), typeof content === 'string' ? content : JSON.stringify(content, null, 2))
  }
}

function repository(files: Readonly<Record<string, unknown>>): string {
  const cwd = join(realpathSync(temporaryDirectory('overrides')), 'repository')
  write(cwd, { '.npmrc': `registry=${registry.url}\n`, 'polder.yaml': '', ...files })
  return cwd
}

async function client(program: string, args: readonly string[], cwd: string, env = {}): Promise<void> {
  const own = { CI: 'true', npm_config_cache: join(home, '..', 'npm-cache'), ...env }
  const { code, stdout, stderr } = await finish(program, args, { cwd, env: scrubbedEnvironment({ home, env: own }) })
  expect(code, `${program} ${args.join(' ')}\n${stdout}${stderr}`).toBe(0)
}

async function lockOf(cwd: string): Promise<NpmLock> {
  await polderDone(['lock'], { cwd, home })
  return (parse(readFileSync(join(cwd, 'polder.lock'), 'utf8')) as { npm: NpmLock }).npm
}

/** Of plain, nested, deep and replaced, as Node finds them from where host is. */
function versionsSeenByHost(cwd: string): string {
  const code =
    "const paths = [require.resolve('host/package.json')];" +
    "['plain', 'nested', 'deep', 'replaced'].map((name) => require(require.resolve(name + '/package.json', { paths })).version).join()"
  return execFileSync(process.execPath, ['-p', code], { cwd, encoding: 'utf8' }).trim()
}

function links(npm: NpmLock, id: string): unknown {
  return npm.instances[id as InstanceId]?.links
}

test(
  'pnpm: selectors, removals, references, replacements, catalogs, extensions and all forms of workspace:',
  { timeout: TIMEOUT },
  async () => {
    const cwd = repository({
      'package.json': { name: 'root', version: '1.0.0', dependencies: { referred: '1.0.0' } },
      'pnpm-workspace.yaml': `packages: ["packages/*"]
catalog: { cataloged: ^1.0.0, plain: ^2.0.0 }
catalogs: { old: { ranged: ^1.0.0 } }
overrides:
  plain: 1.0.0
  ranged@^1: 2.0.0
  host>nested: 1.0.0
  host@1>deep@<2: 2.0.0
  referred: $referred
  replaced: npm:added@1.1.0
  cataloged: "catalog:"
  gone: "-"
packageExtensions:
  other@1:
    dependencies: { added: ^2.0.0 }
`,
      'packages/lib/package.json': {
        name: 'lib',
        version: '1.2.0',
        dependencies: { plain: 'catalog:', ranged: 'catalog:old' },
      },
      'packages/web/package.json': {
        name: 'web',
        version: '1.0.0',
        dependencies: {
          host: '^1.0.0',
          other: '^1.0.0',
          gone: '^1.0.0',
          nested: '^2.0.0',
          lib: 'workspace:*',
          caret: 'workspace:lib@^',
          path: 'workspace:../lib',
        },
        devDependencies: { tilde: 'workspace:lib@~', range: 'workspace:lib@^1.0.0' },
      },
    })
    await client(PNPM, ['install', '--lockfile-only', '--no-frozen-lockfile'], cwd)
    const npm = await lockOf(cwd)
    expect(links(npm, 'host@1.0.0')).toEqual({
      plain: 'plain@1.0.0',
      ranged: 'ranged@2.0.0',
      nested: 'nested@1.0.0',
      deep: 'deep@2.0.0',
      referred: 'referred@1.0.0',
      replaced: 'replaced@npm:added@1.1.0',
      cataloged: 'cataloged@1.1.0',
    })
    expect(links(npm, 'other@1.0.0')).toEqual({
      nested: 'nested@2.0.0',
      deep: 'deep@2.0.0',
      ranged: 'ranged@2.0.0',
      added: 'added@2.0.0',
    })
    const { dependencies = {}, devDependencies = {} } = npm.services['packages/web'] ?? {}
    expect(
      Object.fromEntries(Object.entries({ ...dependencies, ...devDependencies }).map(([name, { use }]) => [name, use])),
    ).toEqual({
      host: 'host@1.0.0',
      other: 'other@1.0.0',
      nested: 'nested@2.0.0',
      lib: 'link:packages/lib',
      caret: 'link:packages/lib',
      path: 'link:packages/lib',
      tilde: 'link:packages/lib',
      range: 'link:packages/lib',
    })
    expect(npm.services['packages/lib']?.dependencies).toMatchObject({
      plain: { use: 'plain@1.0.0' },
      ranged: { use: 'ranged@2.0.0' },
    })
    await polderDone(['lock', '--check'], { cwd, home })
    await polderDone(['export', 'pnpm-lock', '--output', cwd], { cwd, home })
    await client(PNPM, ['install', '--frozen-lockfile', `--store-dir=${temporaryDirectory('pnpm-store')}`], cwd)
    expect(versionsSeenByHost(join(cwd, 'packages/web'))).toBe('1.0.0,1.0.0,2.0.0,1.1.0')
  },
)

test('npm: nested overrides, versions, the package itself and references', { timeout: TIMEOUT }, async () => {
  const cwd = repository({
    'package.json': {
      name: 'root',
      version: '1.0.0',
      dependencies: { host: '^1.0.0', other: '^1.0.0', referred: '1.0.0', nested: '^2.0.0', cataloged: '^2.0.0' },
      overrides: {
        plain: '1.0.0',
        'ranged@^1': '2.0.0',
        host: { nested: '1.0.0', 'deep@<2': '2.0.0' },
        referred: '$referred',
        replaced: 'npm:added@1.1.0',
      },
    },
  })
  await client('npm', ['install', '--package-lock-only', '--ignore-scripts', '--no-audit', '--no-fund'], cwd)
  const npm = await lockOf(cwd)
  expect(links(npm, 'host@1.0.0')).toEqual({
    plain: 'plain@1.0.0',
    ranged: 'ranged@2.0.0',
    nested: 'nested@1.0.0',
    deep: 'deep@2.0.0',
    referred: 'referred@1.0.0',
    replaced: 'replaced@npm:added@1.1.0',
    cataloged: 'cataloged@2.0.0',
    gone: 'gone@1.0.0',
  })
  expect(links(npm, 'other@1.0.0')).toEqual({ nested: 'nested@2.0.0', deep: 'deep@2.0.0', ranged: 'ranged@2.0.0' })
  await polderDone(['export', 'package-lock', '--output', cwd], { cwd, home })
  await client('npm', ['ci', '--ignore-scripts', '--no-audit', '--no-fund'], cwd)
  expect(versionsSeenByHost(cwd)).toBe('1.0.0,1.0.0,2.0.0,1.1.0')
})

test(
  'yarn 4: resolutions by name, by parent, by range and to another package; extensions; workspace:',
  { timeout: TIMEOUT },
  async () => {
    const cwd = repository({
      'package.json': {
        name: 'root',
        version: '1.0.0',
        workspaces: ['packages/*'],
        dependencies: { host: '^1.0.0', other: '^1.0.0', lib: 'workspace:^', nested: '^2.0.0' },
        resolutions: {
          plain: '1.0.0',
          'ranged@npm:^1.0.0': '2.0.0',
          'host/nested': '1.0.0',
          'host@npm:1.0.0/deep': '2.0.0',
          replaced: 'npm:added@1.1.0',
        },
      },
      'packages/lib/package.json': { name: 'lib', version: '1.2.0', dependencies: { plain: '^2.0.0' } },
      '.yarnrc.yml': `npmRegistryServer: "${registry.url}"
unsafeHttpWhitelist: ["127.0.0.1"]
enableTelemetry: false
enableImmutableInstalls: false
packageExtensions:
  "other@*":
    dependencies: { added: ^2.0.0 }
`,
      'yarn.lock': '',
    })
    rmSync(join(cwd, '.npmrc'))
    await client(process.execPath, [YARN, 'install', '--mode=update-lockfile'], cwd)
    write(cwd, { '.npmrc': `registry=${registry.url}\n` })
    const npm = await lockOf(cwd)
    expect(links(npm, 'host@1.0.0')).toMatchObject({
      plain: 'plain@1.0.0',
      ranged: 'ranged@2.0.0',
      nested: 'nested@1.0.0',
      deep: 'deep@2.0.0',
      replaced: 'replaced@npm:added@1.1.0',
    })
    expect(links(npm, 'other@1.0.0')).toEqual({
      nested: 'nested@2.0.0',
      deep: 'deep@2.0.0',
      ranged: 'ranged@2.0.0',
      added: 'added@2.0.0',
    })
    expect(npm.services['packages/lib']?.dependencies).toMatchObject({ plain: { use: 'plain@1.0.0' } })
    expect(npm.services['.']?.dependencies).toMatchObject({
      lib: { use: 'link:packages/lib' },
      nested: { use: 'nested@2.0.0' },
    })
  },
)
