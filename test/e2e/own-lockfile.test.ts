import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'

import { afterAll, beforeAll, expect, test } from 'vitest'

import {
  copyRepository,
  finish,
  polderCommand,
  polderDone,
  scrubbedEnvironment,
  temporaryDirectory,
  TOOLS,
  type Finished,
  type Invocation,
} from '../support/cli.ts'
import { startRegistry, type Registry } from '../support/registry.ts'

let registry: Registry
let run: Invocation
let index: { readonly url: string; readonly end: () => Promise<unknown> }

/** A workspace that pnpm locked, with a package for another platform, and a service that npm locked at an older version. */
beforeAll(async () => {
  registry = await startRegistry()
  const home = temporaryDirectory('own-lockfile')
  run = { cwd: join(home, 'repository'), home: join(home, 'store') }
  registry.serve('addon-darwin', '1.0.2', { os: ['darwin'] })
  registry.serve('addon', '1.0.0', { optionalDependencies: { 'addon-darwin': '~1.0.0' } })
  const old = registry.serve('helper', '1.0.0')
  const gone = registry.serve('gone', '3.0.0')
  registry.serve('helper', '1.1.0')
  const files = {
    'polder.yaml': 'services: [apps/web, services/api]\nplatforms: [linux-x64-glibc, linux-arm64-glibc]\n',
    'pnpm-workspace.yaml': 'packages: [apps/*]\n',
    'package.json': '{ "name": "root", "private": true }',
    '.npmrc': `registry=${registry.url}\n`,
    'apps/web/package.json':
      '{ "name": "web", "version": "1.0.0", "dependencies": { "addon": "^1.0.0", "helper": "^1.1.0" } }',
    'services/api/package.json': '{ "name": "api", "version": "1.0.0", "dependencies": { "helper": "^1.0.0" } }',
    'services/api/package-lock.json': JSON.stringify({
      name: 'api',
      version: '1.0.0',
      lockfileVersion: 3,
      requires: true,
      packages: {
        '': { name: 'api', version: '1.0.0', dependencies: { helper: '^1.0.0' } },
        'node_modules/helper': { version: '1.0.0', integrity: old.integrity, dependencies: { gone: '^3.0.0' } },
        'node_modules/gone': { version: '3.0.0', integrity: gone.integrity },
      },
    }),
  }
  for (const [path, text] of Object.entries(files)) {
    mkdirSync(join(run.cwd, path, '..'), { recursive: true })
    writeFileSync(join(run.cwd, path), text)
  }
  const locked = await pnpm(['install', '--lockfile-only'], run.cwd, registry.url)
  expect(locked.code, locked.stdout + locked.stderr).toBe(0)
  await polderDone(['lock'], run)
  index = await serve()
})
afterAll(async () => {
  await index.end()
  await registry.close()
})

function pnpm(args: readonly string[], cwd: string, from: string): Promise<Finished> {
  const env = { CI: 'true', pnpm_config_registry: from, pnpm_config_fetch_retries: '0' }
  return finish(join(TOOLS, 'pnpm'), args, { cwd, env: scrubbedEnvironment({ home: join(cwd, '.home'), env }) })
}

async function serve(): Promise<typeof index> {
  const { program, args, env } = polderCommand(['index', 'serve', '--port', '0', '--json'], run)
  const server = spawn(program, args, { cwd: run.cwd, env, stdio: ['ignore', 'pipe', 'inherit'] })
  const { value } = (await createInterface(server.stdout)[Symbol.asyncIterator]().next()) as { value: string }
  const ended = once(server, 'exit')
  return {
    url: (JSON.parse(value) as { url: string }).url,
    end: () => {
      server.kill()
      return ended
    },
  }
}

test('pnpm installs its own lockfile from the index: it asks for documents of packages for other platforms as well', async () => {
  expect(readFileSync(join(run.cwd, 'polder.lock'), 'utf8')).not.toContain('addon-darwin@')
  const cwd = copyRepository(run.cwd)
  writeFileSync(join(cwd, '.npmrc'), '')
  const { code, stdout, stderr } = await pnpm(['install', '--frozen-lockfile'], cwd, index.url)
  expect(code, stdout + stderr).toBe(0)
  expect(existsSync(join(cwd, 'apps/web/node_modules/addon/package.json'))).toBe(true)
  const bare = await fetch(`${index.url}addon-darwin`)
  expect(bare.headers.get('last-modified')).toBe('Sat, 26 Oct 1985 08:15:00 GMT')
  expect(await bare.json()).toMatchObject({
    'dist-tags': { latest: '1.0.2' },
    time: { '1.0.2': '1985-10-26T08:15:00.000Z' },
    versions: { '1.0.2': { os: ['darwin'], dist: { tarball: `${index.url}addon-darwin/-/addon-darwin-1.0.2.tgz` } } },
  })
  // Who resolves anew does not come across it.
  expect(await (await fetch(`${index.url}addon`)).text()).not.toContain('addon-darwin')
})

test.each([
  [
    'helper/-/helper-1.0.0.tgz',
    'helper@1.0.0 is locked by services/api/package-lock.json, but was flattened to 1.1.0. Install from what `polder export` writes',
  ],
  [
    'gone',
    'gone@3.0.0 is locked by services/api/package-lock.json, but is needed by nothing after flattening. Install from what `polder export` writes',
  ],
  [
    'addon-darwin/-/addon-darwin-1.0.2.tgz',
    'addon-darwin@1.0.2 is for platforms that polder.lock is not for. Add them to platforms in polder.yaml and run `polder lock`',
  ],
  [
    'helper/-/helper-7.0.0.tgz',
    'helper@7.0.0 is not pinned; pinned is 1.1.0. Add it to a service and run `polder lock`',
  ],
])('what a lockfile has and the lock has not is refused with the reason: %s', async (path, reason) => {
  const answer = await fetch(`${index.url}${path}`)
  expect([answer.status, await answer.json()]).toEqual([404, { error: reason, reason, code: 'NOT_PINNED' }])
})
