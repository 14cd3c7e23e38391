import { describe, expect, test } from 'vitest'

import { edges, failure, type Files, gathered, hash, pin, requirement, service } from '../support/repository.ts'

type Workspaces = Readonly<Record<string, Record<string, unknown>>>

/** A repository with one bun workspace: its manifests by directory (`''` for the root), and `packages` of its lockfile. */
function project(workspaces: Workspaces, packages: Record<string, unknown>, more: Record<string, unknown> = {}): Files {
  const manifests = Object.entries(workspaces).map(([path, manifest]) => [
    path === '' ? 'package.json' : `${path}/package.json`,
    manifest,
  ])
  const lock = { lockfileVersion: 1, workspaces, ...more, packages }
  return { ...(Object.fromEntries(manifests) as Files), 'bun.lock': JSON.stringify(lock) }
}

const entry = (spec: string, info: Record<string, unknown> = {}): readonly unknown[] => [spec, '', info, hash()]

describe('what bun 1.4 wrote', () => {
  // As `bun install --lockfile-only` made it, from a registry on loopback whose address is replaced.
  const WRITTEN = `{
  "lockfileVersion": 2,
  "configVersion": 1,
  "workspaces": {
    "": {
      "name": "root",
      "dependencies": {
        "chalk": "^5.0.0",
      },
    },
    "packages/lib": {
      "name": "lib",
      "version": "1.2.0",
      "devDependencies": {
        "react": "^17",
      },
      "peerDependencies": {
        "react": ">=17",
      },
    },
    "packages/web": {
      "name": "web",
      "version": "1.0.0",
      "dependencies": {
        "@s/scoped": "1",
        "ansi": "catalog:old",
        "bundler": "1",
        "directory": "file:../../directory",
        "dom": "^18",
        "ext": "catalog:",
        "host": "1",
        "lib": "workspace:*",
        "old": "npm:chalk@^4",
        "optpeer": "1",
        "react": "^18",
        "remote": "https://registry.example/other/remote.tgz",
        "vendored": "file:../../vendor/v.tgz",
      },
    },
  },
  "trustedDependencies": [
    "host",
  ],
  "patchedDependencies": {
    "chalk@5.0.0": "patches/chalk.patch",
  },
  "overrides": {
    "ansi": "1.0.0",
  },
  "catalog": {
    "ext": "^1.0.0",
  },
  "catalogs": {
    "old": {
      "ansi": "1",
    },
  },
  "packages": {
    "@s/scoped": ["@s/scoped@1.0.0", "https://registry.example/@s/scoped/-/scoped-1.0.0.tgz", { "dependencies": { "ansi": "^2" } }, "${hash('b')}"],

    "ansi": ["ansi@1.0.0", "https://registry.example/ansi/-/ansi-1.0.0.tgz", {}, "${hash('c')}"],

    "bundler": ["bundler@1.0.0", "https://registry.example/bundler/-/bundler-1.0.0.tgz", { "dependencies": { "inner": "^1" } }, "${hash('d')}"],

    "chalk": ["chalk@5.0.0", "", {}, "${hash('e')}"],

    "ext": ["ext@1.0.0", "", {}, "${hash('f')}"],

    "host": ["host@1.0.0", "", { "optionalDependencies": { "linux": "1.0.0", "mac": "1.0.0" } }, "${hash('g')}"],

    "lib": ["lib@workspace:packages/lib"],

    "linux": ["linux@1.0.0", "", { "os": "linux", "libc": "glibc" }, "${hash('h')}"],

    "mac": ["mac@1.0.0", "", { "os": "darwin", "cpu": [ "x64", "arm64", ] }, "${hash('i')}"],

    "old": ["chalk@4.1.2", "", { "dependencies": { "ansi": "^1" } }, "${hash('j')}"],

    "optpeer": ["optpeer@1.0.0", "", { "peerDependencies": { "nothere": "*", "react": "^18" }, "optionalPeers": ["nothere", "react"] }, "${hash('k')}"],

    "react": ["react@17.0.2", "", {}, "${hash('l')}"],

    "remote": ["vendored@https://registry.example/other/remote.tgz", { "dependencies": { "ansi": "^1" } }, "${hash('m')}"],

    "vendored": ["vendored@../../vendor/v.tgz", { "dependencies": { "ansi": "^1" } }, "${hash('n')}"],

    "web": ["web@workspace:packages/web"],

    "bundler/inner": ["inner@1.0.0", "https://registry.example/inner/-/inner-1.0.0.tgz", { "bundled": true }, "${hash('o')}"],

    "web/directory": ["directory@file:directory", { "dependencies": { "ansi": "^2" }, "devDependencies": { "chalk": "^5" } }],

    "web/dom": ["dom@18.0.0", "https://registry.example/dom/-/dom-18.0.0.tgz", { "peerDependencies": { "react": "^18" } }, "${hash('p')}"],

    "web/react": ["react@18.3.1", "", {}, "${hash('q')}"],
  }
}
`
  const web = {
    '@s/scoped': '1',
    ansi: 'catalog:old',
    bundler: '1',
    directory: 'file:../../directory',
    dom: '^18',
    ext: 'catalog:',
    host: '1',
    lib: 'workspace:*',
    old: 'npm:chalk@^4',
    optpeer: '1',
    react: '^18',
    remote: 'https://registry.example/other/remote.tgz',
    vendored: 'file:../../vendor/v.tgz',
  }
  const FILES: Files = {
    'bun.lock': WRITTEN,
    'package.json': {
      name: 'root',
      workspaces: { packages: ['packages/*'], catalog: { ext: '^1.0.0' }, catalogs: { old: { ansi: '1' } } },
      dependencies: { chalk: '^5.0.0' },
      overrides: { ansi: '1.0.0' },
    },
    'packages/lib/package.json': {
      name: 'lib',
      version: '1.2.0',
      peerDependencies: { react: '>=17' },
      devDependencies: { react: '^17' },
    },
    'packages/web/package.json': { name: 'web', version: '1.0.0', dependencies: web },
    'directory/package.json': { name: 'directory', dependencies: { ansi: '^2' }, devDependencies: { chalk: '^5' } },
    'vendor/v.tgz': 'x',
    'patches/chalk.patch': 'x',
  }

  test('is read: workspaces, aliases, catalogs, every source, bundles, conditions and peers', async () => {
    const result = await gathered(FILES)
    expect(result.services.map(({ path }) => path)).toEqual(['.', 'directory', 'packages/lib', 'packages/web'])
    expect(result.warnings).toEqual([])
    const locked = Object.fromEntries(service(result, 'packages/web').requirements.map((one) => [one.name, one.locked]))
    expect(locked).toMatchObject({
      directory: { workspace: 'directory' },
      lib: { workspace: 'packages/lib' },
      old: { package: 'chalk@4.1.2' },
      react: { package: 'react@18.3.1' },
      remote: { package: 'vendored@https://registry.example/other/remote.tgz' },
      vendored: { package: 'vendored@file:vendor/v.tgz' },
    })
    expect(requirement(result, 'packages/web', 'ext')).toMatchObject({ specifier: 'catalog:', range: '^1.0.0' })
    expect(requirement(result, 'packages/web', 'ansi')).toMatchObject({ specifier: 'catalog:old', range: '1' })
    expect(requirement(result, 'packages/web', 'lib').range).toBeNull()
    expect(requirement(result, 'packages/lib', 'react')).toMatchObject({
      kind: 'dev',
      locked: { package: 'react@17.0.2' },
    })
    // What bun does not install of a directory: its development dependencies.
    expect(service(result, 'directory').requirements.map(({ name }) => name)).toEqual(['ansi'])
    expect(edges(result, 'dom@18.0.0')).toEqual({ react: ['react@18.3.1'] })
    expect(edges(result, 'optpeer@1.0.0')).toEqual({ react: ['react@17.0.2'] })
    expect(edges(result, '@s/scoped@1.0.0')).toEqual({ ansi: ['ansi@1.0.0'] })
    expect(edges(result, 'bundler@1.0.0')).toEqual({})
    expect(pin(result, 'mac@1.0.0')).toMatchObject({ optional: true, os: ['darwin'], cpu: ['x64', 'arm64'] })
    expect(pin(result, 'linux@1.0.0')).toMatchObject({ optional: true, os: ['linux'], libc: ['glibc'] })
    expect(pin(result, '@s/scoped@1.0.0')).toMatchObject({ integrity: hash('b'), source: { kind: 'registry' } })
    expect(pin(result, 'vendored@file:vendor/v.tgz').source).toEqual({ kind: 'file', path: 'vendor/v.tgz' })
    expect([...result.pins.keys()].some((id) => id.startsWith('inner@'))).toBe(false)
  })

  test('is stale where a catalog, a requirement or its range changed', async () => {
    const catalog = await failure({
      ...FILES,
      'package.json': {
        name: 'root',
        catalog: { ext: '^2' },
        catalogs: { old: { ansi: '1' } },
        dependencies: { chalk: '^5.0.0' },
      },
    })
    expect(catalog.message).toBe(
      'packages/web/package.json requires "ext" as "catalog: (^2)", but bun.lock locked it as "catalog: (^1.0.0)"',
    )
    const changed = await failure({
      ...FILES,
      'packages/web/package.json': { name: 'web', dependencies: { ...web, dom: '^19', added: '1', lib: undefined } },
    })
    expect([changed, ...(changed.details.others ?? [])].map(({ message }) => message)).toEqual([
      'packages/web/package.json requires "added" as "1", which bun.lock does not lock',
      'packages/web/package.json requires "dom" as "^19", but bun.lock locked it as "^18"',
      'bun.lock locks "lib" as "workspace:*", which packages/web/package.json does not require',
    ])
    expect(changed.details.hint).toBe('run `bun install --lockfile-only` in the root of the repository')
  })
})

describe('bun.lock', () => {
  test('finds what a package means along its path of names, scopes among them', async () => {
    const result = await gathered(
      project(
        { '': { dependencies: { a: '1', '@s/w': 'workspace:*' } }, w: { name: '@s/w', dependencies: { b: '3' } } },
        {
          a: entry('a@1.0.0', { dependencies: { '@x/y': '1', b: '2' } }),
          'a/@x/y': entry('@x/y@1.0.0', { dependencies: { b: '2', c: '1' } }),
          'a/@x/y/c': entry('c@1.0.0', { dependencies: { b: '2' } }),
          'a/b': entry('b@2.0.0'),
          b: entry('b@1.0.0'),
          '@s/w': ['@s/w@workspace:w'],
          '@s/w/b': entry('b@3.0.0'),
        },
      ),
    )
    expect(edges(result, 'a@1.0.0')).toEqual({ '@x/y': ['@x/y@1.0.0'], b: ['b@2.0.0'] })
    expect(edges(result, '@x/y@1.0.0')).toEqual({ b: ['b@2.0.0'], c: ['c@1.0.0'] })
    expect(edges(result, 'c@1.0.0')).toEqual({ b: ['b@2.0.0'] })
    expect(requirement(result, 'w', 'b').locked).toEqual({ package: 'b@3.0.0' })
  })

  test('may have comments, and in version 0 the dependencies of workspaces', async () => {
    const files = project(
      { '': { dependencies: { w: 'workspace:w' } }, w: { name: 'w', dependencies: { a: '1' } } },
      { w: ['w@workspace:w', { dependencies: { a: '1' } }], a: entry('a@1.0.0') },
      { lockfileVersion: 0 },
    )
    const text = `// made by bun\n${String(files['bun.lock']).replace('"packages"', '/* all of them */ "packages"')}`
    const result = await gathered({ ...files, 'bun.lock': text })
    expect(requirement(result, 'w', 'a').locked).toEqual({ package: 'a@1.0.0' })
    expect(result.warnings).toEqual([])
  })

  test('pins git by commit, and says which packages it lacks', async () => {
    const commit = '0123456789abcdef0123456789abcdef01234567'
    const dependencies = { g: 'git+https://git.example/g.git', h: 'owner/h' }
    const result = await gathered(
      project(
        { '': { dependencies } },
        {
          g: [`g@git+https://git.example/g.git#${commit}`, { dependencies: { lost: '1' } }, commit],
          h: [`h@github:owner/h#${commit}`, {}, `owner-h-${commit}`],
        },
      ),
    )
    expect([...result.pins.values()].map(({ source }) => source)).toEqual([
      { kind: 'git', url: 'git+https://git.example/g.git', commit },
      { kind: 'git', url: 'git+ssh://git@github.com/owner/h.git', commit },
    ])
    expect(result.warnings).toEqual([
      `bun.lock locks g@git+https://git.example/g.git#${commit} without what it requires: lost`,
    ])
    const short = await failure(
      project(
        { '': { dependencies } },
        { g: entry('g@1.0.0'), h: ['h@github:owner/h#0123456', {}, 'owner-h-0123456'] },
      ),
    )
    expect(short.code).toBe('SOURCE_UNSUPPORTED')
  })

  test('without a hash for a package is refused', async () => {
    const error = await failure(project({ '': { dependencies: { a: '1' } } }, { a: ['a@1.0.0', '', {}] }))
    expect(error.code).toBe('INTEGRITY_MISSING')
  })

  test('is preferred to the binary lockfile, which is refused with what makes a text of it', async () => {
    const files = project({ '': { dependencies: { a: '1' } } }, { a: entry('a@1.0.0') })
    expect((await gathered({ ...files, 'bun.lockb': 'x' })).inputs.map(({ path }) => path)).toEqual([
      'bun.lock',
      'package.json',
    ])
    const error = await failure({ 'package.json': {}, 'bun.lockb': 'x' })
    expect(error.code).toBe('LOCKFILE_VERSION')
    expect(error.message).toBe('bun.lockb is a binary lockfile; polder reads bun.lock versions 0 to 3')
    expect(error.details.hint).toContain('bun install --save-text-lockfile')
  })

  test('of an unknown version, with conflict markers, broken, or with hostile names is refused', async () => {
    const broken = (text: unknown): ReturnType<typeof failure> =>
      failure({ 'package.json': { dependencies: { a: '1' } }, 'bun.lock': text })
    const unknown = await broken({ lockfileVersion: 4 })
    expect(unknown.code).toBe('LOCKFILE_VERSION')
    expect(unknown.message).toBe('bun.lock has version 4; polder reads versions 0 to 3')
    expect((await broken('{\n<<<<<<< HEAD\n}')).code).toBe('LOCKFILE_CONFLICT_MARKERS')
    expect((await broken('{')).message).toMatch(/^bun\.lock: it is not JSON: /)
    expect((await broken('{}')).message).toBe('bun.lock: it has no lockfileVersion')
    expect((await broken({ lockfileVersion: 1, workspaces: { '': 1 } })).message).toMatch(/^bun\.lock: workspaces → : /)
    const own = { '': { dependencies: { a: '1' } } }
    for (const [name, spec] of [
      ['../a', 'a@1.0.0'],
      ['a', '../a@1.0.0'],
      ['a', 'a@1.0.0\u001B[31m'],
      ['a', 'a'],
      ['a/__proto__/..', 'a@1.0.0'],
    ] as const) {
      const error = await broken({ lockfileVersion: 1, workspaces: own, packages: { [name]: entry(spec) } })
      expect([name, spec, error.code]).toEqual([name, spec, 'LOCKFILE_INVALID'])
    }
    const outside = await broken({
      lockfileVersion: 1,
      workspaces: { ...own, '../../etc': {} },
      packages: { a: entry('a@1.0.0') },
    })
    expect(outside.code).toBe('SOURCE_UNSUPPORTED')
    const polluting = `{"lockfileVersion":1,"workspaces":{"":{"dependencies":{"a":"1"}}},"packages":{"__proto__":["a@1.0.0","",{},"${hash()}"]}}`
    expect((await broken(polluting)).code).toBe('LOCKFILE_STALE')
  })
})
