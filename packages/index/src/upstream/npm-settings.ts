import { readFileSync } from 'node:fs'

import type Config from '@npmcli/config'
import { PolderError } from '@polder/spec'

import type { Credentials, NpmConfig } from './npm-config.ts'

/** The chain of configurations, read. */
export type Loaded = Pick<Config, 'flat' | 'find' | 'get' | 'data'>

/** The file or source that sets a key, for messages. */
function sourceOf(
  config: Loaded,
  key: string,
): { readonly text: string; readonly details: { readonly path?: string } } {
  const where = config.find(key)
  const source = where === null ? null : (config.data.get(where)?.source ?? null)
  if (source === null) return { text: '', details: {} }
  return where === 'env'
    ? { text: ' (from the environment)', details: {} }
    : { text: ` (from ${source})`, details: { path: source } }
}

function invalid(config: Loaded, key: string, problem: string, hint?: string): PolderError {
  const { text, details } = sourceOf(config, key)
  return new PolderError('NPMRC_INVALID', `npm's setting "${key}" ${problem}${text}`, {
    ...details,
    ...(hint === undefined ? {} : { hint }),
  })
}

function httpUrl(config: Loaded, key: string, value: unknown): URL {
  const text = String(value)
  const variable = /\$\{([^}]+)\}/.exec(text)?.[1]
  if (variable !== undefined)
    throw invalid(
      config,
      key,
      `uses the variable ${variable}, which is not set`,
      `set ${variable}, or the setting itself`,
    )
  const url = URL.parse(text)
  if (url === null || !/^https?:$/.test(url.protocol))
    throw invalid(config, key, 'is no http or https URL', 'write it as https://host/path/')
  return url
}

export function registryUrl(config: Loaded, key: string): string {
  const url = httpUrl(config, key, config.get(key))
  url.search = ''
  url.hash = ''
  return url.href.endsWith('/') ? url.href : `${url.href}/`
}

/** npm refuses credentials that name no host since version 9: which registry they are for would be a guess. */
export function refuseHostlessCredentials(config: Loaded): void {
  for (const key of ['_authToken', '_auth', '_password', 'username']) {
    const where = config.find(key)
    if (where === null || !['global', 'user', 'project'].includes(where)) continue
    const { host, pathname } = new URL(registryUrl(config, 'registry'))
    throw invalid(config, key, 'names no registry', `write it as //${host}${pathname}:${key}`)
  }
}

const CREDENTIAL = /^(\/\/.+):(_authToken|_auth|username|_password|certfile|keyfile)$/

export function credentials(config: Loaded, warnings: string[]): ReadonlyMap<string, Credentials> {
  const darts = new Map<string, Map<string, string>>()
  for (const [key, value] of Object.entries(config.flat)) {
    const [, dart, field] = CREDENTIAL.exec(key) ?? []
    if (
      dart === undefined ||
      field === undefined ||
      (typeof value !== 'string' && typeof value !== 'number') ||
      value === ''
    )
      continue
    const variable = /\$\{([^}]+)\}/.exec(String(value))?.[1]
    if (variable === undefined)
      darts.set(dart, (darts.get(dart) ?? new Map<string, string>()).set(field, String(value)))
    else
      warnings.push(
        `npm's setting "${key}" is ignored: it uses the variable ${variable}, which is not set${sourceOf(config, key).text}`,
      )
  }
  const found = new Map<string, Credentials>()
  for (const [dart, fields] of darts) {
    const authorization = authorizationOf(fields)
    const [cert, key] = [fields.get('certfile'), fields.get('keyfile')]
    const certificate =
      cert === undefined || key === undefined
        ? undefined
        : { cert: readSetting(config, `${dart}:certfile`, cert), key: readSetting(config, `${dart}:keyfile`, key) }
    if (authorization === undefined && certificate === undefined) continue
    found.set(dart, {
      ...(authorization === undefined ? {} : { authorization }),
      ...(certificate === undefined ? {} : { certificate }),
    })
  }
  return found
}

function authorizationOf(fields: ReadonlyMap<string, string>): string | undefined {
  const token = fields.get('_authToken')
  if (token !== undefined) return `Bearer ${token}`
  const [user, password] = [fields.get('username'), fields.get('_password')]
  if (user !== undefined && password !== undefined) {
    // npm keeps the password in base64, and only the password.
    return `Basic ${Buffer.from(`${user}:${Buffer.from(password, 'base64').toString('utf8')}`).toString('base64')}`
  }
  const basic = fields.get('_auth')
  return basic === undefined ? undefined : `Basic ${basic}`
}

function readSetting(config: Loaded, key: string, path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch (error) {
    throw invalid(config, key, `names ${path}, which cannot be read: ${(error as Error).message}`)
  }
}

/** npm takes a missing `cafile` for none at all; then every connection fails for a reason that is hard to see. */
export function authorities(config: Loaded): readonly string[] | null {
  const file = config.get('cafile')
  if (typeof file === 'string' && file !== '') {
    if (!readSetting(config, 'cafile', file).includes('-----BEGIN '))
      throw invalid(config, 'cafile', `names ${file}, which holds no PEM certificate`)
  }
  return pem(config.flat['ca'])
}

export function pem(value: unknown): readonly string[] | null {
  const texts = (Array.isArray(value) ? value : [value]).filter(
    (text): text is string => typeof text === 'string' && text !== '',
  )
  return texts.length === 0 ? null : texts.map((text) => text.replaceAll('\\n', '\n'))
}

/** npm uses `https-proxy` for everything and `proxy` in its absence; below them the variables that every client knows. */
export function proxies(config: Loaded, env: Readonly<Record<string, string | undefined>>): NpmConfig['proxy'] {
  const ofSetting = (key: string): string | null => {
    const value = config.get(key)
    return typeof value === 'string' && value !== '' ? httpUrl(config, key, value).href : null
  }
  const ofVariable = (key: string): string | null => {
    const value = env[key.toLowerCase()] ?? env[key] ?? ''
    if (value === '') return null
    const url = URL.parse(value)
    if (url !== null && /^https?:$/.test(url.protocol)) return url.href
    throw new PolderError('NPMRC_INVALID', `the variable ${key} is no http or https URL`, {
      hint: 'write it as http://host:port',
    })
  }
  const disabled = config.get('proxy') === false
  const [http, https] = [ofSetting('proxy'), ofSetting('https-proxy')]
  const noProxy = config.flat['noProxy']
  const exempt = typeof noProxy === 'string' && noProxy !== '' ? noProxy : (env['no_proxy'] ?? env['NO_PROXY'] ?? '')
  return {
    http: http ?? https ?? (disabled ? null : (ofVariable('HTTP_PROXY') ?? ofVariable('PROXY'))),
    https: https ?? http ?? (disabled ? null : (ofVariable('HTTPS_PROXY') ?? ofVariable('HTTP_PROXY'))),
    exempt: exempt
      .split(',')
      .map((entry) => entry.trim())
      .filter((entry) => entry !== ''),
  }
}

export function nonNegative(config: Loaded, key: string): number {
  const value = Number(config.get(key))
  if (!Number.isFinite(value) || value < 0)
    throw invalid(config, key, `is "${String(config.get(key))}", which is no number`)
  return value
}
