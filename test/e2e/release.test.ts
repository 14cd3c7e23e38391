import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { appendFileSync, cpSync, existsSync, globSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'

import { buildRelease } from '../../scripts/release.ts'
import { finish, scrubbedEnvironment, temporaryDirectory, type Finished } from '../support/cli.ts'
import { writeMonorepo } from '../support/monorepo.ts'
import { startRegistry, type Registry } from '../support/registry.ts'

describe('the released command line', () => {
  let registry: Registry
  let program: string
  let cwd: string
  let home: string

  beforeAll(async () => {
    registry = await startRegistry()
    // Where nothing of this repository is near, and not where it was built.
    const built = join(temporaryDirectory('built'), 'polder')
    await buildRelease(built)
    const elsewhere = join(temporaryDirectory('released'), 'polder')
    cpSync(built, elsewhere, { recursive: true })
    rmSync(built, { recursive: true })
    program = join(elsewhere, 'dist/polder.mjs')
    cwd = join(temporaryDirectory('released'), 'repository')
    home = temporaryDirectory('released-store')
    const lib = registry.serve('lib', '1.0.0', {
      dependencies: { leaf: '^2.0.0' },
      bin: { lib: 'cli.js' },
      files: { 'cli.js': '#!/usr/bin/env node\nconsole.log("lib runs")\n' },
    })
    const leaf = registry.serve('leaf', '2.1.0')
    writeMonorepo(cwd, registry, { api: { manifest: { dependencies: { lib: '^1.0.0' } }, locked: { lib, leaf } } })
    appendFileSync(join(cwd, 'polder.yaml'), '# yaml-language-server: $schema=.polder/polder.schema.json\n')
  })

  afterAll(() => registry.close())

  const polder = (...args: readonly string[]): Promise<Finished> =>
    finish(process.execPath, [program, ...args], { cwd, env: scrubbedEnvironment({ home }) })

  test('locks, installs, runs, explains and verifies without the sources', async () => {
    expect(await polder('lock')).toMatchObject({ code: 0, stdout: expect.stringContaining('2 → 2 packages') as string })
    expect(await polder('install')).toMatchObject({
      code: 0,
      stdout: expect.stringContaining('2 packages installed') as string,
    })
    expect(await polder('install')).toMatchObject({
      code: 0,
      stdout: expect.stringContaining('Already up to date') as string,
    })
    expect(await polder('exec', '--', 'lib')).toEqual({ code: 0, stdout: 'lib runs\n', stderr: '' })
    expect(await polder('why', 'leaf')).toMatchObject({
      code: 0,
      stdout: expect.stringContaining('lib@1.0.0 needs ^2.0.0') as string,
    })
    expect(await polder('verify')).toMatchObject({
      code: 0,
      stdout: expect.stringContaining('2 packages verified') as string,
    })
  })

  /** The repository again, with nothing installed. */
  const checkout = (): string => {
    const copy = join(temporaryDirectory('released-checkout'), 'repository')
    const made = new Set(['node_modules', '.polder'])
    cpSync(cwd, copy, { recursive: true, filter: (path) => !made.has(basename(path)) })
    return copy
  }

  test('brings its licence, and those of all that it includes', () => {
    const released = dirname(dirname(program))
    expect(readFileSync(join(released, 'LICENSE'), 'utf8')).toMatch(/^MIT License/)
    const notices = readFileSync(join(released, 'THIRD_PARTY_NOTICES.txt'), 'utf8')
    const included = globSync(fileURLToPath(new URL('../../packages/*/package.json', import.meta.url)))
      .map((path) => JSON.parse(readFileSync(path, 'utf8')) as { readonly dependencies?: Record<string, string> })
      .flatMap(({ dependencies = {} }) => Object.entries(dependencies))
      .filter(([name]) => !name.startsWith('@polder/'))
    expect(included.length).toBeGreaterThan(10)
    for (const [name, version] of included) expect(notices).toMatch(new RegExp(`^${name} ${version} \\(`, 'm'))
    // Brought by others, and what only makes or tests the release.
    expect(notices).toMatch(/^minipass \d/m)
    expect(notices).not.toMatch(/^(?:rolldown|typescript|vitest|highs) \d/m)
    expect(notices).toContain('Permission is hereby granted, free of charge')
    expect(notices).not.toContain('\r')
  })

  test('decides a no-op in the entry file alone, and needs one more for a further checkout', async () => {
    const record = join(temporaryDirectory('record'), 'loaded')
    const recorder = fileURLToPath(new URL('../support/loaded-modules-process.ts', import.meta.url))
    const directory = checkout()
    const env = { ...scrubbedEnvironment({ home }), RECORD_LOADED_MODULES: record }
    const loaded = async (): Promise<string[]> => {
      writeFileSync(record, '')
      const { code } = await finish(process.execPath, ['--import', recorder, program, 'install'], {
        cwd: directory,
        env,
      })
      expect(code).toBe(0)
      const urls = readFileSync(record, 'utf8').split('\n')
      return urls.filter((url) => url.startsWith('file:')).map((url) => basename(url).replace(/-[\w-]{8}\.mjs$/, ''))
    }
    expect(await loaded()).toEqual(['polder.mjs', 'install-entry', 'install'])
    expect(readFileSync(join(directory, '.polder/polder.schema.json'), 'utf8')).toContain('"policy"')
    expect(await loaded()).toEqual(['polder.mjs'])
  })

  test('loads nothing of Node for a further checkout that takes long, such as cryptography and streams', async () => {
    const directory = checkout()
    const recorder =
      'const before = new Set(process.moduleLoadList); process.on("exit", () => process.getBuiltinModule("fs")' +
      '.writeSync(2, process.moduleLoadList.filter((name) => !before.has(name)).join("\\n")))'
    const loaded = async (): Promise<string[]> => {
      const options = ['--import', `data:text/javascript,${recorder}`]
      const env = scrubbedEnvironment({ home })
      const { code, stderr } = await finish(process.execPath, [...options, program, 'install'], { cwd: directory, env })
      expect(code).toBe(0)
      return stderr.split('\n').filter((name) => /^NativeModule (?!internal)|crypto|stream/.test(name))
    }
    expect(await loaded()).toEqual(['NativeModule module'])
    // Other bytes, with the same meaning, are hashed.
    rmSync(join(directory, '.polder'), { recursive: true })
    appendFileSync(join(directory, 'api/package.json'), '\n')
    expect(await loaded()).toContain('NativeModule crypto')
  })

  test('makes a further checkout whatever of the store is gone, and refuses one with another manifest', async () => {
    for (const gone of ['known', 'plans', 'envs', 'links', 'roots', 'trees']) {
      rmSync(join(home, gone), { recursive: true })
      const at = { cwd: checkout(), env: scrubbedEnvironment({ home }) }
      expect([gone, await finish(process.execPath, [program, 'install'], at)]).toMatchObject([gone, { code: 0 }])
      expect(await finish(process.execPath, [program, 'verify'], at)).toMatchObject({ code: 0 })
    }
    const at = { cwd: checkout(), env: scrubbedEnvironment({ home }) }
    const manifest = join(at.cwd, 'api/package.json')
    writeFileSync(manifest, readFileSync(manifest, 'utf8').replace('^1.0.0', '^1.0.1'))
    expect(await finish(process.execPath, [program, 'install'], at)).toMatchObject({
      code: 3,
      stderr: expect.stringContaining('api/package.json changed') as string,
    })
  })

  test('ends quietly when nobody reads what it says, whether it has work or not', async () => {
    const directory = checkout()
    for (const what of ['an installation', 'a no-op']) {
      const child = spawn(process.execPath, [program, 'install'], {
        cwd: directory,
        env: scrubbedEnvironment({ home }),
        stdio: ['ignore', 'pipe', 'pipe'],
      })
      child.stdout.destroy()
      let stderr = ''
      child.stderr.on('data', (chunk: Buffer) => (stderr += chunk.toString()))
      const [code] = (await once(child, 'close')) as [number]
      expect([what, code, stderr]).toEqual([what, 0, ''])
    }
    expect(existsSync(join(directory, 'node_modules/lib/package.json'))).toBe(true)
  })

  test('waits for a reader whose pipe is full and does not wait itself', async (context) => {
    if (spawnSync('perl', ['-v']).status !== 0) context.skip('no perl, which fills the pipe')
    const directory = checkout()
    // A full pipe that does not wait, and a reader who begins when it is told to.
    const fill =
      'use Fcntl; fcntl(STDOUT, F_SETFL, O_WRONLY | O_NONBLOCK); 1 while syswrite(STDOUT, " " x 512); exec @ARGV'
    const script = 'exec 3<&0; perl -e "$1" "$2" "$3" install --json | { read -r go <&3; cat; }'
    const child = spawn('sh', ['-c', script, 'sh', fill, process.execPath, program], {
      cwd: directory,
      env: scrubbedEnvironment({ home }),
      stdio: ['pipe', 'pipe', 'inherit'],
    })
    const closed = once(child, 'close')
    // It has nothing left to do but to say so.
    await vi.waitFor(
      () => expect(readFileSync(join(directory, '.polder/state.json'), 'utf8')).toContain('"linux-'),
      20_000,
    )
    child.stdin.end('go\n')
    let text = ''
    child.stdout.on('data', (chunk: Buffer) => (text += chunk.toString()))
    expect(await closed).toEqual([0, null])
    expect(JSON.parse(text)).toMatchObject({ upToDate: false, packages: 2 })
  })

  test('serves what it locked, with workers and a log', async () => {
    const log = join(home, 'requests.log')
    const words = ['index', 'serve', '--json', '--port', '0', '--workers', '2', '--log', log]
    const env = scrubbedEnvironment({ home })
    const server = spawn(process.execPath, [program, ...words], { cwd, env, stdio: ['ignore', 'pipe', 'inherit'] })
    const exited = once(server, 'exit')
    const [line] = (await once(server.stdout, 'data')) as [Buffer]
    const { url } = JSON.parse(line.toString()) as { url: string }
    expect(await (await fetch(`${url}lib`)).json()).toMatchObject({ name: 'lib', 'dist-tags': { latest: '1.0.0' } })
    expect((await fetch(`${url}leaf/-/leaf-2.1.0.tgz`)).status).toBe(200)
    server.kill()
    expect(await exited).toEqual([0, null])
    expect(readFileSync(log, 'utf8').trim().split('\n')).toHaveLength(2)
  })

  test('knows its version and tells its errors like the sources', async () => {
    expect((await polder('--version')).stdout).toMatch(/^\d+\.\d+\.\d+\n$/)
    const { code, stderr } = await polder('instal')
    expect(code).toBe(2)
    expect(stderr).toContain('[USAGE]')
  })
})
