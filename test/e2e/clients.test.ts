import { cpSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { delimiter, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { stripVTControlCharacters } from 'node:util'

import { beforeAll, describe, expect, test } from 'vitest'

import {
  copyExample,
  finish,
  polderCommand,
  polderDone,
  scrubbedEnvironment,
  temporaryDirectory,
} from '../support/cli.ts'
import { type Client, CLIENTS, fetchClient } from '../support/clients.ts'
import type { Session, Step, StepResult } from '../support/client-session.ts'
import { networkCut } from '../support/network-cut.ts'

// Each service of harbour, on its own and with each client, from `polder index serve` alone: the network has nothing
// but loopback. The table in docs/clients.md is what these tests saw; POLDER_WRITE_DOCS=1 writes it.
const DOCUMENT = fileURLToPath(new URL('../../docs/clients.md', import.meta.url))
const SESSION = fileURLToPath(new URL('../support/client-session.ts', import.meta.url))
const SERVICES = [
  'apps/dashboard',
  'apps/kiosk',
  'services/berths',
  'services/cranes',
  'services/customs',
  'services/gatehouse',
]
const UNPINNED = 'left-pad'

// esbuild's own, which stand for every package that has one for each platform.
const EVERY_PLATFORM = [
  ...['aix-ppc64', 'sunos-x64', 'android-arm', 'android-arm64', 'android-x64', 'darwin-arm64', 'darwin-x64'],
  ...['freebsd-arm64', 'freebsd-x64', 'netbsd-arm64', 'netbsd-x64', 'openbsd-arm64', 'openbsd-x64'],
  ...['win32-arm64', 'win32-ia32', 'win32-x64'],
  ...['arm', 'arm64', 'ia32', 'loong64', 'mips64el', 'ppc64', 'riscv64', 's390x', 'x64'].map(
    (cpu) => `linux-${cpu}-glibc`,
  ),
]

const rows = new Map<string, string>()
const cut = networkCut()
let home: string
/** Locked for linux-x64 only, as most repositories are. */
let checkout: string
/** Locked for every platform: what yarn 1 has to have. */
let everyPlatform: string

beforeAll(async () => {
  home = temporaryDirectory('store')
  checkout = await lockedHarbour()
})

async function lockedHarbour(platforms: readonly string[] = []): Promise<string> {
  const cwd = copyExample('harbour')
  const config = join(cwd, 'polder.yaml')
  if (platforms.length > 0) {
    const text = readFileSync(config, 'utf8')
    writeFileSync(config, text.replace(/^platforms:\n(?: {2}- .*\n)+/m, `platforms: [${platforms.join(', ')}]\n`))
  }
  await polderDone(['lock'], { cwd, home, upstream: true })
  await polderDone(['index', 'add', '--workspace'], { cwd, home })
  // What the registry says of the releases: dates, signatures.
  await polderDone(['index', 'sync'], { cwd, home, upstream: true })
  return cwd
}

/** A service as a repository of its own would have it: the workspace's packages come from the index. */
function alone(service: string, directory: string, { resolutions }: Client): string {
  const target = join(directory, service)
  cpSync(join(checkout, service), target, {
    recursive: true,
    filter: (path) => !/(-lock\.(json|yaml)|yarn\.lock|node_modules)$/.test(path),
  })
  const manifest = readFileSync(join(target, 'package.json'), 'utf8')
  const own = JSON.parse(manifest.replace('"workspace:*"', '"^2.0.0"')) as object
  writeFileSync(join(target, 'package.json'), JSON.stringify({ ...own, ...(resolutions && { resolutions }) }, null, 2))
  return target
}

interface Sitting {
  /** By service, then by mode. */
  readonly installs: ReadonlyMap<
    string,
    { readonly fresh: StepResult; readonly frozen: StepResult; readonly checks: readonly StepResult[] }
  >
  readonly unpinned: StepResult
  readonly signatures: StepResult | undefined
}

async function sit(client: Client, served: string): Promise<Sitting> {
  if ('refused' in cut) throw new Error(cut.refused)
  const program = fetchClient(client)
  const directory = temporaryDirectory(client.name.replace(' ', '-'))
  const words = (args: readonly string[]): readonly string[] =>
    client.native ? [program, ...args] : [process.execPath, program, ...args]
  const environment = (own: string, cwd: string): NodeJS.ProcessEnv => {
    const base = scrubbedEnvironment({ home })
    const path = [join(cwd, 'node_modules/.bin'), base['PATH']].join(delimiter)
    const places = {
      XDG_CACHE_HOME: join(own, 'cache'),
      XDG_DATA_HOME: join(own, 'data'),
      npm_config_cache: join(own, 'npm'),
      YARN_CACHE_FOLDER: join(own, 'yarn'),
      BUN_INSTALL_CACHE_DIR: join(own, 'bun'),
    }
    return { ...base, ...places, ...client.env, HOME: own, PATH: path }
  }
  const steps: Step[] = []
  const step = (own: string, cwd: string, command: readonly string[]): number =>
    steps.push({ command, cwd, env: environment(own, cwd) }) - 1
  const planned = SERVICES.map((service) => {
    const cwd = alone(service, directory, client)
    // Their caches are empty in both: each has a home of its own.
    const [first, second] = [join(directory, 'home-fresh', service), join(directory, 'home-frozen', service)]
    for (const own of [first, second]) mkdirSync(own, { recursive: true })
    const check = [process.execPath, existsSync(join(cwd, 'check.mjs')) ? 'check.mjs' : 'check.cjs']
    const fresh = step(first, cwd, words(client.fresh))
    const checkedFresh = step(first, cwd, check)
    step(first, cwd, ['rm', '-rf', 'node_modules', '.pnp.cjs', '.yarn'])
    const frozen = step(second, cwd, words(client.frozen))
    return { service, fresh, frozen, checks: [checkedFresh, step(second, cwd, check)] }
  })
  const last = join(directory, SERVICES[2] ?? '')
  const own = join(directory, 'home-frozen', SERVICES[2] ?? '')
  const signatures = client.auditSignatures === undefined ? undefined : step(own, last, words(client.auditSignatures))
  const unpinned = step(own, last, words([...client.add, UNPINNED]))
  const { program: node, args, env } = polderCommand(['index', 'serve', '--port', '0', '--json'], { cwd: served, home })
  const session: Session = { serve: { command: [node, ...args], cwd: served, env }, steps }
  const [first, ...rest] = [
    ...cut.inside,
    'sh',
    '-c',
    'ip link set lo up && exec "$@"',
    'sh',
    process.execPath,
    SESSION,
    JSON.stringify(session),
  ]
  const { code, stdout, stderr } = await finish(first, rest, { cwd: directory, env: scrubbedEnvironment({ home }) })
  if (code !== 0) throw new Error(`the session of ${client.name} ended with ${code}\n${stderr}`)
  const { results, serverExit } = JSON.parse(stdout) as { results: StepResult[]; serverExit: number | null }
  expect(serverExit, 'the server ends well').toBe(0)
  const result = (at: number): StepResult => results[at] ?? { code: null, output: 'did not run', milliseconds: 0 }
  return {
    installs: new Map(
      planned.map(({ service, fresh, frozen, checks }) => [
        service,
        { fresh: result(fresh), frozen: result(frozen), checks: checks.map(result) },
      ]),
    ),
    unpinned: result(unpinned),
    signatures: signatures === undefined ? undefined : result(signatures),
  }
}

describe.each(CLIENTS.map((client) => [client.name, client] as const))('%s', (_, client) => {
  let sitting: Sitting

  beforeAll(async () => {
    if (client.everyPlatform) everyPlatform = await lockedHarbour(EVERY_PLATFORM)
    sitting = await sit(client, client.everyPlatform ? everyPlatform : checkout)
    rows.set(client.name, rowOf(client, sitting))
  }, 300_000)

  test.each(SERVICES)('installs %s from the index, fresh and frozen, and its check passes', (service) => {
    const { fresh, frozen, checks = [] } = sitting.installs.get(service) ?? {}
    expect(fresh?.code, fresh?.output).toBe(0)
    expect(frozen?.code, frozen?.output).toBe(0)
    expect(checks).toHaveLength(2)
    for (const check of checks) expect(check.code, check.output).toBe(0)
  })

  test('is told that a package is not pinned, and that is on record', async () => {
    const { code, output } = sitting.unpinned
    expect(code, output).not.toBe(0)
    expect(output).toMatch(/left-pad/)
    const { refused } = JSON.parse(await polderDone(['index', 'refused', '--json'], { cwd: checkout, home })) as {
      readonly refused: readonly { readonly what: string; readonly userAgent?: string }[]
    }
    const agents = refused.filter(({ what }) => what === UNPINNED).map(({ userAgent = '' }) => userAgent)
    expect(
      agents.some((agent) => client.userAgent.test(agent)),
      agents.join('; '),
    ).toBe(true)
  })
})

describe('docs/clients.md', () => {
  test('is what these tests saw', () => {
    const table = [
      '| client | fresh | frozen | asked for what is not pinned, it says | `audit signatures` |',
      '|---|---|---|---|---|',
      ...CLIENTS.map(({ name }) => rows.get(name) ?? `| ${name} | did not run |`),
    ].join('\n')
    const text = readFileSync(DOCUMENT, 'utf8')
    const written = text.replace(/^\| client \|[\s\S]*?\n(?=\n)/m, `${table}\n`)
    if (process.env['POLDER_WRITE_DOCS'] === '1') writeFileSync(DOCUMENT, written)
    else expect(text, 'POLDER_WRITE_DOCS=1 writes it').toBe(written)
  })
})

function rowOf(client: Client, { installs, unpinned, signatures }: Sitting): string {
  const all = [...installs.values()]
  const passed = (results: readonly StepResult[]): string => {
    const good = results.filter(({ code }) => code === 0).length
    return good === results.length ? 'yes' : `${good} of ${results.length} services`
  }
  const cells = [
    `${client.name} (${client.version})`,
    passed(all.map(({ fresh }) => fresh)),
    passed(all.map(({ frozen }) => frozen)),
    sentence(unpinned.output, /left-pad/),
    signatures === undefined
      ? 'no such command'
      : `exit ${signatures.code}: ${sentence(signatures.output, /signature|attest|audited|failed, reason|fetch failed/i)}`,
  ]
  return `| ${cells.join(' | ')} |`
}

/** The first line that says it, without what changes from run to run. */
function sentence(output: string, about: RegExp): string {
  const line =
    stripVTControlCharacters(output)
      .split('\n')
      .find((each) => about.test(each)) ?? ''
  return line
    .trim()
    .replaceAll(/http:\/\/127\.0\.0\.1:\d+/g, 'http://127.0.0.1:4873')
    .replaceAll(/https:\/\/[^\s,]+/g, 'a host of its own')
    .replaceAll(/getaddrinfo \w+( \S+)?/g, 'getaddrinfo failed')
    .replaceAll(/\b\d+(\.\d+)?m?s\b/g, 'N ms')
    .replaceAll('|', '\\|')
    .slice(0, 200)
}
