import { spawn } from 'node:child_process'
import {
  chmodSync,
  globSync,
  lutimesSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { once } from 'node:events'
import { join } from 'node:path'

import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'

import { polder, polderCommand, polderDone, temporaryDirectory, type Invocation } from '../support/cli.ts'
import { checkout, edit, json, makeSample, normalised, printed, run, type Sample } from '../support/sample.ts'

const KILL_AT_CHANGE = new URL('../support/kill-at-change.ts', import.meta.url).pathname

let sample: Sample

beforeAll(async () => {
  sample = await makeSample()
})
afterAll(() => sample.registry.close())

async function installed(): Promise<Invocation> {
  const own = checkout(sample, { ownStore: true })
  // Not links to the files of the other stores, as this one is to be damaged.
  for (const name of ['trees', 'envs', 'plans']) rmSync(join(own.home, name), { recursive: true, force: true })
  await polderDone(['install'], own)
  return own
}

describe('verify', () => {
  test('names each file that was changed, is missing or was added, and whose it is', async () => {
    const own = await installed()
    const alpha = realpathSync(join(own.cwd, 'node_modules', 'alpha'))
    chmodSync(join(alpha, 'index.js'), 0o644)
    writeFileSync(join(alpha, 'index.js'), 'module.exports = "evil"\n')
    rmSync(join(alpha, 'cli.js'))
    writeFileSync(join(alpha, 'extra.js'), '')
    const { code, stdout, stderr } = await run('verify', own)
    expect({ code, stdout }).toEqual({ code: 5, stdout: '' })
    expect(normalised(stderr, own)).toMatchInlineSnapshot(`
      "polder: 4 differences to what was locked [VERIFY_FAILED]
        missing  <store>/envs/<id>/node_modules/alpha/cli.js  (alpha@1.1.0)
        added    <store>/envs/<id>/node_modules/alpha/extra.js  (alpha@1.1.0)
        differs  <store>/envs/<id>/node_modules/alpha/index.js  (alpha@1.1.0)
        differs  <store>/trees/<id>/package/index.js  (alpha@1.1.0)
        hint: run \`polder verify --repair\` to make what is damaged again from the artifacts
      "
    `)
    expect(await json('verify', own, 5)).toEqual({
      clean: false,
      differences: expect.arrayContaining([
        { path: join(alpha, 'cli.js'), kind: 'missing', package: 'alpha@1.1.0' },
        { path: join(alpha, 'extra.js'), kind: 'added', package: 'alpha@1.1.0' },
        { path: join(alpha, 'index.js'), kind: 'differs', package: 'alpha@1.1.0' },
      ]) as object[],
    })
    await polderDone(['verify', '--repair'], own)
    expect(await printed('verify', own)).toBe(
      '5 packages verified: artifacts, environment and checkout are as locked\n',
    )
  })

  test('names what was done to the node_modules of the checkout', async () => {
    const own = await installed()
    rmSync(join(own.cwd, 'node_modules', 'alpha'))
    mkdirSync(join(own.cwd, 'node_modules', 'stranger'))
    const { code, stderr } = await run('verify', own)
    expect(code).toBe(5)
    expect(stderr).toContain('  missing  node_modules/alpha')
    expect(stderr).toContain('  added    node_modules/stranger')
    expect(await json('verify', await installed())).toEqual({ clean: true, packages: 5 })
  })

  test('a checkout whose lock has moved on is not what is installed', async () => {
    const own = await installed()
    writeFileSync(
      join(own.cwd, 'polder.yaml'),
      `${readFileSync(join(own.cwd, 'polder.yaml'), 'utf8')}exclude: [services/api]\n`,
    )
    await polderDone(['lock', '--offline'], own)
    const { code, stderr } = await run('verify', own)
    expect(code).toBe(5)
    expect(stderr).toContain('what is installed is not what polder.lock says [VERIFY_FAILED]')
    expect(stderr).toContain('hint: run `polder install`')
  })
})

describe('a node_modules that another tool made', () => {
  test('is kept, unless --force replaces it and says so', async () => {
    const own = checkout(sample)
    for (const path of ['node_modules', 'services/web/node_modules']) {
      mkdirSync(join(own.cwd, path, 'theirs'), { recursive: true })
      writeFileSync(join(own.cwd, path, 'theirs', 'index.js'), '')
    }
    const refused = await run('install', own)
    expect(refused).toEqual({
      code: 1,
      stdout: '',
      stderr:
        'polder: node_modules was not made by polder [NODE_MODULES_FOREIGN]\n  services/web/node_modules was not made by polder\n' +
        '  hint: remove it, or run `polder install --force` to replace it\n',
    })
    expect(readFileSync(join(own.cwd, 'node_modules/theirs/index.js'), 'utf8')).toBe('')
    expect((await run('status', own)).stdout).toContain('installed    nothing: run `polder install`')
    const forced = await run('install --force', own)
    expect(forced).toMatchObject({
      code: 0,
      stderr:
        'replaced: node_modules, which another tool had made\nreplaced: services/web/node_modules, which another tool had made\n',
    })
    await polderDone(['verify'], own)
  })
})

describe('store gc', () => {
  /** As if everything in the store had been there for an hour. */
  function age({ home }: Invocation): void {
    const then = new Date(Date.now() - 3_600_000)
    for (const path of globSync(
      ['roots/*', 'trees/*', 'trees/*/files.json', 'envs/*', 'envs/*/.polder-environment.json', 'tmp/*'],
      { cwd: home },
    )) {
      lutimesSync(join(home, path), then, then)
    }
  }

  /** A checkout of fewer services in the same store, with an environment of its own. */
  async function further(own: Invocation): Promise<Invocation> {
    const other = { ...checkout(sample), home: own.home }
    edit(other, 'polder.yaml', 'platforms:', 'exclude: [services/api, services/web]\nplatforms:')
    await polderDone(['lock', '--offline'], other)
    await polderDone(['install'], other)
    return other
  }

  test('removes the environment of a checkout that is gone, and keeps what others use', async () => {
    const own = await installed()
    const kept = await further(own)
    age(own)
    expect(await printed('store gc', own)).toBe(
      'Removed 0 environments, 0 trees (0 kB); forgot 0 checkouts that are gone\n',
    )
    rmSync(own.cwd, { recursive: true })
    const report = (await json('store gc', kept)) as Record<string, unknown>
    expect(report).toEqual({
      busy: false,
      roots: [own.cwd],
      environments: [expect.any(String) as string],
      trees: [expect.any(String), expect.any(String), expect.any(String), expect.any(String)] as string[],
      artifacts: [],
      leftovers: 0,
      bytes: expect.any(Number) as number,
      files: expect.any(Number) as number,
    })
    expect(await json('status', kept)).toMatchObject({ store: { environments: 1, checkouts: 1 } })
    await polderDone(['verify'], kept)
    // The artifacts are the index and stay: all can be had again without a network.
    await polderDone(['install'], { ...checkout(sample), home: own.home })
  })

  test('removes what servers had of locks that no checkout has and nobody served for a day', async () => {
    const own = await installed()
    const served = join(own.home, 'served')
    const current = readdirSync(served).sort()
    const [gone, recent] = [`${'0'.repeat(64)}.documents`, `${'1'.repeat(64)}.documents`]
    for (const name of [gone, recent]) writeFileSync(join(served, name), 'x')
    const then = new Date(Date.now() - 2 * 86_400_000)
    for (const name of [gone, ...current]) utimesSync(join(served, name), then, then)
    await printed('store gc', own)
    expect(readdirSync(served).sort()).toEqual([recent, ...current].sort())
  })

  test('removes nothing that is younger than ten minutes', async () => {
    const own = await installed()
    rmSync(own.cwd, { recursive: true })
    expect(await printed('store gc', { ...own, cwd: temporaryDirectory('elsewhere') })).toBe(
      'Removed 0 environments, 0 trees (0 kB); forgot 0 checkouts that are gone\n',
    )
  })

  test('touches nothing while an installation is running', async () => {
    const own = await installed()
    const [first, late] = [
      { ...checkout(sample), home: own.home },
      { ...checkout(sample), home: own.home },
    ]
    const countTo = join(temporaryDirectory('count'), 'changes')
    await polderDone(['install'], {
      ...first,
      nodeOptions: ['--import', KILL_AT_CHANGE],
      env: { POLDER_COUNT_TO: countTo },
    })
    const middle = String(Math.round(Number(readFileSync(countTo, 'utf8')) / 2))
    for (const { cwd } of [own, first]) rmSync(cwd, { recursive: true })
    age(own)
    // The environment is there already: what is stopped in the middle is the linking of the checkout.
    const { program, args, env } = polderCommand(['install'], {
      ...late,
      env: { POLDER_KILL_AT: middle, POLDER_KILL_WITH: 'SIGSTOP' },
    })
    const child = spawn(program, ['--import', KILL_AT_CHANGE, ...args], { cwd: late.cwd, env, stdio: 'ignore' })
    const ended = once(child, 'exit')
    await vi.waitUntil(() => / T /.test(readFileSync(`/proc/${child.pid}/stat`, 'utf8')), {
      timeout: 20_000,
      interval: 20,
    })
    const collected = await polder(['store', 'gc'], late)
    child.kill('SIGCONT')
    expect(collected).toEqual({ code: 0, stdout: 'An installation is running: nothing was removed\n', stderr: '' })
    expect((await ended)[0]).toBe(0)
    await polderDone(['verify'], late)
  })
})
