import { execFileSync } from 'node:child_process'
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { gunzipSync } from 'node:zlib'

import { integrityOf } from '@polder/spec'
import { afterAll, describe, expect, test } from 'vitest'

import { scrubbedEnvironment, TOOLS } from '../../../test/support/cli.ts'
import { readPackageJson } from '../../../test/support/tarball.ts'
import { addTarball } from '../src/pins/additions.ts'
import { packWorkspace } from '../src/pins/pack.ts'
import { publishedManifest, type Resolved } from '../src/pins/published-manifest.ts'
import { temporaryStore } from './bundle-world.ts'

const made: string[] = []
afterAll(() => {
  for (const path of made) rmSync(path, { recursive: true, force: true })
})

/** A directory with these files; those that end in `*` can be executed. */
function directory(files: Readonly<Record<string, unknown>>): string {
  const root = mkdtempSync(join(tmpdir(), 'polder-pack-'))
  made.push(root)
  for (const [name, content] of Object.entries(files)) {
    const path = join(root, name.replace(/\*$/, ''))
    mkdirSync(dirname(path), { recursive: true })
    writeFileSync(path, typeof content === 'string' ? content : JSON.stringify(content))
    if (name.endsWith('*')) chmodSync(path, 0o755)
  }
  return root
}

const NOTHING = (): undefined => undefined

async function packed(root: string, resolve: (name: string) => Resolved | undefined = NOTHING): Promise<Buffer> {
  return packWorkspace({ directory: root, path: 'package.json', resolve })
}

/** Mode and path of all entries, as tar lists them. */
function listing(tarball: Uint8Array): string[] {
  return execFileSync('tar', ['tvzf', '-'], {
    input: tarball,
    encoding: 'utf8',
    env: { ...process.env, LC_ALL: 'C.UTF-8' },
  })
    .trim()
    .split('\n')
    .map((line) => `${line.slice(0, 10)} ${line.replace(/^.*\d\d:\d\d /, '')}`)
    .sort()
}

const FILES = {
  'package.json': {
    name: '@acme/tide',
    version: '1.2.3',
    main: 'lib/main.js',
    bin: { tide: 'bin/tide.js' },
    files: ['lib', '!lib/**/*.test.js', 'data/*.json'],
    scripts: { test: 'x', prepublishOnly: 'y', postinstall: 'z' },
  },
  'bin/tide.js': '#!/usr/bin/env node\n',
  'lib/main.js': '1\n',
  'lib/deep/x.js': '2\n',
  'lib/deep/x.test.js': '3\n',
  'data/a.json': '{}',
  'data/a.txt': 'no',
  'src/main.ts': 'no',
  'README.md': '# tide\n',
  LICENSE: 'MIT',
  '.npmrc': '//host.example/:_authToken=secret\n',
  'node_modules/dep/index.js': 'no',
  '.git/config': 'no',
  'lib/run.sh*': '#!/bin/sh\n',
} as const

describe('a packed workspace package', () => {
  test('has the files and modes of `pnpm pack`, and its manifest', async () => {
    const root = directory(FILES)
    const env = scrubbedEnvironment({ home: join(root, 'none') })
    const out = join(directory({}), 'out.tgz')
    execFileSync(join(TOOLS, 'pnpm'), ['pack', '--ignore-scripts', '--out', out], { cwd: root, env })
    const theirs = readFileSync(out)
    const ours = await packed(root)
    expect(listing(ours)).toEqual(listing(theirs))
    expect(readPackageJson(ours)).toEqual(readPackageJson(theirs))
    expect(readPackageJson(ours)['scripts']).toEqual({ test: 'x', postinstall: 'z' })
  })

  test('has the files of `pnpm pack` where ignore files decide', async () => {
    const root = directory({
      'package.json': { name: 'x', version: '1.0.0' },
      '.gitignore': 'dist\n',
      '.npmignore': 'src\n*.log\n',
      'dist/a.js': '',
      'src/a.ts': '',
      'a.log': '',
      'sub/.npmignore': 'hidden.js\n',
      'sub/hidden.js': '',
      'sub/shown.js': '',
      'package-lock.json': '{}',
    })
    const env = scrubbedEnvironment({ home: join(root, 'none') })
    const out = join(directory({}), 'out.tgz')
    execFileSync(join(TOOLS, 'pnpm'), ['pack', '--ignore-scripts', '--out', out], { cwd: root, env })
    expect(listing(await packed(root))).toEqual(listing(readFileSync(out)))
  })

  test('has the same bytes whatever the times, the other bits of modes, and the order on disk', async () => {
    const root = directory(FILES)
    const first = await packed(root)
    const again = directory(Object.fromEntries(Object.entries(FILES).reverse()))
    chmodSync(join(again, 'lib/main.js'), 0o600)
    chmodSync(join(again, 'lib/run.sh'), 0o700)
    utimesSync(join(again, 'README.md'), 1, 1)
    expect((await packed(again)).equals(first)).toBe(true)
  })

  test('has these bytes, on every machine and with every Node', async () => {
    const tarball = await packed(
      directory({ 'package.json': { name: 'x', version: '1.0.0' }, 'a.txt': 'a'.repeat(70_000), ['ä'.repeat(60)]: '' }),
    )
    expect(integrityOf('sha512', tarball)).toBe(
      'sha512-AjDOhieF6wkeQQdHyahGxl9fvVO7UGP1QQQLGp48fbeRV+VDhOfjs6ixmd6jixK/wmPX2ZgE+gezHUvsR0019A==',
    )
    expect(gunzipSync(tarball).length % 512).toBe(0)
  })

  test('takes neither what lies outside of it by a link, nor secrets', async () => {
    const root = directory(FILES)
    symlinkSync('/etc/passwd', join(root, 'lib', 'passwd'))
    const names = listing(await packed(root)).join('\n')
    expect(names).not.toMatch(/passwd|npmrc|node_modules|\.git/)
  })

  test('is a package that the store accepts', async () => {
    const store = temporaryStore()
    const { id } = await addTarball(store, await packed(directory(FILES)), 'packages/tide')
    expect(id).toBe('@acme/tide@1.2.3')
  })

  test.each([
    [{ name: 'x' }, 'package.json has no version, so it cannot be packed'],
    [{ version: '1.0.0' }, 'package.json has no name, so it cannot be packed'],
    [
      { name: 'x', version: '1.0.0', bundledDependencies: ['y'] },
      'package.json bundles dependencies, which depends on what is installed',
    ],
    [
      { name: 'x', version: '1.0.0', publishConfig: { directory: 'dist' } },
      'package.json publishes the directory dist',
    ],
  ])('is refused for %j', async (manifest, message) => {
    await expect(packed(directory({ 'package.json': manifest }))).rejects.toMatchObject({
      code: 'MANIFEST_INVALID',
      message,
    })
  })
})

describe('a published manifest', () => {
  const KNOWN: Readonly<Record<string, Resolved>> = {
    lib: { name: 'lib', version: '1.2.3', range: null },
    alias: { name: '@acme/other', version: '4.5.6', range: null },
    fromcatalog: { name: 'fromcatalog', version: '2.0.1', range: '^2.0.0' },
    aliased: { name: 'real', version: '3.0.0', range: '^3.0.0' },
    bare: { name: 'bare', version: undefined, range: null },
  }
  const published = (dependencies: Readonly<Record<string, string>>): unknown =>
    publishedManifest({ name: 'x', version: '1.0.0', dependencies }, 'package.json', (name) =>
      Object.hasOwn(KNOWN, name) ? KNOWN[name] : undefined,
    )['dependencies']

  test.each([
    ['lib', 'workspace:*', '1.2.3'],
    ['lib', 'workspace:', '1.2.3'],
    ['lib', 'workspace:^', '^1.2.3'],
    ['lib', 'workspace:~', '~1.2.3'],
    ['lib', 'workspace:^1.0.0', '^1.0.0'],
    ['lib', 'workspace:../lib', '1.2.3'],
    ['alias', 'workspace:@acme/other@^', 'npm:@acme/other@^4.5.6'],
    ['alias', 'workspace:@acme/other@*', 'npm:@acme/other@4.5.6'],
    ['lib', 'link:../lib', '1.2.3'],
    ['lib', 'file:../lib', '1.2.3'],
    ['fromcatalog', 'catalog:', '^2.0.0'],
    ['fromcatalog', 'catalog:legacy', '^2.0.0'],
    ['aliased', 'catalog:', 'npm:real@^3.0.0'],
    ['any', '^1.0.0', '^1.0.0'],
    ['any', 'npm:other@1', 'npm:other@1'],
    ['any', 'latest', 'latest'],
  ])('has for %s, required as %s: %s', (name, specifier, expected) => {
    expect(published({ [name]: specifier })).toEqual({ [name]: expected })
  })

  test.each([
    ['bare', 'workspace:*', 'package.json requires the workspace package bare, which has no version'],
    ['none', 'file:../x.tgz', 'package.json requires none as file:../x.tgz, which only its repository has'],
  ])('is refused for %s, required as %s', (name, specifier, message) => {
    expect(() => published({ [name]: specifier })).toThrowError(
      expect.objectContaining({ code: 'MANIFEST_INVALID', message }),
    )
  })

  test('has what publishConfig says, and nothing for the workspace only', () => {
    const manifest = {
      name: 'x',
      version: '1.0.0',
      main: 'src/main.ts',
      publishConfig: { main: 'dist/main.js', access: 'public', exports: './dist/main.js' },
      pnpm: { overrides: {} },
      packageManager: 'pnpm@12.0.0',
      scripts: { prepack: 'build', start: 'x' },
    }
    expect(publishedManifest(manifest, 'package.json', NOTHING)).toEqual({
      name: 'x',
      version: '1.0.0',
      main: 'dist/main.js',
      exports: './dist/main.js',
      scripts: { start: 'x' },
    })
  })
})
