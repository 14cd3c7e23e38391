import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

import { beforeAll, describe, expect, test } from 'vitest'

import { copyExample, type Invocation, polder, polderDone, temporaryDirectory } from '../support/cli.ts'
import { networkCut } from '../support/network-cut.ts'

const CHECK = {
  service: 'lamp',
  loaded: { 'cpu-features': '0.0.10' },
  addon: 'cpufeatures.node',
  arch: process.arch === 'x64' ? 'x86' : 'aarch64',
}
const TIMEOUT = 180_000
const cut = networkCut()
let home: string
let lockText: string
let first: Invocation

function checkout(): string {
  const cwd = copyExample('lighthouse')
  writeFileSync(join(cwd, 'polder.lock'), lockText)
  return cwd
}

async function checked(run: Invocation): Promise<unknown> {
  return JSON.parse(await polderDone(['run', 'check'], run))
}

async function installed(run: Invocation): Promise<unknown> {
  return JSON.parse(await polderDone(['install', '--json'], run))
}

// Locked with the registry of the user's own configuration; from there on nothing but the index is needed.
beforeAll(async () => {
  home = join(temporaryDirectory('store'), 'store')
  const cwd = copyExample('lighthouse')
  await polderDone(['lock'], { cwd, home, upstream: true })
  lockText = readFileSync(join(cwd, 'polder.lock'), 'utf8')
  first = { cwd, home, ...('inside' in cut ? { inside: cut.inside } : {}) }
  expect(await installed(first)).toMatchObject({
    builds: [{ package: 'cpu-features@0.0.10' }],
    reusedBuilds: 0,
    notBuilt: [],
  })
}, TIMEOUT)

describe('the native addon of the lighthouse, compiled without a network', () => {
  test('loads and works, and asked for nothing but what is pinned', async () => {
    expect(await checked(first)).toEqual(CHECK)
    expect(JSON.parse(await polderDone(['builds', 'cpu-features', '--json'], first))).toMatchObject({
      builds: [
        {
          status: 'built',
          scripts: [{ event: 'install', command: 'node buildcheck.js > buildcheck.gypi && node-gyp rebuild' }],
          record: { attempts: [], refused: [], leftOut: [], addons: ['build/Release/cpufeatures.node'] },
        },
      ],
    })
    await polderDone(['verify'], first)
  })

  test('is not compiled again in a second checkout, nor in one that is self-contained', async () => {
    for (const words of [[], ['--layout', 'self-contained']]) {
      const run = { ...first, cwd: checkout() }
      const report: unknown = JSON.parse(await polderDone(['install', '--json', ...words], run))
      expect(report).toMatchObject({ builds: [], reusedBuilds: 1 })
      expect(await checked(run)).toEqual(CHECK)
    }
  })

  test('is not compiled on an empty store that a bundle was brought to', async () => {
    const bundle = join(temporaryDirectory('bundle'), 'lighthouse.tar')
    expect(await polderDone(['index', 'export', bundle], first)).toContain(' 3 artifacts, 1 built package')
    const run = { ...first, cwd: checkout(), home: join(temporaryDirectory('store'), 'store') }
    await polderDone(['index', 'import', bundle], run)
    expect(await installed(run)).toMatchObject({ builds: [], reusedBuilds: 1 })
    expect(await checked(run)).toEqual(CHECK)
    await polderDone(['verify'], run)
  })

  test('is not there where its script is not allowed: install says so, and the service does not start', async () => {
    const cwd = copyExample('lighthouse')
    const config = join(cwd, 'polder.yaml')
    writeFileSync(config, readFileSync(config, 'utf8').replace(/^builds:[^]*$/m, ''))
    const run = { cwd, home, upstream: true }
    await polderDone(['lock'], run)
    expect(await installed(run)).toMatchObject({ notBuilt: ['cpu-features@0.0.10'] })
    const { code, stderr } = await polder(['run', 'check'], run)
    expect(code).toBe(1)
    expect(stderr).toContain("Cannot find module '../build/Release/cpufeatures.node'")
  })
})
