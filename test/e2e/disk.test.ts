import { appendFileSync, cpSync, mkdirSync } from 'node:fs'
import { join } from 'node:path'

import { afterAll, beforeAll, describe, expect, test } from 'vitest'

import { polder, polderDone, temporaryDirectory, type Finished, type Invocation } from '../support/cli.ts'
import { copyStore, writeMonorepo } from '../support/monorepo.ts'
import { mountNamespace, noMounts, type MountNamespace } from '../support/mounts.ts'
import { startRegistry, type Registry, type ServedVersion } from '../support/registry.ts'

const WHY = noMounts === undefined ? '' : ` (skipped: ${noMounts})`

let registry: Registry
let root: string
/** A store in which everything is: artifacts, trees, the environment. */
let home: string

beforeAll(async () => {
  registry = await startRegistry()
  root = join(temporaryDirectory('disk'), 'repository')
  home = join(temporaryDirectory('disk'), 'store')
  // Ten packages of about 100 kB that do not compress.
  const locked: Record<string, ServedVersion> = {}
  for (let index = 0; index < 10; index++) {
    locked[`big${index}`] = registry.serve(`big${index}`, '1.0.0', {
      files: { 'index.js': noise(index, 40_000), 'data.js': noise(index + 100, 60_000) },
    })
  }
  const dependencies = Object.fromEntries(Object.keys(locked).map((name) => [name, '1.0.0']))
  writeMonorepo(root, registry, { 'services/web': { manifest: { dependencies }, locked } })
  await polderDone(['lock'], { cwd: root, home })
})

afterAll(() => registry.close())

describe.skipIf(noMounts !== undefined)(`a full disk${WHY}`, () => {
  test('during a sync, it is said what was being written, and the same command goes on when there is room', async () => {
    const world = await onSmallDisk(600)
    // One after the other, so that some are complete when the disk is full.
    appendFileSync(join(world.cwd, '.npmrc'), 'maxsockets=1\n')
    const failed = await polder(['index', 'sync'], world)
    expect(failed).toMatchObject({ code: 1, stdout: '' })
    expect(failed.stderr).toMatch(
      /^polder: the disk is full: (?:(?:writing|unpacking) big\d@1\.0\.0|writing a manifest) to .*\[DISK_FULL\]\n  hint: make room .*\n$/,
    )
    grow(world)
    expect(await polderDone(['index', 'sync'], world)).toMatch(/^10 pins in the index, \d \(.*\) fetched\n/)
    await expectWhole(world)
  })

  test('during unpacking', async () => {
    const world = await onSmallDisk(1800, ['artifacts', 'manifests'])
    expectFull(await polder(['install'], world), /unpacking big\d@1\.0\.0/)
    grow(world)
    await expectWhole(world)
  })

  test('while an install script writes: that is no limit of its own, and it is built as soon as there is room', async () => {
    const from = {
      cwd: join(temporaryDirectory('disk'), 'repository'),
      home: join(temporaryDirectory('disk'), 'store'),
    }
    const filler = registry.serve('filler', '1.0.0', { scripts: { install: 'head -c 3000000 /dev/zero > big' } })
    writeMonorepo(from.cwd, registry, {
      app: { manifest: { dependencies: { filler: '1.0.0' } }, locked: { filler } },
    })
    appendFileSync(join(from.cwd, 'polder.yaml'), "builds:\n  allow: { filler: '*' }\n")
    await polderDone(['lock'], from)
    const world = await onSmallDisk(2000, ['artifacts', 'manifests'], from)
    expectFull(await polder(['install'], world), /writing what filler@1\.0\.0 is built to/)
    grow(world)
    expect(await polderDone(['install'], world)).toContain('  built: filler@1.0.0')
  })

  test('while the environment is made: links need room too, and none of it is left behind', async () => {
    const world = await onSmallDisk(20_000, ['artifacts', 'manifests', 'trees'])
    // The directories of an environment are all that it takes on the disk: leave no inode for them.
    const inodes = Number(world.disk.run(`df --output=iused ${world.home} | tail -1`))
    world.disk.run(`mount -o remount,nr_inodes=${inodes + 8} ${world.home}`)
    expectFull(await polder(['install'], world), /making the environment|taking a lease|writing/)
    grow(world)
    await expectWhole(world)
  })
})

describe.skipIf(noMounts !== undefined)(`a store that is mounted read-only${WHY}`, () => {
  test('serves an up-to-date checkout: install, exec, why, status, verify and lock --check', async () => {
    const cwd = copyRepository()
    const before = { cwd, home: copyOfStore() }
    await polderDone(['install'], before)
    const world = await readOnly(before)
    expect(await polderDone(['install'], world)).toContain('Already up to date')
    expect(
      await polderDone(
        ['exec', '--service', 'services/web', '--', 'node', '-p', 'require("big0/package.json").version'],
        world,
      ),
    ).toBe('1.0.0\n')
    expect(await polderDone(['why', 'big0'], world)).toContain('big0@1.0.0')
    expect(await polderDone(['verify'], world)).toContain('10 packages verified')
    expect(await polderDone(['status'], world)).toContain('current, linked')
    expect(await polderDone(['lock', '--check'], world)).toBe('polder.lock is up to date\n')
  })

  test('serves further checkouts, linked or with everything inside', async () => {
    const before = { cwd: copyRepository(), home: copyOfStore() }
    await polderDone(['install'], before)
    const further = await readOnly({ cwd: copyRepository(), home: before.home })
    expect(await polderDone(['install'], further)).toContain('was there already')
    expect(await polderDone(['verify'], further)).toContain('10 packages verified')
    expect(await polderDone(['install', '--layout', 'self-contained'], further)).toContain('files in this checkout')
    expect(await polderDone(['verify'], further)).toContain('10 packages verified')
  })

  test('cannot be synced into, unpacked in or cleaned', async () => {
    const cwd = copyRepository()
    const empty = join(temporaryDirectory('store'), 'store')
    copyStore(home, empty, ['trees', 'envs', 'roots', 'artifacts', 'manifests'])
    for (const path of ['artifacts', 'manifests']) mkdirSync(join(empty, path, 'sha512'))
    expectUnwritable(await polder(['index', 'sync'], await readOnly({ cwd, home: empty })))
    expectUnwritable(await polder(['install'], await readOnly({ cwd, home: copyOfStore(['trees', 'envs', 'roots']) })))
    expectUnwritable(await polder(['store', 'gc'], await readOnly({ cwd, home: copyOfStore() })))
  })
})

function expectFull({ code, stderr }: Finished, doing: RegExp): void {
  expect(code, stderr).toBe(1)
  expect(stderr).toMatch(/^polder: the disk is full: /)
  expect(stderr).toMatch(doing)
  expect(stderr).toContain('[DISK_FULL]\n  hint: make room')
}

function expectUnwritable({ code, stderr }: Finished): void {
  expect(code, stderr).toBe(1)
  expect(stderr).toMatch(
    /^polder: .* cannot be written \(EROFS\).* \[STORE_UNWRITABLE\]\n  hint: give yourself write access to it; if it is in the store, POLDER_HOME can name a directory that you own\n$/,
  )
}

async function expectWhole(world: Invocation): Promise<void> {
  await polderDone(['install'], world)
  expect(await polderDone(['verify'], world)).toContain('10 packages verified')
}

interface OnDisk extends Invocation {
  readonly disk: MountNamespace
}

/** A checkout, and a store on a disk of its own of so many kilobytes, with these directories of the full store. */
async function onSmallDisk(
  kilobytes: number,
  contents: readonly string[] = [],
  from: Invocation = { cwd: root, home },
): Promise<OnDisk> {
  const path = temporaryDirectory('disk')
  const cwd = copyRepository(from.cwd)
  const disk = await mountNamespace(cwd)
  disk.run(`mount -t tmpfs -o size=${kilobytes}k tmpfs ${path}`)
  for (const name of contents) disk.run(`cp -a ${join(from.home, name)} ${path}`)
  return { cwd, home: path, inside: disk.inside, disk }
}

function grow({ disk, home: path }: OnDisk): void {
  disk.run(`mount -o remount,size=64m,nr_inodes=0 ${path}`)
}

async function readOnly({ cwd, home: store }: Invocation): Promise<Invocation> {
  const { inside, run } = await mountNamespace(cwd)
  run(`mount --bind ${store} ${store} && mount -o remount,bind,ro ${store}`)
  return { cwd, home: store, inside }
}

function copyOfStore(without: readonly string[] = []): string {
  const to = join(temporaryDirectory('store'), 'store')
  copyStore(home, to, without)
  return to
}

function copyRepository(from: string = root): string {
  const to = join(temporaryDirectory('checkout'), 'repository')
  cpSync(from, to, { recursive: true })
  return to
}

/** Text that looks random and is the same each time. */
function noise(seed: number, length: number): string {
  let state = seed * 2654435761 + 1
  return Array.from({ length }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return String.fromCharCode(33 + ((state >>> 16) % 90))
  }).join('')
}
