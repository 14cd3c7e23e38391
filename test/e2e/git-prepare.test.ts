import { execFileSync } from 'node:child_process'
import { mkdirSync, realpathSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'

import { afterAll, beforeAll, expect, test } from 'vitest'

import { finish, polderDone, scrubbedEnvironment, temporaryDirectory } from '../support/cli.ts'
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
let repository: string

beforeAll(async () => {
  registry = await startRegistry()
  registry.serve('inner', '1.0.0', { files: { 'index.js': `module.exports = " + 'inner'"\n` } })
  home = realpathSync(temporaryDirectory('git-store'))
  repository = join(realpathSync(temporaryDirectory('git')), 'lib')
  write(repository, {
    'package.json': {
      name: 'lib',
      version: '1.2.3',
      main: 'dist/index.js',
      files: ['dist'],
      scripts: { prepare: 'node prepare.cjs' },
      dependencies: { inner: '^1.0.0' },
    },
    '.gitignore': 'dist\n',
    'prepare.cjs': PREPARE,
    'src/index.txt': "module.exports = 'prepared by '",
  })
})
afterAll(() => registry.close())

function write(cwd: string, files: Readonly<Record<string, unknown>>): void {
  for (const [path, content] of Object.entries(files)) {
    mkdirSync(dirname(join(cwd, path)), { recursive: true })
    writeFileSync(join(cwd, path), typeof content === 'string' ? content : JSON.stringify(content, null, 2))
  }
}

function git(...args: readonly string[]): string {
  return execFileSync('git', ['-c', 'user.name=Somebody', '-c', 'user.email=somebody@host.example', ...args], {
    cwd: repository,
    encoding: 'utf8',
    env: scrubbedEnvironment({ home }),
  }).trim()
}

/** A repository that npm locked to the commit; its script was not run for that. */
async function locked(commit: string): Promise<string> {
  const cwd = join(realpathSync(temporaryDirectory('git-user')), 'repository')
  write(cwd, {
    '.npmrc': `registry=${registry.url}\n`,
    'package.json': { name: 'web', version: '1.0.0', dependencies: { lib: `git+file://${repository}#${commit}` } },
    'polder.yaml': '',
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
    git('init', '--quiet', '--initial-branch=main')
    git('add', '--all')
    git('commit', '--quiet', '--message=one')
    const commit = git('rev-parse', 'HEAD')
    const run = { cwd: await locked(commit), home }
    await polderDone(['lock'], run)
    expect(JSON.parse(await polderDone(['install', '--json'], run))).toMatchObject({
      notBuilt: [expect.stringMatching(/^lib@/)],
    })
    expect(await polderDone(['approve', 'lib', '--yes'], run)).toContain('  prepare: node prepare.cjs\n')
    await polderDone(['lock'], run)
    rmSync(repository, { recursive: true })
    expect(JSON.parse(await polderDone(['install', '--json'], run))).toMatchObject({
      builds: [{ package: expect.stringMatching(/^lib@/), attempts: 0, refused: 0 }],
      notBuilt: [],
    })
    const loaded = execFileSync(process.execPath, ['-p', "require('lib')"], { cwd: run.cwd, encoding: 'utf8' })
    expect(loaded).toBe('prepared by inner\n')
    await polderDone(['verify'], run)
  },
)
