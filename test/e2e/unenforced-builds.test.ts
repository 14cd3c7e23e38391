import { appendFileSync, cpSync, mkdirSync } from 'node:fs'
import { join } from 'node:path'

import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'

import { type Invocation, polder, polderDone, temporaryDirectory } from '../support/cli.ts'
import { writeMonorepo } from '../support/monorepo.ts'
import { startRegistry, type Registry } from '../support/registry.ts'

// Another text each time that it runs: whoever finds the same text has what was built once.
const BUILD = `require('node:fs').writeFileSync('mark.json', JSON.stringify(require('node:crypto').randomUUID()))\n`

let registry: Registry
let original: string
/** A PATH on which there is nothing that a sandbox is made of. */
let bare: string

beforeAll(async () => {
  registry = await startRegistry()
  original = join(temporaryDirectory('unenforced'), 'repository')
  bare = join(temporaryDirectory('unenforced'), 'bin')
  mkdirSync(bare)
  const scribe = registry.serve('scribe', '1.2.0', {
    scripts: { install: 'node build.js' },
    files: { 'build.js': BUILD, 'index.js': "module.exports = require('./mark.json')\n" },
  })
  writeMonorepo(original, registry, {
    'services/desk': {
      manifest: { dependencies: { scribe: '1.2.0' }, scripts: { check: 'node check.cjs' } },
      locked: { scribe },
      files: { 'check.cjs': "console.log(require('scribe'))\n" },
    },
  })
  appendFileSync(join(original, 'polder.yaml'), 'builds:\n  allow: { scribe: "*" }\n')
  await polderDone(['lock'], { cwd: original, home: join(temporaryDirectory('store'), 'store') })
})
afterAll(() => registry.close())

/** Where nothing can be confined, somebody who does not mind; and CI, where it can be. */
let loose: Invocation
let ci: Invocation
beforeEach(async () => {
  const at = { cwd: checkout(), home: join(temporaryDirectory('store'), 'store') }
  await polderDone(['index', 'sync'], at)
  loose = { ...at, env: { PATH: bare, CI: '' } }
  ci = { ...at, env: { CI: 'true' } }
})

function checkout(): string {
  const cwd = join(temporaryDirectory('checkout'), 'repository')
  cpSync(original, cwd, { recursive: true, filter: (path) => !/\/(node_modules|\.polder)$/.test(path) })
  return cwd
}

const mark = async (run: Invocation): Promise<string> =>
  polderDone(['run', 'check', '--service', 'services/desk'], { ...run, env: {} })

const asked = async (words: readonly string[], run: Invocation): Promise<unknown> =>
  JSON.parse(await polderDone([...words, '--json'], run))

const builtAt = (level: unknown): object => ({ builds: [{ status: 'built', record: { level } }] })
const CONFINED = expect.stringMatching(/^(?:bubblewrap|unshare)$/) as unknown

test('what was built without a sandbox is not taken where one is required, not even by a checkout that has it', async () => {
  const first = await polder(['install'], loose)
  expect(first.stdout).toContain('unenforced: 1 build ran without a sandbox')
  expect(first.stderr).toContain('warning: no sandbox with bubblewrap')
  const before = await mark(loose)
  expect(await asked(['builds'], loose)).toMatchObject(builtAt('unenforced'))
  expect(await asked(['verify'], loose)).toMatchObject({ clean: true })
  expect(await asked(['install'], loose)).toMatchObject({ upToDate: true })
  // Nothing on this machine would confine it.
  const denied = await polder(['install'], { ...loose, env: { PATH: bare, CI: 'true' } })
  expect(denied.code).toBe(1)
  expect(denied.stderr).toContain('[SANDBOX_UNAVAILABLE]')
  expect(await mark(loose)).toBe(before)

  expect(await asked(['install'], ci)).toMatchObject({
    builds: [{ package: 'scribe@1.2.0', level: CONFINED }],
    reusedBuilds: 0,
  })
  expect(await mark(ci)).not.toBe(before)
  expect(await asked(['builds'], ci)).toMatchObject(builtAt(CONFINED))
  expect(await asked(['verify'], ci)).toMatchObject({ clean: true })
  expect(await asked(['install'], ci)).toMatchObject({ upToDate: true })
  // From now on there is a better one, for everybody.
  const other = { ...loose, cwd: checkout() }
  expect(await asked(['install'], other)).toMatchObject({ builds: [], reusedBuilds: 1 })
  expect(await mark(other)).toBe(await mark(ci))
})

test('a bundle carries it as what it is: who requires a sandbox builds again, and who does without a sandbox does not have to', async () => {
  await polderDone(['install'], loose)
  const bundle = join(temporaryDirectory('bundle'), 'unenforced.tar')
  expect(await polderDone(['index', 'export', bundle], loose)).toContain('1 built package')
  const home = join(temporaryDirectory('store'), 'store')
  const there = { cwd: checkout(), home }
  expect(await polderDone(['index', 'import', bundle], there)).toContain(
    '  unenforced: 1 package built without a sandbox; built again where one is required or can be had\n',
  )
  expect(await asked(['install', '--require-sandbox'], there)).toMatchObject({
    builds: [{ level: CONFINED }],
    reusedBuilds: 0,
  })
  expect(await mark(there)).not.toBe(await mark(loose))

  const elsewhere = { ...loose, cwd: checkout(), home: join(temporaryDirectory('store'), 'store') }
  await polderDone(['index', 'import', bundle], elsewhere)
  expect((await polder(['install'], elsewhere)).stdout).toContain('  unenforced: 1 build ran without a sandbox\n')
  expect(await mark(elsewhere)).toBe(await mark(loose))
  // Exported again, it is the same bundle.
  expect(await asked(['index', 'export', join(elsewhere.home, 'again.tar')], elsewhere)).toMatchObject({ trees: 1 })
})
