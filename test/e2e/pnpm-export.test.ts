import { existsSync, readFileSync, realpathSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { parse } from 'yaml'

import {
  copyExample,
  copyRepository,
  finish,
  polderDone,
  scrubbedEnvironment,
  temporaryDirectory,
  TOOLS,
  type Finished,
} from '../support/cli.ts'
import { walkEdges } from '../support/edge-walk.ts'
import { CHECKS } from '../support/harbour-checks.ts'
import { networkCut } from '../support/network-cut.ts'
import { readOriginalLocks } from '../support/original-locks.ts'
import { startRegistry, type Registry } from '../support/registry.ts'

const CORPUS = process.env['POLDER_CORPUS'] ?? fileURLToPath(new URL('../../../shared/corpus', import.meta.url))

let registry: Registry
let home: string
/** pnpm's own store. */
let pnpmStore: string

beforeAll(async () => {
  registry = await startRegistry()
  home = temporaryDirectory('store')
  pnpmStore = temporaryDirectory('pnpm-store')
})

afterAll(() => registry.close())

/** Locks the repository and serves exactly what is locked: its artifacts, as they are in polder's store. */
async function lockAndServe(cwd: string): Promise<number> {
  if (!existsSync(join(cwd, 'polder.yaml'))) await polderDone(['init'], { cwd, home })
  await polderDone(['lock'], { cwd, home, upstream: true })
  const lock = parse(readFileSync(join(cwd, 'polder.lock'), 'utf8'), { maxAliasCount: -1 }) as {
    npm: { packages: Record<string, { integrity: string }> }
  }
  for (const [id, { integrity }] of Object.entries(lock.npm.packages)) {
    const hex = Buffer.from(integrity.replace('sha512-', ''), 'base64').toString('hex')
    const at = id.lastIndexOf('@')
    registry.serveArtifact(
      id.slice(0, at),
      id.slice(at + 1),
      readFileSync(join(home, 'artifacts', 'sha512', hex.slice(0, 2), hex.slice(2))),
    )
  }
  return Object.keys(lock.npm.packages).length
}

/** A copy for pnpm: the manifests, without what the services had locked themselves, and the exported lock. */
async function exported(cwd: string, leaveOut: readonly string[]): Promise<string> {
  const target = copyRepository(cwd)
  for (const path of leaveOut) rmSync(join(target, path), { recursive: true })
  await polderDone(['export', 'pnpm-lock', '--output', target], { cwd, home })
  writeFileSync(join(target, '.npmrc'), `registry=${registry.url}\nfetch-retries=0\n`)
  withoutPackageManager(join(target, 'package.json'))
  return target
}

/** `packageManager` makes pnpm fetch the version of itself that stands there. */
function withoutPackageManager(path: string): void {
  if (!existsSync(path)) return
  const { packageManager: _, ...manifest } = JSON.parse(readFileSync(path, 'utf8')) as Record<string, unknown>
  writeFileSync(path, JSON.stringify(manifest, null, 2))
}

/** The real pnpm. Whatever it might ask of another host goes to a proxy that is not there. */
function pnpm(args: readonly string[], cwd: string, inside: readonly string[] = []): Promise<Finished> {
  const nowhere = 'http://127.0.0.1:1'
  const env = { HTTP_PROXY: nowhere, HTTPS_PROXY: nowhere, NO_PROXY: '127.0.0.1', CI: 'true' }
  const [program = '', ...words] = [...inside, join(TOOLS, 'pnpm'), ...args]
  return finish(program, words, { cwd, env: scrubbedEnvironment({ home, env }) })
}

/** Once from the registry, into its store; then elsewhere from that store alone, in a namespace without a network where there is one. */
async function installTwice(make: () => Promise<string>): Promise<string> {
  const install = ['install', '--frozen-lockfile', '--ignore-scripts', '--store-dir', pnpmStore]
  const online = await pnpm(install, await make())
  expect(online.code, online.stdout + online.stderr).toBe(0)
  const asked = registry.requests.length
  const cwd = await make()
  const before = readFileSync(join(cwd, 'pnpm-lock.yaml'), 'utf8')
  const cut = networkCut()
  const offline = await pnpm([...install, '--offline'], cwd, 'refused' in cut ? [] : cut.inside)
  expect(offline.code, offline.stdout + offline.stderr).toBe(0)
  expect(registry.requests.length).toBe(asked)
  expect(readFileSync(join(cwd, 'pnpm-lock.yaml'), 'utf8')).toBe(before)
  return cwd
}

test(
  'pnpm installs harbour from what polder exports, and each service gets the versions of the flattened environment',
  { timeout: 120_000 },
  async () => {
    const cwd = copyExample('harbour')
    await lockAndServe(cwd)
    const own = [
      'pnpm-lock.yaml',
      'pnpm-workspace.yaml',
      'services/berths/package-lock.json',
      'services/customs/package-lock.json',
      'services/gatehouse/package-lock.json',
      'services/cranes/yarn.lock',
    ]
    const installed = await installTwice(() => exported(cwd, own))
    const checks: unknown[] = []
    for (const service of [
      'apps/dashboard',
      'apps/kiosk',
      'packages/tide',
      'services/berths',
      'services/cranes',
      'services/customs',
      'services/gatehouse',
    ]) {
      const { code, stdout, stderr } = await pnpm(['--silent', 'run', 'check'], join(installed, service))
      expect(code, stdout + stderr).toBe(0)
      checks.push(JSON.parse(stdout))
    }
    // pnpm shows a service what it declares and no more, so there is no phantom.
    expect(checks).toEqual(
      CHECKS.map((check) => (check.phantom === undefined ? check : { ...check, phantom: { ms: null } })),
    )
  },
)

const vuejs = join(CORPUS, 'vuejs-core')
describe.skipIf(!existsSync(vuejs))(
  existsSync(vuejs) ? 'vuejs-core' : 'vuejs-core (skipped: it is not in the corpus at $POLDER_CORPUS)',
  () => {
    test(
      'pnpm installs a real workspace, with its catalogs and peers, from what polder exports',
      { timeout: 180_000 },
      async () => {
        const cwd = copyRepository(vuejs)
        const packages = await lockAndServe(cwd)
        const installed = await installTwice(() => exported(cwd, ['pnpm-lock.yaml']))
        expect(packages).toBe(486)
        const { catalog } = parse(readFileSync(join(installed, 'pnpm-workspace.yaml'), 'utf8')) as {
          catalog: Record<string, string>
        }
        const root = realpathSync(installed)
        const walked = walkEdges({
          root,
          inside: [root, realpathSync(pnpmStore)],
          original: readOriginalLocks(root, ['pnpm-lock.yaml']),
          catalogs: { default: catalog },
        })
        expect(walked).toMatchObject({ packages, violations: [], baseline: [] })
      },
    )
  },
)
