import { parsePlatform, type Manifest, type PackageId, packageId, type Platform } from '@polder/spec'
import { manifestFromJson } from '@polder/spec/manifest'
import { afterAll, beforeAll, expect, test } from 'vitest'

import { type Registry, startRegistry } from '../../../test/support/registry.ts'
import { rangesOf, resolveRanges } from '../src/pins/resolve-ranges.ts'
import { openPublishedVersions, type PublishedVersions } from '../src/upstream/published-versions.ts'
import { npmConfig } from './npm-config.ts'

const LIB = packageId('lib', '1.0.0')
const LINUX = parsePlatform('linux-x64-glibc') as Platform

// What registries say of packages is given here as they say it; what is in their artifacts follows.
const DEPENDENCIES: Readonly<Record<string, object>> = {
  'alpha@1.1.0': {
    dependencies: { beta: '^1.0.0' },
    optionalDependencies: { 'gamma-linux': '*', 'gamma-darwin': '*' },
  },
  'delta@1.0.0': {
    peerDependencies: { beta: '1', epsilon: '*' },
    peerDependenciesMeta: { epsilon: { optional: true } },
  },
}

let registry: Registry
let published: PublishedVersions

beforeAll(async () => {
  registry = await startRegistry()
  for (const version of ['1.0.0', '1.1.0']) registry.serve('alpha', version)
  for (const version of ['1.0.0', '1.2.0', '2.0.0']) registry.serve('beta', version)
  registry.serve('beta', '1.9.0', { document: { deprecated: 'broken' } })
  registry.serve('gamma-linux', '1.0.0', { os: ['linux'] })
  registry.serve('gamma-darwin', '1.0.0', { os: ['darwin'] })
  registry.serve('delta', '1.0.0')
  published = await openPublishedVersions(npmConfig(registry.url))
})
afterAll(async () => {
  await published.close()
  await registry.close()
})

function manifest(fields: object): Manifest {
  return manifestFromJson(fields, 'package.json')
}

async function resolved(
  fields: object,
  known: readonly (readonly string[])[] = [],
  from: PublishedVersions | null = published,
): Promise<{ readonly ids: readonly string[]; readonly failures: readonly string[] }> {
  return resolveRanges(rangesOf(manifest(fields), LIB, true), {
    known: known as readonly (readonly PackageId[])[],
    published: from ?? undefined,
    platforms: [LINUX],
    bring: (ids) => Promise.resolve(new Map(ids.map((id) => [id, { manifest: manifest(DEPENDENCIES[id] ?? {}) }]))),
  })
}

test('each range gets the newest version in it, and so does what that needs, on the locked platforms', async () => {
  expect(await resolved({ devDependencies: { alpha: '^1.0.0' } })).toEqual({
    ids: ['alpha@1.1.0', 'beta@1.2.0', 'gamma-linux@1.0.0'],
    failures: [],
  })
})

test('the tag latest goes before what is higher, and what is deprecated comes last', async () => {
  expect((await resolved({ dependencies: { beta: '>=1.0.0' } })).ids).toEqual(['beta@2.0.0'])
  expect((await resolved({ dependencies: { beta: 'latest' } })).ids).toEqual(['beta@2.0.0'])
  expect((await resolved({ dependencies: { beta: '^1.0.0' } })).ids).toEqual(['beta@1.2.0'])
  expect((await resolved({ dependencies: { beta: '~1.9.0' } })).ids).toEqual(['beta@1.9.0'])
})

test('what is pinned already is taken before what a registry has, and one version serves all that it can', async () => {
  expect((await resolved({ dependencies: { alpha: '1', delta: '1' } }, [[], ['beta@1.0.0']])).ids).toEqual([
    'alpha@1.1.0',
    'beta@1.0.0',
    'delta@1.0.0',
    'gamma-linux@1.0.0',
  ])
})

test('an alias is looked for by its real name; files, commits and URLs are left out', async () => {
  const fields = { devDependencies: { one: 'npm:beta@^1.0.0', two: 'file:../two', three: 'github:acme/three' } }
  expect((await resolved(fields)).ids).toEqual(['beta@1.2.0'])
})

test('what nobody has is said with who needs it, and nobody is asked offline', async () => {
  const fields = { devDependencies: { beta: '^9.0.0' }, optionalDependencies: { none: '*' } }
  expect((await resolved(fields)).failures).toEqual([
    'beta@^9.0.0, needed by lib@1.0.0: no version of beta is in ^9.0.0',
  ])
  const requests = registry.requests.length
  expect(await resolved({ dependencies: { beta: '1' } }, [], null)).toEqual({
    ids: [],
    failures: ['beta@1, needed by lib@1.0.0: no pinned version of beta is in 1'],
  })
  expect(registry.requests).toHaveLength(requests)
})
