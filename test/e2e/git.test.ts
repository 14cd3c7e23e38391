import { execFileSync } from 'node:child_process'
import { mkdirSync, readFileSync, realpathSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'

import { afterAll, beforeAll, expect, test } from 'vitest'
import { parse } from 'yaml'

import type { Lock, LockedPackage } from '../../packages/lock/src/index.ts'
import { finish, polder, polderDone, scrubbedEnvironment, temporaryDirectory, TOOLS } from '../support/cli.ts'
import { startRegistry, type Registry } from '../support/registry.ts'

const TIMEOUT = 120_000

let registry: Registry
let home: string
let repository: string
let commit: string

beforeAll(async () => {
  registry = await startRegistry()
  registry.serve('inner', '1.0.0', { files: { 'index.js': "module.exports = 'inner'\n" } })
  home = realpathSync(temporaryDirectory('git-store'))
  repository = join(realpathSync(temporaryDirectory('git')), 'lib')
  write(repository, {
    'package.json': { name: 'lib', version: '1.2.3', dependencies: { inner: '^1.0.0' }, files: ['index.js'] },
    'index.js': "module.exports = 'lib of a commit, ' + require('inner')\n",
    'test.js': 'not published\n',
    'packages/part/package.json': { name: 'part', version: '0.1.0', dependencies: { inner: '^1.0.0' } },
    'packages/part/index.js': "module.exports = 'part of a commit, ' + require('inner')\n",
  })
  const git = (...args: readonly string[]): string =>
    execFileSync('git', ['-c', 'user.name=Somebody', '-c', 'user.email=somebody@host.example', ...args], {
      cwd: repository,
      encoding: 'utf8',
      env: scrubbedEnvironment({ home }),
    }).trim()
  git('init', '--quiet', '--initial-branch=main')
  git('add', '--all')
  git('commit', '--quiet', '--message=one')
  commit = git('rev-parse', 'HEAD')
})

afterAll(() => registry.close())

function write(cwd: string, files: Readonly<Record<string, unknown>>): void {
  for (const [path, content] of Object.entries(files)) {
    mkdirSync(dirname(join(cwd, path)), { recursive: true })
    writeFileSync(join(cwd, path), typeof content === 'string' ? content : JSON.stringify(content, null, 2))
  }
}

async function client(program: string, args: readonly string[], cwd: string): Promise<void> {
  const env = { CI: 'true', npm_config_cache: join(home, '..', 'npm-cache') }
  const { code, stdout, stderr } = await finish(program, args, { cwd, env: scrubbedEnvironment({ home, env }) })
  expect(code, `${program} ${args.join(' ')}\n${stdout}${stderr}`).toBe(0)
}

const PNPM = join(TOOLS, 'pnpm')

test.each([
  ['npm', ['install', '--package-lock-only', '--ignore-scripts']],
  [PNPM, ['install', '--lockfile-only', '--ignore-scripts']],
] as const)(
  'a dependency on a commit that %s locked is pinned, installed, and is there without its repository',
  { timeout: TIMEOUT },
  async (program, args) => {
    const cwd = join(realpathSync(temporaryDirectory('git-user')), 'repository')
    write(cwd, {
      '.npmrc': `registry=${registry.url}\n`,
      'package.json': { name: 'web', version: '1.0.0', dependencies: { lib: `git+file://${repository}#${commit}` } },
      'polder.yaml': '',
    })
    await client(program, args, cwd)
    await polderDone(['lock'], { cwd, home })
    const lock = parse(readFileSync(join(cwd, 'polder.lock'), 'utf8')) as Lock
    const [entry] = Object.values(lock.npm.packages as Readonly<Record<string, LockedPackage>>).filter(
      (one) => one.git !== undefined,
    )
    expect(entry?.version).toBe('1.2.3')
    expect(entry?.git).toMatch(new RegExp(`^(?:git\\+)?file://.*#${commit}$`))
    await polderDone(['install'], { cwd, home })
    const run = (code: string): string => execFileSync(process.execPath, ['-p', code], { cwd, encoding: 'utf8' }).trim()
    expect(run("require('lib')")).toBe('lib of a commit, inner')
    expect(run("require('fs').readdirSync('node_modules/lib').join()")).toBe('index.js,package.json')
    expect(JSON.parse(await polderDone(['verify', '--json'], { cwd, home }))).toMatchObject({ clean: true })
    // Another machine makes the same lock, byte by byte.
    const text = readFileSync(join(cwd, 'polder.lock'), 'utf8')
    await polderDone(['lock'], { cwd, home: temporaryDirectory('other-store') })
    expect(readFileSync(join(cwd, 'polder.lock'), 'utf8')).toBe(text)
  },
)

test('pnpm installs a commit from what polder exports', { timeout: TIMEOUT }, async () => {
  const cwd = join(realpathSync(temporaryDirectory('git-export')), 'repository')
  write(cwd, {
    '.npmrc': `registry=${registry.url}\n`,
    'package.json': { name: 'web', version: '1.0.0', dependencies: { lib: `git+file://${repository}#${commit}` } },
    'polder.yaml': '',
  })
  await client(PNPM, ['install', '--lockfile-only'], cwd)
  await polderDone(['lock'], { cwd, home })
  await polderDone(['export', 'pnpm-lock', '--output', cwd], { cwd, home })
  await client(PNPM, ['install', '--frozen-lockfile', `--store-dir=${temporaryDirectory('pnpm-store')}`], cwd)
  expect(execFileSync(process.execPath, ['-p', "require('lib')"], { cwd, encoding: 'utf8' }).trim()).toBe(
    'lib of a commit, inner',
  )
})

test(
  'a directory of a commit, as pnpm locks it, is pinned, installed, exported for pnpm, and refused where npm has to take it',
  { timeout: TIMEOUT },
  async () => {
    const cwd = join(realpathSync(temporaryDirectory('git-directory')), 'repository')
    write(cwd, {
      '.npmrc': `registry=${registry.url}\n`,
      'package.json': {
        name: 'web',
        version: '1.0.0',
        dependencies: {
          part: `git+file://${repository}#${commit}&path:/packages/part`,
          lib: `git+file://${repository}#${commit}`,
        },
      },
      'polder.yaml': '',
    })
    await client(PNPM, ['install', '--lockfile-only', '--ignore-scripts'], cwd)
    await polderDone(['lock'], { cwd, home })
    await polderDone(['install'], { cwd, home })
    const run = (code: string): string => execFileSync(process.execPath, ['-p', code], { cwd, encoding: 'utf8' }).trim()
    expect(run("require('part')")).toBe('part of a commit, inner')
    expect(run("require('lib')")).toBe('lib of a commit, inner')
    expect(run("require('fs').readdirSync('node_modules/part').join()")).toBe('index.js,package.json')
    const { code, stderr } = await polder(['export', 'package-lock', '--output', cwd], { cwd, home })
    expect({ code, stderr }).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('[EXPORT_UNSUPPORTED]') as string,
    })
    rmSync(join(cwd, 'node_modules'), { recursive: true })
    await polderDone(['export', 'pnpm-lock', '--output', cwd], { cwd, home })
    await client(PNPM, ['install', '--frozen-lockfile', `--store-dir=${temporaryDirectory('pnpm-store')}`], cwd)
    expect(run("require('part')")).toBe('part of a commit, inner')
  },
)

test('npm installs a commit from what polder exports', { timeout: TIMEOUT }, async () => {
  const cwd = join(realpathSync(temporaryDirectory('git-export')), 'repository')
  write(cwd, {
    '.npmrc': `registry=${registry.url}\n`,
    'package.json': { name: 'web', version: '1.0.0', dependencies: { lib: `git+file://${repository}#${commit}` } },
    'polder.yaml': '',
  })
  await client('npm', ['install', '--package-lock-only', '--ignore-scripts'], cwd)
  await polderDone(['lock'], { cwd, home })
  await polderDone(['export', 'package-lock', '--output', cwd], { cwd, home })
  await client('npm', ['ci', '--ignore-scripts'], cwd)
  expect(execFileSync(process.execPath, ['-p', "require('lib')"], { cwd, encoding: 'utf8' }).trim()).toBe(
    'lib of a commit, inner',
  )
})

test('a repository that is gone is reported with who needs it', { timeout: TIMEOUT }, async () => {
  const cwd = join(realpathSync(temporaryDirectory('git-gone')), 'repository')
  write(cwd, {
    'package.json': { name: 'web', version: '1.0.0', dependencies: { lib: `git+file://${cwd}/gone#${commit}` } },
    'package-lock.json': {
      name: 'web',
      version: '1.0.0',
      lockfileVersion: 3,
      packages: {
        '': { name: 'web', version: '1.0.0', dependencies: { lib: `git+file://${cwd}/gone#${commit}` } },
        'node_modules/lib': { version: '1.2.3', resolved: `git+file://${cwd}/gone#${commit}` },
      },
    },
    'polder.yaml': '',
  })
  rmSync(join(cwd, 'gone'), { recursive: true, force: true })
  const { code, stderr } = await polder(['lock'], { cwd, home })
  expect(code).toBe(1)
  expect(stderr).toMatch(
    /git could not fetch it from file:.*\/gone: fatal: .*does not appear to be a git repository, needed by \./,
  )
})
