import { spawn } from 'node:child_process'
import {
  cpSync,
  existsSync,
  globSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  lutimesSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { once } from 'node:events'
import { dirname, join } from 'node:path'

import { afterAll, beforeAll, expect, test, vi } from 'vitest'

import {
  finish,
  polder,
  polderCommand,
  polderDone,
  scrubbedEnvironment,
  temporaryDirectory,
  type Invocation,
} from '../support/cli.ts'
import { writeMonorepo } from '../support/monorepo.ts'
import { startRegistry, type Registry, type ServedVersion } from '../support/registry.ts'

let registry: Registry
const served: Record<string, ServedVersion> = {}

const MAKES =
  'require("fs").writeFileSync("made.js", "module.exports = " + JSON.stringify(process.env.MODE ?? "plain"))\n'
// Goes on whatever happens to its fetches, as many do.
const FETCHES = `const urls = ['http://cdn.example/tool-1.2.0.zip', 'https://binaries.example/a.tgz']
Promise.allSettled(urls.map((url) => { console.log('fetching ' + url); return fetch(url) }))
  .then(() => fetch(process.env.POLDER_INDEX + 'left-pad')).then(() => process.exit(Number(process.env.STATUS ?? 0)))\n`

beforeAll(async () => {
  registry = await startRegistry()
  served['maker'] = registry.serve('maker', '1.4.0', {
    scripts: { install: 'node make.js' },
    files: { 'make.js': MAKES, 'index.js': 'module.exports = require("./made.js")\n' },
  })
  served['fetcher'] = registry.serve('fetcher', '2.0.0', {
    scripts: { postinstall: 'node fetch.js' },
    dependencies: { maker: '^1.0.0' },
    files: { 'fetch.js': FETCHES, 'index.js': 'module.exports = require("maker")\n' },
  })
  // What of an addon tells for which Node it is: the names that it has from Node's headers.
  const addon = (name: string): string => `require("fs").writeFileSync("own.node", "\\x7fELF ${name}")`
  served['bound'] = registry.serve('bound', '1.0.0', {
    scripts: { install: 'node build.js' },
    files: { 'build.js': addon('node_module_register'), 'prebuilds/node-20.node': 'node_register_module_v115' },
  })
  served['unbound'] = registry.serve('unbound', '1.0.0', {
    scripts: { install: 'node build.js' },
    files: { 'build.js': addon('napi_register_module_v1'), 'prebuilds/node-20.node': 'node_register_module_v115' },
  })
  served['gyp'] = registry.serve('gyp', '1.0.0', {
    scripts: { postinstall: 'echo after' },
    files: { 'binding.gyp': '{"targets":[]}', 'index.js': '' },
  })
  served['bundled-binary'] = registry.serve('bundled-binary', '1.0.0', {
    gypfile: false,
    files: { 'binding.gyp': '{"targets":[]}', 'index.js': '' },
  })
})
afterAll(() => registry.close())

/** A repository of its own, with a store of its own, locked. */
async function locked(names: readonly string[], config = ''): Promise<Invocation> {
  const at = {
    cwd: join(temporaryDirectory('builds'), 'repository'),
    home: join(temporaryDirectory('builds'), 'store'),
  }
  const all = Object.fromEntries(names.map((name) => [name, served[name] as ServedVersion]))
  const dependencies = Object.fromEntries(names.map((name) => [name, '*']))
  writeMonorepo(at.cwd, registry, { 'services/web': { manifest: { dependencies }, locked: all } })
  configure(at, config)
  await polderDone(['lock'], at)
  return at
}

function configure({ cwd }: Invocation, more: string): void {
  const path = join(cwd, 'polder.yaml')
  writeFileSync(path, `${readFileSync(path, 'utf8')}${more}`)
}

async function asked(words: string, at: Invocation, expected = 0): Promise<Record<string, unknown>> {
  const { code, stdout, stderr } = await polder([...words.split(' '), '--json'], at)
  if (code !== expected) throw new Error(`polder ${words} ended with ${code}\n${stdout}${stderr}`)
  return JSON.parse(stdout) as Record<string, unknown>
}

/** What a service of the checkout gets. */
async function loaded({ cwd, home }: Invocation, name: string): Promise<string> {
  const { stdout, stderr } = await finish(process.execPath, ['-p', `require(${JSON.stringify(name)})`], {
    cwd: join(cwd, 'services/web'),
    env: scrubbedEnvironment({ home }),
  })
  return stdout.trim() || stderr
}

const ALLOW = 'builds:\n  allow: { maker: "*", fetcher: "*" }\n'

test('approve shows the scripts and writes them into polder.yaml, whose comments stay; then they are built', async () => {
  const at = await locked(
    ['maker', 'fetcher'],
    '# ours\nbuilds:\n  # scripts\n  limits: { minutes: 5 } # long enough\n',
  )
  expect(await polderDone(['install'], at)).toContain('not built (see polder approve): fetcher@2.0.0, maker@1.4.0')
  expect(await polderDone(['approve', 'maker', '--yes'], at)).toBe(
    'maker 1.4.0\n  install: node make.js\n1 package allowed; run `polder lock`, then `polder install`\n',
  )
  expect(readFileSync(join(at.cwd, 'polder.yaml'), 'utf8')).toContain(
    '# ours\nbuilds:\n  # scripts\n  limits: { minutes: 5 } # long enough\n  allow:\n    maker: ^1.4.0\n',
  )
  await polderDone(['lock'], at)
  expect(await polderDone(['install'], at)).toMatch(
    / {2}built: maker@1\.4\.0 \(.*\)\n {2}not built \(see polder approve\): fetcher@2\.0\.0\n/,
  )
  expect(await loaded(at, 'maker')).toBe('plain')
  expect(await asked('verify', at)).toMatchObject({ clean: true })
})

test('approve asks on a terminal, one package after the other, and nobody elsewhere', async () => {
  const at = await locked(['maker', 'fetcher'])
  const refused = await polder(['approve'], at)
  expect({ code: refused.code, stderr: refused.stderr }).toEqual({
    code: 2,
    stderr:
      'polder: nobody can be asked here [USAGE]\n  hint: name the packages, and say --yes: polder approve NAME… --yes\n',
  })
  const { program, args, env } = polderCommand(['approve'], at)
  // util-linux' script gives it a terminal.
  const command = [program, ...args].map((word) => `'${word}'`).join(' ')
  const child = spawn('script', ['-qec', command, '/dev/null'], {
    cwd: at.cwd,
    env,
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  let shown = ''
  const answers = new Map([
    ['fetcher', 'n\n'],
    ['maker', 'y\n'],
  ])
  child.stdout.on('data', (chunk: Buffer) => {
    shown += chunk.toString()
    for (const [name, answer] of answers) {
      if (!shown.includes(`allow ${name}@`)) continue
      answers.delete(name)
      child.stdin.write(answer)
    }
  })
  expect(await once(child, 'close')).toEqual([0, null])
  expect(shown).toContain('postinstall: node fetch.js')
  expect(shown).toContain('1 package allowed, 1 not')
  expect(readFileSync(join(at.cwd, 'polder.yaml'), 'utf8')).toMatch(/builds:\n {2}allow:\n {4}maker: \^1\.4\.0\n$/)
})

test('a binding.gyp is compiled beside a postinstall script, and not where the package says gypfile: false', async () => {
  const at = await locked(['gyp', 'bundled-binary'])
  expect(await polderDone(['approve', '--yes'], at)).toContain(
    'gyp 1.0.0\n  install: node-gyp rebuild\n  postinstall: echo after\n1 package allowed',
  )
})

test('a second checkout takes what was built; another variable builds anew', async () => {
  const at = await locked(['maker'], ALLOW)
  expect(await asked('install', at)).toMatchObject({ builds: [{ package: 'maker@1.4.0' }], reusedBuilds: 0 })
  const second = { ...at, cwd: join(temporaryDirectory('second'), 'repository') }
  cpSync(at.cwd, second.cwd, { recursive: true, filter: (path) => !/node_modules|\.polder$/.test(path) })
  expect(await asked('install', second)).toMatchObject({ builds: [], reusedBuilds: 1, built: false })
  expect(await loaded(second, 'maker')).toBe('plain')
  configure(second, '  env:\n    maker: { MODE: fast }\n')
  await polderDone(['lock'], second)
  expect(await asked('install', second)).toMatchObject({ builds: [{ package: 'maker@1.4.0' }] })
  expect([await loaded(second, 'maker'), await loaded(at, 'maker')]).toEqual(['fast', 'plain'])
})

test('builds lists what ran and what it tried to reach; --learn proposes the pins', async () => {
  const at = await locked(['maker', 'fetcher'], ALLOW)
  expect(await polderDone(['builds'], at)).toBe('fetcher@2.0.0  not yet\nmaker@1.4.0  not yet\n')
  expect(await polderDone(['install'], at)).toMatch(
    /refused: \d attempts to reach other places, 1 request for what is not pinned/,
  )
  const { builds, notAllowed } = await asked('builds', at)
  expect(notAllowed).toEqual([])
  expect(builds).toMatchObject([
    {
      package: 'fetcher@2.0.0',
      status: 'built',
      scripts: [{ event: 'postinstall', command: 'node fetch.js' }],
      record: { status: 'built', level: 'bubblewrap', refused: [{ what: 'left-pad', count: 1 }] },
    },
    { package: 'maker@1.4.0', status: 'built', record: { attempts: [], refused: [] } },
  ])
  const whole = await polderDone(['builds', 'fetcher'], at)
  expect(whole).toContain('tried to reach the name cdn.example (A')
  expect(whole).toContain('tried to reach binaries.example:443 (TLS for binaries.example)')
  expect(whole).toContain('asked the index for left-pad, which is not pinned')
  expect(await polderDone(['builds', 'maker'], at)).toContain('  tried to reach nothing but the index\n')
  expect(await asked('builds fetcher --learn', at)).toEqual({
    builds: [
      {
        package: 'fetcher@2.0.0',
        urls: ['http://cdn.example/tool-1.2.0.zip', 'https://binaries.example/a.tgz'],
        hosts: [],
        packages: ['left-pad'],
      },
    ],
  })
  expect(await polderDone(['builds', 'fetcher', '--learn'], at)).toContain(
    'polder index add http://cdn.example/tool-1.2.0.zip --sha512 …',
  )
  expect((await polder(['builds', 'nothing'], at)).stderr).toContain(
    'nothing is not among the builds of this lock [USAGE]',
  )
  expect(await polderDone(['status'], at)).toContain('current, linked')
})

test('--learn of what is not built yet builds what that needs', async () => {
  const at = await locked(['maker', 'fetcher'], ALLOW)
  expect(await asked('builds fetcher --learn', at)).toMatchObject({
    builds: [{ package: 'fetcher@2.0.0' }, { package: 'maker@1.4.0' }],
  })
})

test('a build that fails says why, and nothing is installed', async () => {
  const at = await locked(['maker', 'fetcher'], `${ALLOW}  env: { fetcher: { STATUS: "7" } }\n`)
  const { code, stderr } = await polder(['install'], at)
  expect(code).toBe(1)
  expect(stderr).toContain('fetcher@2.0.0: its postinstall script failed with exit code 7 [BUILD_FAILED]')
  expect(stderr).toContain('$ node fetch.js')
  expect(stderr).toContain('it tried to reach the name cdn.example')
  expect(existsSync(join(at.cwd, 'node_modules'))).toBe(false)
  expect(await asked('builds', at)).toMatchObject({
    builds: [{ status: 'failed', record: { failure: { status: 7 } } }, { status: 'built' }],
  })
})

test('limits of polder.yaml hold', async () => {
  const at = await locked(['maker'], `${ALLOW}  limits: { minutes: 0.0001 }\n`)
  const { code, stderr } = await polder(['install'], at)
  expect(code).toBe(1)
  expect(stderr).toContain('maker@1.4.0: its install script went over its limit of time and was ended [BUILD_FAILED]')
})

test('without a sandbox nothing runs in CI; elsewhere it does, and that is said loudly', async () => {
  const at = await locked(['maker'], ALLOW)
  // Nothing of the programs that a sandbox is made of, but those that everything else needs.
  const bin = join(dirname(at.cwd), 'bin')
  mkdirSync(bin)
  const here = { ...at, env: { PATH: bin, CI: 'true' } }
  const inCi = await polder(['install'], here)
  expect({ code: inCi.code, named: inCi.stderr.includes('SANDBOX_UNAVAILABLE') }).toEqual({ code: 1, named: true })
  const loose = await polder(['install', '--no-require-sandbox'], here)
  expect(loose.code).toBe(0)
  expect(loose.stdout).toContain('unenforced: 1 build ran without a sandbox')
  expect(loose.stderr).toContain('warning: no sandbox with bubblewrap')
  expect(await polderDone(['builds', 'maker'], here)).toContain('  what it tried to reach was not recorded')
})

test('polder killed while it builds leaves nothing, and the next run builds it all', async () => {
  const at = await locked(['maker', 'fetcher'], ALLOW)
  const { program, args, env } = polderCommand(['install'], at)
  const child = spawn(program, args, { cwd: at.cwd, env, stdio: 'ignore' })
  const rooms = (): readonly string[] => globSync(join(at.home, 'tmp/build-*/*/*.log'))
  await vi.waitFor(() => expect(rooms()).not.toEqual([]), { timeout: 30_000, interval: 5 })
  child.kill('SIGKILL')
  await once(child, 'close')
  expect(existsSync(join(at.cwd, 'node_modules'))).toBe(false)
  await polderDone(['install'], at)
  expect(readdirSync(join(at.home, 'tmp'))).toEqual([])
  expect(await loaded(at, 'fetcher')).toBe('plain')
  expect(await asked('verify', at)).toMatchObject({ clean: true })
})

test('verify finds what was changed in a built package, and --repair builds it again', async () => {
  const at = await locked(['maker'], ALLOW)
  await polderDone(['install'], at)
  const made = globSync(join(at.home, 'trees/*/package/made.js'))
  expect(made).toHaveLength(1)
  rmSync(made[0] ?? '')
  writeFileSync(made[0] ?? '', 'module.exports = "evil"', { mode: 0o444 })
  expect(await asked('verify', at, 5)).toMatchObject({ clean: false })
  await polderDone(['verify', '--repair'], at)
  expect(await asked('verify', at)).toMatchObject({ clean: true })
  expect(await loaded(at, 'maker')).toBe('plain')
})

test('what only a self-contained checkout has left of a build is compared with a new one', async () => {
  const at = await locked(['maker'], ALLOW)
  await polderDone(['install', '--layout', 'self-contained'], at)
  rmSync(join(at.home, 'trees'), { recursive: true })
  expect(await asked('verify', at)).toMatchObject({ clean: true })
})

test('verify --rebuild compares what comes out again, and names what differs', async () => {
  const at = await locked(['maker', 'fetcher'], ALLOW)
  expect((await polder(['verify', '--rebuild', 'maker'], at)).stderr).toContain(
    'maker@1.4.0 is not built, so there is nothing to compare with [NOT_INSTALLED]',
  )
  await polderDone(['install'], at)
  expect(await polderDone(['verify', '--rebuild', 'maker'], at)).toBe('1 build gave the same again: maker@1.4.0\n')
  const [made = ''] = globSync(join(at.home, 'trees/*/package/made.js'))
  const hashes = join(dirname(dirname(made)), 'hashes.json')
  writeFileSync(
    join(dirname(hashes), 'new.json'),
    readFileSync(hashes, 'utf8').replaceAll(/"[0-9a-f]{64}"/g, `"${'0'.repeat(64)}"`),
  )
  rmSync(hashes)
  cpSync(join(dirname(hashes), 'new.json'), hashes)
  const { code, stderr } = await polder(['verify', '--rebuild', 'maker'], at)
  expect(code).toBe(5)
  expect(stderr).toContain('1 build came out differently [VERIFY_FAILED]')
  expect(stderr).toContain('differs  made.js  (maker@1.4.0)')
  expect(await asked('verify --rebuild maker', at, 5)).toMatchObject({
    builds: [{ package: 'maker@1.4.0', reproducible: false }],
  })
})

test('store gc keeps what an environment uses, and drops what is known of builds that are gone', async () => {
  const at = await locked(['maker'], ALLOW)
  await polderDone(['install'], at)
  const all = (): readonly string[] => globSync(join(at.home, '{builds,trees}/**'))
  const old = (): void =>
    all()
      .concat(globSync(join(at.home, 'envs/*/.*')))
      .forEach((path) => utimesSync(path, 1e9, 1e9))
  old()
  await polderDone(['store', 'gc'], at)
  expect(readdirSync(join(at.home, 'builds'))).toHaveLength(2)
  expect(await asked('verify', at)).toMatchObject({ clean: true })
  rmSync(at.cwd, { recursive: true })
  for (const root of globSync(join(at.home, 'roots/*'))) lutimesSync(root, 1e9, 1e9)
  old()
  await polderDone(['store', 'gc'], { ...at, cwd: at.home })
  expect([readdirSync(join(at.home, 'builds')), readdirSync(join(at.home, 'trees'))]).toEqual([[], []])
})

test('an addon that loads in this Node only is told from others, and warned of where the repository runs on another Node', async () => {
  const at = await locked(['bound', 'unbound'], 'builds:\n  allow: { bound: "*", unbound: "*" }\n')
  const here = process.versions.node.split('.')[0] ?? ''
  writeFileSync(join(at.cwd, '.nvmrc'), `${here}.0.0\n`)
  expect(await polder(['install'], at)).toMatchObject({ code: 0, stderr: '' })
  const [bound, unbound] = [await polderDone(['builds', 'bound'], at), await polderDone(['builds', 'unbound'], at)]
  expect(bound).toContain(`  own.node loads in Node ${here} only\n`)
  expect(unbound).not.toContain('loads in')
  expect(JSON.parse(await polderDone(['builds', 'bound', '--json'], at))).toMatchObject({
    builds: [{ record: { addons: ['own.node'] } }],
  })

  writeFileSync(join(at.cwd, '.nvmrc'), '20.11.1\n')
  writeFileSync(join(at.cwd, 'services/web/.node-version'), '22\n')
  const bin = temporaryDirectory('other-node')
  writeFileSync(join(bin, 'node'), '#!/bin/sh\necho v20.20.2\n', { mode: 0o755 })
  const again = {
    ...at,
    home: join(temporaryDirectory('builds'), 'store'),
    env: { PATH: `${bin}:${process.env['PATH'] ?? ''}` },
  }
  await polderDone(['index', 'sync'], again)
  expect((await polder(['install'], again)).stderr).toBe(
    `warning: what was built of bound@1.0.0 loads in Node ${here} only, which runs polder, but ${bin}/node is 20.20.2, .nvmrc says 20.11.1, services/web/.node-version says 22: run polder with the Node that runs the services\n`,
  )
})
