import { spawn, type ChildProcess } from 'node:child_process'
import { existsSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { request } from 'node:http'
import { extname, join } from 'node:path'
import { createInterface } from 'node:readline'

import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from 'vitest'

import {
  copyExample,
  finish,
  polder,
  polderCommand,
  polderDone,
  scrubbedEnvironment,
  temporaryDirectory,
  TOOLS,
  type Finished,
  type Invocation,
} from '../support/cli.ts'
import { checkout, makeSample, type Sample } from '../support/sample.ts'

interface Serving {
  readonly url: string
  /** What it printed with `--json`. */
  readonly ready: Readonly<Record<string, unknown>>
  readonly program: ChildProcess
  /** What it said on stderr so far. */
  readonly said: () => string
  /** Waits until it says something. */
  readonly says: (text: RegExp) => Promise<void>
  /** Ends it with a signal; the exit code. */
  readonly end: (signal?: NodeJS.Signals) => Promise<number | null>
}

let running: Serving[] = []
afterEach(async () => {
  await Promise.all(running.map(({ end }) => end('SIGKILL')))
  running = []
})

/** `polder index serve ARGS` on a free port, from the moment that it is ready. */
async function serve(args: readonly string[], invocation: Invocation, form = ['--json']): Promise<Serving> {
  const port = args.includes('--socket') ? [] : ['--port', '0']
  const command = polderCommand(['index', 'serve', ...form, ...port, ...args], invocation)
  const program = spawn(command.program, command.args, {
    cwd: invocation.cwd,
    env: command.env,
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const exited = new Promise<number | null>((resolve) => program.once('exit', resolve))
  let stderr = ''
  program.stderr.on('data', (chunk: Buffer) => (stderr += chunk.toString()))
  const lines = createInterface(program.stdout)[Symbol.asyncIterator]()
  const first = await lines.next()
  if (first.done === true) throw new Error(`the server ended with ${await exited}\n${stderr}`)
  const ready = (form.length === 0 ? { url: first.value.split(' ').at(-1) } : JSON.parse(first.value)) as {
    readonly url: string
    readonly [field: string]: unknown
  }
  const serving: Serving = {
    url: ready.url,
    ready,
    program,
    said: () => stderr,
    says: async (text) => {
      while (!text.test(stderr)) await new Promise((resolve) => program.stderr.once('data', resolve))
    },
    end: (signal = 'SIGTERM') => {
      program.kill(signal)
      return exited
    },
  }
  running.push(serving)
  return serving
}

async function get(url: string, path: string): Promise<{ readonly status: number; readonly text: string }> {
  const response = await fetch(new URL(path, url))
  return { status: response.status, text: await response.text() }
}

describe('polder index serve', () => {
  let sample: Sample

  beforeAll(async () => {
    sample = await makeSample()
  })
  afterAll(() => sample.registry.close())

  test('says where it is when it is ready, serves the lock of the repository, and ends when told to', async () => {
    const server = await serve([], sample)
    expect(server.ready).toEqual({
      url: expect.stringMatching(/^http:\/\/127\.0\.0\.1:\d+\/$/) as string,
      address: expect.stringMatching(/^127\.0\.0\.1:\d+$/) as string,
      pid: server.program.pid,
      names: 4,
      locks: [expect.stringMatching(/^[0-9a-f]{12}$/) as string],
    })
    expect(JSON.parse((await get(server.url, 'beta')).text)).toMatchObject({
      name: 'beta',
      versions: { '2.0.0': { dependencies: { alpha: '^1.0.0' } } },
    })
    expect(await get(server.url, 'beta/-/beta-2.0.0.tgz')).toMatchObject({ status: 200 })
    expect(await server.end()).toBe(0)
    await expect(fetch(server.url)).rejects.toThrow()
    const again = await serve([], sample)
    expect(await again.end('SIGINT')).toBe(0)
  })

  test('needs no upstream, no network configuration and no second look at the lock', async () => {
    const other = checkout(sample, { ownStore: true })
    const kept = join(other.home, 'served')
    const names = readdirSync(kept).sort()
    expect(names.map((name) => extname(name))).toEqual(['.documents', '.json'])
    for (const name of names) {
      // Another store's too, under another name.
      rmSync(join(kept, name))
      writeFileSync(join(kept, name), 'damaged')
    }
    const first = await serve([], other)
    expect(await get(first.url, 'alpha')).toMatchObject({ status: 200 })
    expect(statSync(join(kept, names[1] ?? '')).size).toBeGreaterThan(500)
    rmSync(join(other.cwd, '.npmrc'))
    const requests = sample.registry.requests.length
    expect(await get((await serve([], other)).url, 'alpha')).toMatchObject({ status: 200 })
    expect(sample.registry.requests.length).toBe(requests)
  })

  test('sends the documents that were made when they were pinned, and makes those that are missing or stale', async () => {
    const own = checkout(sample, { ownStore: true })
    const kept = join(own.home, 'served')
    const documents = (): string => join(kept, readdirSync(kept).find((name) => name.endsWith('.documents')) ?? 'none')
    const made = readFileSync(documents())
    expect(made.indexOf('"_id":"alpha"')).toBeGreaterThan(0)
    const state = statSync(documents())
    const text = readFileSync(join(own.cwd, 'polder.lock'))
    rmSync(join(own.cwd, 'polder.lock'))
    for (const command of [['lock'], ['lock'], ['index', 'sync']]) await polderDone(command, own)
    expect(readFileSync(join(own.cwd, 'polder.lock')).equals(text)).toBe(true)
    // Nothing is known of them that was not known before, but for what the registry says, which only a sync asks for.
    expect(statSync(documents()).ino).not.toBe(state.ino)
    const synced = readFileSync(documents())
    await polderDone(['index', 'sync'], own)
    expect(readFileSync(documents()).equals(synced)).toBe(true)
    rmSync(documents())
    const { url } = await serve([], own)
    await vi.waitFor(() => expect(readFileSync(documents()).equals(synced)).toBe(true), 20_000)
    const next = await serve([], own)
    expect((await get(next.url, 'alpha')).text.replaceAll(next.url, url)).toBe((await get(url, 'alpha')).text)
  })

  test('reads a lock that changed on SIGHUP, and keeps what it has if that cannot be read', async () => {
    const own = checkout(sample)
    const server = await serve([], own, [])
    const path = join(own.cwd, 'polder.lock')
    const text = readFileSync(path, 'utf8')
    writeFileSync(path, `${text}\n<<<<<<< ours\n`)
    server.program.kill('SIGHUP')
    await server.says(/not read again: .*merge conflict markers/)
    expect(await get(server.url, 'beta')).toMatchObject({ status: 200 })
    writeFileSync(path, text.replaceAll('beta', 'zeta'))
    server.program.kill('SIGHUP')
    await server.says(/polder: read again: 5 pins of 4 names/)
    expect(await get(server.url, 'beta')).toMatchObject({ status: 404 })
  })

  test('serves several locks, each alone too', async () => {
    const other = checkout(sample)
    const path = join(other.cwd, 'other.lock')
    writeFileSync(path, readFileSync(join(other.cwd, 'polder.lock'), 'utf8').replaceAll('beta', 'zeta'))
    const { url, ready } = await serve(['--lock', 'polder.lock', '--lock', path], other)
    const [first = '', second = ''] = ready['locks'] as string[]
    const found = async (base: string): Promise<number[]> =>
      Promise.all(['beta', 'zeta'].map(async (name) => (await get(url, `${base}${name}`)).status))
    // What is pinned is found by its hash: zeta has the bytes of beta here.
    expect([await found(''), await found(`@lock/${first}/`), await found(`@lock/${second}/`)]).toEqual([
      [200, 200],
      [200, 404],
      [404, 200],
    ])
  })

  test('listens on a unix socket that only its owner can use', async () => {
    const socket = join(temporaryDirectory('socket'), 'index.sock')
    const server = await serve(['--socket', socket, '--base-url', 'http://index.example/npm'], sample)
    expect(server.ready).toMatchObject({ url: 'http://index.example/npm/', socket })
    expect(statSync(socket).mode & 0o777).toBe(0o600)
    const text = await new Promise<string>((resolve, reject) => {
      const asking = request({ socketPath: socket, path: '/beta' }, (response) => {
        let body = ''
        response.on('data', (chunk: Buffer) => (body += chunk.toString()))
        response.once('end', () => resolve(body))
      })
      asking.once('error', reject).end()
    })
    expect(JSON.parse(text)).toHaveProperty(
      ['versions', '2.0.0', 'dist', 'tarball'],
      'http://index.example/npm/beta/-/beta-2.0.0.tgz',
    )
    const second = await polder(['index', 'serve', '--socket', socket], sample)
    expect(second).toMatchObject({ code: 1, stderr: expect.stringContaining('[ADDRESS_REFUSED]') as string })
    expect(await server.end()).toBe(0)
    expect(existsSync(socket)).toBe(false)
  })

  test('with workers is one server: one address, one set of metrics, and one that dies is replaced', async () => {
    const server = await serve(['--workers', '2', '--memory', '64'], sample)
    const metric = async (name: string): Promise<number> =>
      Number(new RegExp(`^${name} (.*)$`, 'm').exec((await get(server.url, '-/metrics')).text)?.[1])
    for (let at = 0; at < 6; at += 1) expect(await get(server.url, 'alpha')).toMatchObject({ status: 200 })
    expect(await metric('polder_index_processes')).toBe(2)
    expect(await metric('polder_index_requests_total\\{kind="document",status="2xx"\\}')).toBe(6)
    expect(await metric('polder_index_body_limit_bytes')).toBe(64e6)
    const [worker = ''] = readFileSync(`/proc/${server.program.pid}/task/${server.program.pid}/children`, 'utf8').split(
      ' ',
    )
    process.kill(Number(worker), 'SIGKILL')
    while (existsSync(`/proc/${worker}`)) await new Promise((resolve) => setImmediate(resolve))
    // A connection that it held is lost.
    const processes = (): Promise<number> => metric('polder_index_processes').catch(() => 0)
    while ((await processes()) < 2);
    expect(await server.end()).toBe(0)
  })

  test('writes a line for every request, if asked', async () => {
    const path = join(temporaryDirectory('log'), 'requests.log')
    const server = await serve(['--log', path], sample)
    await get(server.url, 'alpha')
    await get(server.url, 'left-pad')
    expect(await server.end()).toBe(0)
    const lines = readFileSync(path, 'utf8')
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as unknown)
    expect(lines).toMatchObject([
      { level: 30, pid: server.program.pid, method: 'GET', url: '/alpha', status: 200, complete: true },
      { method: 'GET', url: '/left-pad', status: 404 },
    ])
  })

  test('loses nothing to a collection and a second sync beside it', async () => {
    const own = checkout(sample, { ownStore: true })
    const server = await serve(['--memory', '0'], own)
    let working = true
    const asking = (async () => {
      const statuses = new Set<number>()
      while (working) statuses.add((await get(server.url, 'beta/-/beta-2.0.0.tgz')).status)
      return [...statuses]
    })()
    for (const command of ['store gc', 'index sync', 'store gc', 'lock']) await polderDone(command.split(' '), own)
    working = false
    expect(await asking).toEqual([200])
    expect(await server.end()).toBe(0)
  })

  test('what was refused is kept, with who asked, until it is forgotten', async () => {
    const own = checkout(sample, { ownStore: true })
    await polderDone(['index', 'refused', '--clear'], own)
    const server = await serve([], own)
    await get(server.url, 'left-pad')
    await get(server.url, 'alpha/-/alpha-9.9.9.tgz')
    await get(server.url, 'left-pad')
    expect(JSON.parse((await polder(['index', 'refused', '--json'], own)).stdout)).toMatchObject({
      refused: [{ what: 'alpha@9.9.9' }, { what: 'left-pad' }],
    })
    // Killed: what it had not written yet is only how often.
    await server.end('SIGKILL')
    const { stdout } = await polder(['index', 'refused'], own)
    expect(stdout).toMatch(/^alpha@9\.9\.9 {2}1 time, last \S+Z\n {2}of node on 127\.0\.0\.1:\d+$/m)
    expect(stdout).toMatch(/^left-pad {2}[12] times?, last \S+Z$/m)
    expect(await polderDone(['index', 'refused', '--clear'], own)).toContain('Forgotten')
    expect(await polderDone(['index', 'refused'], own)).toBe('Nothing was refused\n')
  })

  test.each([
    [
      '--host 0.0.0.0',
      1,
      '0.0.0.0 is beyond this machine: anyone who can reach it could read what is private [ADDRESS_REFUSED]',
    ],
    ['--port x', 2, '--port is "x", which is no whole number from 0 to 65535 [USAGE]'],
    ['--workers 0', 2, '--workers is "0", which is no whole number from 1 to 64 [USAGE]'],
    ['--memory -1', 2, '--memory is "-1", which is no whole number from 0 to 1000000 [USAGE]'],
    ['--base-url ftp://x', 2, '--base-url is "ftp://x", which is no http URL [USAGE]'],
    ['--workers 2 --socket x', 2, '--socket is served by one process: leave out --workers [USAGE]'],
  ])('%s is refused', async (line, code, message) => {
    const finished = await polder(['index', 'serve', ...line.split(' ')], sample)
    expect(finished).toMatchObject({ code, stdout: '' })
    expect(finished.stderr.split('\n')[0]).toBe(`polder: ${message}`)
  })

  test('with a store that lacks the artifacts says so, and goes on', async () => {
    const own = { cwd: sample.cwd, home: join(temporaryDirectory('empty'), 'store') }
    const server = await serve([], own, [])
    await server.says(/warning: the store lacks 5 artifacts, such as alpha@1\.1\.0: run `polder index sync`/)
    expect(await get(server.url, 'alpha')).toMatchObject({ status: 503 })
    await polderDone(['index', 'sync'], own)
    expect(await get(server.url, 'alpha')).toMatchObject({ status: 200 })
    expect(await server.end()).toBe(0)
  })

  test('without a lock there is nothing to serve', async () => {
    const nowhere = { cwd: temporaryDirectory('nowhere'), home: sample.home }
    expect(await polder(['index', 'serve'], nowhere)).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('[CONFIG_NOT_FOUND]') as string,
    })
    expect(await polder(['index', 'serve', '--lock', 'gone.lock'], nowhere)).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('[LOCK_NOT_FOUND]') as string,
    })
  })
})

/** The registry of the user's own configuration fills the index; from then on nothing but the index is asked. */
describe('clients with empty caches install harbour from it', () => {
  let cwd: string
  let home: string

  beforeAll(async () => {
    home = temporaryDirectory('harbour-store')
    cwd = copyExample('harbour')
    await polderDone(['lock'], { cwd, home, upstream: true })
  })

  /** Every environment has its own, empty home, so an empty cache. */
  function client(server: Serving): {
    env: NodeJS.ProcessEnv
    run: (words: readonly string[], cwd: string) => Promise<Finished>
  } {
    const own = temporaryDirectory('client')
    const env = {
      ...scrubbedEnvironment({ home }),
      HOME: own,
      XDG_DATA_HOME: join(own, 'data'),
      XDG_CACHE_HOME: join(own, 'cache'),
      XDG_STATE_HOME: join(own, 'state'),
      npm_config_registry: server.url,
      // pnpm 12 does not read npm's variables.
      pnpm_config_registry: server.url,
      npm_config_update_notifier: 'false',
    }
    return { env, run: ([program = '', ...words], where) => finish(program, words, { cwd: where, env }) }
  }

  test('pnpm: the workspace, fresh, then frozen from the lockfile that it wrote, and from the one polder exports', async () => {
    const server = await serve([], { cwd, home })
    const pnpm = join(TOOLS, 'pnpm')
    const fresh = copyExample('harbour')
    rmSync(join(fresh, 'pnpm-lock.yaml'))
    const done = { code: 0 }
    expect(await client(server).run([pnpm, 'install', '--ignore-scripts'], fresh)).toMatchObject(done)
    const metrics = (await get(server.url, '-/metrics')).text
    expect(metrics).toMatch(/^polder_index_requests_total\{kind="tarball",status="2xx"\} 12$/m)
    rmSync(join(fresh, 'node_modules'), { recursive: true })
    const frozen = [pnpm, 'install', '--frozen-lockfile', '--ignore-scripts']
    expect(await client(server).run(frozen, fresh)).toMatchObject(done)
    expect(existsSync(join(fresh, 'apps/dashboard/node_modules/react/package.json'))).toBe(true)
    const exported = copyExample('harbour')
    for (const name of ['pnpm-lock.yaml', 'pnpm-workspace.yaml']) rmSync(join(exported, name))
    await polderDone(['export', 'pnpm-lock', '--output', exported], { cwd, home })
    expect(await client(server).run(frozen, exported)).toMatchObject(done)
    rmSync(join(fresh, 'node_modules'), { recursive: true })
    const added = await client(server).run([pnpm, 'add', 'left-pad', '--ignore-scripts'], join(fresh, 'packages/tide'))
    expect(added.code).not.toBe(0)
    expect(`${added.stdout}${added.stderr}`).toMatch(/left-pad[\s\S]*404/)
    expect(server.said()).toBe('')
  })

  test('npm: a service, fresh and frozen; what is not pinned is refused in a sentence', async () => {
    const server = await serve([], { cwd, home })
    const service = join(copyExample('harbour'), 'services/berths')
    rmSync(join(service, 'package-lock.json'))
    const quiet = ['--no-fund', '--ignore-scripts']
    const fresh = await client(server).run(['npm', 'install', ...quiet], service)
    expect({ code: fresh.code, stderr: fresh.stderr }).toEqual({ code: 0, stderr: '' })
    const { packages } = JSON.parse(readFileSync(join(service, 'package-lock.json'), 'utf8')) as {
      packages: Record<string, { integrity?: string }>
    }
    expect(packages['node_modules/semver']?.integrity).toMatch(/^sha512-/)
    rmSync(join(service, 'node_modules'), { recursive: true })
    expect(await client(server).run(['npm', 'ci', ...quiet], service)).toMatchObject({ code: 0 })
    const added = await client(server).run(['npm', 'install', 'left-pad@1.3.0', ...quiet], service)
    expect(added.code).toBe(1)
    expect(added.stderr).toContain('npm notice left-pad is not pinned. Add it to a service and run `polder lock`')
    // A tarball is asked for by its version, from a lockfile that has another than the lock.
    const lockfile = join(service, 'package-lock.json')
    writeFileSync(lockfile, readFileSync(lockfile, 'utf8').replaceAll('semver-7.7.2.tgz', 'semver-1.0.0.tgz'))
    rmSync(join(service, 'node_modules'), { recursive: true })
    const replaced = await client(server).run(['npm', 'ci', ...quiet], service)
    expect(replaced.stderr).toContain(
      'semver@1.0.0 is not pinned; pinned is 7.7.2. Add it to a service and run `polder lock`',
    )
    const { refused } = JSON.parse(await polderDone(['index', 'refused', '--json'], { cwd, home })) as {
      refused: { what: string; command?: string; userAgent?: string }[]
    }
    for (const [what, command] of [
      ['left-pad', 'install'],
      ['semver@1.0.0', 'ci'],
    ])
      expect(refused.find((entry) => entry.what === what && entry.command === command)).toMatchObject({
        userAgent: expect.stringMatching(/^npm\//) as string,
      })
  })
})
