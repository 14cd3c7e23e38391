import { accessSync, constants, realpathSync } from 'node:fs'
import { delimiter, dirname, join } from 'node:path'

import { isErrno, PolderError } from '@polder/spec'

import type { NpmConfig } from './npm-config.ts'
import {
  authorities,
  credentials,
  type Loaded,
  nonNegative,
  pem,
  proxies,
  refuseHostlessCredentials,
  registryUrl,
} from './npm-settings.ts'

/** Where to look for the user's configuration. */
export interface NpmrcPlace {
  /** The root of the repository; its `.npmrc` is the project's. */
  readonly cwd: string
  readonly env: Readonly<Record<string, string | undefined>>
  /** The home directory, for `~/.npmrc`. */
  readonly home: string
}

// For npm 0 is no timeout at all; a day is as good, and timers can hold it.
const DAY_MS = 24 * 60 * 60 * 1000

/**
 * The user's npm configuration as npm itself reads it, with npm's own implementation: the chain builtin, global, user
 * and project `.npmrc`, `npm_config_*` variables above them, `${VAR}` expanded. Defaults (the registry too) are npm's.
 * Of the network settings, all that npm's documentation of `npmrc` names are honoured.
 * @throws PolderError `NPMRC_INVALID`, with the file: an unreadable file, a URL that is none, credentials for no host
 */
export async function readNpmConfig(place: NpmrcPlace): Promise<NpmConfig> {
  const config = await load(place)
  const warnings: string[] = []
  const flat = config.flat
  for (const [where, { source, loadError }] of config.data) {
    if (loadError === undefined || loadError.code === 'ENOENT' || loadError.code === 'ENOTDIR') continue
    throw new PolderError(
      'NPMRC_INVALID',
      `the ${where} configuration ${source} cannot be read: ${loadError.message}`,
      {
        ...(source === null ? {} : { path: source }),
        cause: loadError,
      },
    )
  }
  refuseHostlessCredentials(config)

  const scopes = new Map<string, string>()
  for (const key of Object.keys(flat)) {
    const scope = /^(@.+):registry$/.exec(key)?.[1]
    if (scope !== undefined) scopes.set(scope, registryUrl(config, key))
  }
  return {
    registry: registryUrl(config, 'registry'),
    scopes,
    credentials: credentials(config, warnings),
    tls: {
      strict: flat['strictSSL'] !== false,
      ca: authorities(config),
      cert: pem(flat['cert']),
      key: pem(flat['key']),
    },
    proxy: proxies(config, place.env),
    retry: {
      retries: nonNegative(config, 'fetch-retries'),
      factor: nonNegative(config, 'fetch-retry-factor'),
      minMs: nonNegative(config, 'fetch-retry-mintimeout'),
      maxMs: nonNegative(config, 'fetch-retry-maxtimeout'),
    },
    sockets: {
      perHost: Math.max(1, Math.floor(nonNegative(config, 'maxsockets'))),
      localAddress: typeof flat['localAddress'] === 'string' ? flat['localAddress'] : null,
      timeoutMs: Math.min(nonNegative(config, 'fetch-timeout') || DAY_MS, DAY_MS),
    },
    warnings,
  }
}

async function load({ cwd, env, home }: NpmrcPlace): Promise<Loaded> {
  const [
    { default: Config },
    {
      default: { definitions, shorthands, flatten, nerfDarts },
    },
  ] = await Promise.all([import('@npmcli/config'), import('@npmcli/config/lib/definitions/index.js')])
  class RepositoryConfig extends Config {
    // npm would look for the nearest package.json, but a repository of services need not have one at its root.
    override async loadLocalPrefix(): Promise<void> {
      this.localPrefix = this.cwd
    }
  }
  const { npmPath, execPath } = usersNpm(env)
  // Loading writes npm's own variables into the environment it was given, so it gets a copy.
  const options = {
    definitions,
    shorthands,
    flatten,
    nerfDarts,
    npmPath,
    execPath,
    cwd,
    argv: [],
    warn: false,
    env: { ...env, HOME: home },
  }
  const config = new RepositoryConfig(options)
  try {
    await config.load()
  } catch (cause) {
    throw new PolderError('NPMRC_INVALID', `npm's configuration cannot be read: ${(cause as Error).message}`, {
      path: cwd,
      cause,
    })
  }
  return config
}

/** The builtin and global files belong to the npm and node that the user runs, which need not be the node that runs us. */
function usersNpm(env: NpmrcPlace['env']): { readonly npmPath: string; readonly execPath: string } {
  const execPath = onPath('node', env) ?? process.execPath
  const npm = onPath('npm', env)
  return {
    execPath,
    npmPath: npm === undefined ? join(dirname(dirname(execPath)), 'lib/node_modules/npm') : dirname(dirname(npm)),
  }
}

function onPath(command: string, env: NpmrcPlace['env']): string | undefined {
  for (const directory of (env['PATH'] ?? '').split(delimiter)) {
    if (directory === '') continue
    try {
      const path = realpathSync(join(directory, command))
      accessSync(path, constants.X_OK)
      return path
    } catch (error) {
      if (!isErrno(error, 'ENOENT', 'EACCES', 'ENOTDIR', 'ELOOP', 'ENAMETOOLONG')) throw error
    }
  }
  return undefined
}
