import { execFileSync } from 'node:child_process'
import { join } from 'node:path'

import { expect, test } from 'vitest'

import { digestInput, nearestRoot } from '../src/inputs.ts'
import { repository, write } from './support/repository.ts'

test('a file is digested whole', () => {
  const root = repository({ 'a/yarn.lock': 'x' })
  // echo -n x | sha256sum
  expect(digestInput(root, 'a/yarn.lock')).toBe(
    'sha256-2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881',
  )
  expect(digestInput(root, 'a/none')).toBeNull()
})

test('only the fields of a package.json that shape dependencies count, in any order', () => {
  const root = repository({ 'package.json': { name: 'a', version: '1.0.0', dependencies: { b: '^1', c: '^2' } } })
  const before = digestInput(root, 'package.json')
  write(root, {
    'package.json': {
      scripts: { test: 'x' },
      dependencies: { c: '^2', b: '^1' },
      version: '1.0.0',
      name: 'a',
      description: 'new',
    },
  })
  expect(digestInput(root, 'package.json')).toBe(before)
})

test.each([
  ['a range', { dependencies: { b: '^2' } }],
  ['a kind', { devDependencies: { b: '^1' } }],
  ['an override', { dependencies: { b: '^1' }, overrides: { x: { y: '1' } } }],
  ['a command', { dependencies: { b: '^1' }, bin: 'cli.js' }],
  ['a key that is no name', '{"name":"a","version":"1.0.0","dependencies":{"b":"^1","__proto__":"^1"}}'],
])('%s changes the digest of a package.json', (_, changed) => {
  const root = repository({ 'package.json': { name: 'a', version: '1.0.0', dependencies: { b: '^1' } } })
  const before = digestInput(root, 'package.json')
  write(root, { 'package.json': typeof changed === 'string' ? changed : { name: 'a', version: '1.0.0', ...changed } })
  expect(digestInput(root, 'package.json')).not.toBe(before)
})

test('a package.json that is no JSON, or nested too deeply to walk, has a digest of its own', () => {
  const deep = `{"dependencies":${'['.repeat(200_000)}${']'.repeat(200_000)}}`
  const root = repository({ 'package.json': '{', 'a/package.json': deep, 'b/package.json': '[]' })
  const digests = ['package.json', 'a/package.json', 'b/package.json'].map((path) => digestInput(root, path))
  expect(new Set(digests).size).toBe(3)
  for (const digest of digests) expect(digest).toMatch(/^sha256-[0-9a-f]{64}$/)
})

test('the nearest root is found without loading anything but Node', () => {
  const root = repository({ 'polder.yaml': '', 'a/b/file': '' })
  expect(nearestRoot(join(root, 'a/b'))).toBe(root)
  // Another process, so that what this test itself has loaded does not count.
  const script = `
    import { registerHooks } from 'node:module'
    const loaded = []
    registerHooks({ load: (url, context, next) => { loaded.push(url); return next(url, context) } })
    await import(process.argv[1])
    console.log(JSON.stringify(loaded.filter((url) => !url.startsWith('node:'))))`
  const entry = new URL('../src/inputs.ts', import.meta.url).href
  const loaded = JSON.parse(
    execFileSync(process.execPath, ['--input-type=module', '-e', script, entry], { encoding: 'utf8' }),
  ) as string[]
  expect(loaded).toEqual([entry, entry.replace('inputs.ts', 'config-text.ts')])
})
