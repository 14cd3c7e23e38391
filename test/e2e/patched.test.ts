import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import {
  appendFileSync,
  chmodSync,
  cpSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { parse } from 'yaml'

import type { Lock, LockedPackage } from '../../packages/lock/src/index.ts'
import { finish, polder, polderDone, scrubbedEnvironment, temporaryDirectory, TOOLS } from '../support/cli.ts'
import { startRegistry, type Registry, type ServedVersion } from '../support/registry.ts'

const TIMEOUT = 60_000
/** A development dependency of gather's. */
const YARN_PACKAGE = ['@yarnpkg', 'cli-dist'].join('/')
const YARN = fileURLToPath(new URL(`../../packages/gather/node_modules/${YARN_PACKAGE}/bin/yarn.js`, import.meta.url))

let registry: Registry
let tide: ServedVersion
let home: string
let pnpmStore: string

beforeAll(async () => {
  registry = await startRegistry()
  home = realpathSync(temporaryDirectory('store'))
  pnpmStore = temporaryDirectory('pnpm-store')
  const lines = Array.from({ length: 30 }, (_, index) => `// line ${index}\n`)
  tide = registry.serve('tide', '1.0.0', {
    main: 'index.js',
    scripts: { postinstall: 'node build.js' },
    files: {
      'index.js': `${lines.join('')}module.exports = 'as published'\n${lines.join('')}`,
      'crlf.js': 'a\r\nb\r\nc\r\nd\r\n',
      'gone.js': 'gone\n',
      'cli.js': '#!/usr/bin/env node\n',
      'build.js': 'never\n',
    },
  })
  registry.serve('tide', '1.1.0', { main: 'index.js', files: { 'index.js': "module.exports = 'newer'\n" } })
  registry.serve('plain', '1.0.0', { main: 'index.js', files: { 'index.js': "module.exports = 'plain'\n" } })
  registry.serve('view', '1.0.0', {
    peerDependencies: { tide: '^1.0.0' },
    files: { 'index.js': "module.exports = require('tide')\n" },
  })
  registry.serve('user', '1.0.0', {
    dependencies: { tide: '^1.0.0' },
    files: { 'index.js': "module.exports = require('tide')\n" },
  })
})

afterAll(() => registry.close())

function write(cwd: string, files: Readonly<Record<string, unknown>>): void {
  for (const [path, content] of Object.entries(files)) {
    mkdirSync(dirname(join(cwd, path)), { recursive: true })
    writeFileSync(join(cwd, path), typeof content === 'string' ? content : `${JSON.stringify(content, null, 2)}\n`)
  }
}

async function client(program: string, args: readonly string[], cwd: string): Promise<string> {
  const env = {
    CI: 'true',
    YARN_NPM_REGISTRY_SERVER: registry.url,
    YARN_UNSAFE_HTTP_WHITELIST: '127.0.0.1',
    YARN_ENABLE_TELEMETRY: '0',
    YARN_ENABLE_IMMUTABLE_INSTALLS: '0',
  }
  const { code, stdout, stderr } = await finish(program, args, { cwd, env: scrubbedEnvironment({ home, env }) })
  expect(code, `${program} ${args.join(' ')}\n${stdout}${stderr}`).toBe(0)
  return stdout
}

const pnpm = (args: readonly string[], cwd: string): Promise<string> =>
  client(join(TOOLS, 'pnpm'), [...args, `--store-dir=${pnpmStore}`], cwd)

/** What somebody does in the directory that a client gives out for editing. */
function edit(directory: string): void {
  const index = join(directory, 'index.js')
  writeFileSync(index, readFileSync(index, 'utf8').replace('as published', 'patched').replace('// line 3\n', ''))
  const crlf = join(directory, 'crlf.js')
  writeFileSync(crlf, readFileSync(crlf, 'utf8').replace('b\r\n', 'B\r\n'))
  rmSync(join(directory, 'gone.js'))
  write(directory, { 'lib/new.js': 'new\n' })
  chmodSync(join(directory, 'cli.js'), 0o755)
  const manifest = join(directory, 'package.json')
  const { scripts: _, ...rest } = JSON.parse(readFileSync(manifest, 'utf8')) as Record<string, unknown>
  writeFileSync(manifest, JSON.stringify({ ...rest, patched: true }, null, 2))
}

/** A workspace of pnpm in which tide@1.0.0 is patched by pnpm itself. */
async function workspace(): Promise<string> {
  const cwd = join(realpathSync(temporaryDirectory('patched')), 'repository')
  write(cwd, {
    '.npmrc': `registry=${registry.url}\n`,
    'package.json': { name: 'root', private: true },
    'pnpm-workspace.yaml': 'packages: ["apps/*"]\nallowBuilds:\n  tide: false\n',
    'apps/web/package.json': {
      name: 'web',
      version: '1.0.0',
      dependencies: { tide: '1.0.0', view: '1.0.0', user: '1.0.0' },
    },
  })
  await pnpm(['install', '--ignore-scripts'], cwd)
  const directory = join(cwd, '..', 'edit')
  await pnpm(['patch', 'tide@1.0.0', '--edit-dir', directory], cwd)
  edit(directory)
  await pnpm(['patch-commit', directory], cwd)
  expect(readFileSync(join(cwd, 'pnpm-workspace.yaml'), 'utf8')).toContain('patches/tide@1.0.0.patch')
  // What depends on it with a range is to use the patched one as well.
  appendFileSync(join(cwd, 'pnpm-workspace.yaml'), 'overrides:\n  user>tide: 1.0.0\n')
  await pnpm(['install', '--ignore-scripts', '--no-frozen-lockfile'], cwd)
  write(cwd, { 'polder.yaml': '' })
  return cwd
}

/** With its locks, and without what was installed. */
function copy(cwd: string): string {
  const target = join(realpathSync(temporaryDirectory('copy')), 'repository')
  cpSync(cwd, target, { recursive: true, filter: (path) => !['node_modules', '.polder'].includes(basename(path)) })
  return target
}

/** A workspace of pnpm in which plain@1.0.0, which has no scripts, is patched with these files. */
async function scripted(files: Readonly<Record<string, unknown>>): Promise<string> {
  const cwd = join(realpathSync(temporaryDirectory('scripted')), 'repository')
  write(cwd, {
    '.npmrc': `registry=${registry.url}\n`,
    'package.json': { name: 'root', private: true, dependencies: { plain: '1.0.0' } },
    'pnpm-workspace.yaml': 'packages: []\nallowBuilds:\n  plain: false\n',
  })
  await pnpm(['install', '--ignore-scripts'], cwd)
  const directory = join(cwd, '..', 'edit')
  await pnpm(['patch', 'plain@1.0.0', '--edit-dir', directory], cwd)
  write(directory, files)
  await pnpm(['patch-commit', directory], cwd)
  write(cwd, { 'polder.yaml': '' })
  return copy(cwd)
}

function lockOf(cwd: string): Lock {
  return parse(readFileSync(join(cwd, 'polder.lock'), 'utf8'), { maxAliasCount: -1 }) as Lock
}

function packagesOf(cwd: string): Readonly<Record<string, LockedPackage>> {
  return lockOf(cwd).npm.packages
}

/** Path → contents and whether it is executable. */
function filesBelow(directory: string): Record<string, readonly [string, boolean]> {
  const names = readdirSync(directory, { recursive: true, withFileTypes: true })
  return Object.fromEntries(
    names
      .filter(
        (entry) =>
          entry.isFile() && !join(entry.parentPath, entry.name).slice(directory.length).includes('node_modules'),
      )
      .map((entry) => join(entry.parentPath, entry.name))
      .sort()
      .map((path) => [
        path.slice(directory.length + 1),
        [readFileSync(path, 'latin1'), (statSync(path).mode & 0o100) !== 0] as const,
      ]),
  )
}

function run(cwd: string, code: string): string {
  return execFileSync(process.execPath, ['-p', code], { cwd, encoding: 'utf8' }).trim()
}

describe('a package that pnpm patches', () => {
  let cwd: string
  beforeAll(async () => {
    cwd = await workspace()
    await polderDone(['lock'], { cwd, home })
  }, TIMEOUT)

  test('is locked with its patch, and installed as pnpm installs it', { timeout: TIMEOUT }, async () => {
    const [id = '', entry] = Object.entries(packagesOf(cwd)).find(([, { patch }]) => patch !== undefined) ?? []
    const hash = entry?.patchHash ?? ''
    expect(id).toBe(`tide@1.0.0(patch=${hash.slice(0, 12)})`)
    expect(entry).toMatchObject({ patch: 'patches/tide@1.0.0.patch' })
    // pnpm's own hash is of the text without carriage returns, and this patch has some.
    expect(readFileSync(join(cwd, 'pnpm-lock.yaml'), 'utf8')).not.toContain(hash)
    // The patch took its script away, so there is nothing to build.
    expect(entry).not.toHaveProperty('needsBuild')
    expect(lockOf(cwd).inputs).toHaveProperty(['patches/tide@1.0.0.patch'], `sha256-${hash}`)

    const theirs = filesBelow(realpathSync(join(cwd, 'apps/web/node_modules/tide')))
    const own = copy(cwd)
    await polderDone(['install'], { cwd: own, home })
    const ours = filesBelow(realpathSync(join(own, 'node_modules/tide')))
    expect(ours).toEqual(theirs)
    expect(Object.keys(ours)).toEqual(['build.js', 'cli.js', 'crlf.js', 'index.js', 'lib/new.js', 'package.json'])
    expect(ours['cli.js']?.[1]).toBe(true)
    for (const code of ["require('tide')", "require('view')", "require('user')"])
      expect(run(join(own, 'apps/web'), code)).toBe('patched')
    expect(JSON.parse(await polderDone(['verify', '--json'], { cwd: own, home }))).toMatchObject({ clean: true })
    await polderDone(['lock', '--check'], { cwd: own, home })
  })

  test(
    'shares its environment with other checkouts, which need no look at the patch',
    { timeout: TIMEOUT },
    async () => {
      const [first, second] = [copy(cwd), copy(cwd)]
      const environment = async (at: string): Promise<unknown> =>
        JSON.parse(await polderDone(['install', '--json'], { cwd: at, home }))
      await environment(first)
      expect(await environment(second)).toMatchObject({ built: false })
    },
  )

  test('is damaged and repaired like any other', { timeout: TIMEOUT }, async () => {
    const own = copy(cwd)
    await polderDone(['install', '--layout', 'self-contained'], { cwd: own, home })
    const file = join(own, 'node_modules/tide/index.js')
    chmodSync(file, 0o644)
    appendFileSync(file, '// damaged\n')
    const { code, stdout } = await polder(['verify', '--json'], { cwd: own, home })
    expect([code, stdout]).toEqual([5, expect.stringContaining('tide@1.0.0(patch=')])
    await polderDone(['verify', '--repair'], { cwd: own, home })
    expect(run(own, "require('tide')")).toBe('patched')
    expect(readFileSync(file, 'utf8')).not.toContain('damaged')
  })

  test('is exported, and pnpm installs what was exported', { timeout: TIMEOUT }, async () => {
    const own = copy(cwd)
    await polderDone(['export', 'pnpm-lock', '--output', own], { cwd: own, home })
    const text = readFileSync(join(own, 'pnpm-lock.yaml'), 'utf8')
    await pnpm(['install', '--frozen-lockfile', '--ignore-scripts'], own)
    expect(run(join(own, 'apps/web'), "require('tide') + require('view') + require('user')")).toBe(
      'patchedpatchedpatched',
    )
    expect(readFileSync(join(own, 'pnpm-lock.yaml'), 'utf8')).toBe(text)
    const { code, stderr } = await polder(['export', 'package-lock', '--output', own], { cwd: own, home })
    expect([code, stderr]).toEqual([1, expect.stringContaining('npm applies no patches')])
  })

  test('whose patch changes is another package, after `polder lock`', { timeout: TIMEOUT }, async () => {
    const own = copy(cwd)
    const patch = join(own, 'patches/tide@1.0.0.patch')
    writeFileSync(
      patch,
      readFileSync(patch, 'utf8').replace("+module.exports = 'patched'", "+module.exports = 'again'"),
    )
    expect(await polder(['install'], { cwd: own, home })).toMatchObject({
      code: 3,
      stderr: expect.stringContaining('patches/tide@1.0.0.patch') as string,
    })
    expect(await polder(['lock'], { cwd: own, home })).toMatchObject({
      code: 3,
      stderr: expect.stringContaining(
        'patches/tide@1.0.0.patch, the patch of tide@1.0.0, is not the one that pnpm-lock.yaml locked',
      ) as string,
    })
    await pnpm(['install', '--lockfile-only', '--ignore-scripts'], own)
    const stdout = await polderDone(['lock'], { cwd: own, home })
    expect(stdout).toMatch(/~ tide 1\.0\.0\(patch=[0-9a-f]{12}\) → 1\.0\.0\(patch=[0-9a-f]{12}\)/)
    await polderDone(['install'], { cwd: own, home })
    expect(run(join(own, 'apps/web'), "require('tide')")).toBe('again')
  })

  test(
    'is locked without the patch file, and the installation says what is missing',
    { timeout: TIMEOUT },
    async () => {
      const own = copy(cwd)
      rmSync(join(own, 'patches'), { recursive: true })
      const { code, stderr } = await polder(['lock'], { cwd: own, home })
      expect([code, stderr]).toEqual([
        0,
        expect.stringContaining('patches/tide@1.0.0.patch, the patch of tide@1.0.0, does not exist'),
      ])
      const { npm } = lockOf(own)
      const id = Object.keys(npm.packages).find((one) => one.startsWith('tide@1.0.0(')) ?? ''
      expect(await polder(['install'], { cwd: own, home })).toMatchObject({
        code: 1,
        stderr: expect.stringContaining(`the patch patches/tide@1.0.0.patch of ${id} does not exist`) as string,
      })
    },
  )

  test(
    'whose patch does not apply is refused when it is locked, with file and hunk',
    { timeout: TIMEOUT },
    async () => {
      const own = copy(cwd)
      const [patch, lockfile] = [join(own, 'patches/tide@1.0.0.patch'), join(own, 'pnpm-lock.yaml')]
      writeFileSync(
        patch,
        readFileSync(patch, 'utf8').replace("-module.exports = 'as published'", "-module.exports = 'other'"),
      )
      const text = readFileSync(patch, 'utf8').replaceAll('\r\n', '\n')
      const hash = createHash('sha256').update(text).digest('hex')
      writeFileSync(lockfile, readFileSync(lockfile, 'utf8').replaceAll(/\b[0-9a-f]{64}\b/g, hash))
      const { code, stderr } = await polder(['lock'], { cwd: own, home })
      expect(code).toBe(1)
      expect(stderr).toMatch(
        /the patch patches\/tide@1\.0\.0\.patch of tide@1\.0\.0 cannot be applied: index\.js, hunk 2 of 2 \(@@ .* @@\): these lines are not in the package/,
      )
    },
  )
})

test(
  'the same version, patched in one workspace and not in another part of the repository, is two packages',
  { timeout: TIMEOUT },
  async () => {
    const cwd = copy(await workspace())
    write(cwd, {
      'tools/package.json': { name: 'tools', version: '1.0.0', dependencies: { tide: '^1.0.0' } },
      'tools/package-lock.json': {
        name: 'tools',
        version: '1.0.0',
        lockfileVersion: 3,
        packages: {
          '': { name: 'tools', version: '1.0.0', dependencies: { tide: '^1.0.0' } },
          'node_modules/tide': { version: '1.0.0', integrity: tide.integrity },
        },
      },
    })
    const { splits } = JSON.parse(await polderDone(['lock', '--json'], { cwd, home })) as {
      splits: Record<string, { proven: boolean; versions: Record<string, { owner: string; range: string }> }>
    }
    expect(splits).toMatchObject({ tide: { proven: true } })
    expect(
      Object.entries(splits['tide']?.versions ?? {}).map(([version, { owner, range }]) => [
        version.replace(/=[0-9a-f]+/, '='),
        owner,
        range,
      ]),
    ).toEqual([
      ['1.0.0', 'tools', '^1.0.0'],
      ['1.0.0(patch=)', 'apps/web', '1.0.0, patched'],
    ])
    await polderDone(['install'], { cwd, home })
    expect(run(join(cwd, 'apps/web'), "require('tide')")).toBe('patched')
    expect(run(join(cwd, 'apps/web'), "require('user')")).toBe('patched')
    expect(run(join(cwd, 'tools'), "require('tide')")).toBe('as published')
    expect(JSON.parse(await polderDone(['verify', '--json'], { cwd, home }))).toMatchObject({ clean: true })
    const { code, stderr } = await polder(['export', 'pnpm-lock', '--output', join(cwd, 'out')], { cwd, home })
    expect([code, stderr]).toEqual([
      1,
      expect.stringContaining('pnpm patches every package of a version in the same way, or none'),
    ])
  },
)

test('a package that yarn 4 patches is installed as patched', { timeout: TIMEOUT }, async () => {
  const cwd = join(realpathSync(temporaryDirectory('yarn-patched')), 'repository')
  write(cwd, {
    '.npmrc': `registry=${registry.url}\n`,
    '.yarnrc.yml': 'nodeLinker: node-modules\nenableGlobalCache: false\nenableScripts: false\n',
    'package.json': { name: 'root', private: true, dependencies: { tide: '1.0.0', user: '1.0.0' } },
    'yarn.lock': '',
    'polder.yaml': '',
  })
  const yarn = (...args: readonly string[]): Promise<string> => client(process.execPath, [YARN, ...args], cwd)
  await yarn('install')
  const { locator, path } = JSON.parse(await yarn('patch', '--json', 'tide@npm:1.0.0')) as {
    locator: string
    path: string
  }
  expect(locator).toBe('tide@npm:1.0.0')
  edit(path)
  await yarn('patch-commit', '-s', path)
  await yarn('install')
  const theirs = filesBelow(realpathSync(join(cwd, 'node_modules/tide')))
  const own = copy(cwd)
  await polderDone(['lock'], { cwd: own, home })
  await polderDone(['install'], { cwd: own, home })
  expect(run(own, "require('tide')")).toBe('patched')
  // yarn's own reader drops the carriage return of what is added, and the mode of what was there; git's and pnpm's don't.
  expect(filesBelow(realpathSync(join(own, 'node_modules/tide')))).toEqual({
    ...theirs,
    'cli.js': [theirs['cli.js']?.[0], true],
    'crlf.js': ['a\r\nB\r\nc\r\nd\r\n', false],
  })
  expect(JSON.parse(await polderDone(['verify', '--json'], { cwd: own, home }))).toMatchObject({ clean: true })
})

test('the scripts that a patch adds are approved, run and kept like any other', { timeout: TIMEOUT }, async () => {
  const makes = 'require("fs").writeFileSync("index.js", "module.exports = \'built\'")'
  const cwd = await scripted({
    'make.js': makes,
    'package.json': { name: 'plain', version: '1.0.0', main: 'index.js', scripts: { postinstall: 'node make.js' } },
  })
  await polderDone(['lock'], { cwd, home })
  const first = JSON.parse(await polderDone(['install', '--json'], { cwd, home })) as { notBuilt: readonly string[] }
  expect(first.notBuilt).toEqual([expect.stringMatching(/^plain@1\.0\.0\(patch=/)])
  expect(run(cwd, "require('plain')")).toBe('plain')
  expect(await polderDone(['approve', 'plain', '--yes'], { cwd, home })).toContain('  postinstall: node make.js\n')
  await polderDone(['lock'], { cwd, home })
  expect(JSON.parse(await polderDone(['install', '--json'], { cwd, home }))).toMatchObject({
    builds: [{ package: first.notBuilt[0] }],
    notBuilt: [],
  })
  expect(run(cwd, "require('plain')")).toBe('built')
  expect(JSON.parse(await polderDone(['verify', '--json'], { cwd, home }))).toMatchObject({ clean: true })
  expect(await polderDone(['verify', '--rebuild', 'plain'], { cwd, home })).toContain('1 build gave the same again')
  const own = copy(cwd)
  expect(JSON.parse(await polderDone(['install', '--json'], { cwd: own, home }))).toMatchObject({ reusedBuilds: 1 })
})

test('a binding.gyp that a patch adds is compiled', { timeout: TIMEOUT }, async () => {
  const cwd = await scripted({ 'binding.gyp': '{"targets":[]}\n' })
  await polderDone(['lock'], { cwd, home })
  expect(await polderDone(['approve', '--yes'], { cwd, home })).toContain('plain 1.0.0\n  install: node-gyp rebuild\n')
})
