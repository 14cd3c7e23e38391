import { spawn } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs'
import { once } from 'node:events'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'

import type { Integrity } from '@polder/spec'
import {
  collectGarbage,
  hasArtifact,
  hasEnvironment,
  hasTree,
  publishEnvironment,
  readRoots,
  recordRoot,
  treeId,
  unpackTrees,
  withLease,
  type Store,
} from '../src/index.ts'
import { putPackage, temporaryDirectory, temporaryStore } from './support/temporary-store.ts'

/** An hour from now: everything that the test made is old enough. */
const later = (): number => Date.now() + 60 * 60 * 1000

interface Installed {
  readonly checkout: string
  readonly integrity: Integrity
}

/** A checkout whose environment is made of one tree of its own. */
async function install(store: Store, environment: string): Promise<Installed> {
  const checkout = temporaryDirectory()
  const integrity = await putPackage(store, { 'index.js': environment })
  await unpackTrees(store, [{ id: treeId(integrity), integrity, label: environment, bin: {} }])
  await publishEnvironment(store, environment, () => {}, { trees: [treeId(integrity)] })
  recordRoot(store, { checkout, environment })
  mkdirSync(join(checkout, '.polder'))
  writeFileSync(join(checkout, '.polder', 'state.json'), JSON.stringify({ environment }))
  return { checkout, integrity }
}

describe('what is collected', () => {
  test('nothing that a checkout uses', async () => {
    const store = temporaryStore()
    const { integrity } = await install(store, 'e1')
    expect(await collectGarbage(store, { now: later() })).toEqual({
      busy: false,
      roots: [],
      environments: [],
      trees: [],
      artifacts: [],
      leftovers: 0,
      bytes: 0,
      files: 0,
    })
    expect([hasEnvironment(store, 'e1'), hasTree(store, treeId(integrity)), readRoots(store).length]).toEqual([
      true,
      true,
      1,
    ])
  })

  test('the environment and trees of a checkout that is gone, but not its artifacts', async () => {
    const store = temporaryStore()
    const kept = await install(store, 'e1')
    const gone = await install(store, 'e2')
    rmSync(gone.checkout, { recursive: true })
    const labels: string[] = []
    expect(await collectGarbage(store, { now: later(), onProgress: ({ label }) => labels.push(label) })).toEqual({
      busy: false,
      roots: [gone.checkout],
      environments: ['e2'],
      trees: [treeId(gone.integrity)],
      artifacts: [],
      leftovers: 0,
      bytes: 2,
      files: 1,
    })
    expect(labels).toEqual(['environment e2', `tree ${treeId(gone.integrity)}`])
    expect([hasEnvironment(store, 'e1'), hasTree(store, treeId(kept.integrity))]).toEqual([true, true])
    expect([
      hasEnvironment(store, 'e2'),
      hasTree(store, treeId(gone.integrity)),
      hasArtifact(store, gone.integrity),
    ]).toEqual([false, false, true])
    expect(readdirSync(join(store.home, 'tmp'))).toEqual([])
  })

  test('the environment that a checkout has left for another', async () => {
    const store = temporaryStore()
    const { checkout } = await install(store, 'e1')
    await publishEnvironment(store, 'e2', () => {}, { trees: [] })
    writeFileSync(join(checkout, '.polder', 'state.json'), '{"environment":"e2"}')
    expect(await collectGarbage(store, { now: later() })).toMatchObject({
      roots: [checkout],
      environments: ['e1', 'e2'],
    })
  })

  test('also where the record of that has a name of former times', async () => {
    const store = temporaryStore()
    const { checkout } = await install(store, 'e1')
    for (const { path } of readRoots(store)) rmSync(path)
    const former = { checkout, environment: 'e1', at: '2026-01-01T00:00:00.000Z' }
    writeFileSync(join(store.home, 'roots', `${'0'.repeat(40)}.json`), JSON.stringify(former))
    await publishEnvironment(store, 'e2', () => {}, { trees: [] })
    writeFileSync(join(checkout, '.polder', 'state.json'), '{"environment":"e2"}')
    recordRoot(store, { checkout, environment: 'e2' })
    expect(await collectGarbage(store, { now: later() })).toMatchObject({ roots: [checkout], environments: ['e1'] })
    expect(readRoots(store)).toMatchObject([{ checkout, environment: 'e2' }])
    expect(await collectGarbage(store, { now: later() })).toMatchObject({ roots: [], environments: [] })
  })

  test('not the environment of a checkout whose state cannot be read', async () => {
    const store = temporaryStore()
    for (const [id, state] of [
      ['e1', '{"environ'],
      ['e2', 'null'],
      ['e3', '{}'],
    ] as const) {
      const { checkout } = await install(store, id)
      writeFileSync(join(checkout, '.polder', 'state.json'), state)
    }
    expect(await collectGarbage(store, { now: later() })).toMatchObject({ roots: [], environments: [], trees: [] })
  })

  test('artifacts only if asked, and never those to keep', async () => {
    const store = temporaryStore()
    const [kept, gone] = [await putPackage(store, { a: 'kept' }), await putPackage(store, { a: 'gone' })]
    await collectGarbage(store, { now: later() })
    expect([hasArtifact(store, kept), hasArtifact(store, gone)]).toEqual([true, true])
    expect((await collectGarbage(store, { keep: { artifacts: [kept] }, now: later() })).artifacts).toHaveLength(1)
    expect([hasArtifact(store, kept), hasArtifact(store, gone)]).toEqual([true, false])
  })

  test('not a tree that the caller wants to keep', async () => {
    const store = temporaryStore()
    const integrity = await putPackage(store, { a: '1' })
    await unpackTrees(store, [{ id: treeId(integrity), integrity, label: 'a', bin: {} }])
    expect((await collectGarbage(store, { keep: { trees: [treeId(integrity)] }, now: later() })).trees).toEqual([])
    expect((await collectGarbage(store, { now: later() })).trees).toEqual([treeId(integrity)])
  })

  test('nothing that is younger than ten minutes, or than what the caller says', async () => {
    const store = temporaryStore()
    const { checkout, integrity } = await install(store, 'e1')
    rmSync(checkout, { recursive: true })
    writeFileSync(join(store.home, 'tmp', 'artifact-1-000000000000'), '')
    const untouched = { roots: [], environments: [], trees: [], leftovers: 0 }
    expect(await collectGarbage(store, { now: Date.now() })).toMatchObject(untouched)
    expect(await collectGarbage(store, { now: Date.now(), keep: { artifacts: [] } })).toMatchObject({ artifacts: [] })
    expect(await collectGarbage(store, { now: later(), minAgeMs: 2 * 60 * 60 * 1000 })).toMatchObject(untouched)
    expect(await collectGarbage(store, { now: Date.now() + 11 * 60 * 1000 })).toMatchObject({
      roots: [checkout],
      environments: ['e1'],
      trees: [treeId(integrity)],
      leftovers: 1,
    })
  })

  test('what killed processes have left, wherever it is', async () => {
    const store = temporaryStore()
    mkdirSync(join(store.home, 'tmp', 'trees-1-000000000000', 'deep'), { recursive: true })
    writeFileSync(join(store.home, 'tmp', 'artifact-1-000000000000'), '')
    writeFileSync(join(store.home, 'roots', '.x.json.1-000000000000.tmp'), '')
    writeFileSync(join(store.home, 'quarantine', 'damaged'), '')
    expect((await collectGarbage(store, { now: later() })).leftovers).toBe(4)
    for (const directory of ['tmp', 'roots', 'quarantine', 'locks'])
      expect(readdirSync(join(store.home, directory))).toEqual([])
  })

  test('at once, whatever its age, what a killed collection had put aside', async () => {
    const store = temporaryStore()
    mkdirSync(join(store.home, 'tmp', `garbage-${process.pid}-000000000000`, '0'), { recursive: true })
    expect((await collectGarbage(store, { now: Date.now() })).leftovers).toBe(1)
    expect(readdirSync(join(store.home, 'tmp'))).toEqual([])
  })

  test('an environment that lost its marker', async () => {
    const store = temporaryStore()
    mkdirSync(join(store.home, 'envs', 'ruin'))
    expect((await collectGarbage(store, { now: later() })).environments).toEqual(['ruin'])
  })
})

describe('beside other processes', () => {
  test('nothing is collected while an installation holds a lease, and all of it afterwards', async () => {
    const store = temporaryStore()
    const { checkout } = await install(store, 'e1')
    rmSync(checkout, { recursive: true })
    await withLease(store, async () => {
      expect(await collectGarbage(store, { now: later() })).toMatchObject({ busy: true, environments: [] })
      expect(hasEnvironment(store, 'e1')).toBe(true)
    })
    expect(readdirSync(join(store.home, 'locks'))).toEqual([])
    expect(await collectGarbage(store, { now: later() })).toMatchObject({ busy: false, environments: ['e1'] })
  })

  test('a lease ends with its function, also when that fails', async () => {
    const store = temporaryStore()
    await expect(withLease(store, () => Promise.reject(new Error('no')))).rejects.toThrow('no')
    expect(await withLease(store, () => 7)).toBe(7)
    expect(readdirSync(join(store.home, 'locks'))).toEqual([])
  })

  test('the lease of a killed process does not count, even if its id is in use again', async () => {
    const store = temporaryStore()
    const child = spawn(process.execPath, ['-e', ''], { stdio: 'ignore' })
    await once(child, 'exit')
    let mine = ''
    await withLease(store, () => {
      const [name] = readdirSync(join(store.home, 'locks'))
      mine = readFileSync(join(store.home, 'locks', String(name)), 'utf8')
    })
    const lease = JSON.parse(mine) as object
    writeFileSync(join(store.home, 'locks', 'dead'), JSON.stringify({ ...lease, pid: child.pid }))
    writeFileSync(join(store.home, 'locks', 'again'), JSON.stringify({ ...lease, started: '1' }))
    expect(await collectGarbage(store, { now: later() })).toMatchObject({ busy: false })
    expect(readdirSync(join(store.home, 'locks'))).toEqual([])
    writeFileSync(join(store.home, 'locks', 'alive'), mine)
    expect(await collectGarbage(store, { now: later() })).toMatchObject({ busy: true })
  })

  test('the lease of another machine counts for a day', async () => {
    const store = temporaryStore()
    const path = join(store.home, 'locks', '1-000000000000')
    writeFileSync(path, JSON.stringify({ pid: 1, started: '1', space: 'elsewhere' }))
    expect(await collectGarbage(store, { now: later() })).toMatchObject({ busy: true })
    const yesterday = Date.now() / 1000 - 25 * 60 * 60
    utimesSync(path, yesterday, yesterday)
    expect(await collectGarbage(store, { now: later() })).toMatchObject({ busy: false })
  })

  test('a lease that a crash left half-written does not count for long', async () => {
    const store = temporaryStore()
    const path = join(store.home, 'locks', '1-000000000000')
    writeFileSync(path, '{"pid"')
    expect(await collectGarbage(store, { now: later() })).toMatchObject({ busy: true })
    utimesSync(path, 1, 1)
    expect(await collectGarbage(store, { now: later() })).toMatchObject({ busy: false })
  })

  test('an installation waits while a collection decides', async () => {
    const store = temporaryStore()
    const collecting = join(store.home, 'locks', 'collecting')
    await withLease(store, () => {
      const [name] = readdirSync(join(store.home, 'locks'))
      writeFileSync(collecting, readFileSync(join(store.home, 'locks', String(name))))
    })
    let started = false
    const lease = withLease(store, () => void (started = true))
    expect(await collectGarbage(store, { now: later() })).toMatchObject({ busy: true })
    expect(started).toBe(false)
    rmSync(collecting)
    await lease
    expect(started).toBe(true)
  })

  test('what a killed collection left locked is taken over', async () => {
    const store = temporaryStore()
    writeFileSync(join(store.home, 'locks', 'collecting'), '')
    utimesSync(join(store.home, 'locks', 'collecting'), 1, 1)
    expect(await collectGarbage(store, { now: later() })).toMatchObject({ busy: false })
    expect(existsSync(join(store.home, 'locks', 'collecting'))).toBe(false)
    expect(statSync(join(store.home, 'locks')).isDirectory()).toBe(true)
  })

  test('two collections at once remove everything once', async () => {
    const store = temporaryStore()
    for (const id of ['e1', 'e2', 'e3']) rmSync((await install(store, id)).checkout, { recursive: true })
    const reports = await Promise.all([
      collectGarbage(store, { now: later() }),
      collectGarbage(store, { now: later() }),
    ])
    expect(reports.flatMap(({ environments }) => environments).sort()).toEqual(['e1', 'e2', 'e3'])
    expect(readdirSync(join(store.home, 'tmp'))).toEqual([])
  })
})
