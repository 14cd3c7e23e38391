import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'

import { afterAll, beforeAll, expect, test } from 'vitest'

import {
  finish,
  type Finished,
  type Invocation,
  polderCommand,
  polderDone,
  scrubbedEnvironment,
  temporaryDirectory,
  TOOLS,
} from '../support/cli.ts'
import { writeMonorepo } from '../support/monorepo.ts'
import { startRegistry, type Registry } from '../support/registry.ts'
import { attestationOf, makeSigningKey } from '../support/signing-key.ts'

// The registry that signed is gone by the time of the audit: all that the clients see comes from the index.

const key = makeSigningKey()
let registry: Registry
let where: Invocation
let server: ChildProcess
let url: string

beforeAll(async () => {
  registry = await startRegistry()
  registry.signWith(key)
  const gull = registry.serve('@sea/gull', '1.0.0', { published: '2025-01-02T03:04:05.678Z' })
  const tide = registry.serve('tide', '1.0.0', { dependencies: { '@sea/gull': '^1.0.0' } })
  registry.attest('tide', '1.0.0', attestationOf(key, 'tide', '1.0.0', tide.integrity))
  where = { cwd: join(temporaryDirectory('audit'), 'repository'), home: join(temporaryDirectory('audit'), 'store') }
  const locked = { tide, '@sea/gull': gull }
  writeMonorepo(where.cwd, registry, { 'services/web': { manifest: { dependencies: { tide: '1.0.0' } }, locked } })
  await polderDone(['lock'], where)
  // The lock has verified both signatures; the attestation comes with the sync, and its signature is verified on the way.
  expect(await polderDone(['index', 'sync'], where)).toBe(
    "2 pins in the index, none fetched\n  1 signature verified, 1 attestation verified by the registry's key only\n",
  )
  await registry.close()
  const { program, args, env } = polderCommand(['index', 'serve', '--port', '0', '--json'], where)
  const serving = spawn(program, args, { cwd: where.cwd, env, stdio: ['ignore', 'pipe', 'inherit'] })
  server = serving
  const [line] = (await once(createInterface(serving.stdout), 'line')) as [string]
  ;({ url } = JSON.parse(line) as { url: string })
})
afterAll(async () => {
  const ended = once(server, 'exit')
  server.kill('SIGTERM')
  await ended
})

// npm's own `audit signatures` asks Sigstore's TUF repository before it asks any registry, so without a network it ends there.
test('pnpm audit signatures passes against the index', async () => {
  const cwd = join(temporaryDirectory('audit'), 'project')
  mkdirSync(cwd)
  const manifest = { name: 'project', version: '1.0.0', dependencies: { tide: '1.0.0' } }
  writeFileSync(join(cwd, 'package.json'), JSON.stringify(manifest))
  writeFileSync(join(cwd, '.npmrc'), `registry=${url}\nfetch-retries=0\n`)
  const env = scrubbedEnvironment({ home: where.home, env: { CI: '1', PATH: `${TOOLS}:${process.env['PATH'] ?? ''}` } })
  const pnpm = (args: readonly string[]): Promise<Finished> => finish('pnpm', args, { cwd, env })
  expect(await pnpm(['install', '--no-frozen-lockfile'])).toMatchObject({ code: 0 })
  expect(await pnpm(['audit', 'signatures'])).toEqual({
    code: 0,
    stdout: 'audited 2 packages\n\n2 packages have verified registry signatures\n',
    stderr: '',
  })
})

test('the keys and the attestations are those that the registry gave', async () => {
  const { keyid, keytype, scheme, key: der, expires } = key.listed
  const asked = async (path: string): Promise<unknown> => (await fetch(`${url}${path}`)).json()
  expect(await asked('-/npm/v1/keys')).toEqual({ keys: [{ expires, keyid, keytype, scheme, key: der }] })
  expect(await asked('-/npm/v1/attestations/tide@1.0.0')).toMatchObject({
    attestations: [{ bundle: { dsseEnvelope: {} } }],
  })
  expect(await asked('@sea%2fgull')).toMatchObject({ time: { '1.0.0': '2025-01-02T03:04:05.678Z' } })
})
