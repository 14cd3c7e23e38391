import { mkdirSync, readdirSync, realpathSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'

import { afterAll, beforeAll, expect, test } from 'vitest'

import { finish, polder, polderDone, scrubbedEnvironment, temporaryDirectory, TOOLS } from '../support/cli.ts'
import { startRegistry, type Registry } from '../support/registry.ts'

const TIMEOUT = 60_000

let registry: Registry
let home: string

beforeAll(async () => {
  registry = await startRegistry()
  registry.serve('past', '1.0.0', { engines: { node: '<20' } })
  registry.serve('user', '1.0.0', { optionalDependencies: { past: '^1.0.0' } })
  home = realpathSync(temporaryDirectory('engines-store'))
})

afterAll(() => registry.close())

function write(cwd: string, files: Readonly<Record<string, unknown>>): void {
  for (const [path, content] of Object.entries(files)) {
    mkdirSync(dirname(join(cwd, path)), { recursive: true })
    writeFileSync(join(cwd, path), typeof content === 'string' ? content : JSON.stringify(content, null, 2))
  }
}

/** What a client makes of a manifest: its exit code, and the names it installs. */
async function client(program: string, cwd: string): Promise<{ code: number | null; names: string[] }> {
  const { code } = await finish(program, ['install', '--ignore-scripts'], {
    cwd,
    env: scrubbedEnvironment({ home, env: { CI: 'true', npm_config_cache: join(home, '..', 'npm-cache') } }),
  })
  const names = installed(cwd)
  rmSync(join(cwd, 'node_modules'), { recursive: true, force: true })
  return { code, names }
}

function installed(cwd: string): string[] {
  try {
    return readdirSync(join(cwd, 'node_modules')).filter((name) => !name.startsWith('.'))
  } catch {
    return []
  }
}

test.each([
  [
    'an optional package for another Node is left out',
    { optionalDependencies: { past: '1' }, dependencies: { user: '1' } },
    '',
    ['user'],
  ],
  ['a required package for another Node is installed, with a warning', { dependencies: { past: '1' } }, '', ['past']],
  [
    'a required package for another Node is refused where the client is strict',
    { dependencies: { past: '1' } },
    'engine-strict=true\n',
    null,
  ],
] as const)('%s, as by npm and pnpm', { timeout: TIMEOUT }, async (_, manifest, npmrc, names) => {
  for (const program of ['npm', join(TOOLS, 'pnpm')]) {
    const cwd = join(realpathSync(temporaryDirectory('engines')), 'repository')
    write(cwd, {
      '.npmrc': `registry=${registry.url}\n`,
      'package.json': { name: 'web', version: '1.0.0', ...manifest },
      'polder.yaml': '',
    })
    // Locked first: only then does somebody become strict.
    const lock = program === 'npm' ? ['install', '--package-lock-only'] : ['install', '--lockfile-only']
    await finish(program, lock, {
      cwd,
      env: scrubbedEnvironment({ home, env: { CI: 'true', npm_config_cache: join(home, '..', 'npm-cache') } }),
    })
    write(cwd, {
      '.npmrc': `registry=${registry.url}\n${npmrc}`,
      ...(npmrc === '' || program === 'npm' ? {} : { 'pnpm-workspace.yaml': 'engineStrict: true\n' }),
    })
    const theirs = await client(program, cwd)
    if (names === null) expect(theirs.code).not.toBe(0)
    else expect(theirs).toEqual({ code: 0, names: [...names] })
    await polderDone(['lock'], { cwd, home })
    const { code, stderr } = await polder(['install'], { cwd, home })
    if (names === null) {
      expect([code, stderr]).toEqual([
        1,
        expect.stringMatching(
          /past@1\.0\.0 is for Node <20, and this is \d+\.\d+\.\d+; \. needs it \[ENGINE_UNSUPPORTED\]/,
        ),
      ])
      continue
    }
    expect(code, stderr).toBe(0)
    expect(installed(cwd)).toEqual([...names])
    const required = Object.hasOwn(manifest.dependencies, 'past')
    if (required)
      expect(stderr).toMatch(
        /^warning: past@1\.0\.0 is for another Node than \d+\.\d+\.\d+: it wants <20, and \. needs it$/m,
      )
    else expect(stderr).toBe('')
    expect(JSON.parse(await polderDone(['verify', '--json'], { cwd, home }))).toMatchObject({ clean: true })
    expect(await polderDone(['install'], { cwd, home })).toMatch(/^Already up to date/)
  }
})
