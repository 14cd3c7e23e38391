import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

import { PolderError } from '@polder/spec'
import { hasTree, readTree, type Store, type TreeId, verifyTree } from '@polder/store'
import { beforeEach, expect, test } from 'vitest'

import { type BuildRecord, readBuildRecord } from '../src/lifecycle/build-record.ts'
import type { BuildOptions } from '../src/lifecycle/build-options.ts'
import { type BuildReport, runBuilds } from '../src/lifecycle/run-builds.ts'
import { needs } from './support/sandboxes.ts'
import { optionsWith, type Pkg, planOf, storeOf, temporaryHome } from './support/workshop.ts'

type Packages = Readonly<Record<string, Pkg>>

beforeEach((context) => needs(context, 'an ordinary user'))

/** A package whose `install` script is this shell command. */
const script = (install: string, more: Pkg = {}): Pkg => ({ ...more, scripts: { install } })

interface Ran {
  readonly store: Store
  readonly report: BuildReport | undefined
  readonly error: PolderError | undefined
  readonly tree: (name: string) => TreeId
  readonly record: (name: string) => BuildRecord | undefined
  /** What a file of a built package says. */
  readonly text: (name: string, file: string) => string
}

async function run(packages: Packages, options: Partial<BuildOptions> = {}, existing?: Store): Promise<Ran> {
  const store = existing ?? (await storeOf(packages))
  const plan = planOf(packages)
  const tree = (name: string): TreeId => plan.ids[name] as TreeId
  let report: BuildReport | undefined
  let error: PolderError | undefined
  try {
    report = await runBuilds(store, plan.builds(), optionsWith(options))
  } catch (thrown) {
    if (!(thrown instanceof PolderError)) throw thrown
    error = thrown
  }
  return {
    store,
    report,
    error,
    tree,
    record: (name) => readBuildRecord(store, tree(name)),
    text: (name, file) => readFileSync(join(readTree(store, tree(name)).path, file), 'utf8'),
  }
}

test('a build becomes a tree that can be verified, with what it made, and is not run again', async () => {
  const packages = {
    maker: {
      scripts: { preinstall: 'echo first', install: 'mkdir -p out; printf "%s" "$npm_lifecycle_event" > out/made' },
    },
  }
  const { store, report, tree, text, record } = await run(packages)
  expect(text('maker', 'out/made')).toBe('install')
  expect(await verifyTree(store, tree('maker'))).toEqual([])
  expect(report).toMatchObject({ reused: 0, shortcomings: [], records: [{ package: 'maker@1.0.0', status: 'built' }] })
  expect(record('maker')).toMatchObject({
    level: 'bubblewrap',
    recorded: 'everything',
    files: 2,
    attempts: [],
    refused: [],
    leftOut: [],
  })
  expect(readFileSync(record('maker')?.log ?? '', 'utf8')).toBe(
    `$ echo first  (preinstall)\nfirst\n\n$ ${packages.maker.scripts.install}  (install)\n\n`,
  )
  expect((await run(packages, {}, store)).report).toEqual({ records: [], reused: 1, shortcomings: [] })
  expect(readdirSync(join(store.home, 'tmp'))).toEqual([])
})

test('a dependency is built before its dependents, which find what it made and its commands', async () => {
  const packages: Packages = {
    upper: script('node -p "require(\'lower/made\')" > got; lower-tool > tool', { links: ['lower'] }),
    lower: script("sleep 0.2; echo 'module.exports = 42' > made.js", {
      files: { 'tool.js': { content: '#!/usr/bin/env node\nconsole.log(require("./made"))\n', mode: 0o755 } },
      fields: { bin: { 'lower-tool': 'tool.js' } },
    }),
  }
  const { error, text } = await run(packages)
  expect(error).toBeUndefined()
  expect(text('upper', 'got')).toBe('42\n')
  expect(text('upper', 'tool')).toBe('42\n')
})

test('builds that do not need each other run at the same time', async () => {
  // Each ends only once the index was asked by the other as well.
  const asked = new Set<string>()
  const packages = { one: script('node wait.js'), two: script('node wait.js') }
  const wait = `const ask = () => fetch(process.env.POLDER_INDEX + process.env.npm_package_name).then((r) => r.status)
(async () => { while ((await ask()) !== 200); })()`
  const withFile = Object.fromEntries(
    Object.entries(packages).map(([name, pkg]) => [name, { ...pkg, files: { 'wait.js': wait } }]),
  )
  const { createServer } = await import('node:http')
  const { once } = await import('node:events')
  const { report } = await run(withFile, {
    // One that fails would leave the other asking.
    limits: { timeMs: 60_000 },
    serveIndex: async ({ socket }) => {
      const server = createServer((request, response) => {
        asked.add(request.url ?? '')
        response.writeHead(asked.size === 2 ? 200 : 404).end()
      })
      server.listen(socket)
      await once(server, 'listening')
      return { close: () => new Promise((resolve) => server.close(() => resolve())) }
    },
  })
  expect(report?.records).toHaveLength(2)
})

test('what fails names its command, its last lines, its log and what it was denied; others are built all the same', async () => {
  const { error, store, tree, record } = await run({
    breaks: script(
      'echo about to fetch; wget -q -T 2 -t 1 http://binaries.example/x.tgz || curl -sm 2 http://binaries.example/x.tgz; curl -s ${POLDER_INDEX}left-pad >/dev/null; echo it broke >&2; exit 3',
    ),
    dependent: script('true', { links: ['breaks'] }),
    bystander: script('true'),
  })
  expect(error).toMatchObject({
    code: 'BUILD_FAILED',
    message: 'breaks@1.0.0: its install script failed with exit code 3',
  })
  const { log = '' } = record('breaks') ?? {}
  expect(error?.details.explanation).toContain('$ echo about to fetch;')
  expect(error?.details.explanation).toContain('| it broke')
  expect(error?.details.explanation).toContain('it tried to reach the name binaries.example')
  expect(error?.details.explanation).toContain('it asked the index for left-pad, which is not pinned')
  expect(error?.details.hint).toContain(`the whole log: ${log}`)
  expect(readFileSync(log, 'utf8')).toContain('it broke\n')
  expect(error?.details.others?.map(({ message }) => message)).toEqual([
    'dependent@1.0.0 was not built, because breaks@1.0.0 could not be',
  ])
  expect(hasTree(store, tree('bystander'))).toBe(true)
  expect(hasTree(store, tree('breaks'))).toBe(false)
  expect(record('breaks')).toMatchObject({ status: 'failed', failure: { status: 3, script: { event: 'install' } } })
  expect(record('breaks')?.attempts).toContainEqual(expect.objectContaining({ script: 'install', kind: 'dns' }))
  expect(record('breaks')?.refused).toEqual([{ what: 'left-pad', count: 1 }])
})

test.for([
  ['a dependency', '../lower/index.js', '/build/node_modules/lower/index.js'],
  ['what is beside it', '../new', '/build/node_modules/new'],
  ['the system', '/usr/lib/new', '/usr/lib/new'],
] as const)('writing to %s fails the build, which names the path', async ([, path, named]) => {
  const { error } = await run({
    writer: script(`node -e "require('fs').writeFileSync('${path}', 'mine')"`, { links: ['lower'] }),
    lower: { files: { 'index.js': 'module.exports = 1\n' } },
  })
  expect(error?.code).toBe('BUILD_FAILED')
  expect(error?.details.explanation).toContain(path.startsWith('/') ? named : path)
  expect(error?.details.explanation).toMatch(/EROFS|EACCES/)
})

test('links out of the package, and what is no file, are left out and told; files nobody may read are kept', async () => {
  const { text, record, error } = await run({
    linker: script(
      'ln -s /etc/passwd out; ln -s index.js in; ln -s . self; mkfifo fifo; echo hidden > hidden; chmod 000 hidden',
      { files: { 'index.js': 'here\n' } },
    ),
  })
  expect(error).toBeUndefined()
  expect(record('linker')?.leftOut).toEqual(['fifo', 'out', 'self'])
  expect(text('linker', 'in')).toBe('here\n')
  expect(text('linker', 'hidden')).toBe('hidden\n')
})

test('a script that changes its package.json does not change what the next one is told', async () => {
  const { text, error } = await run({
    shifty: {
      scripts: {
        preinstall: 'rm package.json; ln -s /etc/shadow package.json',
        postinstall: 'echo $npm_package_name > told',
      },
    },
  })
  expect(error).toBeUndefined()
  expect(text('shifty', 'told')).toBe('shifty\n')
})

test('of an optional package that fails, the message says how to go on without it', async () => {
  const { error } = await run({ extra: script('exit 1', { optional: true }) })
  expect(error?.details.hint).toMatch(/^it is optional: without it in builds\.allow .* the whole log: /)
})

test('a limit that a build goes over is named, with the setting that raises it', async () => {
  const { error, record } = await run({ slow: script('echo begun; sleep 60') }, { limits: { timeMs: 500 } })
  expect(error?.message).toBe('slow@1.0.0: its install script went over its limit of time and was ended')
  expect(error?.details.hint).toMatch(/^raise builds\.limits\.minutes in polder\.yaml/)
  expect(record('slow')?.failure).toMatchObject({ limit: 'time' })
})

test('a variable from polder.yaml reaches the scripts of its package, and nothing of our own environment does', async () => {
  const packages = { asks: script('echo "$MODE$SECRET" > told') }
  process.env['SECRET'] = 'ours'
  const store = await storeOf(packages)
  const plan = planOf(packages, { env: { asks: { MODE: 'fast' } } })
  await runBuilds(store, plan.builds(), optionsWith())
  delete process.env['SECRET']
  expect(readFileSync(join(readTree(store, plan.ids['asks'] as TreeId).path, 'told'), 'utf8')).toBe('fast\n')
})

test('clients and tools inside find the index by configuration', async () => {
  const { text, error } = await run({
    clients: script(
      '(npm config get registry; npx --version >/dev/null && echo npx; node-gyp --version | cut -c1; echo $PIP_INDEX_URL; npm view nothing 2>&1 | grep -c E404) > told',
    ),
  })
  expect(error).toBeUndefined()
  expect(text('clients', 'told').split('\n').slice(0, 5)).toEqual([
    'http://127.0.0.1:4873/',
    'npx',
    'v',
    'http://127.0.0.1:4873/simple/',
    '1',
  ])
})

test('a store with a path too long for sockets serves as well', async () => {
  const packages = { plain: script('true') }
  const store = await storeOf(packages, join(temporaryHome(), 'a'.repeat(100)))
  expect((await run(packages, {}, store)).report?.records).toHaveLength(1)
})

test('inspecting builds again, keeps what there is, and shows what was left', async () => {
  const packages = { dated: script('date +%N > when') }
  const { store, text } = await run(packages)
  const before = text('dated', 'when')
  const seen: string[] = []
  await run(
    packages,
    { inspect: (_, directory) => void seen.push(readFileSync(join(directory, 'when'), 'utf8')) },
    store,
  )
  expect(seen).toHaveLength(1)
  expect(seen[0]).not.toBe(before)
  expect(text('dated', 'when')).toBe(before)
})
