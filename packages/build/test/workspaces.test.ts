import {
  appendFileSync,
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'

import { expect, onTestFinished, test } from 'vitest'

import { inOrder, type PlannedWorkspace, workspaceScripts } from '../src/workspaces/planned-workspace.ts'
import { inputsOf, keyOf, type PreparedCheckout } from '../src/workspaces/workspace-inputs.ts'
import { bringBack, type BroughtBack, compareOutputs } from '../src/workspaces/workspace-outputs.ts'
import { replacedDirectory } from '../src/workspaces/workspace-record.ts'
import { furnishWorkspaceRoom, type WorkspaceRoom } from '../src/workspaces/workspace-room.ts'
import { TOOLCHAIN } from './support/workshop.ts'

const LIB: PlannedWorkspace = { path: 'packages/lib', links: [], reads: [], env: {} }

function directory(): string {
  const path = realpathSync(mkdtempSync(join(tmpdir(), 'polder-workspaces-')))
  onTestFinished(() => rmSync(path, { recursive: true, force: true }))
  return path
}

function write(root: string, files: Readonly<Record<string, string>>): void {
  for (const [path, text] of Object.entries(files)) {
    mkdirSync(dirname(join(root, path)), { recursive: true })
    writeFileSync(join(root, path), text)
  }
}

function checkoutWith(files: Readonly<Record<string, string>>): PreparedCheckout {
  const root = directory()
  write(root, { 'packages/lib/package.json': '{}', ...files })
  mkdirSync(join(root, '.polder'))
  return { root, environment: 'one', environmentPath: null, packages: ['.', 'packages/lib', 'packages/other'] }
}

/** What scripts do is done to the copy, by hand. */
function ran(
  checkout: PreparedCheckout,
  scripts: (copy: string) => void,
  { earlier = [], meanwhile }: { readonly earlier?: readonly string[]; readonly meanwhile?: () => void } = {},
): BroughtBack & { readonly room: WorkspaceRoom } {
  const room = furnishWorkspaceRoom(checkout, LIB, directory(), TOOLCHAIN, new Set())
  scripts(room.directory.source)
  meanwhile?.()
  return { ...bringBack(checkout, LIB.path, room, new Set(earlier), join(checkout.root, '.polder')), room }
}

test('scripts are those that clients run on an installation, and node-gyp where nothing else compiles', () => {
  const events = (manifest: unknown, gyp: boolean): readonly string[] =>
    workspaceScripts(manifest, gyp).map(({ event, command }) => `${event} ${command}`)
  const scripts = { prepare: 'b', build: 'x', postinstall: 'a', prepublish: 'x', test: 1 }
  expect(events({ scripts }, false)).toEqual(['postinstall a', 'prepare b'])
  expect(events({ scripts }, true)).toEqual(['install node-gyp rebuild', 'postinstall a', 'prepare b'])
  expect(events({ scripts: { install: 'own' } }, true)).toEqual(['install own'])
  expect(events({ gypfile: false }, true)).toEqual([])
  expect([events(null, false), events({ scripts: 'no' }, false)]).toEqual([[], []])
})

test('those that a package leads to come first, and of two that lead to each other the first by path', () => {
  const planned = (path: string, links: readonly string[]): PlannedWorkspace => ({ ...LIB, path, links })
  const order = inOrder([planned('a', ['c']), planned('d', ['b']), planned('b', ['d']), planned('c', [])])
  expect(order.map(({ path }) => path)).toEqual(['c', 'a', 'd', 'b'])
})

test('the key follows contents, modes, links and names, of what can be seen and was not made', () => {
  const checkout = checkoutWith({ 'packages/lib/src/a': 'a', 'packages/other/b': 'b', 'settings.json': '{}' })
  const outputs = new Set(['dist/made'])
  const key = (): string => keyOf(checkout, LIB, [], [], inputsOf(checkout, LIB, outputs, new Map()))
  const first = key()
  const at = (path: string): string => join(checkout.root, path)
  const changes = (change: () => void): boolean => {
    const before = key()
    change()
    return key() !== before
  }
  write(checkout.root, { 'packages/lib/dist/made': '1', 'packages/lib/node_modules/x/y': '1', 'polder.lock': '1' })
  write(checkout.root, { 'packages/other/b': 'c', 'packages/beside': '1' })
  rmSync(at('packages/beside'))
  expect(key()).toBe(first)
  expect(changes(() => appendFileSync(at('packages/lib/src/a'), 'b'))).toBe(true)
  expect(changes(() => chmodSync(at('packages/lib/src/a'), 0o755))).toBe(true)
  expect(changes(() => symlinkSync('a', at('packages/lib/src/b')))).toBe(true)
  expect(changes(() => write(checkout.root, { 'settings.json': '[]' }))).toBe(true)
  expect(changes(() => write(checkout.root, { 'packages/beside': '1' }))).toBe(true)
  const linked = { ...LIB, links: ['packages/other'] }
  expect([...inputsOf(checkout, linked, outputs, new Map()).files.keys()]).toContain('packages/other/b')
})

test('what changed meanwhile stays, what was not made before is kept aside, what was made is brought back or deleted', () => {
  const checkout = checkoutWith({ 'packages/lib/mine': '1', 'packages/lib/theirs': '1', 'packages/lib/old': '1' })
  const own = join(checkout.root, LIB.path)
  const { room: _, ...brought } = ran(
    checkout,
    (copy) => {
      for (const name of ['mine', 'theirs', 'dist/new']) write(copy, { [name]: 'by the script' })
      for (const name of ['old', 'package.json']) rmSync(join(copy, name))
    },
    { earlier: ['old'], meanwhile: () => write(own, { mine: 'by hand' }) },
  )
  expect(brought).toEqual({ outputs: ['dist/new', 'theirs'], replaced: ['theirs'], kept: ['mine'], leftOut: [] })
  const read = (path: string): string => readFileSync(join(own, path), 'utf8')
  expect([read('mine'), read('theirs'), read('dist/new')]).toEqual(['by hand', 'by the script', 'by the script'])
  expect(readFileSync(join(replacedDirectory(checkout.root, LIB.path), 'theirs'), 'utf8')).toBe('1')
  expect([existsSync(join(own, 'old')), existsSync(join(own, 'package.json'))]).toEqual([false, true])
})

test('nothing is written behind a link of the checkout, over a directory, or where packages and polder keep theirs', () => {
  const checkout = checkoutWith({ 'packages/lib/place/x': '1' })
  const own = join(checkout.root, LIB.path)
  const elsewhere = directory()
  symlinkSync(elsewhere, join(own, 'link'))
  const { outputs, kept, leftOut } = ran(checkout, (copy) => {
    rmSync(join(copy, 'link'))
    rmSync(join(copy, 'place'), { recursive: true })
    write(copy, { 'link/file': '1', place: '1', 'node_modules/evil/index.js': '1', '.git/hooks/pre-commit': '1' })
    symlinkSync('../../..', join(copy, 'up'))
    symlinkSync('package.json', join(copy, 'inside'))
  })
  expect({ outputs, kept, leftOut }).toEqual({ outputs: ['inside'], kept: ['place'], leftOut: ['link/file', 'up'] })
  expect([
    existsSync(join(elsewhere, 'file')),
    existsSync(join(own, 'node_modules')),
    existsSync(join(own, '.git')),
  ]).toEqual([false, false, false])
  expect(lstatSync(join(own, 'place')).isDirectory()).toBe(true)
})

test('what is written with the same contents stays the file that it is', () => {
  const checkout = checkoutWith({ 'packages/lib/dist/a': '1' })
  const before = lstatSync(join(checkout.root, 'packages/lib/dist/a'))
  const { outputs, replaced, room } = ran(checkout, (copy) => {
    rmSync(join(copy, 'dist/a'))
    write(copy, { 'dist/a': '1', 'dist/b': '2' })
  })
  expect([outputs, replaced]).toEqual([['dist/a', 'dist/b'], []])
  expect(lstatSync(join(checkout.root, 'packages/lib/dist/a')).ino).toBe(before.ino)
  expect(compareOutputs(checkout, LIB.path, room, outputs)).toEqual([])
  write(checkout.root, { 'packages/lib/dist/b': '3' })
  rmSync(join(room.directory.source, 'dist/a'))
  expect(compareOutputs(checkout, LIB.path, room, outputs)).toEqual([
    { path: 'dist/a', kind: 'missing' },
    { path: 'dist/b', kind: 'differs' },
  ])
})
