import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import { PolderError } from '@polder/spec'
import { afterEach, beforeEach, expect, test } from 'vitest'

import { credentialsFor, type NpmConfig, proxyFor, redactUrl, registryOf } from '../src/upstream/npm-config.ts'
import { readNpmConfig } from '../src/upstream/npmrc.ts'

let directory: string

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'polder-npmrc-'))
  for (const name of ['home', 'repository']) mkdirSync(join(directory, name))
})

afterEach(() => rmSync(directory, { recursive: true, force: true }))

function write(path: string, ...lines: readonly string[]): string {
  writeFileSync(join(directory, path), `${lines.join('\n')}\n`)
  return join(directory, path)
}

/** An empty PATH: no npm of this machine brings a configuration of its own. */
function read(env: Readonly<Record<string, string>> = {}): Promise<NpmConfig> {
  return readNpmConfig({ cwd: join(directory, 'repository'), home: join(directory, 'home'), env: { PATH: '', ...env } })
}

async function refusal(env?: Readonly<Record<string, string>>): Promise<PolderError> {
  const error = await read(env).then(
    () => undefined,
    (thrown: unknown) => thrown,
  )
  expect(error).toBeInstanceOf(PolderError)
  return error as PolderError
}

test('without any configuration everything is as npm has it', async () => {
  const config = await read()
  expect(config.registry).toMatch(/^https:\/\/.+\/$/)
  expect(config).toMatchObject({
    tls: { strict: true, ca: null, cert: null, key: null },
    proxy: { http: null, https: null, exempt: [] },
    retry: { retries: 2, factor: 10, minMs: 10_000, maxMs: 60_000 },
    sockets: { perHost: 15, localAddress: null, timeoutMs: 300_000 },
    warnings: [],
  })
})

test('the project overrides the user, the user the global file, and the environment all of them', async () => {
  const globalconfig = write(
    'npmrc',
    'registry=https://global.example',
    'maxsockets=3',
    'fetch-retries=7',
    'fetch-timeout=1',
  )
  write('home/.npmrc', 'registry=https://user.example', 'maxsockets=4', 'fetch-retries=8')
  write('repository/.npmrc', 'registry=https://project.example/npm', 'maxsockets=5')
  const config = await read({ npm_config_globalconfig: globalconfig, NPM_CONFIG_MAXSOCKETS: '6' })
  expect([config.registry, config.sockets.perHost, config.retry.retries, config.sockets.timeoutMs]).toEqual([
    'https://project.example/npm/',
    6,
    8,
    1,
  ])
})

test('no timeout is a day, and so is more than that', async () => {
  write('home/.npmrc', 'fetch-timeout=0')
  expect((await read()).sockets.timeoutMs).toBe(86_400_000)
  write('home/.npmrc', 'fetch-timeout=99999999999')
  expect((await read()).sockets.timeoutMs).toBe(86_400_000)
})

test('the repository is the project even without a package.json and below another one', async () => {
  write('package.json', '{}')
  write('.npmrc', 'registry=https://outside.example')
  write('repository/.npmrc', 'registry=https://inside.example')
  expect((await read()).registry).toBe('https://inside.example/')
})

test('a scope has its own registry', async () => {
  write('home/.npmrc', '@team:registry=https://team.example/npm', 'registry=https://all.example')
  const config = await read()
  expect(registryOf(config, '@team/lib')).toBe('https://team.example/npm/')
  expect(registryOf(config, '@other/lib')).toBe('https://all.example/')
  expect(registryOf(config, 'team')).toBe('https://all.example/')
})

test('credentials of every kind become one header', async () => {
  write(
    'home/.npmrc',
    '//token.example/:_authToken=${TOKEN}',
    '//basic.example/:_auth=dTpw',
    '//user.example/:username=ann',
    `//user.example/:_password=${Buffer.from('s:cret').toString('base64')}`,
    '//half.example/:username=bob',
  )
  const { credentials } = await read({ TOKEN: 'abc' })
  expect(Object.fromEntries([...credentials].map(([dart, { authorization }]) => [dart, authorization]))).toEqual({
    '//token.example/': 'Bearer abc',
    '//basic.example/': 'Basic dTpw',
    '//user.example/': `Basic ${Buffer.from('ann:s:cret').toString('base64')}`,
  })
})

test('the environment may hold a token for a host', async () => {
  const config = await read({ 'npm_config_//token.example/:_authToken': 'xyz' })
  expect(config.credentials.get('//token.example/')).toEqual({ authorization: 'Bearer xyz' })
})

test('the longest path prefix wins, and another host, port or path gets nothing', async () => {
  write(
    'home/.npmrc',
    '//a.example/:_authToken=host',
    '//a.example/npm/team/:_authToken=team',
    '//b.example/npm:_authToken=bare',
  )
  const config = await read()
  const shown = (url: string, registry?: string): string | undefined =>
    credentialsFor(config, new URL(url), registry)?.authorization
  expect(shown('https://a.example/npm/team/x/-/x-1.0.0.tgz')).toBe('Bearer team')
  expect(shown('https://a.example/npm/teams/x')).toBe('Bearer host')
  expect(shown('https://b.example/npm/x')).toBe('Bearer bare')
  expect(shown('https://b.example/other')).toBeUndefined()
  expect(shown('https://b.example/other', 'https://b.example/npm/')).toBe('Bearer bare')
  expect(shown('https://a.example:8443/x')).toBeUndefined()
  expect(shown('https://c.example/x', 'https://a.example/')).toBeUndefined()
  expect(shown('https://a.example.evil.example/npm/team/x')).toBeUndefined()
})

test('a credential whose variable is not set is left out with a warning that does not show it', async () => {
  const path = write('repository/.npmrc', '//a.example/:_authToken=secret-${NOT_SET}')
  const config = await read()
  expect(config.credentials.size).toBe(0)
  expect(config.warnings).toEqual([
    `npm's setting "//a.example/:_authToken" is ignored: it uses the variable NOT_SET, which is not set (from ${path})`,
  ])
})

test('a token for no registry in particular is refused, as npm does, with the line to write instead', async () => {
  const path = write('home/.npmrc', 'registry=https://r.example/npm/', '_authToken=secret')
  const error = await refusal()
  expect(error).toMatchObject({
    code: 'NPMRC_INVALID',
    message: `npm's setting "_authToken" names no registry (from ${path})`,
  })
  expect(error.details).toMatchObject({ path, hint: 'write it as //r.example/npm/:_authToken' })
})

test.each([
  ['cafile=/nowhere/ca.pem', /"cafile" names \/nowhere\/ca.pem, which cannot be read: ENOENT/],
  ['cafile=${HERE}/.npmrc', /holds no PEM certificate/],
  ['proxy=:::', /"proxy" is no http or https URL/],
  ['https-proxy=socks5://p.example:1080', /"https-proxy" is no http or https URL/],
  ['registry=${NOT_SET}', /"registry" uses the variable NOT_SET, which is not set/],
  ['registry=ftp://r.example/', /"registry" is no http or https URL/],
  ['@team:registry=r.example', /"@team:registry" is no http or https URL/],
  ['fetch-retries=many', /"fetch-retries" is "many", which is no number/],
  ['//a.example/:certfile=/nowhere/cert\n//a.example/:keyfile=/nowhere/key', /:certfile" names \/nowhere\/cert/],
])('%s is an error that names the file', async (line, message) => {
  const path = write('repository/.npmrc', line)
  const error = await refusal({ HERE: join(directory, 'repository') })
  expect(error.code).toBe('NPMRC_INVALID')
  expect(error.message).toMatch(message)
  expect(error.message).toContain(`(from ${path})`)
  expect(error.details.path).toBe(path)
})

test('a configuration file that is a directory is an error and not the same as none', async () => {
  mkdirSync(join(directory, 'home/.npmrc'))
  expect(await refusal()).toMatchObject({ code: 'NPMRC_INVALID', details: { path: join(directory, 'home/.npmrc') } })
})

test('certificates come from cafile, from ca and per host from certfile', async () => {
  const certificate = '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----'
  write('ca.pem', certificate, certificate)
  write('cert.pem', 'the certificate')
  write('key.pem', 'the key')
  write(
    'home/.npmrc',
    `cafile=${directory}/ca.pem`,
    'strict-ssl=false',
    `//a.example/:certfile=${directory}/cert.pem`,
    `//a.example/:keyfile=${directory}/key.pem`,
  )
  const config = await read()
  expect(config.tls.ca).toHaveLength(2)
  expect(config.tls.strict).toBe(false)
  expect(config.credentials.get('//a.example/')).toEqual({
    certificate: { cert: 'the certificate\n', key: 'the key\n' },
  })
})

test('ca as text with written-out newlines', async () => {
  write('home/.npmrc', 'ca="-----BEGIN CERTIFICATE-----\\nAAAA\\n-----END CERTIFICATE-----"')
  expect((await read()).tls.ca).toEqual(['-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----'])
})

test('proxies: the configuration before the variables, exemptions with everything under them', async () => {
  const variables = { HTTPS_PROXY: 'http://env.example:1', NO_PROXY: 'inner.example, .other.example' }
  const fromVariables = await read(variables)
  expect(proxyFor(fromVariables, new URL('https://r.example/'))).toBe('http://env.example:1/')
  expect(proxyFor(fromVariables, new URL('http://r.example/'))).toBeNull()
  expect(proxyFor(fromVariables, new URL('https://npm.inner.example/'))).toBeNull()
  expect(proxyFor(fromVariables, new URL('https://notinner.example/'))).toBe('http://env.example:1/')
  expect(proxyFor(fromVariables, new URL('https://a.other.example/'))).toBeNull()

  write('home/.npmrc', 'https-proxy=http://set.example:2', 'noproxy=x.example')
  const configured = await read(variables)
  expect(proxyFor(configured, new URL('https://r.example/'))).toBe('http://set.example:2/')
  expect(proxyFor(configured, new URL('http://r.example/'))).toBe('http://set.example:2/')
  expect(proxyFor(configured, new URL('https://npm.inner.example/'))).toBe('http://set.example:2/')
  expect(proxyFor(configured, new URL('https://x.example/'))).toBeNull()

  write('home/.npmrc', 'proxy=http://plain.example:3')
  expect(proxyFor(await read(variables), new URL('https://r.example/'))).toBe('http://plain.example:3/')

  write('home/.npmrc', 'proxy=false')
  expect(proxyFor(await read(variables), new URL('https://r.example/'))).toBeNull()
})

test('reading the configuration leaves the environment as it was', async () => {
  const env = { PATH: '', FOO: 'bar' }
  await readNpmConfig({ cwd: directory, home: directory, env })
  expect(env).toEqual({ PATH: '', FOO: 'bar' })
})

test('messages never show what may be secret in a URL', () => {
  expect(redactUrl('https://ann:secret@r.example/x.tgz?sig=secret#part')).toBe('https://r.example/x.tgz?…')
  expect(redactUrl('nonsense //ann:secret@r.example')).toBe('nonsense //r.example')
})
