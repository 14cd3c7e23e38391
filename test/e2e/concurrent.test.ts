import { cpSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

import { afterAll, beforeAll, expect, test } from 'vitest'

import { polder, polderDone, temporaryDirectory } from '../support/cli.ts'
import { copyStore, emptyStore, writeChain } from '../support/monorepo.ts'
import { startRegistry, type Registry } from '../support/registry.ts'

let registry: Registry
let root: string
let home: string

beforeAll(async () => {
  registry = await startRegistry()
  root = join(temporaryDirectory('concurrent'), 'repository')
  home = join(temporaryDirectory('concurrent'), 'store')
  writeChain(root, registry, { packages: 8, files: 6 })
  await polderDone(['lock'], { cwd: root, home })
})

afterAll(() => registry.close())

function copyRepository(): string {
  const to = join(temporaryDirectory('checkout'), 'repository')
  cpSync(root, to, { recursive: true })
  return to
}

/** A store that has the artifacts, and nothing unpacked. */
function freshStore(): string {
  const to = join(temporaryDirectory('store'), 'store')
  copyStore(home, to)
  return to
}

test('three installs at once in one checkout take turns', async () => {
  const world = { cwd: copyRepository(), home: freshStore() }
  const finished = await Promise.all([1, 2, 3].map(() => polder(['install'], world)))
  for (const { code, stderr } of finished) {
    expect(code, stderr).toBe(0)
    expect(stderr).toMatch(/^(polder: waiting for the installation that process \d+ runs in this checkout\n)?$/)
  }
  await polderDone(['verify'], world)
})

test('three installs at once in three checkouts share one environment', async () => {
  const store = freshStore()
  const worlds = [1, 2, 3].map(() => ({ cwd: copyRepository(), home: store }))
  for (const { code, stderr } of await Promise.all(worlds.map((world) => polder(['install'], world)))) {
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
  }
  for (const world of worlds) await polderDone(['verify'], world)
  const { store: status } = JSON.parse(await polderDone(['status', '--json'], worlds[0] as (typeof worlds)[0])) as {
    store: object
  }
  expect(status).toEqual({ home: store, environments: 1, checkouts: 3 })
})

test('two locks and a sync at once, with an empty store, end with the same lock', async () => {
  const cwd = copyRepository()
  const store = join(temporaryDirectory('store'), 'store')
  emptyStore(home, store)
  const world = { cwd, home: store }
  const finished = await Promise.all([
    polder(['lock'], world),
    polder(['lock'], world),
    polder(['index', 'sync'], world),
  ])
  for (const { code, stderr } of finished) expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
  expect(readFileSync(join(cwd, 'polder.lock'), 'utf8')).toBe(readFileSync(join(root, 'polder.lock'), 'utf8'))
  await polderDone(['install'], world)
  await polderDone(['verify'], world)
})

test('garbage collections beside installs take nothing from them', async () => {
  const store = freshStore()
  const worlds = [1, 2].map(() => ({ cwd: copyRepository(), home: store }))
  const finished = await Promise.all(
    worlds.flatMap((world) => [polder(['install'], world), polder(['store', 'gc'], world)]),
  )
  for (const { code, stderr } of finished) expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
  for (const world of worlds) await polderDone(['verify'], world)
})
