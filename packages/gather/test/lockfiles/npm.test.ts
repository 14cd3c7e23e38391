import { describe, expect, test } from 'vitest'

import { edges, failure, type Files, gathered, hash, pin, requirement, service } from '../support/repository.ts'

type Entries = Readonly<Record<string, Record<string, unknown>>>

/** A repository with one npm project: its manifest, and the lockfile's `packages` besides the root. */
function project(manifest: Record<string, unknown>, packages: Entries, files: Files = {}): Files {
  return {
    'package.json': manifest,
    'package-lock.json': { lockfileVersion: 3, packages: { '': manifest, ...packages } },
    ...files,
  }
}

const registry = (version: string, more: Record<string, unknown> = {}): Record<string, unknown> => ({
  version,
  integrity: hash(),
  ...more,
})

describe('edges', () => {
  test('are what Node would find from the place of the package', async () => {
    const result = await gathered(
      project(
        { dependencies: { a: '^1', b: '^1' } },
        {
          'node_modules/a': registry('1.0.0', { dependencies: { c: '^2' } }),
          'node_modules/b': registry('1.0.0', { dependencies: { c: '^1', a: '*' } }),
          'node_modules/c': registry('1.0.0'),
          'node_modules/a/node_modules/c': registry('2.0.0', { dependencies: { b: '^1' } }),
        },
      ),
    )
    expect(edges(result, 'a@1.0.0')).toEqual({ c: ['c@2.0.0'] })
    expect(edges(result, 'b@1.0.0')).toEqual({ a: ['a@1.0.0'], c: ['c@1.0.0'] })
    expect(edges(result, 'c@2.0.0')).toEqual({ b: ['b@1.0.0'] })
  })

  test('of one candidate at several places are united', async () => {
    const result = await gathered(
      project(
        { dependencies: { a: '^1', b: '^1', c: '^1' } },
        {
          'node_modules/a': registry('1.0.0', { dependencies: { c: '*' } }),
          'node_modules/b': registry('1.0.0', { dependencies: { a: '^1', c: '^2' } }),
          'node_modules/b/node_modules/a': registry('1.0.0', { dependencies: { c: '*' } }),
          'node_modules/b/node_modules/c': registry('2.0.0'),
          'node_modules/c': registry('1.0.0'),
        },
      ),
    )
    expect(edges(result, 'a@1.0.0')).toEqual({ c: ['c@1.0.0', 'c@2.0.0'] })
  })

  test('include peers where the tree has them, and leave out those it has not', async () => {
    const result = await gathered(
      project(
        { dependencies: { a: '^1', p: '^1' } },
        {
          'node_modules/a': registry('1.0.0', {
            peerDependencies: { p: '^1', q: '^1', r: '*' },
            peerDependenciesMeta: { q: { optional: true }, s: { optional: true } },
          }),
          'node_modules/p': registry('1.0.0'),
          'node_modules/s': registry('1.0.0', { peer: true }),
        },
      ),
    )
    expect(edges(result, 'a@1.0.0')).toEqual({ p: ['p@1.0.0'], s: ['s@1.0.0'] })
    expect(pin(result, 's@1.0.0').optional).toBe(true)
    expect(result.warnings).toEqual([])
  })

  test('that lead nowhere are a warning', async () => {
    const result = await gathered(
      project(
        { dependencies: { a: '^1' } },
        { 'node_modules/a': registry('1.0.0', { dependencies: { x: '1' }, optionalDependencies: { y: '1' } }) },
      ),
    )
    expect(result.warnings).toEqual(['package-lock.json locks a@1.0.0 without what it requires: x'])
  })

  test('into a bundle are none, for what is bundled is no pin', async () => {
    const result = await gathered(
      project(
        { dependencies: { a: '^1' } },
        {
          'node_modules/a': registry('1.0.0', { dependencies: { b: '^1' }, bundleDependencies: ['b'] }),
          'node_modules/a/node_modules/b': { version: '1.0.0', inBundle: true },
        },
      ),
    )
    expect([...result.pins.keys()]).toEqual(['a@1.0.0'])
    expect(edges(result, 'a@1.0.0')).toEqual({})
    expect(result.warnings).toEqual([])
  })

  test('what the root itself bundles is installed like all else', async () => {
    const manifest = { dependencies: { a: '^1' }, bundleDependencies: ['a'] }
    const result = await gathered(project(manifest, { 'node_modules/a': registry('1.0.0', { inBundle: true }) }))
    expect([...result.pins.keys()]).toEqual(['a@1.0.0'])
  })

  test('a pin is optional if every way to it is', async () => {
    const result = await gathered(
      project(
        { dependencies: { a: '^1' }, optionalDependencies: { b: '^1' } },
        {
          'node_modules/a': registry('1.0.0', { optionalDependencies: { c: '1', d: '1' }, dependencies: { e: '1' } }),
          'node_modules/b': registry('1.0.0', { dependencies: { c: '1' }, os: ['darwin'] }),
          'node_modules/c': registry('1.0.0'),
          'node_modules/d': registry('1.0.0'),
          'node_modules/e': registry('1.0.0', { dependencies: { d: '1' } }),
        },
      ),
    )
    expect([...result.pins.values()].map(({ id, optional }) => [id, optional])).toEqual([
      ['a@1.0.0', false],
      ['b@1.0.0', true],
      ['c@1.0.0', true],
      ['d@1.0.0', false],
      ['e@1.0.0', false],
    ])
    expect(pin(result, 'b@1.0.0').os).toEqual(['darwin'])
  })
})

describe('workspaces and links', () => {
  const files = {
    'package.json': { workspaces: ['packages/*'] },
    'packages/web/package.json': { name: 'web', dependencies: { lib: '^1.0.0', c: '^1' } },
    'packages/lib/package.json': { name: 'lib', version: '1.0.0', devDependencies: { c: '^2' } },
    'package-lock.json': {
      lockfileVersion: 2,
      packages: {
        '': { workspaces: ['packages/*'] },
        'packages/web': { name: 'web', dependencies: { lib: '^1.0.0', c: '^1' } },
        'packages/lib': { name: 'lib', version: '1.0.0', devDependencies: { c: '^2' } },
        'packages/lib/node_modules/c': registry('2.0.0'),
        'node_modules/c': registry('1.0.0'),
        'node_modules/lib': { resolved: 'packages/lib', link: true },
        'node_modules/web': { resolved: 'packages/web', link: true },
      },
    },
  }

  test('the members of a workspace are services', async () => {
    const result = await gathered(files)
    expect(result.services.map(({ path }) => path)).toEqual(['.', 'packages/lib', 'packages/web'])
    expect(requirement(result, 'packages/web', 'lib')).toEqual({
      name: 'lib',
      kind: 'prod',
      specifier: '^1.0.0',
      range: '^1.0.0',
      locked: { workspace: 'packages/lib' },
    })
    expect(requirement(result, 'packages/web', 'c').locked).toEqual({ package: 'c@1.0.0' })
    expect(requirement(result, 'packages/lib', 'c')).toMatchObject({ kind: 'dev', locked: { package: 'c@2.0.0' } })
  })

  test('a directory that two projects link to, and that has no lockfile, belongs to the first', async () => {
    const one = (name: string): Files => ({
      [`${name}/package.json`]: { dependencies: { lib: 'file:../lib' } },
      [`${name}/package-lock.json`]: {
        lockfileVersion: 3,
        packages: {
          '': { dependencies: { lib: 'file:../lib' } },
          '../lib': { version: '1.0.0', dependencies: { c: '^1' } },
          '../lib/node_modules/c': registry(name === 'a' ? '1.0.0' : '1.5.0'),
          'node_modules/lib': { resolved: '../lib', link: true },
        },
      },
    })
    const result = await gathered({
      ...one('b'),
      ...one('a'),
      'lib/package.json': { name: 'lib', version: '1.0.0', dependencies: { c: '^1' } },
    })
    expect(result.services.map(({ path, lockfile }) => [path, lockfile])).toEqual([
      ['a', 'a/package-lock.json'],
      ['b', 'b/package-lock.json'],
      ['lib', 'a/package-lock.json'],
    ])
    expect(requirement(result, 'lib', 'c').locked).toEqual({ package: 'c@1.0.0' })
  })

  test('a linked directory with a lockfile of its own keeps to it', async () => {
    const result = await gathered({
      'a/package.json': { dependencies: { lib: 'file:../lib' } },
      'a/package-lock.json': {
        lockfileVersion: 3,
        packages: {
          '': { dependencies: { lib: 'file:../lib' } },
          '../lib': { version: '1.0.0' },
          'node_modules/lib': { resolved: '../lib', link: true },
        },
      },
      'lib/package.json': { name: 'lib', version: '1.0.0' },
      'lib/package-lock.json': { lockfileVersion: 3, packages: { '': { name: 'lib', version: '1.0.0' } } },
    })
    expect(service(result, 'lib').lockfile).toBe('lib/package-lock.json')
  })

  test('what a link out of the project requires is not for its lockfile to know', async () => {
    const manifest = { dependencies: { lib: 'file:../lib' } }
    const result = await gathered({
      'web/package.json': manifest,
      'web/package-lock.json': {
        lockfileVersion: 3,
        packages: {
          '': manifest,
          '../lib': { dependencies: { a: '^1' }, devDependencies: { b: '^1' } },
          'node_modules/lib': { resolved: '../lib', link: true },
        },
      },
      'lib/package.json': { name: 'lib', dependencies: { a: '^1' }, devDependencies: { b: '^1' } },
    })
    expect(service(result, 'lib').requirements).toEqual([
      { name: 'a', kind: 'prod', specifier: '^1', range: '^1', locked: null },
    ])
    expect(result.warnings).toEqual(['web/package-lock.json links to lib without locking what it requires: a'])
  })

  test('a directory that npm packed (install-links) is a service, with what it has at its place', async () => {
    const manifest = { dependencies: { lib: 'file:../lib' } }
    const result = await gathered({
      'web/package.json': manifest,
      'web/package-lock.json': {
        lockfileVersion: 3,
        packages: {
          '': manifest,
          'node_modules/lib': { version: '1.0.0', resolved: 'file:../lib', dependencies: { a: '^1' } },
          'node_modules/lib/node_modules/a': registry('1.0.0'),
        },
      },
      'lib/package.json': { name: 'lib', version: '1.0.0', dependencies: { a: '^1' }, devDependencies: { b: '^1' } },
    })
    expect(requirement(result, 'web', 'lib').locked).toEqual({ workspace: 'lib' })
    expect(service(result, 'lib').requirements).toEqual([
      { name: 'a', kind: 'prod', specifier: '^1', range: '^1', locked: { package: 'a@1.0.0' } },
    ])
  })

  test('a link out of the repository is refused', async () => {
    const manifest = { dependencies: { lib: 'file:../lib' } }
    const error = await failure(project(manifest, { 'node_modules/lib': { resolved: '../lib', link: true } }))
    expect(error.code).toBe('SOURCE_UNSUPPORTED')
    expect(error.message).toBe('the link "lib" in package-lock.json leads out of the repository, to ../lib')
  })
})

describe('sources', () => {
  test.each([
    ['a registry of any host', 'https://registry.example/npm/@s/a/-/a-1.0.0.tgz'],
    ['a registry that repeats the scope', 'https://registry.example/@s/a/-/@s/a-1.0.0.tgz'],
    ['an escaped scope', 'https://registry.example/@s%2fa/-/a-1.0.0.tgz'],
    ['a URL whose host was taken out', '@s/a/-/a-1.0.0.tgz'],
    ["GitHub's form", 'https://registry.example/download/@s/a/1.0.0/0123abc'],
    ['no URL at all', undefined],
  ])('%s means the registry', async (_, resolved) => {
    const manifest = { dependencies: { '@s/a': '^1' } }
    const result = await gathered(
      project(manifest, { 'node_modules/@s/a': registry('1.0.0', resolved === undefined ? {} : { resolved }) }),
    )
    expect(pin(result, '@s/a@1.0.0').source).toEqual({ kind: 'registry' })
  })

  test.each([
    ['another package at the registry', 'https://registry.example/b/-/b-1.0.0.tgz'],
    ['any other URL', 'https://host.example/a.tgz'],
  ])('%s is a tarball by its URL', async (_, url) => {
    const result = await gathered(
      project({ dependencies: { a: url } }, { 'node_modules/a': registry('1.0.0', { resolved: url }) }),
    )
    expect(pin(result, `a@${url}`).source).toEqual({ kind: 'tarball', url })
  })

  test('a tarball in the repository is found from the lockfile', async () => {
    const result = await gathered({
      'web/package.json': { dependencies: { a: 'file:../vendor/a.tgz' } },
      'web/package-lock.json': {
        lockfileVersion: 3,
        packages: {
          '': { dependencies: { a: 'file:../vendor/a.tgz' } },
          'node_modules/a': { version: '1.0.0', resolved: 'file:../vendor/a.tgz' },
        },
      },
      'vendor/a.tgz': 'bytes',
    })
    expect(pin(result, 'a@file:vendor/a.tgz')).toMatchObject({
      integrity: null,
      source: { kind: 'file', path: 'vendor/a.tgz' },
    })
    // It has no hash in the lockfile, so its bytes are an input of their own.
    expect(result.inputs.map(({ path }) => path)).toContain('vendor/a.tgz')
  })

  test('a git commit is one by its URL', async () => {
    const resolved = `git+ssh://git@host.example/s/a.git#${'c'.repeat(40)}`
    const result = await gathered(
      project({ dependencies: { a: 's/a' } }, { 'node_modules/a': { version: '1.0.0', resolved } }),
    )
    expect(pin(result, `a@${resolved}`).source).toEqual({
      kind: 'git',
      url: 'git+ssh://git@host.example/s/a.git',
      commit: 'c'.repeat(40),
    })
  })

  test.each(['git+https://host.example/a.git#main', 'ftp://host.example/a.tgz'])('%s is refused', async (resolved) => {
    const error = await failure(
      project({ dependencies: { a: 'x' } }, { 'node_modules/a': { version: '1.0.0', resolved } }),
    )
    expect(['LOCKFILE_INVALID', 'SOURCE_UNSUPPORTED']).toContain(error.code)
    expect(error.message).toContain(resolved)
  })

  test('an alias is a pin of the real name under its own', async () => {
    const result = await gathered(
      project({ dependencies: { old: 'npm:chalk@^4' } }, { 'node_modules/old': registry('4.1.2', { name: 'chalk' }) }),
    )
    expect(requirement(result, '.', 'old')).toMatchObject({ range: '^4', locked: { package: 'chalk@4.1.2' } })
    expect(pin(result, 'chalk@4.1.2').name).toBe('chalk')
  })

  test('the strongest of several hashes counts, and sha1 if there is nothing else', async () => {
    const sha1 = `sha1-${'b'.repeat(27)}=`
    const result = await gathered(
      project(
        { dependencies: { a: '^1', b: '^1' } },
        {
          'node_modules/a': registry('1.0.0', { integrity: `${sha1} ${hash()}` }),
          'node_modules/b': registry('1.0.0', { integrity: sha1 }),
        },
      ),
    )
    expect(pin(result, 'a@1.0.0').integrity).toBe(hash())
    expect(pin(result, 'b@1.0.0').integrity).toBe(sha1)
  })
})

describe('what is stale', () => {
  const stale = (
    manifest: object,
    locked: object,
    packages: Entries = {},
  ): Promise<{ code: string; message: string; details: { hint?: string; others?: readonly { message: string }[] } }> =>
    failure({
      'web/package.json': manifest,
      'web/package-lock.json': { lockfileVersion: 3, packages: { '': locked, ...packages } },
    })

  test('a changed range, an added and a removed dependency are reported together, with the command that mends it', async () => {
    const error = await stale(
      { dependencies: { a: '^2', b: '^1' } },
      { dependencies: { a: '^1', c: '^1' } },
      { 'node_modules/a': registry('1.0.0'), 'node_modules/c': registry('1.0.0') },
    )
    expect(error.code).toBe('LOCKFILE_STALE')
    expect([error.message, ...(error.details.others ?? []).map(({ message }) => message)]).toEqual([
      'web/package.json requires "a" as "^2", but web/package-lock.json locked it as "^1"',
      'web/package.json requires "b" as "^1", which web/package-lock.json does not lock',
      'web/package-lock.json locks "c" as "^1", which web/package.json does not require',
    ])
    expect(error.details.hint).toBe('run `npm install --package-lock-only` in web')
  })

  test('a dependency that the lockfile lists but does not have is stale too', async () => {
    const error = await stale({ dependencies: { a: '^1' } }, { dependencies: { a: '^1' } })
    expect(error.message).toBe('web/package.json requires "a" as "^1", which web/package-lock.json does not lock')
  })

  test('an optional dependency may be missing', async () => {
    const manifest = { optionalDependencies: { a: '^1' } }
    expect(requirement(await gathered(project(manifest, {})), '.', 'a').locked).toBeNull()
  })
})

describe('what is wrong with a file', () => {
  const broken = (text: unknown): Promise<{ code: string; message: string; details: { hint?: string } }> =>
    failure({ 'package.json': {}, 'package-lock.json': text })

  test('an unknown version is refused with those that are read and the command that makes one', async () => {
    const error = await broken({ lockfileVersion: 4, packages: {} })
    expect(error.code).toBe('LOCKFILE_VERSION')
    expect(error.message).toBe('package-lock.json has version 4; polder reads versions 1 to 3')
    expect(error.details.hint).toContain('npm install --package-lock-only')
  })

  test('conflict markers, broken JSON and wrong shapes are refused', async () => {
    expect((await broken('{\n<<<<<<< HEAD\n}')).message).toBe(
      'package-lock.json:2 has the conflict markers of a git merge',
    )
    expect((await broken('{')).message).toMatch(/^package-lock\.json: it is not JSON: /)
    expect((await broken('{}')).message).toBe('package-lock.json: it has no lockfileVersion')
    expect((await broken({ lockfileVersion: 3, packages: { '': 1 } })).message).toMatch(
      /^package-lock\.json: packages → : /,
    )
    expect((await broken({ lockfileVersion: 3, packages: {} })).message).toBe(
      'package-lock.json: it has no entry for its own directory',
    )
  })

  test.each(['node_modules/../../x', 'node_modules/__proto__', 'node_modules/.bin'])(
    'a package at %s is refused',
    async (place) => {
      const error = await broken(`{"lockfileVersion":3,"packages":{"":{},"${place}":{"version":"1.0.0"}}}`)
      expect(error.code).toBe('LOCKFILE_INVALID')
      expect(error.message).toMatch(/is no package name$/)
    },
  )

  test('a workspace outside of the repository is refused', async () => {
    expect((await broken({ lockfileVersion: 3, packages: { '': {}, '../../x': {} } })).code).toBe('SOURCE_UNSUPPORTED')
  })

  test('a version with a line break or an escape sequence is refused', async () => {
    const error = await broken({
      lockfileVersion: 3,
      packages: { '': {}, 'node_modules/a': { version: '1.0.0\u001B[31m', integrity: hash() } },
    })
    expect(error.message).toBe('package-lock.json: "1.0.0\\u001b[31m" is no version of a')
  })

  test('npm-shrinkwrap.json counts before package-lock.json, as npm has it', async () => {
    const shrinkwrap = {
      lockfileVersion: 3,
      packages: { '': { dependencies: { a: '1' } }, 'node_modules/a': registry('1.0.0') },
    }
    const result = await gathered({
      'package.json': { dependencies: { a: '1' } },
      'npm-shrinkwrap.json': shrinkwrap,
      'package-lock.json': 'not read',
    })
    expect(service(result, '.').lockfile).toBe('npm-shrinkwrap.json')
  })
})
