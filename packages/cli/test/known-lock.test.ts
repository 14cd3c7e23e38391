import { hash } from 'node:crypto'
import {
  appendFileSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'

import { digestInput } from '@polder/gather/inputs'
import type { Plan } from '@polder/realise'
import { openStore, publishEnvironment, type Store, type TreeId } from '@polder/store'
import { afterAll, describe, expect, test } from 'vitest'

import { forgetStaleLocks, recallLock, rememberLock } from '../src/known-lock.ts'

const directory = mkdtempSync(join(tmpdir(), 'polder-known-'))
afterAll(() => rmSync(directory, { recursive: true }))

const FILES = {
  'polder.lock': `inputs:\n${'  x: sha256-0123456789abcdef\n'.repeat(6)}`,
  'package.json': '{ "name": "root", "scripts": { "a": "b" } }',
  'services/web/package.json': '{ "name": "web", "dependencies": { "x": "1" } }',
  'yarn.lock': 'x@1:\n  version "1.0.0"\n',
  'empty.yaml': '',
}
const PLAN = {
  layout: 'linked',
  platform: 'linux-x64-glibc',
  id: 'e1',
  environment: [],
  checkout: {
    packages: [],
    services: [],
    links: [{ path: 'node_modules', to: '.polder/env', names: ['x'], others: [] }],
  },
  notBuilt: [],
  unsupported: [],
} as unknown as Plan

interface World {
  readonly store: Store
  readonly root: string
  readonly planned: Parameters<typeof rememberLock>[3]
}

function write(root: string, files: Readonly<Record<string, string>>): void {
  for (const [path, text] of Object.entries(files)) {
    mkdirSync(dirname(join(root, path)), { recursive: true })
    writeFileSync(join(root, path), text)
  }
}

/** A checkout, what would have been planned of it, and an empty store. */
function world(files: Readonly<Record<string, string>> = FILES): World {
  const at = mkdtempSync(join(directory, 'world-'))
  const root = join(at, 'checkout')
  write(root, files)
  const { 'polder.lock': lock = '', ...inputs } = files
  const digests = Object.fromEntries(Object.keys(inputs).map((path) => [path, digestInput(root, path) ?? '']))
  const planned = { lockDigest: hash('sha256', lock, 'hex'), inputs: digests, packages: 1, plan: PLAN, notRun: ['app'] }
  return { store: openStore(join(at, 'store')), root, planned }
}

function remembered(files?: Readonly<Record<string, string>>): World {
  const made = world(files)
  rememberLock(made.store, made.root, undefined, made.planned)
  return made
}

/** The one file that remembers it. */
function record({ store }: World): string {
  const [name = 'none', ...others] = readdirSync(join(store.home, 'known'))
  expect(others).toEqual([])
  return join(store.home, 'known', name)
}

const isRecalled = ({ store, root }: World): boolean => recallLock(store, root, undefined) !== undefined

test('a lock that was installed is known in every checkout that has the same bytes', () => {
  const { store, root, planned } = remembered()
  const other = join(dirname(root), 'other')
  write(other, FILES)
  const { environment: _, ...plan } = PLAN
  const { lockDigest, inputs, packages } = planned
  expect(recallLock(store, other, undefined)).toEqual({
    known: { lockDigest, inputs, packages, plan, notRun: ['app'] },
    stateInputs: Object.fromEntries(
      [...Object.entries(inputs), ['polder.lock', `sha256-${lockDigest}`] as const].map(([path, digest]) => {
        const { mtimeMs, size } = statSync(join(other, path))
        return [path, { mtimeMs, size, digest }]
      }),
    ),
  })
})

test('it is another one for another layout, and unknown where there is no lock', () => {
  const { store, root } = remembered()
  expect(recallLock(store, root, 'self-contained')).toBeUndefined()
  rmSync(join(root, 'polder.lock'))
  expect(recallLock(store, root, undefined)).toBeUndefined()
})

describe('it is not known', () => {
  test.each(Object.keys(FILES))('after one byte of %s was changed, added or taken away', (path) => {
    const known = remembered()
    const file = join(known.root, path)
    const text = readFileSync(file, 'utf8')
    for (let at = 0; at < text.length; at += 7) {
      writeFileSync(file, `${text.slice(0, at)}\u007F${text.slice(at + 1)}`)
      expect(isRecalled(known)).toBe(false)
    }
    for (const changed of [`${text} `, text.slice(0, -1)]) {
      writeFileSync(file, changed)
      expect(isRecalled(known)).toBe(changed === text)
    }
    rmSync(file)
    expect(isRecalled(known)).toBe(false)
    writeFileSync(file, text)
    expect(isRecalled(known)).toBe(true)
  })

  test('if a package has got a binding.gyp, which is an install script', () => {
    const known = remembered()
    write(known.root, { 'services/web/binding.gyp': '{}' })
    expect(isRecalled(known)).toBe(false)
    rmSync(record(known))
    rememberLock(known.store, known.root, undefined, known.planned)
    expect(readdirSync(join(known.store.home, 'known'))).toEqual([])
  })

  test('if bytes move from one input to the next', () => {
    const known = remembered({ 'polder.lock': 'x', 'a.yaml': 'ab', 'b.yaml': 'c' })
    write(known.root, { 'a.yaml': 'a', 'b.yaml': 'bc' })
    expect(isRecalled(known)).toBe(false)
  })

  test('if what is remembered of it was changed in any byte, cut short or grew', () => {
    const known = remembered()
    const path = record(known)
    const bytes = readFileSync(path)
    for (let at = 0; at < bytes.length; at++) {
      const damaged = Buffer.from(bytes)
      damaged[at] = (damaged[at] ?? 0) ^ 1
      writeFileSync(path, damaged)
      expect([at, isRecalled(known)]).toEqual([at, false])
    }
    for (let size = 0; size < bytes.length; size += 41) {
      writeFileSync(path, bytes.subarray(0, size))
      expect([size, isRecalled(known)]).toEqual([size, false])
      // As a file system leaves it whose power was cut.
      writeFileSync(path, Buffer.concat([bytes.subarray(0, size), Buffer.alloc(bytes.length - size)]))
      expect([size, isRecalled(known)]).toEqual([size, false])
    }
    writeFileSync(path, bytes)
    appendFileSync(path, ' ')
    expect(isRecalled(known)).toBe(false)
    rememberLock(known.store, known.root, undefined, known.planned)
    expect(isRecalled(known)).toBe(true)
  })

  test('if another lock stands under its name, which it then displaces', () => {
    const known = remembered()
    const other = remembered({ ...FILES, 'polder.lock': FILES['polder.lock'].replace('def\n', 'fed\n') })
    writeFileSync(record(known), readFileSync(record(other)))
    expect(isRecalled(known)).toBe(false)
    rememberLock(known.store, known.root, undefined, known.planned)
    expect(isRecalled(known)).toBe(true)
  })
})

describe('it is not remembered', () => {
  const isKept = ({ store, root, planned }: World): boolean => {
    rememberLock(store, root, undefined, planned)
    return recallLock(store, root, undefined) !== undefined
  }

  test.each(['polder.lock', 'yarn.lock'])('if %s changed while it was installed', (path) => {
    const made = world()
    appendFileSync(join(made.root, path), ' ')
    expect(isKept(made)).toBe(false)
  })

  test('if workspace packages run scripts, which is to be seen to in every checkout', () => {
    const made = world()
    const planned = { ...made.planned, workspaces: { workspaces: [] } } as unknown as World['planned']
    expect(isKept({ ...made, planned })).toBe(false)
  })

  test('if something was built without a sandbox', () => {
    const made = world()
    const builds = [{ id: 't1' as TreeId, unenforced: true }]
    const planned = { ...made.planned, builds: { toolchain: '', builds } } as unknown as World['planned']
    expect(isKept({ ...made, planned })).toBe(false)
  })
})

test('what was built is known as long as the compiler and Python are the same files', () => {
  const made = world()
  const builds = { toolchain: 'cc 1', builds: [{ id: 't1' as TreeId }] }
  rememberLock(made.store, made.root, undefined, { ...made.planned, builds } as unknown as World['planned'])
  expect(recallLock(made.store, made.root, undefined)?.known.builds?.trees).toEqual(['t1'])
  const text = readFileSync(record(made), 'latin1')
  const changed = text.replaceAll('"toolchainFiles":"c++', '"toolchainFiles":"C++')
  expect(changed).not.toBe(text)
  writeFileSync(record(made), changed, 'latin1')
  expect(isRecalled(made)).toBe(false)
})

test('store gc forgets the locks whose environments are gone', async () => {
  const known = remembered()
  await publishEnvironment(known.store, 'e1', () => {}, { trees: [] })
  forgetStaleLocks(known.store)
  expect(isRecalled(known)).toBe(true)
  rmSync(join(known.store.home, 'envs/e1'), { recursive: true })
  forgetStaleLocks(known.store)
  expect(readdirSync(join(known.store.home, 'known'))).toEqual([])
})
