import { symlinkSync } from 'node:fs'
import { join } from 'node:path'

import { describe, expect, test } from 'vitest'

import { gather, parseConfig } from '../src/index.ts'
import { failure, type Files, gathered, repository, service } from './support/repository.ts'

/** A project of npm without dependencies. */
function npm(directory: string): Files {
  return {
    [`${directory}/package.json`]: { name: 'x' },
    [`${directory}/package-lock.json`]: { lockfileVersion: 3, packages: { '': { name: 'x' } } },
  }
}

async function paths(files: Files, config = ''): Promise<string[]> {
  return (await gathered(files, config)).services.map(({ path }) => path)
}

describe('discovery', () => {
  test('finds every directory with a lockfile, but not in node_modules, .git or other dot directories', async () => {
    const files = {
      ...npm('services/b'),
      ...npm('services/a'),
      ...npm('a/node_modules/x'),
      ...npm('.git/x'),
      ...npm('.cache/x'),
      ...npm('deep/er/and/deeper'),
    }
    expect(await paths(files)).toEqual(['deep/er/and/deeper', 'services/a', 'services/b'])
  })

  test('leaves out what is excluded, directories and all below them', async () => {
    const files = { ...npm('a'), ...npm('b/fixtures/x'), ...npm('c/x') }
    expect(await paths(files, 'exclude: ["**/fixtures", "c/**"]')).toEqual(['a'])
    expect(await paths(files, 'exclude: [c/, ./b]')).toEqual(['a'])
  })

  test('does not follow links', async () => {
    const root = repository(npm('a'))
    symlinkSync(join(root, 'a'), join(root, 'b'))
    expect((await gather(root, parseConfig(''))).services.map(({ path }) => path)).toEqual(['a'])
  })

  test('a lockfile without a package.json is left out with a warning', async () => {
    const result = await gathered({ ...npm('a'), 'b/yarn.lock': '' })
    expect(result.services.map(({ path }) => path)).toEqual(['a'])
    expect(result.warnings).toEqual(['b has a lockfile but no package.json and is left out'])
  })

  test('a repository without services is an error', async () => {
    const error = await failure({ 'package.json': {} })
    expect(error.code).toBe('NO_SERVICES')
    expect(error.details.hint).toContain('a service is a directory with a package.json and a lockfile')
  })
})

describe('services by name', () => {
  test('are paths and globs', async () => {
    expect(
      await paths(
        { ...npm('services/a'), ...npm('services/b'), ...npm('web'), ...npm('other') },
        'services: [services/*, ./web/]',
      ),
    ).toEqual(['services/a', 'services/b', 'web'])
  })

  test('one that matches nothing is an error', async () => {
    const error = await failure(npm('a'), 'services: [b]')
    expect(error.code).toBe('SERVICE_UNKNOWN')
    expect(error.message).toBe('"b" in "services" of polder.yaml matches no directory with a package.json')
    expect(error.details.hint).toContain('relative to polder.yaml')
  })

  test('one that nothing locks is an error', async () => {
    const error = await failure({ ...npm('a'), 'b/package.json': {} }, 'services: [a, b]')
    expect(error.code).toBe('SERVICE_UNKNOWN')
    expect(error.message).toBe('b has no lockfile, nor has any directory above it')
    expect(error.details.hint).toContain('install once in b')
  })

  test('one below a lockfile that does not know it is an error', async () => {
    const error = await failure({ ...npm('a'), 'a/b/package.json': {} }, 'services: [a/b]')
    expect(error.code).toBe('SERVICE_UNKNOWN')
    expect(error.message).toBe('a/b has no lockfile, and a/package-lock.json does not know it')
  })
})

describe('two lockfiles in one directory', () => {
  const both = {
    'a/package.json': { name: 'x' },
    'a/package-lock.json': { lockfileVersion: 3, packages: { '': { name: 'x' } } },
    'a/yarn.lock': '# yarn lockfile v1\n',
  }

  test('are refused by name', async () => {
    const error = await failure(both)
    expect(error.code).toBe('LOCKFILE_INVALID')
    expect(error.message).toBe('a has lockfiles of different clients: a/package-lock.json and a/yarn.lock')
    expect(error.details.hint).toContain('packageManager')
  })

  test('are one if the manifest names the client', async () => {
    const result = await gathered({
      ...both,
      'a/package.json': { name: 'x', packageManager: 'yarn@1.22.22+sha512.abc' },
    })
    expect(service(result, 'a').lockfile).toBe('a/yarn.lock')
  })
})
