import type { BuildScript, PlannedBuild } from './planned-build.ts'
import type { BuildRoom } from './build-room.ts'
import type { Toolchain } from './toolchain.ts'

/** Where builds find what they are allowed to fetch. */
export interface BuildIndex {
  /** Ends in a slash. */
  readonly url: string
  /** The variables that lead clients and tools to it. */
  readonly env: Readonly<Record<string, string>>
}

/**
 * The variables of one script, as npm sets them (docs: npm scripts, "environment"), made from nothing: what is in
 * polder's own environment reaches no build.
 * @param manifest the package.json of the package
 */
export function buildEnvironment(
  build: Pick<PlannedBuild, 'name' | 'env'>,
  { event, command }: BuildScript,
  room: Pick<BuildRoom, 'inside' | 'directory' | 'programs' | 'searchPath' | 'lastPath'>,
  toolchain: Toolchain,
  index: BuildIndex,
  manifest: Readonly<Record<string, unknown>>,
): Record<string, string> {
  const { name, version } = manifest
  const { node, npm, nodedir } = room.programs
  const gyp = npm === undefined ? {} : { npm_config_node_gyp: `${npm}/node_modules/node-gyp/bin/node-gyp.js` }
  const headers =
    nodedir === undefined ? {} : { npm_config_nodedir: nodedir, npm_package_config_node_gyp_nodedir: nodedir }
  return {
    ...quietClients(index.url),
    ...index.env,
    ...packageConfig(manifest),
    ...gyp,
    ...headers,
    PATH: [...room.searchPath, '/usr/local/bin', '/usr/bin', '/bin', room.lastPath].join(':'),
    INIT_CWD: room.inside,
    NODE: node,
    npm_command: 'install',
    npm_config_user_agent: `npm/${toolchain.npm?.version ?? '0'} node/${toolchain.node.version} ${toolchain.platform.replace('-', ' ')} workspaces/false`,
    ...(npm === undefined ? {} : { npm_execpath: `${npm}/bin/npm-cli.js` }),
    npm_lifecycle_event: event,
    npm_lifecycle_script: command,
    npm_node_execpath: node,
    npm_package_json: `${room.directory.target}/package.json`,
    npm_package_name: typeof name === 'string' ? name : build.name,
    ...(typeof version === 'string' ? { npm_package_version: version } : {}),
    // Compilers that would otherwise write when and where they ran.
    SOURCE_DATE_EPOCH: '499162500',
    ...build.env,
  }
}

/** What clients would ask of other places, or again and again. pip's packages are to come from the same index. */
function quietClients(url: string): Record<string, string> {
  const host = new URL(url).hostname
  return {
    POLDER_INDEX: url,
    npm_config_audit: 'false',
    npm_config_fund: 'false',
    npm_config_update_notifier: 'false',
    npm_config_fetch_retries: '0',
    YARN_ENABLE_TELEMETRY: '0',
    PIP_INDEX_URL: `${url}simple/`,
    PIP_TRUSTED_HOST: host,
    PIP_RETRIES: '0',
    PIP_DISABLE_PIP_VERSION_CHECK: '1',
    DO_NOT_TRACK: '1',
  }
}

/** `config` of package.json, which npm gives to scripts. */
function packageConfig(manifest: Readonly<Record<string, unknown>>): Record<string, string> {
  const config = manifest['config']
  if (typeof config !== 'object' || config === null) return {}
  const plain = Object.entries(config).filter(([name, value]) => /^\w+$/.test(name) && typeof value !== 'object')
  return Object.fromEntries(plain.map(([name, value]) => [`npm_package_config_${name}`, String(value)]))
}
