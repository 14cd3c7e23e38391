import { once } from 'node:events'
import { chmodSync, mkdtempSync, realpathSync, rmSync } from 'node:fs'
import { createServer } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { onTestFinished } from 'vitest'

import type { InstanceId, Lock, LockedPackage, Target } from '@polder/lock'
import { currentPlatform, type Integrity, type PackageId, platformName } from '@polder/spec'
import { openStore, type Store, treeId, unpackTrees, writeArtifact } from '@polder/store'

import { type FileContent, packTarball, sri } from '../../../../test/support/tarball.ts'
import { type BuildPlan, planBuilds } from '../../src/lifecycle/build-plan.ts'
import type { BuildScript, ScriptsOf } from '../../src/lifecycle/planned-build.ts'
import type { BuildOptions } from '../../src/lifecycle/build-options.ts'
import { readToolchain, type Toolchain } from '../../src/lifecycle/toolchain.ts'

export const TOOLCHAIN: Toolchain = readToolchain(process.env['PATH'] ?? '')

/** A package of a lock; all are version 1.0.0. */
export interface Pkg {
  readonly scripts?: Readonly<Record<string, string>>
  readonly files?: Readonly<Record<string, FileContent>>
  /** Names of packages. */
  readonly links?: readonly string[]
  readonly fields?: Partial<LockedPackage>
  readonly optional?: true
}

type Packages = Readonly<Record<string, Pkg>>

const instanceOf = (name: string): InstanceId => `${name}@1.0.0` as InstanceId

function tarballOf(name: string, { scripts = {}, files = {} }: Pkg): Buffer {
  return packTarball({ 'package.json': JSON.stringify({ name, version: '1.0.0', scripts }), ...files })
}

/** Of packages that may all run their scripts. */
function lockOf(packages: Packages, env: Readonly<Record<string, Readonly<Record<string, string>>>> = {}): Lock {
  const entries = Object.entries(packages)
  const allow = Object.fromEntries(entries.map(([name]) => [name, '*']))
  return {
    lockfileVersion: 1,
    policy: { versions: 'fewest', builds: { allow, env }, platforms: [platformName(currentPlatform())] },
    inputs: {},
    npm: {
      services: {},
      packages: Object.fromEntries(
        entries.map(([name, pkg]): [string, LockedPackage] => [
          instanceOf(name),
          {
            integrity: sri(tarballOf(name, pkg)) as Integrity,
            ...(pkg.scripts === undefined ? {} : { needsBuild: true as const }),
            ...pkg.fields,
          },
        ]),
      ),
      instances: Object.fromEntries(
        entries.map(([name, { links = [], optional }]) => [
          instanceOf(name),
          {
            package: instanceOf(name) as string as PackageId,
            links: Object.fromEntries(links.map((target): [string, Target] => [target, instanceOf(target)])),
            ...(optional === undefined ? {} : { optional }),
          },
        ]),
      ),
      root: {},
      splits: {},
    },
  }
}

/** @param ask the packages whose trees are asked for, in this order; all that have scripts if not given */
export function planOf(
  packages: Packages,
  {
    toolchain = TOOLCHAIN,
    env = {},
    ask = Object.keys(packages),
    unenforced = false,
    environments = {},
  }: {
    readonly toolchain?: Toolchain
    readonly env?: Readonly<Record<string, Readonly<Record<string, string>>>>
    readonly ask?: readonly string[]
    readonly unenforced?: boolean
    /** Package → what is there while it is built. */
    readonly environments?: Readonly<Record<string, Packages>>
  } = {},
): BuildPlan & { readonly ids: Readonly<Record<string, string | undefined>> } {
  const scriptsOf: ScriptsOf = (id) => {
    const known = { ...packages, ...Object.assign({}, ...Object.values(environments)) } as Packages
    const { scripts = {} } = known[id.slice(0, id.lastIndexOf('@'))] ?? {}
    const all = Object.entries(scripts).map(([event, command]): BuildScript => {
      return { event: event as BuildScript['event'], command }
    })
    return { scripts: all, compiles: all.some(({ command }) => command.includes('gyp')) }
  }
  const plan = planBuilds(lockOf(packages, env), toolchain, currentPlatform(), scriptsOf, {
    unenforced,
    environments: new Map(Object.entries(environments).map(([name, own]) => [instanceOf(name), lockOf(own)])),
  })
  const ids = Object.fromEntries(ask.map((name) => [name, plan.builtTree(instanceOf(name))]))
  return { ...plan, ids }
}

/** A store, in a directory that ends with the test, with these packages unpacked. */
export async function storeOf(packages: Packages, home: string = temporaryHome()): Promise<Store> {
  const store = openStore(home)
  for (const [name, pkg] of Object.entries(packages)) {
    const bytes = tarballOf(name, pkg)
    const { integrity } = await writeArtifact(store, chunksOf(bytes), { expected: null, maxBytes: 1e9, label: name })
    await unpackTrees(store, [{ id: treeId(integrity), integrity, label: name, bin: {} }])
  }
  return store
}

export function temporaryHome(): string {
  const directory = realpathSync(mkdtempSync(join(tmpdir(), 'polder-builds-')))
  onTestFinished(() => rmSync(directory, { recursive: true, force: true }))
  chmodSync(directory, 0o755)
  return join(directory, 'store')
}

async function* chunksOf(bytes: Buffer): AsyncGenerator<Buffer> {
  yield await Promise.resolve(bytes)
}

/** For `runBuilds`, with an index that has nothing: everything that it is asked for is refused. */
export function optionsWith(options: Partial<BuildOptions> = {}): BuildOptions {
  return {
    toolchain: TOOLCHAIN,
    requireSandbox: true,
    serveIndex: async ({ socket, onRefused }) => {
      const server = createServer((request, response) => {
        onRefused((request.url ?? '').slice(1))
        response.writeHead(404).end()
      })
      server.listen(socket)
      await once(server, 'listening')
      return {
        close: async () => {
          server.closeAllConnections()
          await new Promise((resolve) => server.close(resolve))
        },
      }
    },
    indexVariables: (url) => ({ npm_config_registry: url }),
    ...options,
  }
}
