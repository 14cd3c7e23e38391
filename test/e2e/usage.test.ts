import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

import semver from 'semver'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'

import { polder, polderDone, temporaryDirectory, type Invocation } from '../support/cli.ts'
import { checkout, makeSample, normalised, run, type Sample } from '../support/sample.ts'

const DOCUMENTATION = readFileSync(new URL('../../docs/commands.md', import.meta.url), 'utf8')
const MANIFEST = JSON.parse(readFileSync(new URL('../../packages/cli/package.json', import.meta.url), 'utf8')) as {
  version: string
  engines: { node: string }
}
/** `index sync`, `lock` … as the documentation lists them. */
const COMMANDS = [...DOCUMENTATION.matchAll(/^\| `polder ([a-z][a-z -]*[a-z])/gm)].map(([, command = '']) => command)

let sample: Sample
let nowhere: Invocation

beforeAll(async () => {
  sample = await makeSample()
  nowhere = { cwd: temporaryDirectory('nowhere'), home: join(temporaryDirectory('nowhere'), 'store') }
})
afterAll(() => sample.registry.close())

describe('help', () => {
  test('names every command that the documentation lists, and no other', async () => {
    const groups = [
      ...new Set(COMMANDS.flatMap((command) => (command.includes(' ') ? command.split(' ').slice(0, 1) : []))),
    ]
    const listed = async (group: string): Promise<string[]> => {
      const { stdout } = await run(`${group} --help`.trim(), nowhere)
      const names = [...stdout.matchAll(/^ {2}([a-z][a-z-]*)\b/gm)].map(([, name = '']) => name)
      return names
        .filter((name) => name !== 'help' && !groups.includes(`${group} ${name}`.trim()))
        .map((name) => `${group} ${name}`.trim())
    }
    expect(groups).toEqual(['index', 'export', 'store'])
    expect((await Promise.all(['', ...groups].map(listed))).flat().sort()).toEqual([...COMMANDS].sort())
  })

  test.each(COMMANDS)('of %s exits with 0 and shows what every command takes', async (command) => {
    const { code, stdout, stderr } = await run(`${command} --help`, nowhere)
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
    expect(stdout).toMatch(new RegExp(`^Usage: polder ${command} `))
    const everywhere = ['--json', '--quiet', '--verbose', '--help']
    for (const option of everywhere) expect(stdout).toContain(option)
    const row = DOCUMENTATION.split('\n').find((line) => line.startsWith(`| \`polder ${command}`))
    const options = [...stdout.matchAll(/^ +(?:-\w, )?(--[a-z][\w-]*)/gm)].map(([, option = '']) => option)
    // `--[no-]x` is two.
    const documented = row?.replace(/--\[no-\](\S+?)(?=\])/, '--$1 --no-$1') ?? ''
    for (const option of options) if (!everywhere.includes(option)) expect(documented).toContain(option)
  })

  test('shows the values to choose from, and no default that goes without saying', async () => {
    const { stdout } = await run('install --help', nowhere)
    expect(stdout.replace(/\s+/g, ' ')).toContain('everything inside the checkout (linked or self-contained)')
    expect(stdout).not.toContain('(default')
    expect((await run('index serve --help', nowhere)).stdout).toMatch(/ready to be sent\s+\(default: 256\)/)
  })

  test('is what polder without a word prints, with exit code 0', async () => {
    const [bare, help] = await Promise.all([run('', nowhere), run('--help', nowhere)])
    expect(bare).toEqual(help)
    expect(bare).toMatchObject({ code: 0, stderr: '' })
  })

  test('--version prints the version of the package', async () => {
    for (const flag of ['--version', '-V'])
      expect(await run(flag, nowhere)).toEqual({ code: 0, stdout: `${MANIFEST.version}\n`, stderr: '' })
  })
})

test.each([
  ['20.20.2', false],
  ['22.18.0', false],
  ['22.19.0', true],
  ['24.0.0', true],
])('Node %s is new enough: %j, as the manifest says', async (node, enough) => {
  const pretend = `Object.defineProperty(process, "versions", { value: { ...process.versions, node: "${node}" } })`
  const nodeOptions = ['--import', `data:text/javascript,${encodeURIComponent(pretend)}`]
  const { code, stderr } = await polder(['status'], { ...sample, nodeOptions })
  const said = `polder: this is Node ${node}, and polder needs 22.19 or newer\n`
  expect({ code, stderr }).toEqual(enough ? { code: 0, stderr: '' } : { code: 1, stderr: said })
  expect(semver.satisfies(node, MANIFEST.engines.node)).toBe(enough)
})

describe('wrong usage is exit code 2 with a hint', () => {
  test.each([
    ['lokc', "unknown command 'lokc'", 'did you mean lock?'],
    ['lock --chekc', "unknown option '--chekc'", 'did you mean --check?'],
    [
      'lock services',
      "too many arguments for 'lock'. Expected 0 arguments but got 1: services",
      'see `polder lock --help`',
    ],
    ['index', 'polder index needs one of its commands', 'see `polder index --help`'],
    ['store clean', "unknown command 'clean'", 'see `polder store --help`'],
    ['help clean', "unknown command 'clean'", 'see `polder --help`'],
    ['index help clean', "unknown command 'clean'", 'see `polder index --help`'],
    ['index sync --offline', "unknown option '--offline'", 'see `polder index sync --help`'],
    ['exec', "missing required argument 'command'", 'see `polder exec --help`'],
    ['run', "missing required argument 'script'", 'see `polder run --help`'],
    ['why', "missing required argument 'name'", 'see `polder why --help`'],
    ['diff polder.lock', "missing required argument 'new'", 'see `polder diff --help`'],
    [
      'install --layout flat',
      "option '--layout <layout>' argument 'flat' is invalid. Allowed choices are linked, self-contained",
      'see `polder install --help`',
    ],
  ])('polder %s', async (line, message, hint) => {
    expect(await run(line, nowhere)).toEqual({
      code: 2,
      stdout: '',
      stderr: `polder: ${message} [USAGE]\n  hint: ${hint}\n`,
    })
  })

  test('with --json it is a document on stdout', async () => {
    const { code, stdout, stderr } = await run('lock --json --bogus', nowhere)
    expect({ code, stderr }).toEqual({ code: 2, stderr: '' })
    expect(JSON.parse(stdout)).toEqual({
      error: { code: 'USAGE', message: "unknown option '--bogus'", hint: 'see `polder lock --help`' },
    })
  })
})

describe('init', () => {
  test('never writes over a configuration', async () => {
    const fresh = checkout(sample)
    const before = readFileSync(join(fresh.cwd, 'polder.yaml'), 'utf8')
    const again = await run('init', fresh)
    expect(again).toMatchObject({ code: 2, stdout: '' })
    expect(normalised(again.stderr, fresh)).toBe(
      'polder: there is a polder.yaml already in <repository> [USAGE]\n  hint: edit it, or remove it first\n',
    )
    expect(readFileSync(join(fresh.cwd, 'polder.yaml'), 'utf8')).toBe(before)
  })

  test('writes a configuration that lock takes, with its schema for editors, and tells the next step', async () => {
    const own = checkout(sample)
    for (const name of ['polder.yaml', 'polder.lock']) rmSync(join(own.cwd, name))
    expect((await run('init', own)).stdout).toMatchInlineSnapshot(`
      "polder.yaml written: found lockfiles in 3 directories
        services/api
        services/web
        tools/lint
      Next: \`polder lock\`
      "
    `)
    expect(readFileSync(join(own.cwd, '.polder', '.gitignore'), 'utf8')).toBe('*\n')
    const schema = /\$schema=(\S+)/.exec(readFileSync(join(own.cwd, 'polder.yaml'), 'utf8'))?.[1] ?? ''
    expect(JSON.parse(readFileSync(join(own.cwd, schema), 'utf8'))).toHaveProperty('properties.services')
    await polderDone(['lock', '--offline'], own)
    expect(readFileSync(join(own.cwd, 'polder.lock'), 'utf8').length).toBeGreaterThan(500)
  })

  test('has its schema for editors in every clone that is installed, if polder.yaml still names it', async () => {
    const own = checkout(sample)
    for (const name of ['polder.yaml', 'polder.lock']) rmSync(join(own.cwd, name))
    await polderDone(['init'], own)
    await polderDone(['lock', '--offline'], own)
    const schema = join(own.cwd, '.polder/polder.schema.json')
    const published = readFileSync(schema, 'utf8')
    expect(published).toBe(readFileSync(join(import.meta.dirname, '../../docs/schema/polder.schema.json'), 'utf8'))
    // What version control does not carry: the first time the lock is new to the store, the second time it is known.
    for (const _ of [1, 2]) {
      rmSync(join(own.cwd, '.polder'), { recursive: true })
      await polderDone(['install'], own)
      expect(readFileSync(schema, 'utf8')).toBe(published)
    }
    // As another polder has left it.
    writeFileSync(schema, '{}')
    rmSync(join(own.cwd, '.polder/state.json'))
    await polderDone(['install'], own)
    expect(readFileSync(schema, 'utf8')).toBe(published)

    const config = join(own.cwd, 'polder.yaml')
    writeFileSync(config, readFileSync(config, 'utf8').replace(/^.*/, '#'))
    rmSync(join(own.cwd, '.polder'), { recursive: true })
    await polderDone(['install'], own)
    expect(existsSync(schema)).toBe(false)
  })

  test('where there is nothing to find says what it looks for', async () => {
    const { code, stderr } = await run('init', nowhere)
    expect(code).toBe(2)
    expect(stderr).toContain(
      '[NO_SERVICES]\n  hint: polder reads pnpm-lock.yaml (v9), package-lock.json (v1 to v3), yarn.lock (v1, v6 to v10) and bun.lock\n',
    )
  })
})

describe('a configuration that is wrong', () => {
  test.each([
    ['platform: [linux-x64-glibc]\n', 'polder.yaml:1:1: unknown key "platform"', 'did you mean "platforms"?'],
    [
      'layout: linked\npolicy:\n  version: fewest\n',
      'polder.yaml:3:3: unknown key "policy.version"',
      'did you mean "versions"?',
    ],
  ])('%j: the line, the column and the nearest key', async (text, message, hint) => {
    const broken = checkout(sample)
    writeFileSync(join(broken.cwd, 'polder.yaml'), text)
    expect(await run('lock', broken)).toEqual({
      code: 2,
      stdout: '',
      stderr: `polder: ${message} [CONFIG_INVALID]\n  hint: ${hint}\n`,
    })
  })

  test('all mistakes are told at once', async () => {
    const broken = checkout(sample)
    writeFileSync(join(broken.cwd, 'polder.yaml'), 'layout: flat\nexclude: 3\n')
    const { code, stderr } = await run('lock', broken)
    expect(code).toBe(2)
    expect(stderr).toMatchInlineSnapshot(`
      "polder: polder.yaml:1:9: layout: Invalid option: expected one of "linked"|"self-contained" [CONFIG_INVALID]
        polder.yaml:2:10: exclude: expected array, received number
      "
    `)
  })

  test.each([
    ['polder.yaml', 'lock', 'CONFIG_INVALID', 2],
    ['polder.lock', 'install', 'LOCK_INVALID', 1],
  ])('%s that cannot be read is no bug of polder', async (name, command, code, exit) => {
    const broken = checkout(sample)
    rmSync(join(broken.cwd, name))
    mkdirSync(join(broken.cwd, name))
    expect(await run(command, broken)).toMatchObject({
      code: exit,
      stderr: `polder: ${name} cannot be read: EISDIR: illegal operation on a directory, read [${code}]\n`,
    })
  })

  test('that is not there at all', async () => {
    for (const command of ['lock', 'install', 'status', 'why alpha', 'verify', 'index sync', 'run test', 'explain']) {
      const { code, stderr } = await run(command, nowhere)
      expect({ command, code, stderr }).toEqual({
        command,
        code: 2,
        stderr: `polder: no polder.yaml in ${nowhere.cwd} or any directory above it [CONFIG_NOT_FOUND]\n  hint: run \`polder init\` at the root of the repository\n`,
      })
    }
  })
})

describe('what is not expected', () => {
  test('has a stack trace only on request, and may be what the system refuses', async () => {
    const broken = checkout(sample)
    rmSync(join(broken.cwd, '.npmrc'), { force: true })
    mkdirSync(join(broken.cwd, '.npmrc'))
    expect(await run('lock', broken)).toEqual({
      code: 1,
      stdout: '',
      stderr:
        'polder: unexpected: EISDIR: illegal operation on a directory, read\n  The system refused it. Where it should not have been asked, this is a bug in polder. Run again with --verbose for the stack trace.\n',
    })
    expect((await run('lock --verbose', broken)).stderr).toMatch(/\n {4}at .*gather\.ts/)
  })

  test('errors that are expected have a stack trace only on request too', async () => {
    expect((await run('install', nowhere)).stderr).not.toMatch(/\n\s+at /)
    expect((await run('install --verbose', nowhere)).stderr).toMatch(/\n\s+at /)
  })
})
