import { describe, expect, test } from 'vitest'

import { edges, failure, type Files, gathered, hash, requirement } from '../support/repository.ts'

const RUSH = `// Every project that Rush builds.
{
  "rushVersion": "5.150.0",
  "pnpmVersion": "9.15.0", /* lockfile version 9 */
  "projects": [
    { "packageName": "web", "projectFolder": "apps/web" },
    { "packageName": "lib", "projectFolder": "libs/lib", },
  ],
}
`

const LOCK = `lockfileVersion: '9.0'

settings:
  autoInstallPeers: false
  excludeLinksFromLockfile: false

importers:

  .: {}

  ../../apps/web:
    dependencies:
      a:
        specifier: ^1.0.0
        version: 1.0.0
      lib:
        specifier: workspace:*
        version: link:../../libs/lib
      packed:
        specifier: file:../../vendor/p.tgz
        version: file:../../vendor/p.tgz

  ../../libs/lib:
    devDependencies:
      a:
        specifier: ^1.0.0
        version: 1.0.0

packages:

  a@1.0.0:
    resolution: {integrity: ${hash()}}

  b@2.0.0:
    resolution: {integrity: ${hash('b')}}

  packed@file:../../vendor/p.tgz:
    resolution: {integrity: ${hash('c')}, tarball: file:../../vendor/p.tgz}
    version: 1.0.0

snapshots:

  a@1.0.0:
    dependencies:
      b: 2.0.0

  b@2.0.0: {}

  packed@file:../../vendor/p.tgz: {}
`

const FILES: Files = {
  'rush.json': RUSH,
  'common/config/rush/pnpm-lock.yaml': LOCK,
  'apps/web/package.json': {
    name: 'web',
    dependencies: { a: '^1.0.0', lib: 'workspace:*', packed: 'file:../../vendor/p.tgz' },
  },
  'libs/lib/package.json': { name: 'lib', devDependencies: { a: '^1.0.0' } },
  'vendor/p.tgz': 'x',
}

describe("Rush's lockfile", () => {
  test('has paths that are relative to the workspace that Rush generates', async () => {
    const result = await gathered(FILES)
    expect(result.services.map(({ path, lockfile }) => [path, lockfile])).toEqual([
      ['apps/web', 'common/config/rush/pnpm-lock.yaml'],
      ['libs/lib', 'common/config/rush/pnpm-lock.yaml'],
    ])
    expect(requirement(result, 'apps/web', 'lib').locked).toEqual({ workspace: 'libs/lib' })
    expect(requirement(result, 'apps/web', 'packed').locked).toEqual({ package: 'packed@file:vendor/p.tgz' })
    expect(edges(result, 'a@1.0.0')).toEqual({ b: ['b@2.0.0'] })
    expect(result.warnings).toEqual([])
    expect(result.inputs.map(({ path }) => path)).toEqual([
      'apps/web/package.json',
      'common/config/rush/pnpm-lock.yaml',
      'libs/lib/package.json',
      'rush.json',
    ])
  })

  test('is read the same whether Rush has generated its workspace or not', async () => {
    const generated = await gathered({
      ...FILES,
      'common/temp/package.json': { name: 'rush-common', dependencies: { a: '^9' } },
      'common/temp/pnpm-workspace.yaml': 'packages: ["../../apps/web"]\ncatalog:\n  a: ^9\n',
    })
    const fresh = await gathered(FILES)
    expect({ ...generated, root: '' }).toEqual({ ...fresh, root: '' })
  })

  test('serves directories that are named in services, and those nested with the Rush repository', async () => {
    const named = await gathered(FILES, 'services: [libs/*]')
    expect(named.services.map(({ path }) => path)).toEqual(['libs/lib'])
    const nested = Object.fromEntries(Object.entries(FILES).map(([path, text]) => [`inner/${path}`, text]))
    const inner = await gathered(nested)
    expect(inner.services.map(({ path }) => path)).toEqual(['inner/apps/web', 'inner/libs/lib'])
    expect(requirement(inner, 'inner/apps/web', 'packed').locked).toEqual({
      package: 'packed@file:inner/vendor/p.tgz',
    })
    await expect(gathered(FILES, 'exclude: [apps]')).resolves.toMatchObject({ services: [{ path: 'libs/lib' }] })
  })

  test('may stand beside a lockfile of the root itself', async () => {
    const root = { name: 'root', devDependencies: { tool: '1' } }
    const result = await gathered({
      ...FILES,
      'package.json': root,
      'package-lock.json': {
        lockfileVersion: 3,
        packages: { '': root, 'node_modules/tool': { version: '1.0.0', integrity: hash() } },
      },
    })
    expect(result.services.map(({ path, lockfile }) => [path, lockfile])).toEqual([
      ['.', 'package-lock.json'],
      ['apps/web', 'common/config/rush/pnpm-lock.yaml'],
      ['libs/lib', 'common/config/rush/pnpm-lock.yaml'],
    ])
  })

  test('that lacks a project of rush.json, or differs from a manifest, is told with the command that mends it', async () => {
    const listed = await gathered({
      ...FILES,
      'rush.json': RUSH.replace('"projects": [', '"projects": [{ "projectFolder": "apps/new" },'),
    })
    expect(listed.warnings).toEqual([
      'rush.json lists apps/new, which common/config/rush/pnpm-lock.yaml does not lock: run `rush update`',
    ])
    const stale = await failure({ ...FILES, 'libs/lib/package.json': { name: 'lib', devDependencies: { a: '^2' } } })
    expect(stale.message).toBe(
      'libs/lib/package.json requires "a" as "^2", but common/config/rush/pnpm-lock.yaml locked it as "^1.0.0"',
    )
    expect(stale.details.hint).toBe('run `rush update` in common/config/rush')
  })

  test('without workspaces, or beside a broken rush.json, is refused', async () => {
    const tarballs = LOCK.replace(
      '  .: {}',
      '  .:\n    dependencies:\n      a:\n        specifier: ^1.0.0\n        version: 1.0.0',
    )
    const error = await failure({ ...FILES, 'common/config/rush/pnpm-lock.yaml': tarballs })
    expect(error.message).toBe(
      'common/config/rush/pnpm-lock.yaml: its projects are not workspaces; set "useWorkspaces" in pnpm-config.json',
    )
    expect((await failure({ ...FILES, 'rush.json': '{' })).message).toMatch(/^rush\.json: it cannot be read: /)
    expect((await failure({ ...FILES, 'rush.json': '{"projects":[{"projectFolder":"../.."}]}' })).code).toBe(
      'SOURCE_UNSUPPORTED',
    )
  })
})
