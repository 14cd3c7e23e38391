import { linkSync, mkdirSync } from 'node:fs'
import { join } from 'node:path'

import {
  collectGarbage,
  environmentPath,
  hasEnvironment,
  openStore,
  publishEnvironment,
  readArtifact,
  readRoots,
  readTree,
  recordRoot,
  treeId,
  unpackTrees,
  verifyTree,
  withLease,
  writeArtifact,
  type Store,
} from '../../src/index.ts'
import { environmentTrees } from '../../src/environments/environments.ts'
import { existsSync, readdirSync, statSync } from 'node:fs'
import { integrityOf, type Integrity } from '@polder/spec'
import { tgz } from './tar-writer.ts'

interface Package {
  readonly label: string
  readonly bytes: Buffer
  readonly integrity: Integrity
}

/** The same packages in every process, whatever it is. */
function packages(count: number): readonly Package[] {
  return Array.from({ length: count }, (_, index) => {
    const bytes = tgz([
      { path: 'package/package.json', data: `{"name":"p${index}"}` },
      { path: 'package/cli.js', data: '#!/usr/bin/env node\r\n', mode: 0o755 },
      { path: 'package/lib/data', data: `${index}`.repeat(20_000) },
    ])
    return { label: `p${index}@1.0.0`, bytes, integrity: integrityOf('sha512', bytes) }
  })
}

/** All that an installation does to a store. */
export async function install(home: string, checkout: string, count: number): Promise<void> {
  const store = openStore(home)
  await withLease(store, async () => {
    const all = packages(count)
    for (const { bytes, integrity, label } of all) {
      await writeArtifact(store, once(bytes), { expected: integrity, maxBytes: 1e6, label })
    }
    await unpackTrees(
      store,
      all.map(({ integrity, label }) => ({ id: treeId(integrity), integrity, label, bin: { cli: 'cli.js' } })),
    )
    await publishEnvironment(store, `env-${count}`, (directory) => link(store, all, directory), {
      trees: all.map(({ integrity }) => treeId(integrity)),
    })
    recordRoot(store, { checkout, environment: `env-${count}` })
  })
}

/** Removes all that no checkout uses, whatever its age. */
export async function collect(home: string): Promise<void> {
  await collectGarbage(openStore(home), { now: Date.now() + 1e9 })
}

function link(store: Store, all: readonly Package[], directory: string): void {
  for (const [index, { integrity }] of all.entries()) {
    const tree = readTree(store, treeId(integrity))
    const to = join(directory, 'node_modules', `p${index}`)
    mkdirSync(to, { recursive: true })
    for (const path of tree.directories) mkdirSync(join(to, path))
    for (const file of tree.files) linkSync(join(tree.path, file), join(to, file))
  }
}

/**
 * What must hold at any moment, also right after a crash: what is visible under its name is complete.
 * @returns what does not hold
 */
export async function faults(home: string, count: number): Promise<readonly string[]> {
  const found: string[] = []
  if (!existsSync(join(home, 'layout'))) return found
  const store = openStore(home)
  const trees = new Set(readdirSync(join(home, 'trees')))
  for (const { integrity, label } of packages(count)) {
    const id = treeId(integrity)
    if (!existsSync(join(home, 'artifacts', 'sha512'))) continue
    try {
      readArtifact(store, integrity, label)
    } catch (error) {
      if ((error as { code?: string }).code !== 'ARTIFACT_MISSING') found.push(`artifact ${label}: ${String(error)}`)
    }
    if (trees.has(id))
      for (const { path, kind } of await verifyTree(store, treeId(integrity))) found.push(`${label} ${path} ${kind}`)
  }
  const id = `env-${count}`
  if (existsSync(environmentPath(store, id))) {
    if (!hasEnvironment(store, id)) found.push('an environment without its marker')
    for (let index = 0; index < count; index++) {
      for (const file of ['package.json', 'cli.js', 'lib/data']) {
        if (
          statSync(join(environmentPath(store, id), 'node_modules', `p${index}`, file), { throwIfNoEntry: false }) ===
          undefined
        )
          found.push(`environment lacks p${index}/${file}`)
      }
    }
    for (const tree of environmentTrees(store, id)) if (!trees.has(tree)) found.push(`environment lacks tree ${tree}`)
  }
  for (const root of readRoots(store))
    if (!hasEnvironment(store, root.environment)) found.push(`root without environment ${root.environment}`)
  return found
}

async function* once(bytes: Buffer): AsyncGenerator<Uint8Array> {
  yield bytes.subarray(0, 100)
  yield bytes.subarray(100)
}
