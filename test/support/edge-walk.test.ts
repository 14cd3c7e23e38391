import { mkdirSync, realpathSync, symlinkSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'

import { expect, test } from 'vitest'

import { temporaryDirectory } from './cli.ts'
import { describeViolation, walkEdges } from './edge-walk.ts'
import { readOriginalLocks } from './original-locks.ts'

/** A checkout of one service, its `node_modules`, and the store that these link into. */
function checkout(
  manifest: object,
  locked: Readonly<Record<string, object>>,
  files: Readonly<Record<string, object>>,
): { root: string; store: string } {
  const base = realpathSync(temporaryDirectory('walk'))
  const write = (path: string, json: object): void => {
    mkdirSync(dirname(join(base, path)), { recursive: true })
    writeFileSync(join(base, path), JSON.stringify(json))
  }
  write('repo/app/package.json', manifest)
  write('repo/app/package-lock.json', { lockfileVersion: 3, packages: { '': manifest, ...locked } })
  for (const [path, json] of Object.entries(files)) write(`${path}/package.json`, json)
  return { root: join(base, 'repo'), store: join(base, 'store') }
}

function walk({ root, store }: { root: string; store: string }): {
  violations: string[]
  baseline: string[]
  packages: number
  edges: number
} {
  const walked = walkEdges({
    root,
    inside: [root, store],
    original: readOriginalLocks(root, ['app/package-lock.json']),
  })
  return {
    ...walked,
    violations: walked.violations.map(describeViolation),
    baseline: walked.baseline.map(describeViolation),
  }
}

test('an edge is looked up from the real path of its owner, as Node does', () => {
  const manifest = { name: 'app', version: '1.0.0', dependencies: { a: '^1.0.0' } }
  const locked = {
    'node_modules/a': { version: '1.0.0', dependencies: { b: '^1.0.0' } },
    'node_modules/b': { version: '1.0.0' },
  }
  const tree = checkout(manifest, locked, {
    'store/node_modules/a': { name: 'a', version: '1.0.0', dependencies: { b: '^1.0.0' } },
    'store/node_modules/b': { name: 'b', version: '2.0.0' },
    // Beside the link to a, where nobody looks.
    'repo/node_modules/b': { name: 'b', version: '1.0.0' },
  })
  symlinkSync(join(tree.store, 'node_modules', 'a'), join(tree.root, 'node_modules', 'a'))
  expect(walk(tree)).toMatchObject({
    violations: ['a@1.0.0: dependency b ^1.0.0, found 2.0.0'],
    baseline: [],
    packages: 3,
    edges: 2,
  })
})

test('what is missing, wrong, another package, or outside is a violation of every kind of edge', () => {
  const manifest = {
    name: 'app',
    version: '1.0.0',
    dependencies: { wrong: '^1.0.0', missing: '*', alias: 'npm:real@^1.0.0', far: '1.x' },
    devDependencies: { tool: '^3.0.0' },
    optionalDependencies: { 'for-here': '1.0.0', 'for-elsewhere': '1.0.0' },
  }
  const peers = { react: '^19.0.0', buffer: '^6.0.0', 'maybe-wrong': '^2.0.0', 'maybe-missing': '^2.0.0' }
  const tool = {
    name: 'tool',
    version: '3.0.0',
    peerDependencies: peers,
    peerDependenciesMeta: { 'maybe-wrong': { optional: true }, 'maybe-missing': { optional: true } },
  }
  const ok = ['wrong', 'missing', 'far', 'for-here', 'real'].map((name) => [
    `node_modules/${name}`,
    { version: '1.0.0' },
  ])
  const locked = {
    ...Object.fromEntries(ok),
    'node_modules/alias': { name: 'real', version: '1.0.0' },
    'node_modules/tool': tool,
    'node_modules/react': { version: '19.0.0' },
    'node_modules/buffer': { version: '6.0.3' },
    'node_modules/for-elsewhere': { version: '1.0.0', os: [`!${process.platform}`] },
  }
  const tree = checkout(manifest, locked, {
    'repo/node_modules/wrong': { name: 'wrong', version: '2.0.0' },
    'repo/app/node_modules/alias': { name: 'alias', version: '1.0.0' },
    'node_modules/far': { name: 'far', version: '1.0.0' },
    'repo/node_modules/tool': tool,
    'repo/node_modules/maybe-wrong': { name: 'maybe-wrong', version: '1.0.0' },
  })
  const { violations, baseline } = walk(tree)
  expect(violations).toEqual([
    'app: dependency alias npm:real@^1.0.0, found 1.0.0',
    expect.stringMatching(/^app: dependency far 1\.x, found .*\/node_modules\/far$/),
    'app: dependency missing *, found nothing',
    'app: dependency wrong ^1.0.0, found 2.0.0',
    'app: optional for-here 1.0.0, found nothing',
    'tool@3.0.0: optional peer maybe-wrong ^2.0.0, found 1.0.0',
    'tool@3.0.0: peer buffer ^6.0.0, found nothing',
    'tool@3.0.0: peer react ^19.0.0, found nothing',
  ])
  expect(baseline).toEqual([])
})

test('what a lockfile has violated already is the baseline, and nothing new', () => {
  const manifest = { name: 'app', version: '1.0.0', dependencies: { a: '^1.0.0' } }
  const a = { name: 'a', version: '1.0.0', dependencies: { b: '^1.0.0' }, peerDependencies: { c: '*' } }
  const tree = checkout(
    manifest,
    { 'node_modules/a': a, 'node_modules/b': { version: '3.0.0' } },
    {
      'repo/node_modules/a': a,
      'repo/node_modules/b': { name: 'b', version: '3.0.0' },
    },
  )
  expect(walk(tree)).toMatchObject({
    violations: [],
    baseline: ['a@1.0.0: dependency b ^1.0.0, found 3.0.0', 'a@1.0.0: peer c *, found nothing'],
  })
})
