import { spawn } from 'node:child_process'
import { cpSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

import { afterAll, beforeAll, describe, expect, test } from 'vitest'

import {
  finish,
  polder,
  polderCommand,
  polderDone,
  scrubbedEnvironment,
  temporaryDirectory,
  TOOLS,
  type Invocation,
} from '../support/cli.ts'
import { writeMonorepo } from '../support/monorepo.ts'
import { startRegistry, type Registry } from '../support/registry.ts'
import { packTarball, sri } from '../support/tarball.ts'

const HEADERS = Buffer.from('headers of node')
const LIBRARY = packTarball({
  'package.json': '{"name":"@acme/lib","version":"2.0.0"}',
  'index.js': 'module.exports = 2\n',
})
const OTHER = packTarball({
  'package.json': '{"name":"@acme/lib","version":"2.0.0"}',
  'index.js': 'module.exports = 3\n',
})

let registry: Registry
let base: Invocation

beforeAll(async () => {
  registry = await startRegistry()
  const alpha = registry.serve('alpha', '1.2.0', { files: { 'index.js': 'module.exports = 1\n' } })
  base = { cwd: join(temporaryDirectory('add'), 'repository'), home: join(temporaryDirectory('add'), 'store') }
  writeMonorepo(base.cwd, registry, {
    'services/web': {
      manifest: { version: '3.1.0', dependencies: { alpha: '^1.0.0' } },
      locked: { alpha },
      files: { 'index.js': 'module.exports = require("alpha")\n' },
    },
    'services/api': { manifest: { dependencies: { alpha: '^1.0.0' } }, locked: { alpha } },
  })
  await polderDone(['lock'], base)
})
afterAll(() => registry.close())

/** A clone, with a store of its own. */
function clone({ cwd, home }: Invocation = base, filled = true): Invocation {
  const target = {
    cwd: join(temporaryDirectory('clone'), 'repository'),
    home: join(temporaryDirectory('clone'), 'store'),
  }
  cpSync(cwd, target.cwd, { recursive: true })
  if (filled) cpSync(home, target.home, { recursive: true })
  return target
}

const read = ({ cwd }: Invocation, path: string): string => readFileSync(join(cwd, path), 'utf8')

async function refusal(
  args: readonly string[],
  run: Invocation,
): Promise<{
  readonly code: string
  readonly message: string
  readonly hint?: string
  readonly found?: string
  readonly exit: number | null
}> {
  const { code, stdout } = await polder([...args, '--json'], run)
  const { error } = JSON.parse(stdout) as { error: { code: string; message: string; hint?: string; found?: string } }
  return { ...error, exit: code }
}

describe('a tarball', () => {
  test('in the repository is pinned with its path, in both files, as `polder lock` would write them', async () => {
    const run = clone()
    mkdirSync(join(run.cwd, 'vendor'))
    writeFileSync(join(run.cwd, 'vendor/lib.tgz'), LIBRARY)
    expect(
      await polderDone(['index', 'add', '../../vendor/lib.tgz', '--private'], {
        ...run,
        cwd: join(run.cwd, 'services/web'),
      }),
    ).toBe('pinned @acme/lib@2.0.0 (1 kB)\n')
    const entry = `"@acme/lib@2.0.0":\n    integrity: ${sri(LIBRARY)}\n    file: vendor/lib.tgz\n    private: true\n`
    expect(read(run, 'polder.pins.yaml')).toContain(entry)
    const lock = read(run, 'polder.lock')
    expect(lock).toContain(entry.replaceAll('"', "'").replaceAll('\n    ', '\n      ').replace("'@", "    '@").trim())
    expect(await polderDone(['lock', '--check'], run)).toBe('polder.lock is up to date\n')
    await polderDone(['lock'], run)
    expect(read(run, 'polder.lock')).toBe(lock)
    // Another machine has the repository, and that is enough.
    const elsewhere = clone(run, false)
    await polderDone(['index', 'sync'], elsewhere)
    expect(JSON.parse(await polderDone(['index', 'list', '--json'], elsewhere))).toMatchObject({
      packages: { pins: 1, missing: 0 },
      additions: {
        packages: [{ id: '@acme/lib@2.0.0', present: true, private: true, file: 'vendor/lib.tgz' }],
        files: [],
      },
    })
  })

  test('outside of it is pinned by its hash alone: another machine is told what it needs', async () => {
    const run = clone()
    const path = join(temporaryDirectory('outside'), 'lib.tgz')
    writeFileSync(path, LIBRARY)
    const { stderr } = await polder(['index', 'add', path], run)
    expect(stderr).toContain(
      'is outside of the repository, so only its hash is pinned: another machine needs a bundle, or the file',
    )
    expect(read(run, 'polder.pins.yaml')).not.toContain('file:')
    const elsewhere = clone(run, false)
    expect(await refusal(['index', 'sync'], elsewhere)).toMatchObject({
      code: 'ARTIFACT_MISSING',
      message: '@acme/lib@2.0.0 was added by hand and is not in the store',
      exit: 4,
    })
    await polderDone(['index', 'add', path], elsewhere)
    await polderDone(['index', 'sync'], elsewhere)
    expect(read(elsewhere, 'polder.lock')).toBe(read(run, 'polder.lock'))
  })

  test('with other bytes than the version that is pinned, by hand or by a lockfile, is refused', async () => {
    const run = clone()
    const [one, two, three] = ['a', 'b', 'c'].map((name) => join(run.cwd, `${name}.tgz`)) as [string, string, string]
    writeFileSync(one, LIBRARY)
    writeFileSync(two, OTHER)
    writeFileSync(three, packTarball({ 'package.json': '{"name":"alpha","version":"1.2.0"}' }))
    await polderDone(['index', 'add', one], run)
    const before = read(run, 'polder.pins.yaml')
    expect(await refusal(['index', 'add', two], run)).toMatchObject({
      code: 'PIN_CONFLICT',
      message: '@acme/lib@2.0.0 is pinned to other bytes already, in polder.pins.yaml',
    })
    expect(await refusal(['index', 'add', three], run)).toMatchObject({
      code: 'PIN_CONFLICT',
      message: 'alpha@1.2.0 is pinned to other bytes already, in polder.lock',
    })
    expect(read(run, 'polder.pins.yaml')).toBe(before)
  })

  test('that is refused changes nothing', async () => {
    const run = clone()
    writeFileSync(join(run.cwd, 'bad.tgz'), packTarball({ '../../x': '', 'package.json': '{}' }))
    expect(await refusal(['index', 'add', 'bad.tgz'], run)).toMatchObject({ code: 'ARCHIVE_REFUSED' })
    expect(() => read(run, 'polder.pins.yaml')).toThrow('ENOENT')
  })

  test('before there is a lock is taken into it by the first `polder lock`', async () => {
    const run = clone()
    rmSync(join(run.cwd, 'polder.lock'))
    writeFileSync(join(run.cwd, 'lib.tgz'), LIBRARY)
    const { stderr } = await polder(['index', 'add', 'lib.tgz'], run)
    expect(stderr).toBe('polder: polder.pins.yaml is written; `polder lock` takes it into polder.lock\n')
    await polderDone(['lock'], run)
    expect(read(run, 'polder.lock')).toContain('file: lib.tgz')
  })
})

describe('index remove', () => {
  test('takes back what was added, and leaves both files as if it had never been', async () => {
    const run = clone()
    const before = read(run, 'polder.lock')
    writeFileSync(join(run.cwd, 'lib.tgz'), LIBRARY)
    const url = registry.serveFile('/dist/v22.1.0/node-v22.1.0-headers.tar.gz', HEADERS)
    await polderDone(['index', 'add', 'lib.tgz'], run)
    const between = read(run, 'polder.lock')
    await polderDone(['index', 'add', url, '--trust-first'], run)
    expect(await polderDone(['index', 'remove', url], run)).toBe(`removed ${url} from polder.pins.yaml\n`)
    expect(read(run, 'polder.lock')).toBe(between)
    expect(JSON.parse(await polderDone(['index', 'remove', '@acme/lib', '--json'], run))).toEqual({
      removed: ['@acme/lib@2.0.0'],
      lock: 'updated',
    })
    expect(read(run, 'polder.lock')).toBe(before)
    expect(() => read(run, 'polder.pins.yaml')).toThrow('ENOENT')
    await polderDone(['lock', '--check'], run)
  })

  test('of what was not added, or not clearly, says so and changes nothing', async () => {
    const run = clone()
    const three = packTarball({ 'package.json': '{"name":"@acme/lib","version":"3.0.0"}' })
    writeFileSync(join(run.cwd, 'lib.tgz'), LIBRARY)
    writeFileSync(join(run.cwd, 'three.tgz'), three)
    await polderDone(['index', 'add', 'lib.tgz', 'three.tgz'], run)
    const before = read(run, 'polder.lock')
    expect(await refusal(['index', 'remove', '@acme/lib@2.0.0', 'alpha'], run)).toMatchObject({
      code: 'USAGE',
      message: 'alpha is not in polder.pins.yaml',
      hint: '`polder index list` has what was added by hand; everything else goes with what needs it',
      exit: 2,
    })
    expect(await refusal(['index', 'remove', '@acme/lip@2.0.0'], run)).toMatchObject({
      hint: 'did you mean @acme/lib@2.0.0?',
    })
    expect(await refusal(['index', 'remove', '@acme/lib'], run)).toMatchObject({
      message: '@acme/lib is in polder.pins.yaml at several versions: @acme/lib@2.0.0, @acme/lib@3.0.0',
      hint: 'name one of them',
    })
    expect(read(run, 'polder.lock')).toBe(before)
  })
})

test('several that add and remove at the same time lose nothing of each other', async () => {
  const run = clone()
  const names = Array.from({ length: 6 }, (_, at) => `lib-${at}`)
  for (const name of names)
    writeFileSync(
      join(run.cwd, `${name}.tgz`),
      packTarball({ 'package.json': JSON.stringify({ name, version: '1.0.0' }) }),
    )
  writeFileSync(join(run.cwd, 'lib.tgz'), LIBRARY)
  await polderDone(['index', 'add', 'lib.tgz'], run)
  await Promise.all([
    ...names.map((name) => polderDone(['index', 'add', `${name}.tgz`], run)),
    polderDone(['index', 'remove', '@acme/lib@2.0.0'], run),
  ])
  for (const file of ['polder.pins.yaml', 'polder.lock'])
    expect(
      read(run, file)
        .match(/^ +"?\S*lib\S*@\d\S*:$/gm)
        ?.map((line) => line.trim()),
      file,
    ).toEqual(names.map((name) => `${name}@1.0.0:`))
})

describe('a file by its URL', () => {
  const NAME = '/dist/v22.1.0/node-v22.1.0-headers.tar.gz'

  test('is fetched and not pinned if nothing says what its hash has to be', async () => {
    const run = clone()
    const url = registry.serveFile(NAME, HEADERS)
    const error = await refusal(['index', 'add', url], run)
    const hex = Buffer.from(sri(HEADERS).slice(7), 'base64').toString('hex')
    expect(error).toMatchObject({ code: 'INTEGRITY_MISSING', found: sri(HEADERS), exit: 1 })
    expect(error.hint).toContain(`polder index add ${url} --sha512 ${hex}`)
    expect(() => read(run, 'polder.pins.yaml')).toThrow('ENOENT')
  })

  test('is pinned with its hash, or as it comes first, or from a file at hand; and is served', async () => {
    const url = registry.serveFile(NAME, HEADERS)
    const [known, trusting, carried] = [clone(), clone(), clone()]
    const { stdout, stderr } = await polder(['index', 'add', url, '--sha512', sri(HEADERS)], known)
    expect(stdout).toBe(`pinned ${url} (1 kB)\n`)
    expect(stderr).toBe(`polder: who asks for it will ask for ${url.replace(/[^/]+$/, 'SHASUMS256.txt')} too\n`)
    await polderDone(['index', 'add', url, '--trust-first'], trusting)
    writeFileSync(join(carried.cwd, 'carried.bin'), HEADERS)
    await polderDone(['index', 'add', 'carried.bin', '--as', url], carried)
    for (const run of [trusting, carried]) expect(read(run, 'polder.lock')).toBe(read(known, 'polder.lock'))
    expect(read(known, 'polder.lock')).toContain(
      `${url}:\n      integrity: ${sri(HEADERS)}\n      bytes: ${HEADERS.length}\n`,
    )
    await served(known, async (index) => {
      const environment = JSON.parse(await polderDone(['index', 'env', '--url', index, '--json'], known)) as Record<
        string,
        string
      >
      expect(environment['npm_config_registry']).toBe(index)
      const mirror = environment['NODEJS_ORG_MIRROR'] ?? ''
      const answer = await fetch(`${mirror}/v22.1.0/node-v22.1.0-headers.tar.gz`)
      expect(Buffer.from(await answer.arrayBuffer())).toEqual(HEADERS)
    })
    // Another machine fetches it again; one that is given other bytes takes them for what they are.
    await polderDone(['index', 'sync'], clone(known, false))
    registry.serveFile(NAME, Buffer.from('something else'))
    expect(await refusal(['index', 'sync'], clone(known, false))).toMatchObject({ code: 'INTEGRITY_MISMATCH', exit: 5 })
  })

  test('with another hash than it should have is refused', async () => {
    const url = registry.serveFile('/other.bin', HEADERS)
    expect(await refusal(['index', 'add', url, '--sha512', 'a'.repeat(128)], clone())).toMatchObject({
      code: 'INTEGRITY_MISMATCH',
      found: sri(HEADERS),
      exit: 5,
    })
  })

  test('can be said to be for a tool, or for a variable', async () => {
    const run = clone()
    const url = registry.serveFile('/tool/1.0/data.bin', HEADERS)
    const { stderr } = await polder(['index', 'add', url, '--trust-first'], run)
    expect(stderr).toContain('it fits no tool that polder knows')
    await polderDone(['index', 'add', url, '--trust-first', '--for', `MY_TOOL_MIRROR=${registry.url}tool`], run)
    const host = new URL(url).host
    expect(await polderDone(['index', 'env'], run)).toContain(
      `export MY_TOOL_MIRROR='http://127.0.0.1:4873/-/files/${host}/tool'\n`,
    )
    expect(await refusal(['index', 'add', url, '--trust-first', '--for', 'electron'], run)).toMatchObject({
      code: 'USAGE',
      exit: 2,
    })
  })

  test.each([
    [['index', 'add'], 'index add needs a file, a URL, or --workspace'],
    [['index', 'add', 'x.tgz', '--sha512', 'a'], '--sha512, --for and --trust-first are of URLs'],
    [
      ['index', 'add', 'http://host.example/x', '--as', 'http://host.example/y'],
      '--as is for a file at hand: polder index add FILE --as URL',
    ],
    [
      ['index', 'add', '--workspace', '--trust-first'],
      '--workspace takes names of packages, and none of --as, --sha512, --for, --trust-first',
    ],
    [['index', 'add', 'http://host.example/x', '--sha512', 'a'], '"a" is no sha512'],
  ])('%j is wrong usage', async (args, message) => {
    expect(await refusal(args, clone())).toMatchObject({ code: 'USAGE', message, exit: 2 })
  })
})

describe('a workspace package', () => {
  test('can be installed from the index alone, with what it needs', async () => {
    const run = clone()
    expect(await polderDone(['index', 'add', '--workspace', 'web'], run)).toBe('pinned @demo/web@3.1.0 (4 kB)\n')
    await served(run, async (index) => {
      const consumer = temporaryDirectory('consumer')
      writeFileSync(join(consumer, 'package.json'), '{ "dependencies": { "@demo/web": "^3.0.0" } }')
      const env = scrubbedEnvironment({ home: join(consumer, 'none'), env: { pnpm_config_registry: index } })
      const installed = await finish(join(TOOLS, 'pnpm'), ['install', '--ignore-scripts'], { cwd: consumer, env })
      expect(installed.code, installed.stdout + installed.stderr).toBe(0)
      const used = await finish(process.execPath, ['-p', "require('@demo/web')"], { cwd: consumer, env })
      expect(used.stdout).toBe('1\n')
    })
  })

  test('is packed again where the store lacks it, and pinned again when it was worked on', async () => {
    const run = clone()
    const all = await polderDone(['index', 'add', '--workspace'], run)
    expect(all).toBe('pinned @demo/api@1.0.0 (3 kB)\npinned @demo/web@3.1.0 (4 kB)\n')
    const elsewhere = clone(run, false)
    await polderDone(['index', 'sync'], elsewhere)
    writeFileSync(join(elsewhere.cwd, 'services/web/index.js'), 'module.exports = 4\n')
    const fresh = clone(elsewhere, false)
    expect(await refusal(['index', 'sync'], fresh)).toMatchObject({
      code: 'INTEGRITY_MISMATCH',
      message: 'the workspace package @demo/web@3.1.0 is not what it was when it was pinned',
    })
    const { stderr } = await polder(['index', 'add', '--workspace', 'services/web'], fresh)
    expect(stderr).toBe(
      'warning: @demo/web@3.1.0 has other bytes than before: whoever locked it has to lock it again\n',
    )
    await polderDone(['index', 'sync'], fresh)
  })
})

/** Runs `use` while the index of a repository is served. */
async function served(run: Invocation, use: (url: string) => Promise<void>): Promise<void> {
  const { program, args, env } = polderCommand(['index', 'serve', '--port', '0', '--json'], run)
  const server = spawn(program, args, { cwd: run.cwd, env, stdio: ['ignore', 'pipe', 'inherit'] })
  const ended = new Promise((resolve) => server.once('exit', resolve))
  try {
    const url = await new Promise<string>((resolve, reject) => {
      let text = ''
      server.stdout.on('data', (chunk: Buffer) => {
        text += chunk.toString()
        const found = /"url": *"([^"]+)"/.exec(text)?.[1]
        if (found !== undefined) resolve(found)
      })
      server.once('exit', () => reject(new Error(`the server ended: ${text}`)))
    })
    await use(url)
  } finally {
    server.kill('SIGTERM')
    await ended
  }
}
