import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync, realpathSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

import { afterAll, beforeAll, describe, expect, test } from 'vitest'

import { polder, polderCommand, type Finished } from '../support/cli.ts'
import { checkout, makeSample, run, type Sample } from '../support/sample.ts'

let sample: Sample

beforeAll(async () => {
  sample = await makeSample()
})
afterAll(() => sample.registry.close())

/** From a directory of the repository. */
function from(directory: string, ...args: readonly string[]): Promise<Finished> {
  return polder(args, { ...sample, cwd: join(sample.cwd, directory) })
}

describe('exec', () => {
  test('runs a command of the environment, from wherever it is called', async () => {
    expect(await from('.', 'exec', '--', 'alpha', 'x')).toEqual({ code: 0, stdout: 'alpha 1.1.0 x\n', stderr: '' })
    expect(await from('services/api', 'exec', '--', 'pwd')).toEqual({
      code: 0,
      stdout: `${realpathSync(join(sample.cwd, 'services/api'))}\n`,
      stderr: '',
    })
    expect(await from('.', 'exec', '--service', 'services/api', '--', 'node', '-p', 'require("gamma")')).toEqual({
      code: 0,
      stdout: '2.5.0\n',
      stderr: '',
    })
  })

  test('leaves the options behind the command to it', async () => {
    expect(await from('.', 'exec', 'alpha', '--json', '-q', '--help')).toEqual({
      code: 0,
      stdout: 'alpha 1.1.0 --json -q --help\n',
      stderr: '',
    })
  })

  test.each([
    ['exit 0', 0],
    ['exit 42', 42],
    ['kill -TERM $$', 128 + 15],
    ['kill -KILL $$', 128 + 9],
  ])('ends as the command does: %s', async (script, code) => {
    expect(await from('.', 'exec', '--', 'sh', '-c', script)).toEqual({ code, stdout: '', stderr: '' })
  })

  test('ends with 127 for a command that is not there, and 126 for one that is none', async () => {
    expect(await from('.', 'exec', '--', 'no-such-command')).toEqual({
      code: 127,
      stdout: '',
      stderr: 'polder: no-such-command: command not found in the environment or on PATH\n',
    })
    expect(await from('.', 'exec', '--', './polder.yaml')).toEqual({
      code: 126,
      stdout: '',
      stderr: 'polder: ./polder.yaml: not executable\n',
    })
  })

  test('passes a signal on and stays until the command has ended', async () => {
    const { program, args, env } = polderCommand(
      [
        'exec',
        '--',
        'node',
        '-e',
        'process.on("SIGTERM", () => { console.log("ending"); process.exit(3) }); console.log("ready"); setInterval(() => {}, 1000)',
      ],
      sample,
    )
    const child = spawn(program, args, { cwd: sample.cwd, env, stdio: ['ignore', 'pipe', 'inherit'] })
    let text = ''
    child.stdout.on('data', (chunk: Buffer) => {
      text += chunk.toString()
      if (text === 'ready\n') child.kill('SIGTERM')
    })
    const [code] = (await once(child, 'close')) as [number]
    expect({ code, text }).toEqual({ code: 3, text: 'ready\nending\n' })
  })
})

describe('run', () => {
  test('runs the script between its pre and post scripts, in the service it is called from', async () => {
    expect(await from('services/web', 'run', 'test')).toEqual({
      code: 0,
      stdout: 'pretest web\ntest web\nposttest web\n',
      stderr: '',
    })
    expect(await from('services/web', 'run', 'versions')).toEqual({ code: 0, stdout: '1.1.0,1.5.0\n', stderr: '' })
  })

  test('from the root runs it in every service that has it', async () => {
    expect(await from('.', 'run', 'test')).toEqual({
      code: 0,
      stdout: 'test api\npretest web\ntest web\nposttest web\n',
      stderr: 'polder: services/api > test\npolder: services/web > test\n',
    })
    expect(await from('.', 'run', 'versions', '--quiet')).toEqual({
      code: 0,
      stdout: '1.1.0,2.5.0\n1.1.0,1.5.0\n',
      stderr: '',
    })
  })

  test.each(['services/api', './services/api/', '@demo/api', 'api'])(
    'takes the service by path, name or last part: %s',
    async (service) => {
      expect(await from('.', 'run', 'test', '--service', service)).toEqual({
        code: 0,
        stdout: 'test api\n',
        stderr: '',
      })
    },
  )

  test('takes several services, in the order in which they are named', async () => {
    expect((await from('.', 'run', 'versions', '--service', 'web', '--service', 'api')).stdout).toBe(
      '1.1.0,1.5.0\n1.1.0,2.5.0\n',
    )
  })

  test('gives the script its arguments as they are', async () => {
    expect((await from('services/web', 'run', 'alpha', 'one', '--', '--two', 'a b', '$HOME')).stdout).toBe(
      'alpha 1.1.0 one --two a b $HOME\n',
    )
  })

  test('ends with the code of the first script that fails, and runs nothing after it', async () => {
    expect(await from('.', 'run', 'fail')).toEqual({
      code: 7,
      stdout: '',
      stderr: 'polder: services/web > fail failed with exit code 7\n',
    })
  })

  test('tells of one that fails what of its packages was not built', async () => {
    expect(await from('services/api', 'run', 'broken')).toEqual({
      code: 1,
      stdout: '',
      stderr:
        'polder: services/api > broken failed with exit code 1\n  not built here: native@1.0.0 (see polder approve)\n',
    })
  })

  test('suggests the script or the service that is meant', async () => {
    expect(await from('services/web', 'run', 'tset')).toEqual({
      code: 2,
      stdout: '',
      stderr: 'polder: services/web has no script "tset" [SCRIPT_UNKNOWN]\n  hint: did you mean test?\n',
    })
    expect(await from('tools/lint', 'run', 'anything')).toEqual({
      code: 2,
      stdout: '',
      stderr: 'polder: tools/lint has no script "anything" [SCRIPT_UNKNOWN]\n  hint: there are no scripts\n',
    })
    expect(await from('.', 'run', 'deploy')).toEqual({
      code: 2,
      stdout: '',
      stderr:
        'polder: no service has a script "deploy" [SCRIPT_UNKNOWN]\n  hint: there is: alpha, broken, fail, posttest, pretest, test, versions\n',
    })
    expect(await from('.', 'run', 'test', '--service', 'services/wbe')).toEqual({
      code: 2,
      stdout: '',
      stderr: 'polder: there is no service "services/wbe" [SERVICE_UNKNOWN]\n  hint: did you mean services/web?\n',
    })
  })
})

describe('shell', () => {
  test('is the shell of the user, inside the environment', async () => {
    const { program, args, env } = polderCommand(['shell', '--service', 'web', '--quiet'], {
      ...sample,
      env: { SHELL: '/bin/sh' },
    })
    const child = spawn(program, args, { cwd: sample.cwd, env, stdio: ['pipe', 'pipe', 'inherit'] })
    let text = ''
    child.stdout.on('data', (chunk: Buffer) => (text += chunk.toString()))
    child.stdin.end('alpha from the shell\nnode -p \'require("gamma")\'\nexit 9\n')
    const [code] = (await once(child, 'close')) as [number]
    expect({ code, text }).toEqual({ code: 9, text: 'alpha 1.1.0 from the shell\n1.5.0\n' })
  })
})

describe('a checkout in which nothing is installed', () => {
  test.each(['exec -- alpha', 'run test', 'shell', 'verify'])('%s says so', async (line) => {
    const fresh = checkout(sample)
    expect(await run(line, fresh)).toEqual({
      code: 1,
      stdout: '',
      stderr: `polder: nothing is installed in ${fresh.cwd} [NOT_INSTALLED]\n  hint: run \`polder install\`\n`,
    })
  })

  test('is also one whose installation was cut short', async () => {
    const cut = checkout(sample)
    await run('install', cut)
    const path = join(cut.cwd, '.polder', 'state.json')
    writeFileSync(path, readFileSync(path, 'utf8').replace(/"platform": "[^"]*"/, '"platform": ""'))
    for (const line of ['exec -- alpha', 'verify']) expect((await run(line, cut)).stderr).toContain('[NOT_INSTALLED]')
  })
})
