import { spawnSync } from 'node:child_process'
import { rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

import { afterAll, beforeAll, describe, expect, test } from 'vitest'

import { finish, polder, polderCommand, type Finished, type Invocation } from '../support/cli.ts'
import { checkout, edit, makeSample, run, type Sample } from '../support/sample.ts'

const ESCAPE = '\u001b'
const noScript =
  spawnSync('script', ['-qec', 'true', '/dev/null']).status === 0
    ? ''
    : ' (skipped: no `script` of util-linux to make a terminal with)'

let sample: Sample

beforeAll(async () => {
  sample = await makeSample()
})
afterAll(() => sample.registry.close())

/** With a terminal as stdin, stdout and stderr, all of which come back as stdout. */
function onTerminal(line: string, where: Invocation, env: Readonly<Record<string, string>> = {}): Promise<Finished> {
  const {
    program,
    args,
    env: scrubbed,
  } = polderCommand(line.split(' '), { ...where, env: { TERM: 'xterm', SHELL: '/bin/sh', ...env } })
  const command = [program, ...args].map((word) => `'${word}'`).join(' ')
  return finish('script', ['-qec', command, '/dev/null'], { cwd: where.cwd, env: scrubbed })
}

/** A checkout with nothing in its store. */
function fresh(): Invocation {
  const own = checkout(sample, { ownStore: true })
  for (const name of ['artifacts', 'manifests', 'trees', 'envs', 'plans', 'layout'])
    rmSync(join(own.home, name), { recursive: true, force: true })
  return own
}

describe.skipIf(noScript !== '')(`on a terminal${noScript}`, () => {
  test('sync and install show how far they are, in one line that is gone in the end', async () => {
    const own = fresh()
    const synced = await onTerminal('index sync', own)
    expect(synced.code).toBe(0)
    expect(synced.stdout).toContain(`\r${ESCAPE}[2KFetching 6/6  `)
    expect(synced.stdout).toMatch(
      /\r\u001b\[2K6 pins in the index, 6 \(\d+ kB\) fetched\r\n\s*6 releases recorded\r\n$/,
    )
    const installed = await onTerminal('install', own)
    expect(installed.code).toBe(0)
    expect(installed.stdout).toMatch(/\r\u001b\[2KInstalling \d\/5 {2}\S+@\S+/)
    expect(installed.stdout).toMatch(/\r\u001b\[2K5 packages installed in /)
    expect((await onTerminal('verify', own)).stdout).toMatch(/\r\u001b\[2KVerifying \d\/5 /)
  })

  test.each([{ CI: 'true' }, { TERM: 'dumb' }])('there is no progress display with %j', async (env) => {
    const { code, stdout } = await onTerminal('index sync', fresh(), env)
    expect({ code, stdout }).toEqual({
      code: 0,
      stdout: expect.stringMatching(
        /^6 pins in the index, 6 \(\d+ kB\) fetched\r\n\s*6 releases recorded\r\n$/,
      ) as string,
    })
  })

  test('quiet and --json draw nothing either', async () => {
    expect((await onTerminal('index sync --json', fresh())).stdout).toMatch(/^\{/)
    expect((await onTerminal('install --quiet', checkout(sample))).stdout).toBe('')
  })

  test('there are colours, and with NO_COLOR none', async () => {
    expect((await onTerminal('status', sample)).stdout).toContain(`${ESCAPE}[32mup to date${ESCAPE}[39m`)
    for (const env of [{ NO_COLOR: '1' }, { TERM: 'dumb' }]) {
      const { code, stdout } = await onTerminal('status', sample, env)
      expect(code).toBe(0)
      expect(stdout).not.toContain(ESCAPE)
    }
  })

  test('what a hostile lock would write to it is shown, not done', async () => {
    const own = checkout(sample)
    edit(own, 'polder.lock', '^2.0.0', `^2.0.0 ${ESCAPE}]0;title\u0007${ESCAPE}[8m`)
    const { stdout } = await onTerminal('why gamma', own)
    expect(stdout).not.toContain(`${ESCAPE}]0;`)
    expect(stdout).not.toContain(`${ESCAPE}[8m`)
    expect(stdout).not.toContain('\u0007')
  })
})

describe('without a terminal', () => {
  test.each([
    'lock --offline',
    'status',
    'why gamma',
    'why nothing',
    'explain',
    'verify',
    'install --force',
    'store gc',
    'lock --help',
    'nonsense',
  ])('polder %s prints no escape codes, even if colours are asked for', async (line) => {
    const { stdout, stderr } = await polder(line.split(' '), { ...sample, env: { FORCE_COLOR: '1', TERM: 'xterm' } })
    expect(stdout + stderr).not.toBe('')
    expect(stdout + stderr).not.toContain(ESCAPE)
  })

  test('output that cannot be written is an error, also of a no-op', async () => {
    const own = checkout(sample)
    expect((await polder(['install'], own)).code).toBe(0)
    for (const line of ['why gamma', 'install', 'install --force']) {
      const { program, args, env } = polderCommand(line.split(' '), own)
      const { code, stderr } = await finish('sh', ['-c', 'exec "$@" >/dev/full', 'sh', program, ...args], {
        cwd: own.cwd,
        env,
      })
      expect([line, code, stderr]).toEqual([
        line,
        1,
        'polder: what it says cannot be written: ENOSPC: no space left on device, write\n',
      ])
    }
  })

  test('names that would move the cursor or set the title are printed escaped', async () => {
    const hostile = `x${ESCAPE}]0;owned\u0007\u009b2J\u202e`
    const own = checkout(sample)
    writeFileSync(
      join(own.cwd, 'services/web/package.json'),
      JSON.stringify({ name: hostile, version: '1.0.0', dependencies: { [hostile]: '1.0.0', alpha: hostile } }),
    )
    for (const line of [
      'lock --offline',
      'lock --offline --verbose',
      'lock --offline --json',
      'install',
      `why ${hostile}`,
      `why ${hostile} --json`,
      `run ${hostile}`,
      `status`,
    ]) {
      const { stdout, stderr } = await run(line, own)
      expect({
        line,
        found: (stdout + stderr).match(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u202a-\u202e]/g),
      }).toEqual({ line, found: null })
    }
    const { stderr } = await run(`why ${hostile}`, own)
    expect(stderr).toContain('x\\u001b]0;owned\\u0007\\u009b2J\\u202e is not in the environment')
  })
})
