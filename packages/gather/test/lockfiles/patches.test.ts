import { createHash } from 'node:crypto'

import { describe, expect, test } from 'vitest'

import { edges, type Files, failure, gathered, hash, pin, requirement } from '../support/repository.ts'

const PATCH = 'diff --git a/x b/x\n'
const sha256 = (text: string): string => createHash('sha256').update(text).digest('hex')
const HASH = sha256(PATCH)
const PATCHED = `a@1.0.0(patch=${HASH.slice(0, 12)})`

/** A workspace whose root requires `a`, which is patched, and `b`, which requires it as well. */
function workspace(changes: Files = {}, { key = 'a@1.0.0', entry = HASH, suffix = HASH } = {}): Files {
  return {
    'package.json': { dependencies: { a: '^1.0.0', b: '^1.0.0' } },
    'pnpm-workspace.yaml': `packages: []\npatchedDependencies:\n  ${key}: patches/a.patch\n`,
    'patches/a.patch': PATCH,
    'pnpm-lock.yaml': `lockfileVersion: '9.0'

patchedDependencies:
  ${key}: ${entry}

importers:
  .:
    dependencies:
      a: { specifier: ^1.0.0, version: 1.0.0(patch_hash=${suffix}) }
      b: { specifier: ^1.0.0, version: '1.0.0(a@1.0.0(patch_hash=${suffix}))' }

packages:
  a@1.0.0:
    resolution: { integrity: ${hash('a')} }
  b@1.0.0:
    resolution: { integrity: ${hash('b')} }
    peerDependencies: { a: ^1.0.0 }

snapshots:
  a@1.0.0(patch_hash=${suffix}): {}
  b@1.0.0(a@1.0.0(patch_hash=${suffix})):
    dependencies:
      a: 1.0.0(patch_hash=${suffix})
`,
    ...changes,
  }
}

describe('patched dependencies of pnpm', () => {
  test('are candidates of their own, with the file and its hash, and the file is an input', async () => {
    const result = await gathered(workspace())
    expect(requirement(result, '.', 'a').locked).toEqual({ package: PATCHED })
    expect(edges(result, 'b@1.0.0')).toEqual({ a: [PATCHED] })
    expect(pin(result, PATCHED)).toMatchObject({
      name: 'a',
      reference: '1.0.0',
      integrity: hash('a'),
      source: { kind: 'registry' },
      patch: { path: 'patches/a.patch', hash: HASH },
    })
    expect([...result.pins.keys()]).toEqual([PATCHED, 'b@1.0.0'])
    expect(result.inputs).toContainEqual({ path: 'patches/a.patch', digest: `sha256-${HASH}` })
    expect(result.warnings).toEqual([])
  })

  test.each(['a', 'a@^1.0.0', 'a@1.0.0 || 2', 'a@*'])('are found by the key %j as well', async (key) => {
    const result = await gathered(workspace({}, { key: `'${key}'` }))
    expect(pin(result, PATCHED).patch).toEqual({ path: 'patches/a.patch', hash: HASH })
  })

  test('are read as pnpm 9 and 10 wrote them, with settings in package.json', async () => {
    const result = await gathered({
      ...workspace(
        {},
        { entry: `{ hash: abcdefghijklmnopqrstuvwxyz, path: patches/a.patch }`, suffix: 'abcdefghijklmnopqrstuvwxyz' },
      ),
      'pnpm-workspace.yaml': 'packages: []\n',
      'package.json': {
        dependencies: { a: '^1.0.0', b: '^1.0.0' },
        pnpm: { patchedDependencies: { 'a@1.0.0': 'patches/a.patch' } },
      },
    })
    expect(pin(result, PATCHED).patch).toEqual({ path: 'patches/a.patch', hash: HASH })
  })

  test('with other line ends are the same to pnpm, and other bytes to polder', async () => {
    const crlf = PATCH.replaceAll('\n', '\r\n')
    const result = await gathered(workspace({ 'patches/a.patch': crlf }))
    expect([...result.pins.values()].find(({ name }) => name === 'a')?.patch?.hash).toBe(sha256(crlf))
  })

  test('that are not there are locked by the hash of the lockfile, with a warning', async () => {
    const { 'patches/a.patch': _, ...files } = workspace()
    const result = await gathered(files)
    expect(pin(result, PATCHED).patch).toEqual({ path: 'patches/a.patch', hash: HASH })
    expect(result.warnings).toEqual([
      'patches/a.patch, the patch of a@1.0.0, does not exist: pnpm-lock.yaml has its hash, so it can be locked, but not installed',
    ])
    expect(result.inputs.map(({ path }) => path)).not.toContain('patches/a.patch')
  })

  test('that are not there and have an old hash are an error', async () => {
    const { 'patches/a.patch': _, ...files } = workspace({}, { entry: 'abc', suffix: 'abc' })
    expect(await failure(files)).toMatchObject({
      code: 'PATCH_FAILED',
      message: 'the patch patches/a.patch of a@1.0.0 does not exist, but pnpm-lock.yaml has it',
      details: { path: 'patches/a.patch', spec: 'a@1.0.0' },
    })
  })

  test.each<[string, Files, string]>([
    [
      'changed',
      { 'patches/a.patch': 'other' },
      'patches/a.patch, the patch of a@1.0.0, is not the one that pnpm-lock.yaml locked',
    ],
    [
      'is named no more',
      { 'pnpm-workspace.yaml': 'packages: []\n' },
      'pnpm-lock.yaml has a patch of a@1.0.0, which no settings name',
    ],
    [
      'is new',
      { 'pnpm-workspace.yaml': 'packages: []\npatchedDependencies:\n  a@1.0.0: patches/a.patch\n  b@1.0.0: b.patch\n' },
      'the settings of pnpm patch b@1.0.0, which pnpm-lock.yaml does not',
    ],
  ])('make the lockfile stale where one %s', async (_, changes, message) => {
    expect(await failure(workspace(changes))).toMatchObject({
      code: 'LOCKFILE_STALE',
      message,
      details: { hint: 'run `pnpm install --lockfile-only` in the root of the repository' },
    })
  })

  test('may not lie outside of the repository', async () => {
    const files = workspace({ 'pnpm-workspace.yaml': 'packages: []\npatchedDependencies:\n  a@1.0.0: ../a.patch\n' })
    expect(await failure(files)).toMatchObject({ code: 'SOURCE_UNSUPPORTED' })
  })

  test('beside the same version unpatched in another lockfile are two candidates of one artifact', async () => {
    const npm = (integrity: string): Files => ({
      'tools/package.json': { name: 'tools', dependencies: { a: '^1.0.0' } },
      'tools/package-lock.json': {
        lockfileVersion: 3,
        packages: {
          '': { name: 'tools', dependencies: { a: '^1.0.0' } },
          'node_modules/a': { version: '1.0.0', integrity },
        },
      },
    })
    const result = await gathered({ ...workspace(), ...npm(hash('a')) })
    expect([...result.pins.keys()]).toEqual(['a@1.0.0', PATCHED, 'b@1.0.0'])
    expect(requirement(result, 'tools', 'a').locked).toEqual({ package: 'a@1.0.0' })
    expect(await failure({ ...workspace(), ...npm(hash('z')) })).toMatchObject({ code: 'PIN_CONFLICT' })
  })
})

describe('the patch: protocol of yarn', () => {
  const project = (reference: string, bound = reference): Files => ({
    'package.json': { name: 'root', dependencies: { a: `patch:${reference}` } },
    'yarn.lock': `__metadata:\n  version: 8\n\n"a@npm:1.0.0":\n  version: 1.0.0\n  resolution: "a@npm:1.0.0"\n  languageName: node\n  linkType: hard\n
"a@patch:${reference}":\n  version: 1.0.0\n  resolution: "a@patch:${bound}::version=1.0.0&hash=abc123"\n  languageName: node\n  linkType: hard\n
"root@workspace:.":\n  version: 0.0.0-use.local\n  resolution: "root@workspace:."\n  dependencies:\n    a: "patch:${reference}"\n  languageName: unknown\n  linkType: soft\n`,
    '.yarn/patches/a.patch': PATCH,
  })

  test.each([
    'a@npm%3A1.0.0#~/.yarn/patches/a.patch',
    'a@npm%3A1.0.0#.yarn/patches/a.patch',
    'a@npm%3A1.0.0#optional!~/.yarn/patches/a.patch',
    'a@npm%3A1.0.0#~/.yarn/patches/a.patch&builtin<compat/a>',
  ])('%s', async (reference) => {
    const result = await gathered(project(reference))
    expect(requirement(result, '.', 'a')).toMatchObject({ range: '1.0.0', locked: { package: PATCHED } })
    expect(pin(result, PATCHED)).toMatchObject({
      hashFromRegistry: true,
      patch: { path: '.yarn/patches/a.patch', hash: HASH },
    })
    expect(result.inputs.map(({ path }) => path)).toContain('.yarn/patches/a.patch')
  })

  test('whose file is missing is an error', async () => {
    const { '.yarn/patches/a.patch': _, ...files } = project('a@npm%3A1.0.0#~/.yarn/patches/a.patch')
    expect(await failure(files)).toMatchObject({
      code: 'PATCH_FAILED',
      message: 'the patch .yarn/patches/a.patch of a@1.0.0 does not exist, but yarn.lock has it',
    })
  })

  test('with several files is refused', async () => {
    expect(await failure(project('a@npm%3A1.0.0#~/.yarn/patches/a.patch&~/b.patch'))).toMatchObject({
      code: 'SOURCE_UNSUPPORTED',
      message: 'a in yarn.lock has several patches, and polder applies one',
    })
  })
})

test('patched dependencies of bun', async () => {
  const result = await gathered({
    'package.json': {
      name: 'root',
      dependencies: { a: '1.0.0' },
      patchedDependencies: { 'a@1.0.0': 'patches/a.patch' },
    },
    'bun.lock': `{ "lockfileVersion": 1, "workspaces": { "": { "name": "root", "dependencies": { "a": "1.0.0" } } },
      "patchedDependencies": { "a@1.0.0": "patches/a.patch" },
      "packages": { "a": ["a@1.0.0", "", {}, "${hash('a')}"] } }`,
    'patches/a.patch': PATCH,
  })
  expect(pin(result, PATCHED)).toMatchObject({ reference: '1.0.0', patch: { path: 'patches/a.patch', hash: HASH } })
})
