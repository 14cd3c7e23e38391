// What polder makes of repositories, in one table: how many packages they lock and how many are kept, what is still split
// and whether that is proven, and how long `polder lock` takes on a filled index. Beside it, for workspaces of pnpm, what
// `pnpm dedupe` keeps, which is given the same choice: a registry on loopback that serves the locked versions and nothing
// else. Packages for other platforms than the locked ones are counted for neither.
import { execFile, execFileSync } from 'node:child_process'
import { appendFileSync, existsSync, globSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, dirname, join, resolve } from 'node:path'
import { parseArgs, promisify } from 'node:util'
import { fileURLToPath } from 'node:url'

import { matchesPlatform, parsePlatform } from '../packages/spec/src/index.ts'
import { startPinRegistry } from './benchmark/pin-registry.ts'
import { copyWorkspace, POLDER, polderCheckout, type Checkout } from './benchmark/workspace.ts'
import { load, packagesOf } from './benchmark/yaml.ts'

const ROOT = fileURLToPath(new URL('..', import.meta.url))
const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { json: { type: 'boolean', default: false }, without: { type: 'string', multiple: true, default: [] } },
})

interface Row {
  readonly repository: string
  readonly services: number
  readonly names: number
  readonly locked: number
  readonly kept: number
  readonly splits: number
  readonly proven: number
  readonly optimal: boolean
  readonly lowerBound: number
  readonly seconds: number
  /** What `pnpm dedupe` starts with and keeps; null where there is no workspace of pnpm. */
  readonly pnpm: {
    readonly locked: number
    readonly kept: number
    /** What only one of the two keeps. */
    readonly onlyPolder: readonly string[]
    readonly onlyPnpm: readonly string[]
  } | null
}

const rows: Row[] = []
for (const workspace of positionals.flatMap(workspacesOf)) rows.push(await measure(workspace))
console.log(values.json ? JSON.stringify(rows, null, 2) : table(rows))
// Optional packages that pnpm's lockfile does not link are no candidates, so equal is as good as it gets.
process.exitCode = rows.some(({ kept, pnpm }) => pnpm !== null && kept > pnpm.kept) ? 1 : 0

/** The directory itself, or those in it that have lockfiles of JavaScript clients. */
function workspacesOf(directory: string): string[] {
  const path = resolve(directory)
  const patterns = ['pnpm-lock.yaml', 'package-lock.json', 'yarn.lock', 'bun.lock'].map((name) => `**/${name}`)
  const locked = (at: string): boolean => globSync(patterns, { cwd: at }).length > 0
  const isOne = ['polder.yaml', 'package.json', 'pnpm-lock.yaml'].some((name) => existsSync(join(path, name)))
  if (isOne || !globSync('*/META.json', { cwd: path }).length) return [path]
  return globSync('*/', { cwd: path })
    .map((name) => join(path, name))
    .filter(locked)
    .sort()
}

async function measure(workspace: string): Promise<Row> {
  const directory = mkdtempSync(join(tmpdir(), 'polder-dedupe-'))
  try {
    const source = join(directory, 'source', basename(workspace))
    copyWorkspace(workspace, source)
    for (const name of values.without) takeOut(source, name)
    const checkout = await polderCheckout(source, directory)
    const started = performance.now()
    const text = execFileSync(POLDER, ['lock', '--offline', '--json'], {
      cwd: checkout.path,
      env: { ...process.env, POLDER_HOME: checkout.store },
      encoding: 'utf8',
      maxBuffer: 1 << 28,
      stdio: ['ignore', 'pipe', 'ignore'],
    })
    const seconds = (performance.now() - started) / 1000
    const report = JSON.parse(text) as {
      services: number
      names: number
      before: number
      after: number
      optimal: boolean
      lowerBound: number
      splits: Record<string, { proven: boolean }>
    }
    const splits = Object.values(report.splits)
    return {
      repository: basename(workspace),
      services: report.services,
      names: report.names,
      locked: report.before,
      kept: report.after,
      splits: splits.length,
      proven: splits.filter(({ proven }) => proven).length,
      optimal: report.optimal,
      lowerBound: report.lowerBound,
      seconds: Math.round(seconds * 100) / 100,
      pnpm: existsSync(join(checkout.path, 'pnpm-lock.yaml')) ? await measurePnpm(checkout, directory) : null,
    }
  } finally {
    rmSync(directory, { recursive: true, force: true })
  }
}

/** Takes a package out of the manifests and the lockfiles of npm: one that the registry at hand has not got. */
function takeOut(workspace: string, name: string): void {
  type Manifest = Record<
    'dependencies' | 'devDependencies' | 'optionalDependencies',
    Record<string, string> | undefined
  >
  const edit = (path: string, change: (json: Manifest & { packages?: Record<string, Manifest> }) => void): void => {
    const json = JSON.parse(readFileSync(path, 'utf8')) as Parameters<typeof change>[0]
    change(json)
    writeFileSync(path, `${JSON.stringify(json, null, 2)}\n`)
  }
  const clean = ({ dependencies, devDependencies, optionalDependencies }: Manifest): void => {
    for (const group of [dependencies, devDependencies, optionalDependencies]) if (group) delete group[name]
  }
  for (const path of globSync('**/package.json', { cwd: workspace })) edit(join(workspace, path), clean)
  for (const path of globSync('**/package-lock.json', { cwd: workspace })) {
    edit(join(workspace, path), ({ packages = {} }) => {
      for (const [place, entry] of Object.entries(packages)) {
        if (place === `node_modules/${name}`) delete packages[place]
        else clean(entry)
      }
    })
  }
}

async function measurePnpm(checkout: Checkout, directory: string): Promise<Row['pnpm']> {
  const registry = await startPinRegistry(checkout)
  try {
    const locked = counted(join(checkout.path, 'pnpm-lock.yaml'), checkout)
    const theirs = await pnpmDedupe(checkout, directory, registry.url)
    const { packages } = load(join(checkout.path, 'polder.lock'))['npm'] as { packages: Record<string, unknown> }
    const ours = Object.keys(packages).map((id) => id.replace(/\(patch=\w+\)$/, ''))
    const without = (ids: readonly string[], others: readonly string[]): string[] => {
      const there = new Set(others)
      return ids.filter((id) => !there.has(id)).sort()
    }
    return {
      locked: locked.length,
      kept: theirs.length,
      onlyPolder: without(ours, theirs),
      onlyPnpm: without(theirs, ours),
    }
  } finally {
    await registry.close()
  }
}

async function pnpmDedupe(checkout: Checkout, directory: string, registry: string): Promise<string[]> {
  const path = join(directory, 'pnpm')
  copyWorkspace(checkout.path, path)
  const manifest = JSON.parse(readFileSync(join(path, 'package.json'), 'utf8')) as object
  // What names another version of pnpm makes pnpm fetch and start that one; ages are of no interest here.
  const own = { packageManager: undefined, devEngines: undefined }
  writeFileSync(join(path, 'package.json'), JSON.stringify({ ...manifest, ...own }, undefined, 2))
  appendFileSync(join(path, '.npmrc'), `\nregistry=${registry}\n`)
  const settings = load(join(path, 'pnpm-workspace.yaml'))
  const { minimumReleaseAge: _, trustPolicy: __, patchedDependencies: ___, ...kept } = settings
  writeFileSync(join(path, 'pnpm-workspace.yaml'), JSON.stringify(kept))
  const [pnpm = 'pnpm'] = globSync('tools/node_modules/@pnpm/exe.linux-*/pnpm', { cwd: ROOT })
  const home = join(directory, 'home')
  await promisify(execFile)(join(ROOT, pnpm), ['dedupe', '--ignore-scripts', `--store-dir=${join(home, 'store')}`], {
    cwd: path,
    env: { HOME: home, XDG_CACHE_HOME: join(home, 'cache'), PATH: `${dirname(process.execPath)}:/usr/bin:/bin` },
    maxBuffer: 1 << 28,
  })
  return counted(join(path, 'pnpm-lock.yaml'), checkout)
}

/** The packages of a pnpm lockfile that some locked platform can use. */
function counted(lockfile: string, { path }: Checkout): string[] {
  const { platforms = ['linux-x64-glibc'] } = load(join(path, 'polder.yaml')) as { platforms?: readonly string[] }
  const wanted = platforms.map((name) => parsePlatform(name)).filter((platform) => platform !== undefined)
  return Object.entries(packagesOf(lockfile)).flatMap(([id, entry]) =>
    wanted.some((platform) => matchesPlatform(entry, platform)) ? [id] : [],
  )
}

function table(measured: readonly Row[]): string {
  const head = ['repository', 'services', 'names', 'locked', 'kept', 'splits', 'proven', 'result', 's', 'pnpm dedupe']
  const lines = measured.map((row) => [
    row.repository,
    row.services,
    row.names,
    row.locked,
    row.kept,
    row.splits,
    row.proven,
    row.optimal ? 'optimal' : `at least ${row.lowerBound}`,
    row.seconds.toFixed(2),
    row.pnpm === null ? '–' : `${row.pnpm.locked} → ${row.pnpm.kept}`,
  ])
  return [head, head.map(() => '---'), ...lines].map((cells) => `| ${cells.join(' | ')} |`).join('\n')
}
