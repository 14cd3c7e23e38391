import { appendFileSync, cpSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

import { afterAll, beforeAll, expect, test } from 'vitest'

import { polder, polderDone, temporaryDirectory, type Invocation } from '../support/cli.ts'
import { writeMonorepo } from '../support/monorepo.ts'
import { startRegistry, type Registry, type ServedVersion } from '../support/registry.ts'
import { packTarball } from '../support/tarball.ts'

// As the package `node` calls it.
const { platform: os, arch: cpu } = process
const PLATFORM_PACKAGE = `${os === 'darwin' && cpu === 'arm64' ? 'node-bin' : 'node'}-${os}-${cpu}`

let registry: Registry
let node: ServedVersion
let puppeteer: ServedVersion

beforeAll(async () => {
  registry = await startRegistry()
  // Of the real one only that it installs another package while it is installed.
  node = registry.serve('node', '99.1.0', {
    scripts: { preinstall: `npm install --no-save ${PLATFORM_PACKAGE}@99.1.0` },
    files: { 'index.js': `module.exports = require('${PLATFORM_PACKAGE}')\n` },
  })
  puppeteer = registry.serve('puppeteer', '9.0.0', { scripts: { postinstall: 'true' } })
  registry.serve(PLATFORM_PACKAGE, '99.1.0', { files: { 'index.js': 'module.exports = "the platform package"\n' } })
})
afterAll(() => registry.close())

/** Where `node` and `puppeteer` may run their scripts. */
function repository(): Invocation {
  const at = { cwd: join(temporaryDirectory('needs'), 'repository'), home: join(temporaryDirectory('needs'), 'store') }
  const manifest = { dependencies: { node: '99.1.0', puppeteer: '9.0.0' } }
  writeMonorepo(at.cwd, registry, { app: { manifest, locked: { node, puppeteer } } })
  appendFileSync(join(at.cwd, 'polder.yaml'), "builds:\n  allow: { node: '*', puppeteer: '*' }\n")
  return at
}

const lockOf = ({ cwd }: Invocation): string => readFileSync(join(cwd, 'polder.lock'), 'utf8')

test('what a script is known to install is pinned, found by it, and stays pinned', async () => {
  const at = repository()
  const { code, stderr } = await polder(['lock'], at)
  expect({ code, stderr }).toEqual({
    code: 0,
    stderr:
      "warning: puppeteer@9.0.0 fetches a file when it is built, and none is pinned that it would ask for: `polder builds puppeteer --learn` finds out which, `polder index add URL --sha512 …` pins it; PUPPETEER_SKIP_DOWNLOAD: 'true' for it in builds.env does without\n",
  })
  const text = lockOf(at)
  expect(text).toMatch(
    new RegExp(
      `index:\\n  packages:\\n    ${PLATFORM_PACKAGE}@99\\.1\\.0:\\n      integrity: sha512-.*\\n      neededBy: node@99\\.1\\.0\\n`,
    ),
  )
  await polderDone(['lock', '--check'], at)
  await polderDone(['lock', '--offline'], at)
  expect(lockOf(at)).toBe(text)

  // Another machine: what is pinned is all that counts, whatever the registry says by then.
  const other = {
    cwd: join(temporaryDirectory('needs'), 'repository'),
    home: join(temporaryDirectory('needs'), 'store'),
  }
  cpSync(at.cwd, other.cwd, { recursive: true })
  await polderDone(['index', 'sync'], other)
  await polderDone(['install'], other)
  expect(await polderDone(['exec', '--service', 'app', '--', 'node', '-p', 'require("node")'], other)).toBe(
    'the platform package\n',
  )
  const { builds } = JSON.parse(await polderDone(['builds', 'node', '--json'], other)) as { builds: readonly object[] }
  expect(builds).toMatchObject([{ status: 'built', record: { attempts: [], refused: [] } }])
})

test('a pin by hand leaves it where it is, and takes its place if it is the same package', async () => {
  const at = repository()
  await polderDone(['lock'], at)
  const extra = join(at.cwd, 'extra.tgz')
  writeFileSync(extra, packTarball({ 'package.json': '{"name":"extra","version":"1.0.0"}' }))
  await polderDone(['index', 'add', extra], at)
  expect(lockOf(at)).toContain('neededBy: node@99.1.0')
  expect(lockOf(at)).toContain('extra@1.0.0')
  const own = join(at.cwd, 'own.tgz')
  writeFileSync(own, packTarball({ 'package.json': JSON.stringify({ name: PLATFORM_PACKAGE, version: '99.1.0' }) }))
  await polderDone(['index', 'add', own], at)
  await polderDone(['lock'], at)
  expect(lockOf(at)).toContain('file: own.tgz')
  expect(lockOf(at)).not.toContain('neededBy')
})

test('of a prebuilt binary, lock says the URL and how to pin it, and is silent once it is, or is not wanted', async () => {
  const addon = registry.serve('addon', '1.2.0', {
    scripts: { install: 'prebuild-install -r napi || true' },
    repository: { url: 'git+https://github.com/some/addon.git' },
    binary: { napi_versions: [3] },
  })
  const at = { cwd: join(temporaryDirectory('needs'), 'repository'), home: join(temporaryDirectory('needs'), 'store') }
  writeMonorepo(at.cwd, registry, { app: { manifest: { dependencies: { addon: '1.2.0' } }, locked: { addon } } })
  const config = join(at.cwd, 'polder.yaml')
  const allowed = `${readFileSync(config, 'utf8')}builds:\n  allow: { addon: '*' }\n`
  writeFileSync(config, allowed)
  const url = `https://github.com/some/addon/releases/download/v1.2.0/addon-v1.2.0-napi-v3-${os}-${cpu}.tar.gz`
  expect((await polder(['lock'], at)).stderr).toBe(
    `warning: addon@1.2.0 fetches ${url} when it is built, which is not pinned, and compiles without it: \`polder index add ${url} --sha512 …\` pins it; npm_config_build_from_source: 'true' for it in builds.env compiles\n`,
  )
  writeFileSync(config, `${allowed}  env: { addon: { npm_config_build_from_source: 'true' } }\n`)
  expect((await polder(['lock'], at)).stderr).toBe('')
  writeFileSync(config, allowed)
  const file = join(at.cwd, 'addon.tar.gz')
  writeFileSync(file, 'a binary')
  await polderDone(['index', 'add', file, '--as', url], at)
  expect((await polder(['lock'], at)).stderr).toBe('')
  expect(await polderDone(['index', 'env'], at)).toContain('npm_config_addon_binary_host_mirror=')
})

test('what cannot be had is a warning, and a pin that is there stays', async () => {
  const at = repository()
  registry.fault(PLATFORM_PACKAGE, { kind: 'status', status: 404 })
  const without = await polder(['lock'], at)
  expect(without.code).toBe(0)
  expect(without.stderr).toContain(`warning: what a build will ask for is not pinned: ${PLATFORM_PACKAGE}@99.1.0`)
  expect(lockOf(at)).not.toContain('neededBy')
  registry.clearFaults()
  await polderDone(['lock'], at)
  const text = lockOf(at)
  expect(text).toContain('neededBy')
  registry.fault(PLATFORM_PACKAGE, { kind: 'status', status: 404 })
  await polderDone(['lock'], { ...at, home: join(temporaryDirectory('needs'), 'store') })
  registry.clearFaults()
  expect(lockOf(at)).toBe(text)
})
