import { createHash } from 'node:crypto'
import { appendFileSync, cpSync, existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

import { afterAll, beforeAll, describe, expect, test, type TestContext } from 'vitest'

import { polder, polderDone, temporaryDirectory } from '../support/cli.ts'
import { writeMonorepo } from '../support/monorepo.ts'
import { networkCut } from '../support/network-cut.ts'
import { startRegistry, type Registry } from '../support/registry.ts'

// Another text each time that it runs: whoever finds the same text has what was built once.
const BUILD = `require('node:fs').writeFileSync('mark.json', JSON.stringify(require('node:crypto').randomUUID()))\n`
const CHECK = `console.log(require('scribe'))\n`

const KILL_AT_CHANGE = new URL('../support/kill-at-change.ts', import.meta.url).pathname
const cut = networkCut()
let registry: Registry
let cwd: string
let home: string
let mark: string
let bundle: string

beforeAll(async () => {
  registry = await startRegistry()
  cwd = join(temporaryDirectory('built'), 'repository')
  home = join(temporaryDirectory('store'), 'store')
  const scribe = registry.serve('scribe', '1.2.0', {
    scripts: { install: 'node build.js' },
    files: { 'build.js': BUILD, 'index.js': "module.exports = require('./mark.json')\n" },
  })
  const other = registry.serve('other', '1.0.0')
  writeMonorepo(cwd, registry, {
    'services/desk': {
      manifest: { dependencies: { scribe: '1.2.0' }, scripts: { check: 'node check.cjs' } },
      locked: { scribe },
      files: { 'check.cjs': CHECK },
    },
    'services/gate': { manifest: { dependencies: { other: '1.0.0' } }, locked: { other } },
  })
  appendFileSync(join(cwd, 'polder.yaml'), 'builds:\n  allow:\n    scribe: ^1.0.0\n')
  await polderDone(['lock'], { cwd, home })
  await polderDone(['index', 'sync'], { cwd, home })
  await polderDone(['install'], { cwd, home })
  mark = await checked({ cwd, home })
  bundle = join(temporaryDirectory('bundle'), 'built.tar')
  expect(await polderDone(['index', 'export', bundle], { cwd, home })).toContain(
    ' has 2 artifacts, 1 built package, 2 release records\n',
  )
}, 120_000)
afterAll(() => registry.close())

function fresh(): { cwd: string; home: string } {
  const target = join(temporaryDirectory('checkout'), 'repository')
  cpSync(cwd, target, { recursive: true, filter: (path) => !/\/(node_modules|\.polder)$/.test(path) })
  return { cwd: target, home: join(temporaryDirectory('store'), 'store') }
}

async function checked(run: { cwd: string; home: string }): Promise<string> {
  return (await polderDone(['run', 'check', '--service', 'services/desk'], run)).trim()
}

async function exported(...options: readonly string[]): Promise<Buffer> {
  const path = join(temporaryDirectory('bundle'), 'other.tar')
  await polderDone(['index', 'export', path, ...options], { cwd, home })
  return readFileSync(path)
}

describe('a bundle from a store where a package was built', () => {
  test('installs on an empty store without a network, and no script runs', async (context: TestContext) => {
    if ('refused' in cut) return context.skip(cut.refused)
    const run = { ...fresh(), inside: cut.inside }
    expect(await polderDone(['index', 'import', bundle], run)).toContain(
      'verified: 2 artifacts, 1 built package, 2 release records; 3 were new\n',
    )
    const installed = JSON.parse(await polderDone(['install', '--json'], run)) as object
    expect(installed).toMatchObject({ builds: [], reusedBuilds: 1, notBuilt: [] })
    expect(await checked(run)).toBe(mark)
    expect(JSON.parse(await polderDone(['builds', '--json'], run))).toMatchObject({
      builds: [{ package: 'scribe@1.2.0', status: 'built' }],
    })
    // Records and logs are of builds that ran here.
    expect(existsSync(join(run.home, 'builds'))).toBe(false)
    await polderDone(['verify'], run)
  })

  test('is the same wherever it is exported again', async () => {
    const run = fresh()
    await polderDone(['index', 'import', bundle], run)
    const again = join(temporaryDirectory('bundle'), 'again.tar')
    await polderDone(['index', 'export', again], run)
    expect(sha256(readFileSync(again))).toBe(sha256(readFileSync(bundle)))
  })

  test('for a service has its built packages, and since an older lock those that are new', async () => {
    expect((await exported('--service', 'services/desk')).includes('"kind":"tree"')).toBe(true)
    expect((await exported('--service', 'services/gate')).includes('"kind":"tree"')).toBe(false)
    expect((await exported('--since', join(cwd, 'polder.lock'))).includes('"kind":"tree"')).toBe(false)
  })

  test(
    'is of no use where the package is built in another way: install builds as usual',
    { timeout: 60_000 },
    async () => {
      const run = fresh()
      await polderDone(['index', 'import', bundle], run)
      appendFileSync(join(run.cwd, 'polder.yaml'), '  env:\n    scribe:\n      SHORT: "1"\n')
      await polderDone(['lock'], run)
      const installed = JSON.parse(await polderDone(['install', '--json'], run)) as object
      expect(installed).toMatchObject({ builds: [{ package: 'scribe@1.2.0' }], reusedBuilds: 0 })
      expect(await checked(run)).not.toBe(mark)
    },
  )

  test(
    'whose import is killed on its way leaves no half of a built package, and is completed by the next',
    { timeout: 60_000 },
    async () => {
      const words = ['index', 'import', bundle]
      const nodeOptions = ['--import', KILL_AT_CHANGE]
      const countTo = join(temporaryDirectory('count'), 'changes')
      await polderDone(words, { ...fresh(), nodeOptions, env: { POLDER_COUNT_TO: countTo } })
      const changes = Number(readFileSync(countTo, 'utf8'))
      let killed = 0
      for (const share of [0.5, 0.7, 0.8, 0.9]) {
        const run = fresh()
        const env = { POLDER_KILL_AT: String(Math.ceil(changes * share)) }
        const { code } = await polder(words, { ...run, nodeOptions, env })
        killed += code === null ? 1 : 0
        for (const id of readdirSync(join(run.home, 'trees')))
          expect(readdirSync(join(run.home, 'trees', id)).sort()).toEqual(['files.json', 'hashes.json', 'package'])
        await polderDone(words, run)
        expect(JSON.parse(await polderDone(['install', '--json'], run))).toMatchObject({ builds: [], reusedBuilds: 1 })
      }
      expect(killed).toBeGreaterThan(2)
    },
  )

  test('is refused with a built package that was changed', async () => {
    const bytes = readFileSync(bundle)
    const at = bytes.indexOf('randomUUID', bytes.indexOf('"recipe"'))
    bytes.write('somethings', at)
    const run = fresh()
    const path = join(run.cwd, 'changed.tar')
    appendFileSync(path, bytes)
    const { code, stderr } = await polder(['index', 'import', path], run)
    expect({ code, stderr }).toEqual({
      code: 5,
      stderr: expect.stringMatching(
        /changed\.tar is refused: its member trees\/[0-9a-f]{40} is not what its list says/,
      ),
    })
    expect(readdirSync(join(run.home, 'trees'))).toEqual([])
  })
})

function sha256(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex')
}
