/**
 * What happens in a store on a small, or a read-only, file system, printed as JSON. Runs in a mount namespace of its
 * own, so that the mounts end with the process.
 *
 *     unshare -rm node mounted-store.ts full|read-only <empty directory>
 */
import { execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

import { artifactPath } from '../../src/content-path.ts'
import {
  atomicWrite,
  collectGarbage,
  hasEnvironment,
  openStore,
  publishEnvironment,
  readArtifact,
  readTree,
  recordRoot,
  treeId,
  unpackTrees,
  verifyTree,
  withLease,
  writeArtifact,
} from '../../src/index.ts'
import { tgz } from './tar-writer.ts'

const [, , kind, directory = ''] = process.argv
const home = join(directory, 'home')
mkdirSync(home)
const results: Record<string, unknown> = {}

async function attempt(name: string, action: () => unknown): Promise<void> {
  try {
    await action()
    results[name] = 'done'
  } catch (error) {
    const { code, message } = error as { code?: string; message: string }
    results[name] = `${code}: ${message.replaceAll(home, 'HOME').replace(/-\d+-[0-9a-f]{12}/, '-N')}`
  }
}

async function* once(bytes: Buffer): AsyncGenerator<Uint8Array> {
  for (let offset = 0; offset < bytes.length; offset += 65_536) yield bytes.subarray(offset, offset + 65_536)
}

const write = (label: string, bytes: Buffer): ReturnType<typeof writeArtifact> =>
  writeArtifact(openStore(home), once(bytes), { expected: null, maxBytes: 1e8, label })
const small = tgz([{ path: 'package/index.js', data: 'small' }])
const large = tgz([{ path: 'package/data', data: randomBytes(3_000_000) }])
// A small artifact whose tree is large.
const airy = tgz(
  Array.from({ length: 30 }, (_, index) => ({ path: `package/data${index}`, data: Buffer.alloc(100_000) })),
)

if (kind === 'full') await full()
else await readOnly()
process.stdout.write(JSON.stringify(results))

async function full(): Promise<void> {
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=1500k', 'tmpfs', home])
  const store = openStore(home)
  const { integrity } = await write('small@1.0.0', small)
  await unpackTrees(store, [{ id: treeId(integrity), integrity, label: 'small@1.0.0', bin: {} }])
  const airyIntegrity = (await write('airy@1.0.0', airy)).integrity
  atomicWrite(join(home, 'note'), 'old')
  const attempts = async (): Promise<void> => {
    await attempt('artifact', () => write('large@1.0.0', large))
    await attempt('tree', () =>
      unpackTrees(store, [{ id: treeId(airyIntegrity), integrity: airyIntegrity, label: 'airy@1.0.0', bin: {} }]),
    )
    await attempt('environment', () =>
      publishEnvironment(store, 'e1', (built) => writeFileSync(join(built, 'x'), Buffer.alloc(3_000_000)), {
        trees: [],
      }),
    )
    await attempt('file', () => atomicWrite(join(home, 'note'), Buffer.alloc(3_000_000)))
  }
  await attempts()
  const failed = { ...results }
  results['left'] = {
    tmp: readdirSync(join(home, 'tmp')),
    trees: readdirSync(join(home, 'trees')).length,
    note: readFileSync(join(home, 'note'), 'utf8'),
    environment: hasEnvironment(store, 'e1'),
  }
  results['still there'] = await verifyTree(store, treeId(integrity))
  execFileSync('mount', ['-o', 'remount,size=30m', home])
  await attempts()
  results['with room'] = Object.fromEntries(Object.keys(failed).map((name) => [name, results[name]]))
  Object.assign(results, failed, { verified: await verifyTree(store, treeId(airyIntegrity)) })
}

async function readOnly(): Promise<void> {
  const prepared = openStore(home)
  const { integrity } = await write('small@1.0.0', small)
  const damaged = (await write('large@1.0.0', large)).integrity
  const airyIntegrity = (await write('airy@1.0.0', airy)).integrity
  await unpackTrees(prepared, [{ id: treeId(integrity), integrity, label: 'small@1.0.0', bin: {} }])
  writeFileSync(artifactPath(prepared, damaged), 'damaged')
  execFileSync('mount', ['--bind', home, home])
  execFileSync('mount', ['-o', 'remount,bind,ro', home])
  await attempt('open', () => openStore(home))
  const store = openStore(home)
  await attempt('create', () => openStore(join(home, 'new', 'store')))
  await attempt('read', () => [readArtifact(store, integrity, 'small@1.0.0'), readTree(store, treeId(integrity))])
  await attempt('lease', () =>
    withLease(store, () => unpackTrees(store, [{ id: treeId(integrity), integrity, label: 'small@1.0.0', bin: {} }])),
  )
  await attempt('artifact', () => write('large@1.0.0', large))
  await attempt('tree', () =>
    unpackTrees(store, [{ id: treeId(airyIntegrity), integrity: airyIntegrity, label: 'airy@1.0.0', bin: {} }]),
  )
  await attempt('environment', () => publishEnvironment(store, 'e1', () => {}, { trees: [] }))
  await attempt('root', () => recordRoot(store, { checkout: '/x', environment: 'e1' }))
  await attempt('collect', () => collectGarbage(store, { now: Date.now() }))
  await attempt('damaged', () => readArtifact(store, damaged, 'large@1.0.0'))
}
