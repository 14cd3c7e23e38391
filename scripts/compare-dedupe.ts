// How many packages polder keeps beside `pnpm dedupe`, which is given the same choice: a registry on loopback that
// serves the locked versions and nothing else. Packages for other platforms than the locked ones are counted for neither.
import { execFile, execFileSync } from 'node:child_process'
import { appendFileSync, globSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { promisify } from 'node:util'
import { fileURLToPath } from 'node:url'

import { matchesPlatform, parsePlatform } from '../packages/spec/src/index.ts'
import { startPinRegistry } from './benchmark/pin-registry.ts'
import { copyWorkspace, POLDER, polderCheckout, type Checkout } from './benchmark/workspace.ts'
import { load, packagesOf } from './benchmark/yaml.ts'

const ROOT = fileURLToPath(new URL('..', import.meta.url))

for (const workspace of process.argv.slice(2)) await compare(resolve(workspace))

async function compare(workspace: string): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), 'polder-dedupe-'))
  try {
    const checkout = await polderCheckout(workspace, directory)
    const text = execFileSync(POLDER, ['lock', '--offline', '--json'], {
      cwd: checkout.path,
      env: { ...process.env, POLDER_HOME: checkout.store },
      encoding: 'utf8',
      maxBuffer: 1 << 28,
      stdio: ['ignore', 'pipe', 'ignore'],
    })
    const { after, optimal } = JSON.parse(text) as { after: number; optimal: boolean }
    const registry = await startPinRegistry(checkout)
    try {
      const before = counted(join(checkout.path, 'pnpm-lock.yaml'), checkout)
      const deduped = await pnpmDedupe(checkout, directory, registry.url)
      console.log(JSON.stringify({ workspace, locked: before, pnpmDedupe: deduped, polder: after, optimal }))
      if (after > deduped) process.exitCode = 1
    } finally {
      await registry.close()
    }
  } finally {
    rmSync(directory, { recursive: true, force: true })
  }
}

async function pnpmDedupe(checkout: Checkout, directory: string, registry: string): Promise<number> {
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
function counted(lockfile: string, { path }: Checkout): number {
  const { platforms = ['linux-x64-glibc'] } = load(join(path, 'polder.yaml')) as { platforms?: readonly string[] }
  const wanted = platforms.map((name) => parsePlatform(name)).filter((platform) => platform !== undefined)
  return Object.values(packagesOf(lockfile)).filter((entry) =>
    wanted.some((platform) => matchesPlatform(entry, platform)),
  ).length
}
