import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, realpathSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'

import { afterAll, beforeAll, expect, test } from 'vitest'
import { parse } from 'yaml'

import { finish, polder, polderDone, scrubbedEnvironment, temporaryDirectory } from '../support/cli.ts'
import { networkCut } from '../support/network-cut.ts'
import { startRegistry, type Registry } from '../support/registry.ts'

const TIMEOUT = 120_000

// What is published is made of what is not, with the help of a dependency.
const PREPARE = `
const { mkdirSync, readFileSync, writeFileSync } = require('node:fs')
mkdirSync('dist')
writeFileSync('dist/index.js', readFileSync('src/index.txt', 'utf8') + require('inner'))
`
let registry: Registry
let home: string

beforeAll(async () => {
  registry = await startRegistry()
  registry.serve('inner', '1.0.0', { files: { 'index.js': `module.exports = " + 'inner'"\n` } })
  // A compiler of sorts, with a dependency and a peer of its own.
  for (const version of ['1.0.0', '1.1.0'])
    registry.serve('tool', version, {
      bin: { tool: 'cli.js' },
      dependencies: { helper: '^1.0.0' },
      peerDependencies: { grammar: '*' },
      files: {
        'cli.js': `#!/usr/bin/env node
const { mkdirSync, readFileSync, writeFileSync } = require('node:fs')
mkdirSync('dist', { recursive: true })
const text = readFileSync('src/index.txt', 'utf8')
writeFileSync('dist/index.js', text + require('helper')(require('grammar'), '${version}'))\n`,
      },
    })
  registry.serve('grammar', '3.0.0', {
    scripts: { postinstall: 'echo "module.exports = \'made\'" > made.js' },
    files: { 'index.js': "try { module.exports = require('./made.js') } catch { module.exports = 'tool' }\n" },
  })
  registry.serve('helper', '1.0.0', {
    files: { 'index.js': `module.exports = (name, version) => " + '" + name + ' ' + version + "'"\n` },
  })
  home = realpathSync(temporaryDirectory('git-store'))
})
afterAll(() => registry.close())

const LIB = {
  name: 'lib',
  version: '1.2.3',
  main: 'dist/index.js',
  files: ['dist'],
  scripts: { prepare: 'node prepare.cjs' },
  dependencies: { inner: '^1.0.0' },
}
const FILES = {
  '.gitignore': 'dist\nnode_modules\n',
  'prepare.cjs': PREPARE,
  'src/index.txt': "module.exports = 'prepared by '",
}

/** A repository with one commit. */
async function committed(files: Readonly<Record<string, unknown>>, before: readonly string[] = []): Promise<Source> {
  const repository = join(realpathSync(temporaryDirectory('git')), 'lib')
  write(repository, { ...FILES, ...files })
  const env = scrubbedEnvironment({ home, env: { npm_config_registry: registry.url } })
  if (before.length > 0) expect(await finish('npm', before, { cwd: repository, env })).toMatchObject({ code: 0 })
  const git = (...args: readonly string[]): string =>
    execFileSync('git', ['-c', 'user.name=Somebody', '-c', 'user.email=somebody@host.example', ...args], {
      cwd: repository,
      encoding: 'utf8',
      env,
    }).trim()
  git('init', '--quiet', '--initial-branch=main')
  git('add', '--all')
  git('commit', '--quiet', '--message=one')
  return { repository, commit: git('rev-parse', 'HEAD') }
}

interface Source {
  readonly repository: string
  readonly commit: string
}

function write(cwd: string, files: Readonly<Record<string, unknown>>): void {
  for (const [path, content] of Object.entries(files)) {
    mkdirSync(dirname(join(cwd, path)), { recursive: true })
    writeFileSync(join(cwd, path), typeof content === 'string' ? content : JSON.stringify(content, null, 2))
  }
}

/** A repository that npm locked to the commit; its script was not run for that. */
async function locked({ repository, commit }: Source, config: string = ''): Promise<string> {
  const cwd = join(realpathSync(temporaryDirectory('git-user')), 'repository')
  write(cwd, {
    '.npmrc': `registry=${registry.url}\n`,
    'package.json': { name: 'web', version: '1.0.0', dependencies: { lib: `git+file://${repository}#${commit}` } },
    'polder.yaml': config,
  })
  const env = scrubbedEnvironment({ home, env: { CI: 'true', npm_config_cache: join(home, '..', 'npm-cache') } })
  const { code, stderr } = await finish('npm', ['install', '--package-lock-only', '--ignore-scripts'], { cwd, env })
  expect(code, stderr).toBe(0)
  return cwd
}

test(
  'a commit is prepared in a sandbox, with its locked dependencies, where that is allowed',
  { timeout: TIMEOUT },
  async () => {
    const source = await committed({ 'package.json': LIB })
    const run = { cwd: await locked(source), home }
    await polderDone(['lock'], run)
    expect(JSON.parse(await polderDone(['install', '--json'], run))).toMatchObject({
      notBuilt: [expect.stringMatching(/^lib@/)],
    })
    expect(await polderDone(['approve', 'lib', '--yes'], run)).toContain('  prepare: node prepare.cjs\n')
    await polderDone(['lock'], run)
    rmSync(source.repository, { recursive: true })
    expect(JSON.parse(await polderDone(['install', '--json'], run))).toMatchObject({
      builds: [{ package: expect.stringMatching(/^lib@/), attempts: 0, refused: 0 }],
      notBuilt: [],
    })
    const loaded = execFileSync(process.execPath, ['-p', "require('lib')"], { cwd: run.cwd, encoding: 'utf8' })
    expect(loaded).toBe('prepared by inner\n')
    await polderDone(['verify'], run)
    await polderDone(['index', 'verify'], run)
    // Carried elsewhere it still has to be prepared.
    const bundle = join(temporaryDirectory('bundle'), 'lib.tar')
    await polderDone(['index', 'export', bundle], run)
    const other = { cwd: run.cwd, home: join(temporaryDirectory('elsewhere'), 'store') }
    await polderDone(['index', 'import', bundle], other)
    await polderDone(['index', 'verify'], other)
    expect(JSON.parse(await polderDone(['lock', '--check', '--json'], other))).toMatchObject({ compared: 'bytes' })
  },
)

const DEVELOPED = {
  ...LIB,
  // Both the command, and where its clients would have put it.
  scripts: { prepare: 'rm -rf dist && tool && test -f node_modules/tool/cli.js' },
  devDependencies: { tool: '^1.0.0', grammar: '^3.0.0' },
}
const ALLOW = "builds:\n  allow: { lib: '*' }\n"

function preparing(cwd: string): readonly string[] {
  const { index } = parse(readFileSync(join(cwd, 'polder.lock'), 'utf8')) as {
    index?: { packages?: Record<string, { preparing?: readonly string[] }> }
  }
  return Object.entries(index?.packages ?? {}).flatMap(([id, { preparing: commits }]) => (commits ? [id] : []))
}

const loaded = (cwd: string): string =>
  execFileSync(process.execPath, ['-p', "require('lib')"], { cwd, encoding: 'utf8' }).trim()

test(
  'a commit without a lockfile is prepared with what is in the ranges of its devDependencies, and stays so',
  { timeout: TIMEOUT },
  async () => {
    const run = { cwd: await locked(await committed({ 'package.json': DEVELOPED }), ALLOW), home }
    await polderDone(['lock'], run)
    expect(preparing(run.cwd)).toEqual(['grammar@3.0.0', 'helper@1.0.0', 'inner@1.0.0', 'tool@1.1.0'])
    const text = readFileSync(join(run.cwd, 'polder.lock'), 'utf8')
    registry.serve('tool', '1.2.0', { files: { 'cli.js': 'broken' } })
    await polderDone(['lock'], run)
    expect(readFileSync(join(run.cwd, 'polder.lock'), 'utf8')).toBe(text)
    await polderDone(['lock', '--check'], run)
    expect(JSON.parse(await polderDone(['install', '--json'], run))).toMatchObject({
      builds: [{ package: expect.stringMatching(/^lib@/) as string, attempts: 0, refused: 0 }],
      notBuilt: [],
    })
    expect(loaded(run.cwd)).toBe('prepared by tool 1.1.0')
    expect(existsSync(join(run.cwd, 'node_modules/tool'))).toBe(false)
    expect(existsSync(join(run.cwd, 'node_modules/lib/node_modules'))).toBe(false)
    await polderDone(['verify'], run)
    expect(await polderDone(['verify', '--rebuild', 'lib'], run)).toContain('1 build gave the same again')
    expect(await polderDone(['builds', 'lib', '--learn'], run)).toBe('1 build asked for nothing that is not pinned\n')
  },
)

test(
  'a commit is prepared with what its own lockfile has, also from a bundle on an empty store with the network cut',
  { timeout: TIMEOUT },
  async () => {
    const before = ['install', '--package-lock-only', '--ignore-scripts']
    const exact = { ...DEVELOPED, devDependencies: { tool: '1.0.0', grammar: '^3.0.0' } }
    const source = await committed({ 'package.json': exact }, before)
    // The lockfile says 1.0.0; what the manifest says later allows more.
    const manifest = join(source.repository, 'package-lock.json')
    expect(readFileSync(manifest, 'utf8')).toContain('/tool/-/tool-1.0.0.tgz')
    const run = { cwd: await locked(source, ALLOW), home }
    await polderDone(['lock'], run)
    expect(preparing(run.cwd)).toEqual(['grammar@3.0.0', 'helper@1.0.0', 'inner@1.0.0', 'tool@1.0.0'])
    await polderDone(['lock', '--check'], run)
    const bundle = join(temporaryDirectory('bundle'), 'all.polder')
    await polderDone(['index', 'export', bundle], run)
    const cut = networkCut()
    if (!('inside' in cut)) throw new Error(cut.refused)
    const other = { ...run, home: join(temporaryDirectory('other'), 'store'), inside: cut.inside }
    await polderDone(['index', 'import', bundle], other)
    expect(JSON.parse(await polderDone(['install', '--json'], other))).toMatchObject({
      builds: [{ package: expect.stringMatching(/^lib@/) as string }],
    })
    expect(loaded(run.cwd)).toBe('prepared by tool 1.0.0')
  },
)

test(
  'what a commit is developed with and nobody has is a warning, and the script says the rest',
  { timeout: TIMEOUT },
  async () => {
    const manifest = { ...DEVELOPED, devDependencies: { tool: '^9.0.0', grammar: '^3.0.0' } }
    const run = { cwd: await locked(await committed({ 'package.json': manifest }), ALLOW), home }
    const { code, stderr } = await polder(['lock'], run)
    expect({ code, warned: stderr }).toEqual({
      code: 0,
      warned: expect.stringMatching(
        /is prepared with is not pinned: tool@\^9\.0\.0, needed by lib@.*: no version of tool is in \^9\.0\.0/,
      ) as string,
    })
    const failed = await polder(['install'], run)
    expect([failed.code, failed.stderr]).toEqual([1, expect.stringContaining('tool: not found')])
  },
)

test('what a commit is prepared with is built before it, where that is allowed', { timeout: TIMEOUT }, async () => {
  const exact = { ...DEVELOPED, devDependencies: { tool: '1.0.0', grammar: '^3.0.0' } }
  const config = ALLOW.replace("'*'", "'*', grammar: '*'")
  const run = { cwd: await locked(await committed({ 'package.json': exact }), config), home }
  await polderDone(['lock'], run)
  expect(JSON.parse(await polderDone(['install', '--json'], run))).toMatchObject({
    builds: [{ package: 'grammar@3.0.0' }, { package: expect.stringMatching(/^lib@/) as string }],
  })
  expect(loaded(run.cwd)).toBe('prepared by made 1.0.0')
  expect(await polderDone(['builds', 'grammar'], run)).toContain('grammar@3.0.0  built')
})

test('what a commit is prepared with is held to the policy for new versions', { timeout: TIMEOUT }, async () => {
  const source = await committed({ 'package.json': DEVELOPED })
  const run = { cwd: await locked(source, `${ALLOW}policy: { deny: [grammar] }\n`), home }
  const { code, stderr } = await polder(['lock'], run)
  expect([code, stderr]).toEqual([1, expect.stringContaining('grammar@3.0.0 is denied by policy.deny')])
})

test("a real compiler of a commit's comes from the user's own registry", { timeout: TIMEOUT }, async () => {
  const scripts = { prepare: 'mkdir dist && uglifyjs src/index.js --compress --output dist/index.js' }
  const { dependencies: _, ...lib } = LIB
  const source = await committed({
    'package.json': { ...lib, scripts, devDependencies: { 'uglify-js': '^3.0.0' } },
    'src/index.js': 'module.exports = 6 * 7 // a comment\n',
  })
  const run = { cwd: await locked(source, ALLOW), home, upstream: true }
  rmSync(join(run.cwd, '.npmrc'))
  await polderDone(['lock'], run)
  expect(preparing(run.cwd)).toEqual([expect.stringMatching(/^uglify-js@3\./)])
  await polderDone(['install'], run)
  expect(readFileSync(join(run.cwd, 'node_modules/lib/dist/index.js'), 'utf8').trim()).toBe('module.exports=42;')
})
