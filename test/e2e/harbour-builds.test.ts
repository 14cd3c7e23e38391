import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

import { beforeAll, describe, expect, test } from 'vitest'

import { copyExample, type Invocation, polder, polderDone, temporaryDirectory } from '../support/cli.ts'
import { CHECKS } from '../support/harbour-checks.ts'
import { networkCut } from '../support/network-cut.ts'

// The one install script that harbour allows: bcrypt's, which looks for the addon that its archive brings.
const LAYOUTS = ['linked', 'self-contained'] as const
const TIMEOUT = 120_000
const cut = networkCut()
let first: Invocation
let lockText: string
let bundle: string

function checkout(home: string): Invocation {
  const cwd = copyExample('harbour')
  writeFileSync(join(cwd, 'polder.lock'), lockText)
  return { cwd, home, ...('inside' in cut ? { inside: cut.inside } : {}) }
}

async function json(args: readonly string[], run: Invocation): Promise<unknown> {
  return JSON.parse(await polderDone([...args, '--json'], run))
}

async function checks(run: Invocation): Promise<unknown> {
  const lines = (await polderDone(['run', 'check'], run)).trim().split('\n')
  return lines.map((line) => JSON.parse(line) as unknown)
}

beforeAll(async () => {
  const home = join(temporaryDirectory('store'), 'store')
  const cwd = copyExample('harbour')
  await polderDone(['lock'], { cwd, home, upstream: true })
  lockText = readFileSync(join(cwd, 'polder.lock'), 'utf8')
  first = { cwd, home, ...('inside' in cut ? { inside: cut.inside } : {}) }
  expect(await json(['install', '--require-sandbox'], first)).toMatchObject({
    builds: [{ package: 'bcrypt@6.0.0', attempts: 0, refused: 0 }],
    reusedBuilds: 0,
    notBuilt: ['esbuild@0.25.5'],
  })
  bundle = join(temporaryDirectory('bundle'), 'harbour.tar')
  expect(await polderDone(['index', 'export', bundle], first)).toContain(' 1 built package')
}, TIMEOUT)

test('what harbour builds, it builds in a sandbox, and that reached for nothing', async () => {
  expect(await json(['builds'], first)).toMatchObject({
    builds: [
      {
        package: 'bcrypt@6.0.0',
        status: 'built',
        scripts: [{ event: 'install', command: 'node-gyp-build' }],
        record: { attempts: [], refused: [], leftOut: [] },
      },
    ],
    notAllowed: ['esbuild@0.25.5'],
  })
  expect(await checks(first)).toEqual(CHECKS)
})

test('a script that fails on another Node than the one that its packages are built for is told of both', async () => {
  const bin = temporaryDirectory('bin')
  writeFileSync(join(bin, 'node'), '#!/bin/sh\nexit 9\n', { mode: 0o755 })
  const other = { ...first, env: { PATH: `${bin}:/usr/bin:/bin` } }
  const { code, stderr } = await polder(['run', 'check', '--service', 'services/gatehouse'], other)
  expect({ code, stderr }).toEqual({
    code: 9,
    stderr: `polder: services/gatehouse > check failed with exit code 9
  what is built is for Node ${process.versions.node}, which runs polder, and \`node\` here is ${bin}/node
`,
  })
})

test('a further checkout loads nothing that builds', async () => {
  const record = join(temporaryDirectory('record'), 'loaded')
  const recorder = fileURLToPath(new URL('../support/loaded-modules-process.ts', import.meta.url))
  const run = { ...checkout(first.home), nodeOptions: ['--import', recorder], env: { RECORD_LOADED_MODULES: record } }
  expect(await polderDone(['install'], run)).toContain('built before: 1 package')
  const loaded = readFileSync(record, 'utf8').split('\n')
  expect(
    loaded.filter((url) => /\/packages\/build\/src\/(?:index|lifecycle\/toolchain|sandbox\/.*)\.ts$/.test(url)),
  ).toEqual([])
  expect(loaded.filter((url) => /\/packages\/(?:gather|lock)\/src\/index\.ts$/.test(url))).toEqual([])
})

describe.each(LAYOUTS)('%s, with the network cut', (layout) => {
  test(
    'an empty store that a bundle was brought to builds nothing, nor does a second checkout of it',
    async () => {
      const home = join(temporaryDirectory('store'), 'store')
      await polderDone(['index', 'import', bundle], checkout(home))
      for (const run of [checkout(home), checkout(home)]) {
        expect(await json(['install', '--layout', layout], run)).toMatchObject({ builds: [], reusedBuilds: 1 })
        expect(await checks(run)).toEqual(CHECKS)
        expect(await json(['verify'], run)).toMatchObject({ clean: true })
      }
    },
    TIMEOUT,
  )
})
