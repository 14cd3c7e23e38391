import { execFile } from 'node:child_process'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'

import { afterEach, beforeEach, expect, test } from 'vitest'

import { startRegistry, type Registry } from './registry.ts'
import { packTarball, readPackageJson } from './tarball.ts'

const run = promisify(execFile)
let directory: string
let registry: Registry

beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), 'polder-registry-'))
  registry = await startRegistry()
})

afterEach(async () => {
  await registry.close()
  rmSync(directory, { recursive: true, force: true })
})

/** A client sees this registry, an empty home and nothing of the configuration around it. */
function clientEnv(): NodeJS.ProcessEnv {
  const home = join(directory, 'home')
  mkdirSync(home, { recursive: true })
  const kept = Object.entries(process.env).filter(([key]) => !/^(npm_|pnpm_|xdg_)/i.test(key))
  return {
    ...Object.fromEntries(kept),
    HOME: home,
    npm_config_registry: registry.url,
    PNPM_CONFIG_REGISTRY: registry.url,
    CI: '1',
  }
}

function project(dependencies: Readonly<Record<string, string>>): string {
  const path = join(directory, 'project')
  mkdirSync(path)
  writeFileSync(join(path, 'package.json'), JSON.stringify({ name: 'project', version: '1.0.0', dependencies }))
  return path
}

test('the same files make the same tarball, and its package.json can be read back', () => {
  const files = { 'package.json': '{"name":"a","version":"1.0.0"}', [`${'deep/'.repeat(30)}x.js`]: 'x' }
  expect(packTarball(files)).toEqual(packTarball(files))
  expect(readPackageJson(packTarball(files))).toEqual({ name: 'a', version: '1.0.0' })
})

test.each([
  ['npm', ['install', '--no-audit', '--no-fund']],
  ['pnpm', ['install', '--no-frozen-lockfile']],
])('%s installs a package, its scoped dependency and a republished artifact', async (client, args) => {
  registry.serve('foo', '1.2.3', {
    dependencies: { '@scope/bar': '^2.0.0' },
    files: { 'index.js': 'module.exports = 1' },
  })
  registry.serve('@scope/bar', '1.9.0')
  registry.serve('@scope/bar', '2.1.0', {
    files: { 'cli.js': { content: '#!/usr/bin/env node\n', mode: 0o755 } },
    bin: 'cli.js',
  })
  registry.serveArtifact('real', '3.0.0', packTarball({ 'package.json': '{"name":"real","version":"3.0.0"}' }))
  const cwd = project({ foo: '^1.0.0', '@scope/bar': 'latest', real: '*' })

  await run(client, args, { cwd, env: clientEnv() })

  expect(readFileSync(join(cwd, 'node_modules/foo/index.js'), 'utf8')).toBe('module.exports = 1')
  expect(JSON.parse(readFileSync(join(cwd, 'node_modules/@scope/bar/package.json'), 'utf8'))).toMatchObject({
    version: '2.1.0',
  })
  expect(JSON.parse(readFileSync(join(cwd, 'node_modules/real/package.json'), 'utf8'))).toMatchObject({
    version: '3.0.0',
  })
  expect(registry.requests.map(({ rawUrl }) => rawUrl.toLowerCase())).toContain('/@scope%2fbar')
})

test('documents come full or abbreviated, answer HEAD and If-None-Match, and an unknown name is 404', async () => {
  registry.serve('foo', '1.0.0', { description: 'long', scripts: { postinstall: 'true' } })
  const full = await fetch(`${registry.url}foo`)
  expect(await full.json()).toMatchObject({
    time: { '1.0.0': '2020-01-01T00:00:00.000Z' },
    versions: { '1.0.0': { description: 'long' } },
  })
  const short = (await (
    await fetch(`${registry.url}foo`, { headers: { accept: 'application/vnd.npm.install-v1+json' } })
  ).json()) as {
    versions: Record<string, object>
  }
  expect(short.versions['1.0.0']).toMatchObject({
    hasInstallScript: true,
    dist: { tarball: `${registry.url}foo/-/foo-1.0.0.tgz` },
  })
  expect(short.versions['1.0.0']).not.toHaveProperty('description')
  const etag = full.headers.get('etag') ?? ''
  expect((await fetch(`${registry.url}foo`, { headers: { 'if-none-match': etag } })).status).toBe(304)
  const head = await fetch(`${registry.url}foo`, { method: 'HEAD' })
  expect([head.headers.get('last-modified'), await head.text()]).toEqual(['Wed, 01 Jan 2020 00:00:00 GMT', ''])
  expect((await fetch(`${registry.url}missing`)).status).toBe(404)
})

test('a fault happens as often as asked and then the answer is right', async () => {
  const { url, bytes } = registry.serve('foo', '1.0.0')
  registry.fault('foo@1.0.0', { kind: 'status', status: 503, times: 2 })
  const statuses = [await fetch(url), await fetch(url), await fetch(url)].map(({ status }) => status)
  expect(statuses).toEqual([503, 503, 200])
  registry.fault('foo@1.0.0', { kind: 'truncate', times: 1 })
  await expect(fetch(url).then((response) => response.bytes())).rejects.toThrow()
  expect(Buffer.from(await (await fetch(url)).bytes())).toEqual(bytes)
  registry.fault('foo', { kind: 'reset', times: 1 })
  await expect(fetch(`${registry.url}foo`)).rejects.toThrow()
})

test('without the token it answers 401', async () => {
  const closed = await startRegistry({ token: 'secret' })
  closed.serve('foo', '1.0.0')
  expect((await fetch(`${closed.url}foo`)).status).toBe(401)
  expect((await fetch(`${closed.url}foo`, { headers: { authorization: 'Bearer secret' } })).status).toBe(200)
  await closed.close()
})
