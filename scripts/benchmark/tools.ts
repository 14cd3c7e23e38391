import { execFileSync } from 'node:child_process'
import { appendFileSync, cpSync, existsSync, globSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { homedir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

import { parseLock } from '../../packages/lock/src/index.ts'
import { buildRelease } from '../release.ts'
import { measure } from './measure.ts'
import { copyWorkspace, POLDER, type Checkout } from './workspace.ts'

/** A package manager, with a home of its own and a workspace that it can install. */
export interface Tool {
  readonly name: string
  readonly env: Readonly<Record<string, string>>
  /** The workspace without anything installed; copied for each run. */
  readonly pristine: string
  /** A copy in which the caches are filled, and in which the no-op is measured. */
  readonly template: string
  readonly install: readonly string[]
  /** As `install`, with empty caches. */
  readonly cold: readonly string[]
  readonly caches: readonly string[]
  /** What a store has besides packages: what `install` has to make again when it is gone. */
  readonly environments: () => readonly string[]
}

const ROOT = fileURLToPath(new URL('../..', import.meta.url))
const BUN = '1.4.5'
const LOCKS = ['package-lock.json', 'npm-shrinkwrap.json', 'yarn.lock', 'pnpm-lock.yaml', 'bun.lock']

/** pnpm and bun as clients of a registry, in a directory of their own. */
export async function prepareClients(
  checkout: Checkout,
  directory: string,
  registry: string,
): Promise<readonly Tool[]> {
  const peers = join(directory, 'peers')
  // Only what is locked can be had from an index: the lockfile is that of the flattened environment.
  preparePnpmWorkspace(checkout, peers, true)
  // Under such policies pnpm asks for the document of every locked package, also of those for other platforms, which no
  // index here has.
  const settings = join(peers, 'pnpm-workspace.yaml')
  const policies = /^(?:minimumReleaseAge|trustPolicy)\w*:.*\n(?:[ -].*\n)*/gm
  writeFileSync(settings, `${readFileSync(settings, 'utf8').replaceAll(policies, '')}\nminimumReleaseAge: 0\n`)
  return [pnpm('pnpm', peers, directory, registry, ''), ...(await bun('isolated', peers, directory, registry))]
}

/** polder first: the others are compared with it. */
export async function prepareTools(checkout: Checkout, directory: string, registry: string): Promise<readonly Tool[]> {
  const peers = join(directory, 'peers')
  preparePnpmWorkspace(checkout, peers)
  return [
    await polder(checkout, directory, registry),
    pnpm('pnpm', peers, directory, registry, ''),
    pnpm('pnpm, global virtual store', peers, directory, registry, '\nenableGlobalVirtualStore: true\n'),
    ...(await bun('isolated', peers, directory, registry)),
    ...(await bun('hoisted', peers, directory, registry)),
  ]
}

/** As it is released: the peers are, too. */
async function polder(checkout: Checkout, directory: string, registry: string): Promise<Tool> {
  const program = await buildRelease(join(directory, 'release'))
  const { home, env } = ownHome(join(directory, 'polder'), registry)
  const store = join(home, 'store')
  return {
    name: 'polder',
    env: { ...env, POLDER_HOME: store },
    pristine: checkout.path,
    template: join(home, 'template'),
    install: [process.execPath, program, 'install'],
    cold: ['sh', '-c', '"$0" "$1" lock && exec "$0" "$1" install', process.execPath, program],
    caches: [store],
    environments: () => ['envs', 'roots'].map((name) => join(store, name)),
  }
}

function pnpm(name: string, workspace: string, directory: string, registry: string, settings: string): Tool {
  const { home, env } = ownHome(join(directory, name.replaceAll(/\W+/g, '-')), registry)
  const pristine = join(home, 'pristine')
  cpSync(workspace, pristine, { recursive: true, verbatimSymlinks: true })
  appendFileSync(join(pristine, 'pnpm-workspace.yaml'), settings)
  const [program = 'pnpm'] = globSync('tools/node_modules/@pnpm/exe.linux-*/pnpm', { cwd: ROOT })
  const store = join(home, 'store')
  const install = [join(ROOT, program), 'install', '--frozen-lockfile', '--ignore-scripts', `--store-dir=${store}`]
  return {
    name,
    env,
    pristine,
    template: join(home, 'template'),
    install,
    cold: install,
    caches: [store, join(home, 'cache')],
    environments: () => globSync('store/v*/links', { cwd: home }).map((path) => join(home, path)),
  }
}

async function bun(linker: string, workspace: string, directory: string, registry: string): Promise<readonly Tool[]> {
  const program = fetchBun()
  if (program === undefined) return []
  const { home, env } = ownHome(join(directory, `bun-${linker}`), registry)
  const pristine = join(home, 'pristine')
  const cache = join(home, 'bun-cache')
  const own = { ...env, BUN_INSTALL_CACHE_DIR: cache }
  const install = [program, 'install', '--ignore-scripts', `--linker=${linker}`]
  try {
    cpSync(workspace, pristine, { recursive: true, verbatimSymlinks: true })
    // Bun migrates pnpm's lockfile, so it has the same versions.
    await measure([...install, '--lockfile-only'], pristine, own)
    rmSync(join(pristine, 'pnpm-lock.yaml'), { force: true })
  } catch (error) {
    console.log(`bun ${linker} takes no part: ${(error as Error).message.slice(0, 1000)}`)
    return []
  }
  const frozen = [...install, '--frozen-lockfile']
  const name = `bun, ${linker}`
  return [
    {
      name,
      env: own,
      pristine,
      template: join(home, 'template'),
      install: frozen,
      cold: frozen,
      caches: [cache],
      environments: () => [],
    },
  ]
}

/** pnpm's own lockfile if that locks the whole workspace; otherwise polder's, exported. Either way, with a manifest at the root. */
function preparePnpmWorkspace({ path, store }: Checkout, peers: string, flattened = false): void {
  const lock = parseLock(readFileSync(join(path, 'polder.lock'), 'utf8'), 'polder.lock')
  const services = Object.entries(lock.npm.services)
  copyWorkspace(path, peers)
  if (flattened || !services.every(([, { lockfile }]) => lockfile === 'pnpm-lock.yaml')) {
    for (const file of globSync(`**/{${LOCKS.join(',')}}`, { cwd: peers })) rmSync(join(peers, file))
    // Catalogs stand in the workspace's own file.
    if (!flattened) rmSync(join(peers, 'pnpm-workspace.yaml'), { force: true })
    const env = { ...process.env, POLDER_HOME: store }
    execFileSync(POLDER, ['export', 'pnpm-lock', '--output', peers], {
      cwd: path,
      env,
      stdio: ['ignore', 'ignore', 'inherit'],
    })
  }
  // Bun reads the members from the manifest; pnpm only warns about it.
  const workspaces = services.map(([service]) => service).filter((service) => service !== '.')
  const manifest = join(peers, 'package.json')
  const known = existsSync(manifest)
    ? (JSON.parse(readFileSync(manifest, 'utf8')) as object)
    : { name: 'root', private: true }
  // What names another version of pnpm makes pnpm fetch and start that one.
  const own = { packageManager: undefined, devEngines: undefined }
  writeFileSync(manifest, JSON.stringify({ ...known, ...own, workspaces }, undefined, 2))
}

/** An environment that has nothing of the user's configuration. */
function ownHome(home: string, registry: string): { readonly home: string; readonly env: Record<string, string> } {
  mkdirSync(home, { recursive: true })
  writeFileSync(join(home, '.npmrc'), `registry=${registry}\n`)
  const path = [dirname(join(ROOT, 'tools/node_modules/.bin/node')), '/usr/local/bin', '/usr/bin', '/bin'].join(':')
  const xdg = {
    XDG_CACHE_HOME: join(home, 'cache'),
    XDG_DATA_HOME: join(home, 'data'),
    XDG_STATE_HOME: join(home, 'state'),
  }
  return { home, env: { ...xdg, HOME: home, PATH: path } }
}

/** Bun from npm, kept for the next time in the user's cache directory; undefined, said why, if there is none to be had. */
function fetchBun(): string | undefined {
  const cache = join(process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache'), 'polder-bench', `bun-${BUN}`)
  const cpu = process.arch === 'arm64' ? 'aarch64' : process.arch
  const program = join(cache, `node_modules/@oven/bun-linux-${cpu}/bin/bun`)
  if (existsSync(program)) return program
  mkdirSync(cache, { recursive: true })
  try {
    const wanted = `@oven/bun-linux-${cpu}@${BUN}`
    const options = ['--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error', '--prefix', cache]
    execFileSync('npm', ['install', ...options, wanted], { cwd: cache, stdio: ['ignore', 'ignore', 'inherit'] })
    return program
  } catch {
    console.log(`bun takes no part: ${BUN} could not be fetched`)
    return undefined
  }
}
