import {
  appendFileSync,
  cpSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'

import { beforeAll, describe, expect, test, type TestContext } from 'vitest'

import {
  copyExample,
  finish,
  polder,
  POLDER,
  polderDone,
  scrubbedEnvironment,
  temporaryDirectory,
  type Finished,
} from '../support/cli.ts'
import { CHECKS } from '../support/harbour-checks.ts'
import { networkCut, WITH_PROOF } from '../support/network-cut.ts'

const SERVICES = [
  'apps/dashboard',
  'apps/kiosk',
  'packages/tide',
  'services/berths',
  'services/cranes',
  'services/customs',
  'services/gatehouse',
]
const LAYOUTS = ['linked', 'self-contained'] as const

/** Filled once, from the registry of the user's own configuration. Tests that change a store take a copy. */
let home: string
let lockText: string
const cut = networkCut()

beforeAll(async () => {
  home = temporaryDirectory('store')
  const cwd = copyExample('harbour')
  await polderDone(['lock'], { cwd, home, upstream: true })
  lockText = readFileSync(join(cwd, 'polder.lock'), 'utf8')
})

/** A checkout of the example with its lock, as a clone would give it. */
function checkout(): string {
  const cwd = copyExample('harbour')
  writeFileSync(join(cwd, 'polder.lock'), lockText)
  return cwd
}

async function installed(layout: (typeof LAYOUTS)[number] = 'linked'): Promise<string> {
  const cwd = checkout()
  await polderDone(['install', '--layout', layout], { cwd, home })
  return cwd
}

/** The artifacts and manifests of the shared store in a store of its own. */
function copyStore(): string {
  const copy = temporaryDirectory('store')
  for (const part of ['layout', 'artifacts', 'manifests'])
    cpSync(join(home, part), join(copy, part), { recursive: true })
  return copy
}

const printed = ({ stdout }: Finished): unknown[] =>
  stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as unknown)

/** The paths of all that is in a directory; links are not followed, which Node's own recursive reading does. */
function entries(directory: string, below = ''): string[] {
  return readdirSync(join(directory, below), { withFileTypes: true }).flatMap((entry) => {
    const path = join(below, entry.name)
    return entry.isDirectory() ? [path, ...entries(directory, path)] : [path]
  })
}

describe('with the network cut', () => {
  /** A namespace without a network, or the test is skipped with what the kernel said. */
  function inside(context: TestContext): readonly string[] {
    return 'refused' in cut ? context.skip(cut.refused) : cut.inside
  }

  test('a command in the namespace has no interface but lo and no route, and cannot connect', async (context) => {
    const [program = '', ...args] = inside(context)
    const connect = `require('node:net').connect(80, '192.0.2.1').on('error', ({ code }) => console.log(code))`
    const { stdout } = await finish(program, [...args, process.execPath, '-e', connect], {
      cwd: home,
      env: scrubbedEnvironment({ home }),
    })
    expect(stdout).toBe('ENETUNREACH\n')
  })

  test('the proof refuses where there is a network', async (context) => {
    const devices = readFileSync('/proc/net/dev', 'utf8').split('\n').slice(2, -1)
    if (devices.every((line) => line.trim().startsWith('lo:')))
      context.skip('there is no network outside of the namespace either')
    const [program = '', ...args] = WITH_PROOF
    const { code, stderr } = await finish(program, [...args, 'true'], { cwd: home, env: scrubbedEnvironment({ home }) })
    expect({ code, stderr }).toEqual({ code: 97, stderr: expect.stringContaining('the network is not cut') })
  })

  test.for(LAYOUTS)(
    'a clone and a filled store are all that install and every check need (%s)',
    async (layout, context) => {
      const cwd = checkout()
      const run = { cwd, home, inside: inside(context) }
      await polderDone(['install', '--layout', layout], run)
      const checks = await polder(['run', 'check'], run)
      expect(checks.code, checks.stderr).toBe(0)
      expect(printed(checks)).toEqual(CHECKS)
      expect(await polder(['verify', '--json'], run)).toMatchObject({
        code: 0,
        stdout: `${JSON.stringify({ clean: true, packages: 37 }, null, 2)}\n`,
      })
    },
  )

  test('a lock is made, and checked, from a filled store alone', async (context) => {
    const cwd = copyExample('harbour')
    const run = { cwd, home, inside: inside(context) }
    await polderDone(['lock', '--offline'], run)
    expect(readFileSync(join(cwd, 'polder.lock'), 'utf8')).toBe(lockText)
    expect(await polderDone(['lock', '--check'], run)).toBe('polder.lock is up to date\n')
  })
})

describe.each(LAYOUTS)('an installation, %s', (layout) => {
  let cwd: string
  beforeAll(async () => {
    cwd = await installed(layout)
  })

  test('runs the check of one service: of the one we are in, or by its path, its name, the last part of its path', async () => {
    for (const [from, args] of [
      [join(cwd, 'services/cranes'), []],
      [cwd, ['--service', 'services/cranes']],
      [cwd, ['--service', 'cranes']],
    ] as const) {
      const result = await polder(['run', 'check', ...args], { cwd: from, home })
      expect(result.code, result.stderr).toBe(0)
      expect(printed(result)).toEqual([CHECKS[4]])
    }
    const two = await polder(['run', 'check', '--service', '@harbour/kiosk', '--service', 'packages/tide'], {
      cwd,
      home,
    })
    expect(printed(two)).toEqual([CHECKS[1], CHECKS[2]])
  })

  test('gives a service the command that it declares where two packages offer one of the same name', async () => {
    const uuid = async (service: string): Promise<string> =>
      polderDone(['exec', '--service', service, '--', 'uuid', '--help'], { cwd, home })
    expect(await uuid('services/berths')).toMatch(/^\s*USAGE: uuid \[version\]/)
    expect(await uuid('services/customs')).toMatch(/^Usage:\n {2}uuid\n/)
    expect(await polderDone(['run', 'ticket'], { cwd: join(cwd, 'services/berths'), home })).toMatch(
      /^[0-9a-f-]{36}\n$/,
    )
  })

  test('passes arguments on to a script, and the exit code of a command back', async () => {
    const ticket = await polderDone(['run', 'ticket', '--service', 'services/berths', '--', '--help'], { cwd, home })
    expect(ticket).toMatch(/^\s*USAGE: uuid \[version\]/)
    expect(await polder(['exec', '--', 'sh', '-c', 'exit 42'], { cwd, home })).toMatchObject({
      code: 42,
      stdout: '',
      stderr: '',
    })
  })
})

describe('the second installation', () => {
  const recorder = fileURLToPath(new URL('../support/loaded-modules-process.ts', import.meta.url))

  test.for(LAYOUTS)('is a no-op, decided without loading anything but the entry file (%s)', async (layout) => {
    const cwd = copyExample('harbour')
    appendFileSync(join(cwd, 'polder.yaml'), `layout: ${layout}\n`)
    await polderDone(['lock', '--offline'], { cwd, home })
    const record = join(temporaryDirectory('record'), 'loaded')
    const install = async (): Promise<{ stdout: string; files: string[] }> => {
      writeFileSync(record, '')
      const env = { RECORD_LOADED_MODULES: record }
      const stdout = await polderDone(['install'], { cwd, home, env, nodeOptions: ['--import', recorder] })
      const files = readFileSync(record, 'utf8')
        .split('\n')
        .filter((url) => url.startsWith('file:'))
      return { stdout, files }
    }
    const first = await install()
    expect(first.stdout).toMatch(/^\d+ packages installed in /)
    expect(first.files).toContain(new URL('../src/install-entry.ts', pathToFileURL(POLDER)).href)
    const second = await install()
    expect(second.stdout).toMatch(/^Already up to date \(\d+ ms\)\n$/)
    expect(second.files).toEqual([pathToFileURL(POLDER).href])
  })

  test('goes back to the configured layout after one that only the command line asked for', async () => {
    const cwd = await installed('self-contained')
    const again = ['install', '--layout', 'self-contained']
    expect(await polderDone(again, { cwd, home })).toContain('Already up to date')
    expect(await polderDone(['install'], { cwd, home })).toMatch(/packages installed[^]* links in this checkout/)
    expect(await polderDone(['install'], { cwd, home })).toContain('Already up to date')
    expect(await polderDone(['verify'], { cwd, home })).toContain('as locked')
  })
})

describe('what an installation leaves in a checkout', () => {
  test('a second checkout in the linked layout holds links, and no file but markers', async () => {
    await installed()
    const cwd = checkout()
    const result = JSON.parse(await polderDone(['install', '--json'], { cwd, home })) as {
      built: boolean
      files: object
    }
    expect(result).toMatchObject({ built: false, files: { linked: 0, copied: 0 } })
    const files = entries(cwd).filter(
      (path) => path.split('/').includes('node_modules') && lstatSync(join(cwd, path)).isFile(),
    )
    expect(files.sort()).toEqual([
      'node_modules/.polder.json',
      'services/berths/node_modules/.polder.json',
      'services/cranes/node_modules/.polder.json',
    ])
  })

  test('a self-contained one needs neither the store nor its own old place', async () => {
    const own = copyStore()
    const before = checkout()
    await polderDone(['install', '--layout', 'self-contained'], { cwd: before, home: own })
    const after = join(temporaryDirectory('moved'), 'elsewhere')
    renameSync(before, after)
    rmSync(own, { recursive: true, force: true })
    const checks = await polder(['run', 'check'], { cwd: after, home: own })
    expect(checks.code, checks.stderr).toBe(0)
    expect(printed(checks)).toEqual(CHECKS)
    const links = entries(after).filter((path) => lstatSync(join(after, path)).isSymbolicLink())
    expect(links.length).toBeGreaterThan(0)
    const targets = links.map((path) => resolve(after, dirname(path), readlinkSync(join(after, path))))
    expect(targets.filter((target) => !target.startsWith(`${after}/`))).toEqual([])
  })
})

describe('a change', () => {
  const dependenciesChanged = (path: string): string =>
    readFileSync(path, 'utf8').replace('"dependencies": {', '"dependencies": {\n    "ms": "^2.1.0",')
  const changes: readonly [path: string, change: (path: string) => string][] = [
    ['services/berths/package.json', dependenciesChanged],
    ['apps/kiosk/package.json', dependenciesChanged],
    [
      'services/customs/package-lock.json',
      (path) => readFileSync(path, 'utf8').replace('"version": "9.0.1"', '"version": "9.0.0"'),
    ],
    ['services/cranes/yarn.lock', (path) => `${readFileSync(path, 'utf8')}\n# another\n`],
    ['pnpm-lock.yaml', (path) => `${readFileSync(path, 'utf8')}\n# another\n`],
    ['polder.yaml', (path) => `${readFileSync(path, 'utf8')}\nexclude: [attic]\n`],
  ]
  let shared: string
  beforeAll(async () => {
    shared = await installed()
  })

  test.for(changes)(
    'of %s is noticed by install and by lock --check: exit code 3, with its name',
    async ([path, change]) => {
      const file = join(shared, path)
      const before = readFileSync(file)
      writeFileSync(file, change(file))
      for (const args of [['install'], ['lock', '--check']]) {
        const { code, stderr } = await polder(args, { cwd: shared, home })
        expect(code).toBe(3)
        expect(stderr).toContain(path)
      }
      writeFileSync(file, before)
    },
  )

  test('of a script in a package.json, or of a comment in polder.yaml, is none', async () => {
    const cwd = await installed()
    const config = join(cwd, 'polder.yaml')
    writeFileSync(config, readFileSync(config, 'utf8').replace('# Seven', '# All\n\n# Seven'))
    const path = join(cwd, 'services/berths/package.json')
    writeFileSync(
      path,
      readFileSync(path, 'utf8').replace('"ticket": "uuid"', '"greet": "echo ahoy", "fail": "exit 7"'),
    )
    await polderDone(['install'], { cwd, home })
    expect(await polderDone(['run', 'greet'], { cwd, home })).toBe('ahoy\n')
    expect((await polder(['run', 'fail'], { cwd, home })).code).toBe(7)
    expect(await polderDone(['lock', '--check'], { cwd, home })).toBe('polder.lock is up to date\n')
  })
})

describe('the same lock', () => {
  test('comes from a copy elsewhere whose files were made in another order', async () => {
    const original = copyExample('harbour')
    const copy = join(temporaryDirectory('another-place'), 'deeper', 'port')
    for (const path of entries(original).reverse()) {
      if (!lstatSync(join(original, path)).isFile()) continue
      mkdirSync(dirname(join(copy, path)), { recursive: true })
      cpSync(join(original, path), join(copy, path))
    }
    await polderDone(['lock', '--offline'], {
      cwd: copy,
      home,
      env: { LANG: 'tr_TR.UTF-8', LC_ALL: 'C', TZ: 'Pacific/Apia' },
    })
    expect(readFileSync(join(copy, 'polder.lock'), 'utf8')).toBe(lockText)
  })

  test('comes from services that polder.yaml lists in another order, but for the digest of polder.yaml', async () => {
    const cwd = copyExample('harbour')
    const listed = (services: readonly string[]): string => services.map((path) => `  - ${path}\n`).join('')
    const path = join(cwd, 'polder.yaml')
    const text = readFileSync(path, 'utf8')
    expect(text).toContain(listed(SERVICES))
    writeFileSync(path, text.replace(listed(SERVICES), listed(SERVICES.toReversed())))
    await polderDone(['lock', '--offline'], { cwd, home })
    const withoutDigest = (lock: string): string => lock.replace(/^ {2}polder\.yaml: .*$/m, '')
    expect(withoutDigest(readFileSync(join(cwd, 'polder.lock'), 'utf8'))).toBe(withoutDigest(lockText))
  })

  test('is not written again', async () => {
    const cwd = checkout()
    const { mtimeMs } = lstatSync(join(cwd, 'polder.lock'))
    expect(JSON.parse(await polderDone(['lock', '--offline', '--json'], { cwd, home }))).toMatchObject({
      changed: false,
      services: 7,
      optimal: true,
    })
    expect(lstatSync(join(cwd, 'polder.lock')).mtimeMs).toBe(mtimeMs)
  })
})

describe('a missing artifact', () => {
  function removeArtifact(store: string, id: string): void {
    const [, integrity = ''] = lockText.split(`\n    ${id}:\n      integrity: sha512-`, 2)
    const hex = Buffer.from(integrity.split('\n', 1)[0] ?? '', 'base64').toString('hex')
    rmSync(join(store, 'artifacts/sha512', hex.slice(0, 2), hex.slice(2)))
  }

  test('is an error that names it and the command that fetches it: exit code 4', async () => {
    const own = copyStore()
    removeArtifact(own, 'mqtt-packet@8.2.1')
    const { code, stderr } = await polder(['install'], { cwd: checkout(), home: own })
    expect(code).toBe(4)
    expect(stderr).toContain('the artifact of mqtt-packet@8.2.1 is not in the store')
    expect(stderr).toContain('polder index sync')
    expect(stderr).not.toContain('ansi-styles')
  })

  test('of a package that is built first does not hide the others', async () => {
    const own = copyStore()
    for (const id of ['bcrypt@6.0.0', 'mqtt-packet@8.2.1']) removeArtifact(own, id)
    const { code, stderr } = await polder(['install'], { cwd: checkout(), home: own })
    expect(code).toBe(4)
    expect(stderr).toContain('the artifact of bcrypt@6.0.0 is not in the store')
    expect(stderr).toContain('the artifact of mqtt-packet@8.2.1 is not in the store')
  })

  test('of an empty store is every one of them', async () => {
    const cwd = checkout()
    const { code, stdout } = await polder(['install', '--json'], { cwd, home: temporaryDirectory('empty') })
    expect(code).toBe(4)
    const { error } = JSON.parse(stdout) as { error: { code: string; others: { code: string }[] } }
    expect(error.code).toBe('ARTIFACT_MISSING')
    expect(error.others.length).toBeGreaterThan(30)
    expect(entries(cwd)).not.toContain('node_modules')
  })
})
