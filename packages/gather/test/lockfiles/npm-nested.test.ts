import { describe, expect, test } from 'vitest'

import { edges, failure, type Files, gathered, hash, requirement, service } from '../support/repository.ts'

/** A repository with one project of npm 6: its manifest, and the tree of its lockfile. */
function project(manifest: Record<string, unknown>, dependencies: Record<string, unknown>, files: Files = {}): Files {
  return {
    'package.json': manifest,
    'package-lock.json': { lockfileVersion: 1, requires: true, dependencies },
    ...files,
  }
}

const entry = (version: string, more: Record<string, unknown> = {}): Record<string, unknown> => ({
  version,
  integrity: hash(),
  ...more,
})

describe('package-lock version 1', () => {
  test('says by its nesting what each package would find', async () => {
    const result = await gathered(
      project(
        { dependencies: { a: '^1', b: '^1' }, devDependencies: { d: '^1' } },
        {
          a: entry('1.0.0', { requires: { c: '^2' }, dependencies: { c: entry('2.0.0', { requires: { b: '^1' } }) } }),
          b: entry('1.0.0', { requires: { c: '^1', a: '*' } }),
          c: entry('1.0.0'),
          d: entry('1.0.0', { dev: true }),
        },
      ),
    )
    expect(edges(result, 'a@1.0.0')).toEqual({ c: ['c@2.0.0'] })
    expect(edges(result, 'b@1.0.0')).toEqual({ a: ['a@1.0.0'], c: ['c@1.0.0'] })
    expect(edges(result, 'c@2.0.0')).toEqual({ b: ['b@1.0.0'] })
    expect(requirement(result, '.', 'd')).toMatchObject({ kind: 'dev', range: '^1', locked: { package: 'd@1.0.0' } })
    expect(result.warnings).toEqual([])
  })

  test('has aliases, tarballs and git commits in the version', async () => {
    const commit = '0123456789abcdef0123456789abcdef01234567'
    const result = await gathered(
      project(
        {
          dependencies: {
            old: 'npm:@s/chalk@^4',
            remote: 'https://files.example/r.tgz',
            packed: 'file:vendor/p.tgz',
            git: 'git+https://git.example/g.git',
            hub: 'owner/hub',
          },
        },
        {
          old: entry('npm:@s/chalk@4.1.2', {
            resolved: 'https://registry.example/@s/chalk/-/chalk-4.1.2.tgz',
            requires: { remote: '*' },
          }),
          remote: entry('https://files.example/r.tgz'),
          packed: entry('file:vendor/p.tgz'),
          git: { version: `git+https://git.example/g.git#${commit}`, from: 'git+https://git.example/g.git' },
          hub: { version: `github:owner/hub#${commit}`, from: 'github:owner/hub' },
        },
        { 'vendor/p.tgz': 'x' },
      ),
    )
    const sources = Object.fromEntries([...result.pins.values()].map(({ name, source }) => [name, source]))
    expect(sources).toEqual({
      '@s/chalk': { kind: 'registry' },
      remote: { kind: 'tarball', url: 'https://files.example/r.tgz' },
      packed: { kind: 'file', path: 'vendor/p.tgz' },
      git: { kind: 'git', url: 'git+https://git.example/g.git', commit },
      hub: { kind: 'git', url: 'git+ssh://git@github.com/owner/hub.git', commit },
    })
    expect(requirement(result, '.', 'old').locked).toEqual({ package: '@s/chalk@4.1.2' })
    expect(edges(result, '@s/chalk@4.1.2')).toEqual({ remote: ['remote@https://files.example/r.tgz'] })
  })

  test('marks what only optional dependencies lead to, so the edges to it are optional', async () => {
    const result = await gathered(
      project(
        { dependencies: { host: '1' }, optionalDependencies: { own: '1' } },
        {
          host: entry('1.0.0', { requires: { mac: '1', needed: '1' } }),
          mac: entry('1.0.0', { optional: true, requires: { deep: '1' } }),
          deep: entry('1.0.0', { optional: true }),
          needed: entry('1.0.0'),
          own: entry('1.0.0', { optional: true }),
        },
      ),
    )
    const optional = [...result.pins.values()].filter((one) => one.optional).map(({ name }) => name)
    expect(optional).toEqual(['deep', 'mac', 'own'])
  })

  test('leaves out what came in a bundle, also where npm 6 wrote `"resolved": false`', async () => {
    const result = await gathered(
      project(
        { dependencies: { a: '1' } },
        {
          a: entry('1.0.0', {
            requires: { b: '1', c: '1' },
            dependencies: { b: { version: '1.0.0', bundled: true }, c: entry('1.0.0', { resolved: false }) },
          }),
        },
      ),
    )
    expect([...result.pins.keys()]).toEqual(['a@1.0.0'])
    expect(result.warnings).toEqual([])
  })

  test('links to directories, whose dependencies are below the link', async () => {
    const result = await gathered(
      project(
        { dependencies: { lib: 'file:libs/lib', a: '^1' } },
        {
          a: entry('1.0.0'),
          lib: { version: 'file:libs/lib', requires: { a: '^2' }, dependencies: { a: entry('2.0.0') } },
        },
        { 'libs/lib/package.json': { name: 'lib', dependencies: { a: '^2' }, devDependencies: { unlocked: '1' } } },
      ),
    )
    expect(requirement(result, '.', 'lib').locked).toEqual({ workspace: 'libs/lib' })
    expect(service(result, 'libs/lib').requirements).toEqual([
      { name: 'a', kind: 'prod', specifier: '^2', range: '^2', locked: { package: 'a@2.0.0' } },
    ])
  })

  test('is stale if the manifest requires what it lacks, or another range', async () => {
    const lacking = await failure(project({ dependencies: { a: '1', b: '1' } }, { a: entry('1.0.0') }))
    expect(lacking.message).toBe(
      'the package.json of the root requires "b" as "1", which package-lock.json does not lock',
    )
    const moved = await failure(project({ dependencies: { a: '^2' } }, { a: entry('1.0.0') }))
    expect(moved.message).toBe(
      'the package.json of the root requires "a" as "^2", but package-lock.json locked it as "1.0.0"',
    )
    const overridden = await gathered(
      project({ dependencies: { a: '^2' }, overrides: { a: '1.0.0' } }, { a: entry('1.0.0') }),
    )
    expect(requirement(overridden, '.', 'a').locked).toEqual({ package: 'a@1.0.0' })
  })

  test('of npm 5.0, which has no edges, is refused', async () => {
    const files = project({ dependencies: { a: '1' } }, {})
    const error = await failure({
      ...files,
      'package-lock.json': { lockfileVersion: 1, dependencies: { a: entry('1.0.0') } },
    })
    expect(error.code).toBe('LOCKFILE_INVALID')
    expect(error.message).toBe('package-lock.json: it does not say what packages require, as npm before 5.1 wrote it')
  })

  test('with names or nesting that mean harm is refused', async () => {
    const text = (dependencies: string): Files => ({
      'package.json': { dependencies: { a: '1' } },
      'package-lock.json': `{"lockfileVersion":1,"requires":true,"dependencies":${dependencies}}`,
    })
    const inherited = await gathered(
      text('{"a":{"version":"1.0.0","integrity":"' + hash() + '"},"__proto__":{"version":"6.6.6"}}'),
    )
    expect([...inherited.pins.keys()]).toEqual(['a@1.0.0'])
    for (const name of ['../a', 'node_modules', 'a/../b']) {
      const error = await failure(text(`{"${name}":{"version":"1.0.0"}}`))
      expect([name, error.code]).toEqual([name, 'LOCKFILE_INVALID'])
    }
    let deep = '{"version":"1.0.0"}'
    for (let depth = 0; depth < 3000; depth += 1) deep = `{"version":"1.0.0","dependencies":{"a":${deep}}}`
    expect((await failure(text(`{"a":${deep}}`))).message).toBe(
      'package-lock.json: its dependencies are nested too deeply',
    )
  })
})
