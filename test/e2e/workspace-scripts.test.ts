import { spawn } from 'node:child_process'
import { once } from 'node:events'
import {
  appendFileSync,
  chmodSync,
  cpSync,
  existsSync,
  globSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { basename, delimiter, dirname, join } from 'node:path'

import { afterAll, beforeAll, expect, test, vi } from 'vitest'

import { PROGRAMS } from '../../packages/build/src/programs.ts'
import {
  finish,
  type Invocation,
  polder,
  polderCommand,
  polderDone,
  scrubbedEnvironment,
  temporaryDirectory,
  TOOLS,
} from '../support/cli.ts'
import { startRegistry, type Registry } from '../support/registry.ts'

const TIMEOUT = 60_000

let registry: Registry
let home: string
/** Locked by pnpm, with what the scripts need from a registry. */
let template: string

// What is made depends on a source, a setting beside a directory above, a dependency and a variable.
const BUILD = `const { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } = require('node:fs')
const settings = JSON.parse(readFileSync('../../settings.json', 'utf8'))
mkdirSync('dist', { recursive: true })
for (const file of readdirSync('dist')) if (!file.startsWith('index')) rmSync('dist/' + file)
const text = [readFileSync('src/text', 'utf8').trim(), settings.mode, require('word'), process.env.FLAVOUR ?? 'plain']
writeFileSync('dist/index.js', 'module.exports = ' + JSON.stringify(text.join(' ')))
writeFileSync('dist/' + settings.mode + '.js', '')
if (process.env.ALSO !== undefined) require('node:child_process').execSync(process.env.ALSO, { stdio: 'inherit' })
`

function write(cwd: string, files: Readonly<Record<string, unknown>>): void {
  for (const [path, content] of Object.entries(files)) {
    mkdirSync(dirname(join(cwd, path)), { recursive: true })
    writeFileSync(join(cwd, path), typeof content === 'string' ? content : `${JSON.stringify(content, null, 2)}\n`)
  }
}

beforeAll(async () => {
  registry = await startRegistry()
  registry.serve('word', '1.0.0', { files: { 'index.js': "module.exports = 'word'\n" } })
  home = realpathSync(temporaryDirectory('store'))
  template = join(realpathSync(temporaryDirectory('workspaces')), 'repository')
  write(template, {
    '.npmrc': `registry=${registry.url}\n`,
    'package.json': { name: 'root', private: true },
    'pnpm-workspace.yaml': 'packages: ["packages/*"]\n',
    'settings.json': { mode: 'strict' },
    'packages/lib/package.json': {
      name: '@acme/lib',
      version: '1.0.0',
      main: 'dist/index.js',
      scripts: { prepare: 'node build.cjs', postinstall: 'echo installed > installed.txt' },
      dependencies: { word: '^1.0.0' },
    },
    'packages/lib/build.cjs': BUILD,
    'packages/lib/src/text': 'first\n',
    'packages/app/package.json': {
      name: 'app',
      version: '1.0.0',
      scripts: { prepare: 'node -p "require(\'@acme/lib\')" > made.txt' },
      dependencies: { '@acme/lib': 'workspace:*' },
    },
    'other/secret': 'nobody said that this is read\n',
  })
  const env = scrubbedEnvironment({ home, env: { CI: 'true' } })
  const args = ['install', '--lockfile-only', '--ignore-scripts', `--store-dir=${temporaryDirectory('pnpm')}`]
  const { code, stderr, stdout } = await finish(join(TOOLS, 'pnpm'), args, { cwd: template, env })
  expect(code, stdout + stderr).toBe(0)
}, TIMEOUT)

afterAll(() => registry.close())

/** A copy of the repository, locked. */
async function checkout(config: string): Promise<Invocation> {
  const cwd = join(realpathSync(temporaryDirectory('checkout')), 'repository')
  cpSync(template, cwd, { recursive: true, filter: (path) => !['node_modules', '.polder'].includes(basename(path)) })
  write(cwd, { 'polder.yaml': config })
  await polderDone(['lock'], { cwd, home })
  return { cwd, home }
}

async function installed(at: Invocation, ...args: readonly string[]): Promise<Record<string, unknown>> {
  return JSON.parse(await polderDone(['install', '--json', ...args], at)) as Record<string, unknown>
}

const made = ({ cwd }: Invocation, path: string): string => readFileSync(join(cwd, path), 'utf8').trim()
const exists = ({ cwd }: Invocation, path: string): boolean => existsSync(join(cwd, path))

const BOTH = 'builds:\n  workspaces: { packages/lib: [], packages/app: [] }\n'
/** The library, and what else its script does. */
const lib = (also: string, more: string = ''): string =>
  `${more}builds:\n  workspaces: { packages/lib: [] }\n  env: { "@acme/lib": { ALSO: "${also}" } }\n`

test('they run only where that is allowed, and approve asks for it', { timeout: TIMEOUT }, async () => {
  const at = await checkout('# ours\n')
  expect(await polderDone(['install'], at)).toContain('  not run (see polder approve): packages/app, packages/lib\n')
  expect(exists(at, 'packages/lib/dist')).toBe(false)
  expect(await polderDone(['approve', 'packages/lib', '--yes'], at)).toBe(
    'packages/lib\n  postinstall: echo installed > installed.txt\n  prepare: node build.cjs\n1 package allowed; run `polder lock`, then `polder install`\n',
  )
  expect(made(at, 'polder.yaml')).toBe('# ours\n\nbuilds:\n  workspaces:\n    packages/lib: []')
  await polderDone(['lock'], at)
  expect(await installed(at)).toMatchObject({ workspaces: [{ package: 'packages/lib' }], notRun: ['packages/app'] })
  expect(made(at, 'packages/lib/installed.txt')).toBe('installed')
})

test(
  'each runs after those that it leads to, and again when something changes that it can see',
  { timeout: TIMEOUT },
  async () => {
    const at = await checkout(BOTH)
    expect(await polderDone(['install'], at)).toMatch(
      /ran the scripts of: packages\/lib \(.*\), packages\/app \(.*\)\n/,
    )
    expect(made(at, 'packages/app/made.txt')).toBe('first strict word plain')
    expect(await installed(at)).toEqual({ upToDate: true, environment: expect.any(String) as string })
    expect(await installed(at, '--force')).toMatchObject({ workspaces: [], reusedWorkspaces: 2 })
    expect(await installed(at)).toMatchObject({ upToDate: true })
    // Its own source: it runs, and so does what leads to it.
    write(at.cwd, { 'packages/lib/src/text': 'second\n' })
    expect(await installed(at)).toMatchObject({
      workspaces: [{ package: 'packages/lib' }, { package: 'packages/app' }],
    })
    expect(made(at, 'packages/app/made.txt')).toBe('second strict word plain')
    // A setting above, by which another file is made: the one of before is deleted.
    write(at.cwd, { 'settings.json': { mode: 'loose' } })
    await installed(at)
    expect(made(at, 'packages/app/made.txt')).toBe('second loose word plain')
    expect([exists(at, 'packages/lib/dist/loose.js'), exists(at, 'packages/lib/dist/strict.js')]).toEqual([true, false])
    // What they made is gone.
    rmSync(join(at.cwd, 'packages/app/made.txt'))
    expect(await installed(at)).toMatchObject({ workspaces: [{ package: 'packages/app' }], reusedWorkspaces: 1 })
    // A file that is written anew with the same in it, and one that nobody sees.
    write(at.cwd, { 'settings.json': { mode: 'loose' }, 'other/new': '' })
    expect(await installed(at)).toMatchObject({ upToDate: false, workspaces: [], reusedWorkspaces: 2 })
    expect(await installed(at)).toMatchObject({ upToDate: true })
  },
)

test(
  'they see their package, what it leads to and what it says that it reads, and write only the first',
  { timeout: TIMEOUT },
  async () => {
    const at = await checkout(
      lib(
        'ls -a ../.. > seen.txt; cat ../../other/secret >> seen.txt; echo x > ../../node_modules/x || echo x > ../../settings.json || echo kept out >> seen.txt',
      ).replace('[]', '[other]'),
    )
    mkdirSync(join(at.cwd, '.git'))
    await installed(at)
    const seen = made(at, 'packages/lib/seen.txt').split('\n')
    const expected = ['node_modules', 'other', 'packages', 'settings.json', 'nobody said that this is read', 'kept out']
    expect(seen).toEqual(expect.arrayContaining(expected))
    expect(seen.filter((name) => ['.git', '.polder', 'polder.lock'].includes(name))).toEqual([])
    expect(made(at, 'settings.json')).toContain('strict')
  },
)

test(
  'the package at the top has its own files, and those of the others only if it leads to them or says so',
  { timeout: TIMEOUT },
  async () => {
    const at = await checkout("builds:\n  workspaces: { '.': [packages/app] }\n")
    const scripts = { prepare: 'ls -a > seen.txt; ls packages >> seen.txt; echo made > other/made.txt' }
    write(at.cwd, { 'package.json': { name: 'root', private: true, scripts } })
    await installed(at)
    const seen = made(at, 'seen.txt').split('\n')
    expect(seen).toEqual(expect.arrayContaining(['node_modules', 'other', 'packages', 'settings.json', 'app']))
    expect(seen.filter((name) => ['.git', '.polder', 'polder.lock', 'lib'].includes(name))).toEqual([])
    expect(made(at, 'other/made.txt')).toBe('made')
    expect(await installed(at)).toMatchObject({ upToDate: true })
  },
)

test(
  'polder killed while they run leaves the checkout as it was, and the next run does it all',
  { timeout: TIMEOUT },
  async () => {
    const at = await checkout(lib('if [ -e wait ]; then tail -f /dev/null; fi'))
    const own = { ...at, home: join(realpathSync(temporaryDirectory('killed')), 'store') }
    await polderDone(['index', 'sync'], own)
    write(at.cwd, { 'packages/lib/wait': '' })
    const { program, args, env } = polderCommand(['install'], own)
    const child = spawn(program, args, { cwd: at.cwd, env, stdio: 'ignore' })
    const logs = (): readonly string[] => globSync(join(own.home, 'tmp/build-*/workspace-*/prepare.log'))
    await vi.waitFor(() => expect(logs()).not.toEqual([]), { timeout: 30_000, interval: 5 })
    child.kill('SIGKILL')
    await once(child, 'close')
    expect([exists(at, 'packages/lib/dist'), exists(at, 'packages/lib/installed.txt')]).toEqual([false, false])
    rmSync(join(at.cwd, 'packages/lib/wait'))
    expect(await installed(own)).toMatchObject({ workspaces: [{ package: 'packages/lib' }] })
    expect(readdirSync(join(own.home, 'tmp'))).toEqual([])
  },
)

test('what fails changes nothing in the checkout, says why, and is tried again', { timeout: TIMEOUT }, async () => {
  const at = await checkout(BOTH)
  const build = join(at.cwd, 'packages/lib/build.cjs')
  appendFileSync(
    build,
    "fetch('http://cdn.example/tool.zip').catch(() => { console.log('cannot'); process.exit(3) }).then(() => process.exit(3))\n",
  )
  const { code, stderr } = await polder(['install'], at)
  expect(code).toBe(1)
  expect(stderr).toContain('packages/lib: its prepare script failed with exit code 3 [BUILD_FAILED]')
  expect(stderr).toContain('it tried to reach the name cdn.example')
  expect(stderr).toContain('nothing of what they wrote was brought into the checkout')
  expect(stderr).toContain('the scripts of packages/app did not run, because those of packages/lib failed')
  expect([exists(at, 'packages/lib/dist'), exists(at, 'packages/lib/installed.txt')]).toEqual([false, false])
  expect(exists(at, 'node_modules')).toBe(true)
  expect(await polderDone(['builds'], at)).toMatch(/^packages\/lib {2}failed, .*\npackages\/app {2}not yet\n$/)
  expect(await polderDone(['builds', '@acme/lib', '--learn'], at)).toContain(
    'polder index add http://cdn.example/tool.zip --sha512 …',
  )
  cpSync(join(template, 'packages/lib/build.cjs'), build)
  await installed(at)
  const { builds } = JSON.parse(await polderDone(['builds', '--json'], at)) as { builds: readonly object[] }
  const record = { level: 'bubblewrap', attempts: [], refused: [] }
  expect(builds).toMatchObject([
    { package: 'packages/lib', workspace: true, status: 'built', record },
    { package: 'packages/app', status: 'built' },
  ])
  write(at.cwd, { 'packages/lib/src/text': 'changed\n' })
  expect(await polderDone(['builds'], at)).toMatch(/packages\/lib {2}changed/)
})

test(
  'a file that they had not made is kept as it was when they change it, and never deleted',
  { timeout: TIMEOUT },
  async () => {
    const at = await checkout(lib('rm src/text; echo generated > version.txt'))
    write(at.cwd, { 'packages/lib/version.txt': 'by hand\n' })
    chmodSync(join(at.cwd, 'packages/lib/version.txt'), 0o600)
    const { code, stderr } = await polder(['install'], at)
    expect(code, stderr).toBe(0)
    expect(stderr).toContain('packages/lib: its scripts changed version.txt, which they had not made; as it was: ')
    const aside = /as it was: (\S+)/.exec(stderr)?.[1] ?? ''
    expect(readFileSync(join(aside, 'version.txt'), 'utf8')).toBe('by hand\n')
    expect([made(at, 'packages/lib/version.txt'), made(at, 'packages/lib/src/text')]).toEqual(['generated', 'first'])
  },
)

test('verify --rebuild runs them again, and names what comes out differently', { timeout: TIMEOUT }, async () => {
  const at = await checkout(BOTH)
  await installed(at)
  expect(await polderDone(['verify', '--rebuild', 'packages/lib', '--rebuild', 'app'], at)).toBe(
    '2 builds gave the same again: packages/app, packages/lib\n',
  )
  write(at.cwd, { 'packages/lib/dist/index.js': 'module.exports = "mine"' })
  const { code, stderr } = await polder(['verify', '--rebuild', '@acme/lib'], at)
  expect([code, stderr]).toEqual([5, expect.stringContaining('differs  dist/index.js  (packages/lib)')])
  expect(made(at, 'packages/lib/dist/index.js')).toBe('module.exports = "mine"')
  await polderDone(['verify'], at)
})

test(
  'what leads out and what is no file stays behind, also in a self-contained checkout',
  { timeout: TIMEOUT },
  async () => {
    const at = await checkout(
      lib('ln -s /etc/passwd out; ln -s index.js dist/index.link; mkfifo pipe', 'layout: self-contained\n'),
    )
    await installed(at)
    const there = (path: string): boolean => lstatSync(join(at.cwd, path), { throwIfNoEntry: false }) !== undefined
    expect(lstatSync(join(at.cwd, 'packages/lib/dist/index.link')).isSymbolicLink()).toBe(true)
    expect([there('packages/lib/pipe'), there('packages/lib/out')]).toEqual([false, false])
    expect(await polderDone(['builds', 'packages/lib'], at)).toContain('left out: out')
    expect(await installed(at)).toMatchObject({ upToDate: true })
  },
)

test(
  'scripts may call others by way of pnpm and yarn, which are not there for anything else',
  { timeout: TIMEOUT },
  async () => {
    const at = await checkout(lib('true'))
    const manifest = JSON.parse(made(at, 'packages/lib/package.json')) as object
    const scriptsAre = (scripts: object): void =>
      write(at.cwd, { 'packages/lib/package.json': { ...manifest, scripts } })
    // Also where the system has both.
    const instead = 'PATH="$(dirname "$(command -v npm)")/instead:$PATH"'
    const own = { one: 'echo $0 one', two: 'yarn three "$@"', three: 'echo three' }
    scriptsAre({
      ...own,
      prepare: `${instead}; (pnpm run one a; pnpm -s two "b c"; yarn exec echo four; yarn echo five) > said.txt`,
    })
    await installed(at)
    expect(made(at, 'packages/lib/said.txt').split('\n')).toEqual(['sh one a', 'three b c', 'four', 'five'])
    scriptsAre({ ...own, prepare: `${instead}; pnpm install` })
    expect((await polder(['install'], at)).stderr).toContain(
      '| polder: in a build there is no pnpm but to run scripts: pnpm run NAME',
    )
  },
)

test('with unshare it is the same', { timeout: TIMEOUT }, async () => {
  const at = await checkout(BOTH)
  const bin = join(dirname(at.cwd), 'bin')
  mkdirSync(bin)
  const directories = [...(process.env['PATH'] ?? '').split(delimiter), '/usr/sbin', '/sbin']
  for (const name of [...PROGRAMS.filter((program) => program !== 'bwrap'), 'sh']) {
    const found = directories.map((directory) => join(directory, name)).find((path) => existsSync(path))
    symlinkSync(found ?? name, join(bin, name))
  }
  const unshared = { ...at, env: { PATH: bin } }
  expect(await installed(unshared)).toMatchObject({
    workspaces: [
      { package: 'packages/lib', level: 'unshare' },
      { package: 'packages/app', level: 'unshare' },
    ],
  })
  expect(made(at, 'packages/app/made.txt')).toBe('first strict word plain')
  expect(await installed(unshared)).toMatchObject({ upToDate: true })
})

test('without a sandbox they do not run, whatever is asked for', { timeout: TIMEOUT }, async () => {
  const at = await checkout(lib('true'))
  const bin = join(dirname(at.cwd), 'bin')
  mkdirSync(bin)
  const { code, stderr } = await polder(['install', '--no-require-sandbox'], { ...at, env: { PATH: bin } })
  expect([code, stderr]).toEqual([1, expect.stringContaining('scripts of workspace packages run in a sandbox only')])
})

test('what is no workspace package cannot be let run scripts', { timeout: TIMEOUT }, async () => {
  const at = await checkout(lib('true'))
  write(at.cwd, { 'polder.yaml': 'builds:\n  workspaces: { packages/none: [] }\n' })
  expect((await polder(['lock'], at)).stderr).toContain(
    '"packages/none" in "builds.workspaces" of polder.yaml is no workspace package [SERVICE_UNKNOWN]',
  )
})
