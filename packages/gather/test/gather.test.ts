import { rmSync, symlinkSync, truncateSync } from 'node:fs'
import { join } from 'node:path'

import fc from 'fast-check'
import { describe, expect, test } from 'vitest'

import type { Gathered } from '../src/gathered.ts'
import { gather, parseConfig } from '../src/index.ts'
import { digestInput } from '../src/inputs.ts'
import { edges, failure, type Files, gathered, hash, pin, repository, write, refusal } from './support/repository.ts'

type Entry = {
  version: string
  integrity?: string
  dependencies?: Record<string, string>
  os?: readonly string[]
  deprecated?: string
}

/** A project of npm that requires and has these packages. */
function npm(directory: string, packages: Readonly<Record<string, Entry>>): Files {
  const root = { name: directory, dependencies: Object.fromEntries(Object.keys(packages).map((name) => [name, '*'])) }
  const places = Object.fromEntries(
    Object.entries(packages).map(([name, entry]) => [`node_modules/${name}`, { integrity: hash(), ...entry }]),
  )
  return {
    [`${directory}/package.json`]: root,
    [`${directory}/package-lock.json`]: { lockfileVersion: 3, packages: { '': root, ...places } },
  }
}

describe('pins of several lockfiles', () => {
  test('are one, with the lockfiles, edges and facts of all', async () => {
    const result = await gathered({
      ...npm('b', { a: { version: '1.0.0', dependencies: { c: '*' }, deprecated: 'old' }, c: { version: '2.0.0' } }),
      ...npm('a', { a: { version: '1.0.0', dependencies: { c: '*' }, os: ['linux'] }, c: { version: '1.0.0' } }),
    })
    expect(pin(result, 'a@1.0.0')).toMatchObject({
      lockfiles: ['a/package-lock.json', 'b/package-lock.json'],
      os: ['linux'],
      deprecated: 'old',
    })
    expect(edges(result, 'a@1.0.0')).toEqual({ c: ['c@1.0.0', 'c@2.0.0'] })
  })

  test('keep the strongest hash', async () => {
    const sha1 = `sha1-${'b'.repeat(27)}=`
    for (const [first, second] of [
      [sha1, hash()],
      [hash(), sha1],
    ] as const) {
      const result = await gathered({
        ...npm('a', { a: { version: '1.0.0', integrity: first } }),
        ...npm('b', { a: { version: '1.0.0', integrity: second } }),
      })
      expect(pin(result, 'a@1.0.0').integrity).toBe(hash())
    }
  })

  test('with different hashes are a conflict that names both lockfiles', async () => {
    const error = await failure({
      ...npm('a', { a: { version: '1.0.0', integrity: hash('a') } }),
      ...npm('b', { a: { version: '1.0.0', integrity: hash('b') } }),
    })
    expect(error.code).toBe('PIN_CONFLICT')
    expect(error.message).toBe('a@1.0.0 has two different hashes, in a/package-lock.json and b/package-lock.json')
    expect(error.details).toMatchObject({ wanted: hash('a'), found: hash('b') })
  })
})

describe('lockfiles of every client in one repository', () => {
  const manifest = { name: 'x', dependencies: { a: '^1.0.0' } }
  const pnpm = (importer: string): string =>
    `lockfileVersion: '9.0'\nimporters:\n  ${importer}:\n    dependencies:\n      a:\n        specifier: ^1.0.0\n        version: 1.0.0\npackages:\n  a@1.0.0:\n    resolution: {integrity: ${hash()}}\nsnapshots:\n  a@1.0.0: {}\n`
  const files: Files = {
    'npm-1/package.json': manifest,
    'npm-1/package-lock.json': {
      lockfileVersion: 1,
      requires: true,
      dependencies: { a: { version: '1.0.0', integrity: hash() } },
    },
    'npm-3/package.json': manifest,
    'npm-3/package-lock.json': {
      lockfileVersion: 3,
      packages: { '': manifest, 'node_modules/a': { version: '1.0.0', integrity: hash() } },
    },
    'yarn-1/package.json': manifest,
    'yarn-1/yarn.lock': `# yarn lockfile v1\n\na@^1.0.0:\n  version "1.0.0"\n  integrity ${hash()}\n`,
    'yarn-4/package.json': manifest,
    'yarn-4/yarn.lock':
      '__metadata:\n  version: 8\n\n"a@npm:^1.0.0":\n  version: 1.0.0\n  resolution: "a@npm:1.0.0"\n\n"x@workspace:.":\n  version: 0.0.0-use.local\n  resolution: "x@workspace:."\n  dependencies:\n    a: "npm:^1.0.0"\n',
    'bun/package.json': manifest,
    'bun/bun.lock': {
      lockfileVersion: 1,
      workspaces: { '': manifest },
      packages: { a: ['a@1.0.0', '', {}, hash()] },
    },
    'pnpm/package.json': manifest,
    'pnpm/pnpm-lock.yaml': pnpm('.'),
    'rush/rush.json': '{ "projects": [{ "projectFolder": "project" }] }',
    'rush/common/config/rush/pnpm-lock.yaml': pnpm('../../project'),
    'rush/project/package.json': manifest,
  }

  test('agree on a pin, with whatever hash one of them has', async () => {
    const result = await gathered(files)
    expect(result.services.map(({ path }) => path)).toEqual([
      'bun',
      'npm-1',
      'npm-3',
      'pnpm',
      'rush/project',
      'yarn-1',
      'yarn-4',
    ])
    for (const { requirements } of result.services) {
      expect(requirements).toEqual([
        { name: 'a', kind: 'prod', specifier: '^1.0.0', range: '^1.0.0', locked: { package: 'a@1.0.0' } },
      ])
    }
    expect(pin(result, 'a@1.0.0')).toEqual({
      id: 'a@1.0.0',
      name: 'a',
      reference: '1.0.0',
      integrity: hash(),
      source: { kind: 'registry' },
      edges: [],
      lockfiles: [
        'bun/bun.lock',
        'npm-1/package-lock.json',
        'npm-3/package-lock.json',
        'pnpm/pnpm-lock.yaml',
        'rush/common/config/rush/pnpm-lock.yaml',
        'yarn-1/yarn.lock',
        'yarn-4/yarn.lock',
      ],
      optional: false,
    })
    expect(result.warnings).toEqual([])
  })

  test('are read in any order of services', async () => {
    const [forth, back] = [Object.entries(files), Object.entries(files).reverse()].map((list) =>
      Object.fromEntries(list),
    )
    const listed = 'services: [yarn-4, rush/project, bun, npm-1]'
    const [one, other] = [await gathered(forth ?? {}, listed), await gathered(back ?? {}, listed)]
    expect({ ...one, root: '' }).toEqual({ ...other, root: '' })
    expect(one.services.map(({ path }) => path)).toEqual(['bun', 'npm-1', 'rush/project', 'yarn-4'])
  })
})

describe('all failures of a kind', () => {
  test('stale dependencies of every service are in one error', async () => {
    const files = { ...npm('a', { x: { version: '1.0.0' } }), ...npm('b', { x: { version: '1.0.0' } }) }
    const error = await failure({ ...files, 'a/package.json': { dependencies: { x: '^9' } }, 'b/package.json': {} })
    expect([error, ...(error.details.others ?? [])].map(({ message, details }) => [message, details.hint])).toEqual([
      [
        'a/package.json requires "x" as "^9", but a/package-lock.json locked it as "*"',
        'run `npm install --package-lock-only` in a',
      ],
      [
        'b/package-lock.json locks "x" as "*", which b/package.json does not require',
        'run `npm install --package-lock-only` in b',
      ],
    ])
  })

  test('pins without a hash are in one error', async () => {
    const error = await failure(
      npm('a', {
        x: { version: '1.0.0', integrity: '' },
        y: { version: '1.0.0', integrity: '' },
        z: { version: '1.0.0' },
      }),
    )
    expect(error.code).toBe('INTEGRITY_MISSING')
    expect([error, ...(error.details.others ?? [])].map(({ details }) => details.spec)).toEqual(['x@1.0.0', 'y@1.0.0'])
  })

  test('a manifest that is no JSON is named', async () => {
    const error = await failure({ ...npm('a', {}), 'a/package.json': '{' })
    expect(error.code).toBe('MANIFEST_INVALID')
    expect(error.message).toMatch(/^a\/package\.json is not JSON: /)
  })

  test('a lockfile that cannot be read is named', async () => {
    const root = repository({ 'a/package.json': {}, 'target/file': '' })
    symlinkSync(join(root, 'target'), join(root, 'a/yarn.lock'))
    const error = await refusal(() => gather(root, parseConfig('services: [a]')))
    expect(error.code).toBe('LOCKFILE_INVALID')
    expect(error.message).toMatch(/^a\/yarn\.lock cannot be read: EISDIR/)
  })

  test('a lockfile of more than 200 MB is refused before it is read', async () => {
    const root = repository(npm('a', {}))
    truncateSync(join(root, 'a/package-lock.json'), 200_000_001)
    const error = await refusal(() => gather(root, parseConfig('')))
    expect(error.code).toBe('LOCKFILE_INVALID')
    expect(error.message).toBe('a/package-lock.json has 201 MB; polder reads up to 200 MB')
  })

  test('a hash that is none is named', async () => {
    const error = await failure(npm('a', { x: { version: '1.0.0', integrity: 'sha512-short' } }))
    expect(error.message).toBe('a/package-lock.json: the integrity "sha512-short" of x@1.0.0 is no hash')
  })
})

test('the digests of inputs are what digestInput says later', async () => {
  const root = repository({ ...npm('a', { x: { version: '1.0.0' } }), 'polder.yaml': 'layout: linked\n' })
  const { inputs } = await gather(root, parseConfig(''))
  expect(inputs.map(({ path }) => path)).toEqual(['a/package-lock.json', 'a/package.json', 'polder.yaml'])
  for (const { path, digest } of inputs) expect(digestInput(root, path)).toBe(digest)
})

test('the order in which services and files come about never changes the result', async () => {
  const projects = fc.uniqueArray(
    fc.record({
      directory: fc.constantFrom('a', 'b', 'c/d', 'c/e', 'z'),
      packages: fc.dictionary(
        fc.constantFrom('p', 'q', 'r', '@s/t'),
        fc.record({
          version: fc.constantFrom('1.0.0', '1.1.0', '2.0.0'),
          dependencies: fc.dictionary(fc.constantFrom('p', 'q', 'r'), fc.constantFrom('*', '^1.0.0')),
          os: fc.constantFrom(['linux'], ['darwin'], ['linux', 'darwin']),
        }),
      ),
    }),
    { selector: ({ directory }) => directory, minLength: 1 },
  )
  await fc.assert(
    fc.asyncProperty(projects, fc.infiniteStream(fc.nat()), async (list, random) => {
      const files = Object.assign({}, ...list.map(({ directory, packages }) => npm(directory, packages))) as Files
      const shuffled = Object.entries(files)
        .map((file) => ({ file, rank: random.next().value as number }))
        .sort((one, other) => one.rank - other.rank)
        .map(({ file: [path, content] }): [string, unknown] => [
          path,
          path.endsWith('package-lock.json') ? reversed(content) : content,
        ])
      expect(await plain(Object.fromEntries(shuffled))).toEqual(await plain(files))
    }),
    { numRuns: 60 },
  )
})

/** The same lockfile with its places in the opposite order. */
function reversed(content: unknown): unknown {
  const { packages, ...rest } = content as { packages: Record<string, unknown> }
  return { packages: Object.fromEntries(Object.entries(packages).reverse()), ...rest }
}

/** As text, in order, without the place on disk. */
async function plain(files: Files): Promise<string> {
  const root = repository({})
  write(root, files)
  try {
    const { services, pins, inputs, warnings }: Gathered = await gather(root, parseConfig(''))
    return JSON.stringify(
      { services, pins: [...pins], inputs: inputs.filter(({ path }) => !path.endsWith('package-lock.json')), warnings },
      null,
      1,
    )
  } finally {
    rmSync(join(root), { recursive: true, force: true })
  }
}

describe('engines', () => {
  const engines = async (files: Files, config = ''): Promise<unknown> =>
    (await gathered({ ...npm('web', { a: { version: '1.0.0' } }), ...files }, config)).config.policy.engines

  test('are what the configuration says, or else what the files of the clients say', async () => {
    expect(await engines({})).toBe('warn')
    expect(await engines({ '.npmrc': 'registry=http://127.0.0.1/\nengine-strict = true\n' })).toBe('strict')
    expect(await engines({ 'web/.npmrc': 'engine-strict=true' })).toBe('strict')
    expect(await engines({ 'web/pnpm-workspace.yaml': 'packages: []\nengineStrict: true\n' })).toBe('strict')
    expect(await engines({ 'other/.npmrc': 'engine-strict=true', '.npmrc': '; engine-strict=true\n' })).toBe('warn')
    expect(await engines({ 'web/.npmrc': 'engine-strict=true' }, 'policy:\n  engines: warn\n')).toBe('warn')
    expect(await engines({}, 'policy:\n  engines: strict\n')).toBe('strict')
  })
})
