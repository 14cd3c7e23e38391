import { describe, expect, test } from 'vitest'

import { edges, failure, gathered, hash, pin, requirement, service } from '../support/repository.ts'

/** A pnpm lockfile of these sections. */
function lock(body: string): string {
  return `lockfileVersion: '9.0'\n\nsettings:\n  autoInstallPeers: true\n  excludeLinksFromLockfile: false\n\n${body}`
}

const registry = (id: string, more = ''): string => `  '${id}':\n    resolution: {integrity: ${hash()}}\n${more}`

/** One importer that requires `a`, as `specifier`, and got `version`. */
function single(specifier: string, version: string, rest: string): Record<string, unknown> {
  return {
    'package.json': { dependencies: { a: specifier } },
    'pnpm-lock.yaml': lock(
      `importers:\n  .:\n    dependencies:\n      a:\n        specifier: '${specifier}'\n        version: '${version}'\n${rest}`,
    ),
  }
}

const plain = `packages:\n${registry('a@1.0.0')}snapshots:\n  a@1.0.0: {}\n`

describe('a workspace', () => {
  const files = {
    'pnpm-workspace.yaml': 'packages: ["packages/*"]\ncatalog:\n  left: ^1.0.0\ncatalogs:\n  next:\n    left: ^2.0.0\n',
    'package.json': { name: 'root', devDependencies: { left: 'catalog:' } },
    'packages/lib/package.json': {
      name: 'lib',
      version: '1.0.0',
      peerDependencies: { react: '>=17' },
      optionalDependencies: { native: '1.x' },
    },
    'packages/web/package.json': {
      name: 'web',
      dependencies: {
        lib: 'workspace:^',
        copied: 'workspace:*',
        react: '^18.0.0',
        old: 'npm:react@^17.0.0',
        left: 'catalog:next',
        dom: '^18.0.0',
      },
    },
    'packages/copied/package.json': { name: 'copied', version: '0.1.0' },
    'pnpm-lock.yaml': lock(`catalogs:
  default:
    left: { specifier: ^1.0.0, version: 1.1.0 }
  next:
    left: { specifier: ^2.0.0, version: 2.0.0 }
importers:
  .:
    devDependencies:
      left: { specifier: 'catalog:', version: 1.1.0 }
  packages/copied: {}
  packages/lib:
    dependencies:
      react: { specifier: '>=17', version: 18.3.1 }
    optionalDependencies:
      native: { specifier: 1.x, version: 1.2.3 }
  packages/web:
    dependencies:
      lib: { specifier: 'workspace:^', version: link:../lib }
      copied: { specifier: 'workspace:*', version: 'file:packages/copied(react@18.3.1)' }
      react: { specifier: ^18.0.0, version: 18.3.1 }
      old: { specifier: 'npm:react@^17.0.0', version: react@17.0.2 }
      left: { specifier: 'catalog:next', version: 2.0.0 }
      dom: { specifier: ^18.0.0, version: '18.0.0(lib@packages+lib)(react@18.3.1(left@1.1.0))' }
packages:
  copied@file:packages/copied:
    resolution: {directory: packages/copied, type: directory}
${registry('left@1.1.0')}${registry('left@2.0.0')}${registry('react@17.0.2')}${registry('react@18.3.1')}${registry(
      'native@1.2.3',
      '    os: [linux]\n    cpu: [x64]\n    libc: [musl]\n    deprecated: use another\n',
    )}${registry('dom@18.0.0', '    peerDependencies:\n      react: ^18\n      lib: "*"\n    peerDependenciesMeta:\n      lib:\n        optional: true\n')}snapshots:
  copied@file:packages/copied(react@18.3.1): {}
  left@1.1.0: {}
  left@2.0.0: {}
  react@17.0.2: {}
  react@18.3.1: {}
  native@1.2.3:
    optional: true
  dom@18.0.0(lib@packages+lib)(react@18.3.1(left@1.1.0)):
    dependencies:
      react: 18.3.1
      lib: link:packages/lib
`),
  }

  test('has its importers as services', async () => {
    const result = await gathered(files)
    expect(result.services.map(({ path, lockfile }) => [path, lockfile])).toEqual([
      ['.', 'pnpm-lock.yaml'],
      ['packages/copied', 'pnpm-lock.yaml'],
      ['packages/lib', 'pnpm-lock.yaml'],
      ['packages/web', 'pnpm-lock.yaml'],
    ])
    expect(result.warnings).toEqual([])
    expect(result.inputs.map(({ path }) => path)).toEqual([
      'package.json',
      'packages/copied/package.json',
      'packages/lib/package.json',
      'packages/web/package.json',
      'pnpm-lock.yaml',
      'pnpm-workspace.yaml',
    ])
  })

  test('requires each thing as its manifest has it and with what the lockfile chose', async () => {
    expect(service(await gathered(files), 'packages/web').requirements).toEqual([
      { name: 'copied', kind: 'prod', specifier: 'workspace:*', range: null, locked: { workspace: 'packages/copied' } },
      { name: 'dom', kind: 'prod', specifier: '^18.0.0', range: '^18.0.0', locked: { package: 'dom@18.0.0' } },
      { name: 'left', kind: 'prod', specifier: 'catalog:next', range: '^2.0.0', locked: { package: 'left@2.0.0' } },
      { name: 'lib', kind: 'prod', specifier: 'workspace:^', range: null, locked: { workspace: 'packages/lib' } },
      {
        name: 'old',
        kind: 'prod',
        specifier: 'npm:react@^17.0.0',
        range: '^17.0.0',
        locked: { package: 'react@17.0.2' },
      },
      { name: 'react', kind: 'prod', specifier: '^18.0.0', range: '^18.0.0', locked: { package: 'react@18.3.1' } },
    ])
  })

  test('resolves the default catalog, and peers that pnpm installed', async () => {
    const result = await gathered(files)
    expect(requirement(result, '.', 'left')).toMatchObject({
      kind: 'dev',
      range: '^1.0.0',
      locked: { package: 'left@1.1.0' },
    })
    expect(requirement(result, 'packages/lib', 'react')).toMatchObject({
      kind: 'peer',
      range: '>=17',
      locked: { package: 'react@18.3.1' },
    })
  })

  test('its pins have peers as edges, and links that start at the lockfile', async () => {
    const result = await gathered(files)
    expect([...result.pins.keys()]).toEqual([
      'dom@18.0.0',
      'left@1.1.0',
      'left@2.0.0',
      'native@1.2.3',
      'react@17.0.2',
      'react@18.3.1',
    ])
    expect(edges(result, 'dom@18.0.0')).toEqual({ lib: ['link:packages/lib'], react: ['react@18.3.1'] })
    expect(pin(result, 'native@1.2.3')).toMatchObject({
      optional: true,
      os: ['linux'],
      cpu: ['x64'],
      libc: ['musl'],
      deprecated: 'use another',
    })
    expect(pin(result, 'react@18.3.1')).toMatchObject({
      optional: false,
      source: { kind: 'registry' },
      integrity: hash(),
    })
  })

  test('a catalog entry that changed makes the lockfile stale', async () => {
    const error = await failure({
      ...files,
      'pnpm-workspace.yaml':
        'packages: ["packages/*"]\ncatalog:\n  left: ^1.5.0\ncatalogs:\n  next:\n    left: ^2.0.0\n',
    })
    expect(error.code).toBe('LOCKFILE_STALE')
    expect(error.message).toBe(
      'the package.json of the root requires "left" as "catalog: (^1.5.0)", but pnpm-lock.yaml locked it as "catalog: (^1.0.0)"',
    )
  })

  test("an importer's own lockfile is ignored with a warning", async () => {
    const result = await gathered({ ...files, 'packages/web/package-lock.json': 'not even read' })
    expect(result.warnings).toEqual([
      'packages/web/package-lock.json is ignored: packages/web is part of the workspace that pnpm-lock.yaml locks',
    ])
  })

  test('an importer that is gone from the disk is named', async () => {
    const { 'packages/copied/package.json': _gone, ...rest } = files
    const error = await failure(rest)
    expect(error.code).toBe('MANIFEST_INVALID')
    expect(error.message).toBe('packages/copied/package.json does not exist, but pnpm-lock.yaml has it as an importer')
    expect(error.details.hint).toContain('packages/copied/package.json')
  })

  test('services can be named one by one, and bring what they link to', async () => {
    const result = await gathered(files, 'services: [packages/web]')
    expect(result.services.map(({ path }) => path)).toEqual(['packages/copied', 'packages/lib', 'packages/web'])
    expect([...result.pins.keys()]).not.toContain('left@1.1.0')
    expect(result.inputs.map(({ path }) => path)).toContain('package.json')
  })
})

test('the root of a workspace needs no package.json', async () => {
  const result = await gathered({
    'pnpm-workspace.yaml': 'packages: [a]\n',
    'a/package.json': { name: 'a' },
    'pnpm-lock.yaml': lock('importers:\n  .: {}\n  a: {}\n'),
  })
  expect(result.services.map(({ path }) => path)).toEqual(['a'])
})

test('the contexts of one candidate become one pin with all their edges', async () => {
  const result = await gathered({
    'package.json': { dependencies: { a: '1', b: '1' } },
    'pnpm-lock.yaml': lock(`importers:
  .:
    dependencies:
      a: { specifier: '1', version: 1.0.0(p@1.0.0) }
      b: { specifier: '1', version: 1.0.0 }
packages:
${['a@1.0.0', 'b@1.0.0', 'p@1.0.0', 'p@2.0.0'].map((id) => registry(id)).join('')}snapshots:
  a@1.0.0(p@2.0.0): { dependencies: { p: 2.0.0 } }
  a@1.0.0(p@1.0.0): { dependencies: { p: 1.0.0 } }
  b@1.0.0: { dependencies: { a: 1.0.0(p@2.0.0) } }
  p@1.0.0: {}
  p@2.0.0: {}
`),
  })
  expect(edges(result, 'a@1.0.0')).toEqual({ p: ['p@1.0.0', 'p@2.0.0'] })
})

describe('sources', () => {
  const commit = 'c'.repeat(40)

  test('a tarball of a git host is one by its URL', async () => {
    const url = `https://codeload.host.example/kevva/a/tar.gz/${commit}`
    const files = single(
      'github:kevva/a',
      url,
      `packages:\n  a@${url}:\n    resolution: {tarball: ${url}, integrity: ${hash()}}\n    version: 1.0.0\nsnapshots:\n  a@${url}: {}\n`,
    )
    const result = await gathered(files)
    expect(pin(result, `a@${url}`)).toMatchObject({ name: 'a', reference: url, source: { kind: 'tarball', url } })
    expect(requirement(result, '.', 'a')).toMatchObject({ range: null, locked: { package: `a@${url}` } })
  })

  test.each([
    ['packages/foo', 'packages/foo'],
    ['/packages/foo/', 'packages/foo'],
    ['packages/../..', undefined],
    ['/', undefined],
  ])('a package may be the directory %s of a commit', async (path, expected) => {
    const reference = `git+https://host.example/a.git#${commit}&path:${path}`
    const rest = `packages:\n  a@${reference}:\n    resolution: {type: git, repo: 'https://host.example/a.git', commit: ${commit}, path: ${path}}\n    version: 1.0.0\nsnapshots:\n  a@${reference}: {}\n`
    const result = gathered(single(reference, reference, rest))
    if (expected === undefined) await expect(result).rejects.toMatchObject({ code: 'LOCKFILE_INVALID' })
    else
      expect(pin(await result, `a@${reference}`)).toMatchObject({
        source: { kind: 'git', url: 'https://host.example/a.git', commit, path: expected },
      })
  })

  test('a directory of a tarball is refused, with what is read', async () => {
    const reference = `https://codeload.host.example/a/b/tar.gz/${commit}#path:/packages/foo`
    const rest = `packages:\n  a@${reference}:\n    resolution: {tarball: 'https://codeload.host.example/a/b/tar.gz/${commit}', path: /packages/foo, gitHosted: true}\n    version: 1.0.0\nsnapshots:\n  a@${reference}: {}\n`
    await expect(gathered(single(reference, reference, rest))).rejects.toMatchObject({
      code: 'SOURCE_UNSUPPORTED',
      message: `pnpm-lock.yaml takes a@${reference} from the directory /packages/foo of a tarball, which polder does not read yet`,
    })
  })

  test('a git commit needs no hash', async () => {
    const reference = `git+https://host.example/a.git#${commit}`
    const rest = `packages:\n  a@${reference}:\n    resolution: {type: git, repo: 'https://host.example/a.git', commit: ${commit}}\n    version: 1.0.0\nsnapshots:\n  a@${reference}: {}\n`
    const result = await gathered(single(reference, reference, rest))
    expect(pin(result, `a@${reference}`)).toMatchObject({
      integrity: null,
      source: { kind: 'git', url: 'https://host.example/a.git', commit },
    })
  })

  test('a tarball in the repository is found from the lockfile', async () => {
    const files = single(
      'file:vendor/a (1).tgz',
      'file:vendor/a (1).tgz',
      `packages:\n  'a@file:vendor/a (1).tgz':\n    resolution: {integrity: ${hash()}, tarball: 'file:vendor/a (1).tgz'}\nsnapshots:\n  'a@file:vendor/a (1).tgz': {}\n`,
    )
    const moved = Object.fromEntries(Object.entries(files).map(([path, content]) => [`web/${path}`, content]))
    expect(pin(await gathered(moved), 'a@file:web/vendor/a (1).tgz').source).toEqual({
      kind: 'file',
      path: 'web/vendor/a (1).tgz',
    })
  })

  test("a registry's odd tarball URL is still the registry's", async () => {
    const rest = `packages:\n  a@1.0.0:\n    resolution: {integrity: ${hash()}, tarball: 'https://pkg.example/download/a/1.0.0/abc'}\nsnapshots:\n  a@1.0.0: {}\n`
    expect(pin(await gathered(single('^1', '1.0.0', rest)), 'a@1.0.0').source).toEqual({ kind: 'registry' })
  })

  test('a runtime is refused by name', async () => {
    const rest = `packages:\n  a@runtime:22.0.0:\n    resolution: {type: variations, variants: []}\nsnapshots:\n  a@runtime:22.0.0: {}\n`
    const error = await failure(single('runtime:22', 'runtime:22.0.0', rest))
    expect(error.code).toBe('SOURCE_UNSUPPORTED')
    expect(error.message).toBe(
      'pnpm-lock.yaml takes a@runtime:22.0.0 from a resolution of type "variations", which polder does not read yet',
    )
  })

  test('a candidate without any hash is refused unless the configuration names it', async () => {
    const files = single('^1', '1.0.0', 'packages:\n  a@1.0.0:\n    resolution: {}\nsnapshots:\n  a@1.0.0: {}\n')
    const error = await failure(files)
    expect(error.code).toBe('INTEGRITY_MISSING')
    expect(error.message).toBe('pnpm-lock.yaml has no hash for a@1.0.0')
    expect(error.details.hint).toContain('add "a" to "index.allowWeakIntegrity"')
    expect(pin(await gathered(files, 'index: { allowWeakIntegrity: [a] }'), 'a@1.0.0').integrity).toBeNull()
  })

  test('a link out of the repository is refused', async () => {
    const error = await failure(single('link:../../lib', 'link:../../lib', ''))
    expect(error.code).toBe('SOURCE_UNSUPPORTED')
    expect(error.message).toBe('the dependency "a" of . in pnpm-lock.yaml leads out of the repository, to ../../lib')
    expect(error.details.hint).toContain('move it into the repository')
  })

  test('a copied directory is a service, with what the lockfile chose for it', async () => {
    const rest = `packages:\n  a@file:lib:\n    resolution: {directory: lib, type: directory}\n${registry('b@1.2.0')}snapshots:\n  a@file:lib: { dependencies: { b: 1.2.0 } }\n  b@1.2.0: {}\n`
    const result = await gathered({
      ...single('file:lib', 'file:lib', rest),
      'lib/package.json': { name: 'a', dependencies: { b: '^1' }, devDependencies: { c: '^1' } },
    })
    expect(service(result, 'lib').requirements).toEqual([
      { name: 'b', kind: 'prod', specifier: '^1', range: '^1', locked: { package: 'b@1.2.0' } },
    ])
    expect([...result.pins.keys()]).toEqual(['b@1.2.0'])
    expect(result.warnings).toEqual([])
  })

  test('a link that pnpm was told to leave out of the lockfile is taken from the manifest', async () => {
    const result = await gathered({
      'web/package.json': { dependencies: { a: 'link:../lib' } },
      'web/pnpm-lock.yaml': lock('importers:\n  .: {}\n'),
      'lib/package.json': {},
    })
    expect(requirement(result, 'web', 'a').locked).toEqual({ workspace: 'lib' })
  })

  test('a tarball may have a name in any script, but no control characters', async () => {
    const one = (path: string): Record<string, unknown> => {
      const key = JSON.stringify(`a@${path}`)
      return {
        'package.json': { dependencies: { a: path } },
        'pnpm-lock.yaml': lock(
          `importers:\n  .:\n    dependencies:\n      a: { specifier: ${JSON.stringify(path)}, version: ${JSON.stringify(path)} }\npackages:\n  ${key}:\n    resolution: {integrity: ${hash()}}\nsnapshots:\n  ${key}: {}\n`,
        ),
      }
    }
    expect(pin(await gathered(one('file:zwölf.tgz')), 'a@file:zwölf.tgz').source).toEqual({
      kind: 'file',
      path: 'zwölf.tgz',
    })
    const error = await failure(one('file:\u001b[31m.tgz'))
    expect(error.code).toBe('LOCKFILE_INVALID')
    expect(error.message).toBe('pnpm-lock.yaml: "file:\\u001b[31m.tgz" is no version of a')
  })

  test('a linked directory that no lockfile knows is a service all the same', async () => {
    const files = {
      ...single('link:lib', 'link:lib', ''),
      'lib/package.json': { name: 'a', dependencies: { b: '^1', c: 'link:../c' } },
      'c/package.json': {},
    }
    const result = await gathered(files)
    expect(result.services.map(({ path, lockfile }) => [path, lockfile])).toEqual([
      ['.', 'pnpm-lock.yaml'],
      ['c', 'pnpm-lock.yaml'],
      ['lib', 'pnpm-lock.yaml'],
    ])
    expect(service(result, 'lib').requirements).toEqual([
      { name: 'b', kind: 'prod', specifier: '^1', range: '^1', locked: null },
      { name: 'c', kind: 'prod', specifier: 'link:../c', range: null, locked: { workspace: 'c' } },
    ])
    expect(result.warnings).toEqual(['pnpm-lock.yaml links to lib without locking what it requires: b'])
  })
})

describe('what is wrong with a file', () => {
  test.each([
    ['5.4', 'lockfileVersion: 5.4\n'],
    ['6.0', "lockfileVersion: '6.0'\n"],
  ])('version %s is refused with the version that polder reads', async (version, text) => {
    const error = await failure({ 'package.json': {}, 'pnpm-lock.yaml': text })
    expect(error.code).toBe('LOCKFILE_VERSION')
    expect(error.message).toBe(`pnpm-lock.yaml has version ${version}; polder reads version 9`)
    expect(error.details.hint).toContain('pnpm install --lockfile-only')
  })

  test('the conflict markers of a merge are refused, and not resolved behind your back', async () => {
    const text = lock(
      'importers:\n  .:\n<<<<<<< HEAD\n    dependencies: {}\n=======\n    devDependencies: {}\n>>>>>>> other\n',
    )
    const error = await failure({ 'package.json': {}, 'pnpm-lock.yaml': text })
    expect(error.code).toBe('LOCKFILE_CONFLICT_MARKERS')
    expect(error.message).toBe('pnpm-lock.yaml:9 has the conflict markers of a git merge')
  })

  test('the first of two YAML documents is left out', async () => {
    const { 'pnpm-lock.yaml': text, ...rest } = single('^1', '1.0.0', plain)
    const both = `---\nlockfileVersion: '9.0'\nimporters:\n  .:\n    packageManagerDependencies:\n      pnpm: { specifier: 12.0.0, version: 12.0.0 }\npackages: {}\nsnapshots: {}\n\n---\n${String(text)}`
    expect([...(await gathered({ ...rest, 'pnpm-lock.yaml': both })).pins.keys()]).toEqual(['a@1.0.0'])
  })

  test('broken YAML is refused with its place', async () => {
    const error = await failure({ 'package.json': {}, 'pnpm-lock.yaml': lock('importers: {') })
    expect(error.code).toBe('LOCKFILE_INVALID')
    expect(error.message).toMatch(/^pnpm-lock\.yaml: The lockfile at "pnpm-lock\.yaml" is broken: .*\(\d+:\d+\)$/)
  })

  test('a section of the wrong shape is refused by name', async () => {
    const error = await failure({
      'package.json': {},
      'pnpm-lock.yaml': lock('importers:\n  .:\n    dependencies:\n      a: 1.0.0\n'),
    })
    expect(error.code).toBe('LOCKFILE_INVALID')
    expect(error.message).toContain('importers → . → dependencies → a')
  })

  test('a requirement without a snapshot is refused', async () => {
    const error = await failure(single('^1', '1.0.0', ''))
    expect(error.message).toBe('pnpm-lock.yaml: "a" of . is 1.0.0, but there is no such snapshot')
  })

  test('a gap further down is a warning, if anybody gets there', async () => {
    const rest = `packages:\n${registry('a@1.0.0')}${registry('orphan@1.0.0')}snapshots:\n  a@1.0.0: { dependencies: { gone: 1.0.0 } }\n  orphan@1.0.0: { dependencies: { lost: 1.0.0 } }\n`
    const result = await gathered(single('^1', '1.0.0', rest))
    expect(result.warnings).toEqual(['pnpm-lock.yaml locks a@1.0.0 without what it requires: gone'])
    expect([...result.pins.keys()]).toEqual(['a@1.0.0'])
  })

  test.each(['../../etc/passwd', 'node_modules', 'a b'])('the dependency name "%s" is refused', async (name) => {
    const rest = `packages:\n${registry('a@1.0.0')}snapshots:\n  a@1.0.0: { dependencies: { '${name}': 1.0.0 } }\n`
    const error = await failure(single('^1', '1.0.0', rest))
    expect(error.code).toBe('LOCKFILE_INVALID')
    expect(error.message).toBe(`pnpm-lock.yaml: "${name}" is no package name`)
  })

  test('the key __proto__ is nobody, and changes no prototype', async () => {
    const rest = `packages:\n${registry('a@1.0.0')}  __proto__:\n    resolution: {polluted: x}\nsnapshots:\n  a@1.0.0: { dependencies: { __proto__: 1.0.0 } }\n  __proto__: { dependencies: {} }\n`
    const result = await gathered(single('^1', '1.0.0', rest))
    expect(edges(result, 'a@1.0.0')).toEqual({})
    expect(({} as Record<string, unknown>)['polluted']).toBeUndefined()
  })
})

describe('overrides and hooks', () => {
  test('a specifier that an override changed is not stale', async () => {
    const files = single('4.0.0', '4.0.0', `packages:\n${registry('a@4.0.0')}snapshots:\n  a@4.0.0: {}\n`)
    const overridden = String(files['pnpm-lock.yaml']).replace(
      'importers:',
      "overrides:\n  x@1>a@<4: 4.0.0\n  gone: '-'\nimporters:",
    )
    const manifest = { dependencies: { a: '^3.0.0', gone: '^1' } }
    const result = await gathered({ 'package.json': manifest, 'pnpm-lock.yaml': overridden })
    expect(requirement(result, '.', 'a')).toMatchObject({
      specifier: '^3.0.0',
      range: '^3.0.0',
      locked: { package: 'a@4.0.0' },
    })
    expect((await failure({ 'package.json': manifest, 'pnpm-lock.yaml': files['pnpm-lock.yaml'] })).code).toBe(
      'LOCKFILE_STALE',
    )
  })

  test('a difference beside a pnpmfile is a warning', async () => {
    const files = single('^1', '1.0.0', plain)
    const hooked = `${String(files['pnpm-lock.yaml'])}pnpmfileChecksum: sha256-abc\n`
    const result = await gathered({ 'package.json': { dependencies: { a: '^1.0.0' } }, 'pnpm-lock.yaml': hooked })
    expect(result.warnings).toEqual([
      'pnpm-lock.yaml differs from . in "a"; its pnpmfile may have changed it, and polder does not run pnpmfiles',
    ])
  })

  test('an optional dependency that pnpm was told to ignore is locked as nothing', async () => {
    const text = lock("ignoredOptionalDependencies:\n  - '@native/*'\nimporters:\n  .: {}\n")
    const result = await gathered({
      'package.json': { optionalDependencies: { '@native/x64': '1' } },
      'pnpm-lock.yaml': text,
    })
    expect(requirement(result, '.', '@native/x64')).toMatchObject({ kind: 'optional', locked: null })
  })
})
