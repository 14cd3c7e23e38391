import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, renameSync, writeFileSync } from 'node:fs'
import { homedir } from 'node:os'
import { dirname, join } from 'node:path'

/** A package manager as a client of the index. Words and variables may hold `{index}`, the index's URL. */
export interface Client {
  readonly name: string
  readonly version: string
  /** The npm package that it comes as, and the program in it. */
  readonly packageName: string
  readonly program: string
  /** Started by Node, unless it is a native program. */
  readonly native?: true
  readonly env: Readonly<Record<string, string>>
  /** Resolves the manifest's ranges; there is no lockfile. */
  readonly fresh: readonly string[]
  /** From the lockfile that `fresh` wrote, which must not change. */
  readonly frozen: readonly string[]
  readonly lockfile: string
  /** Words in front of a package that the manifest does not have. */
  readonly add: readonly string[]
  /** It resolves what is for other platforms as well, and cannot do without. */
  readonly everyPlatform?: true
  /** What `package.json` has to say besides, under `resolutions`. */
  readonly resolutions?: Readonly<Record<string, string>>
  /** How it introduces itself. */
  readonly userAgent: RegExp
  /** Absent where the client has no such command. */
  readonly auditSignatures?: readonly string[]
}

const npm = (version: string): Client => ({
  name: `npm ${version.split('.')[0]}`,
  version,
  packageName: 'npm',
  program: 'bin/npm-cli.js',
  env: {
    npm_config_registry: '{index}',
    npm_config_update_notifier: 'false',
    npm_config_ignore_scripts: 'true',
    npm_config_fetch_retries: '0',
  },
  fresh: ['install', '--no-fund'],
  frozen: ['ci', '--no-fund'],
  lockfile: 'package-lock.json',
  userAgent: new RegExp(`^npm/${version.replaceAll('.', '\\.')} `),
  add: ['install', '--no-fund'],
  auditSignatures: ['audit', 'signatures'],
})

const cpu = process.arch === 'arm64' ? 'aarch64' : process.arch

export const CLIENTS: readonly Client[] = [
  npm('11.21.2'),
  npm('12.2.0'),
  {
    name: 'pnpm 12',
    version: '12.21.0',
    packageName: `@pnpm/exe.linux-${process.arch}`,
    program: 'pnpm',
    native: true,
    env: { pnpm_config_registry: '{index}' },
    fresh: ['install', '--no-frozen-lockfile', '--ignore-scripts'],
    frozen: ['install', '--frozen-lockfile', '--ignore-scripts'],
    lockfile: 'pnpm-lock.yaml',
    userAgent: /^pnpm\/12/,
    add: ['add', '--ignore-scripts'],
    auditSignatures: ['audit', 'signatures'],
  },
  {
    name: 'yarn 1',
    version: '1.22.22',
    packageName: 'yarn',
    program: 'bin/yarn.js',
    env: { npm_config_registry: '{index}' },
    everyPlatform: true,
    userAgent: /^yarn\/1/,
    fresh: ['install', '--ignore-scripts', '--non-interactive', '--no-progress'],
    frozen: ['install', '--ignore-scripts', '--non-interactive', '--no-progress', '--frozen-lockfile'],
    lockfile: 'yarn.lock',
    add: ['add', '--ignore-scripts', '--non-interactive'],
  },
  {
    name: 'yarn 4',
    version: '4.18.1',
    packageName: '@yarnpkg/cli-dist',
    program: 'bin/yarn.js',
    env: {
      YARN_NPM_REGISTRY_SERVER: '{index}',
      YARN_UNSAFE_HTTP_WHITELIST: '127.0.0.1',
      YARN_ENABLE_TELEMETRY: '0',
      YARN_ENABLE_GLOBAL_CACHE: 'false',
      YARN_ENABLE_SCRIPTS: 'false',
      YARN_NODE_LINKER: 'node-modules',
      YARN_ENABLE_IMMUTABLE_INSTALLS: 'false',
    },
    // Whatever names node-gyp in a script depends on node-gyp, to yarn: in harbour that is bcrypt's `node-gyp-build`.
    resolutions: { 'node-gyp': 'npm:node-gyp-build@^4.0.0' },
    userAgent: /yarn\/4|got|^$/i,
    fresh: ['install'],
    frozen: ['install', '--immutable'],
    lockfile: 'yarn.lock',
    add: ['add'],
  },
  {
    name: 'bun 1.4',
    version: '1.4.5',
    packageName: `@oven/bun-linux-${cpu}`,
    program: 'bin/bun',
    native: true,
    env: { npm_config_registry: '{index}' },
    fresh: ['install', '--ignore-scripts'],
    frozen: ['install', '--ignore-scripts', '--frozen-lockfile'],
    lockfile: 'bun.lock',
    userAgent: /^Bun\/1/i,
    add: ['add', '--ignore-scripts'],
  },
]

/**
 * The client's program, from the registry of the user's own configuration, kept for the next time in the user's cache
 * directory. @throws Error with npm's output if it cannot be fetched
 */
export function fetchClient({ packageName, version, program }: Client): string {
  const cache = join(process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache'), 'polder-clients')
  const home = join(cache, `${packageName.replace('/', '+')}-${version}`)
  const path = join(home, 'node_modules', packageName, program)
  if (existsSync(path)) return path
  // Made elsewhere and renamed: another test may look for it meanwhile.
  const making = `${home}.${process.pid}`
  mkdirSync(making, { recursive: true })
  writeFileSync(join(making, 'package.json'), JSON.stringify({ private: true }))
  const options = ['--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error', '--no-save', '--force']
  execFileSync('npm', ['install', ...options, `${packageName}@${version}`], { cwd: making, stdio: 'pipe' })
  mkdirSync(dirname(home), { recursive: true })
  try {
    renameSync(making, home)
  } catch {
    // Another one was quicker.
  }
  return path
}
