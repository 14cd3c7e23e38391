import type { Gathered, Pin } from '@polder/gather'
import type { PackageId } from '@polder/spec'
import { describe, expect, test } from 'vitest'

import { flatten } from '../src/flatten.ts'
import { extendedManifest, withLockedPeers } from '../src/locked-peers.ts'
import { monorepo, type Monorepo, type PackageSpec, type ServiceSpec } from './support/monorepo.ts'

/** As yarn locks it: without what peers resolve to. */
function yarnMonorepo(
  services: Readonly<Record<string, ServiceSpec>>,
  packages: Readonly<Record<string, PackageSpec>>,
  extensions: Readonly<Record<string, Pin['extension']>> = {},
): Monorepo {
  const { gathered, manifests } = monorepo(services, packages)
  const pins = new Map<PackageId, Pin>()
  for (const [id, pin] of gathered.pins) {
    const peers = manifests.get(id)?.manifest.peerDependencies ?? {}
    const extension = extensions[id]
    pins.set(id, {
      ...pin,
      lockfiles: ['web/yarn.lock'],
      edges: pin.edges.filter(({ name }) => !Object.hasOwn(peers, name)),
      ...(extension === undefined ? {} : { extension }),
    })
  }
  return { gathered: { ...gathered, pins }, manifests }
}

function edgesOf({ pins }: Gathered, id: string): Record<string, string[]> {
  return Object.fromEntries(
    (pins.get(id as PackageId)?.edges ?? []).map(({ name, targets }) => [
      name,
      targets.map((target) => ('package' in target ? target.package : `link:${target.workspace}`)),
    ]),
  )
}

describe('peers of a lockfile of yarn', () => {
  test('are what their users provide: by a dependency, by themselves, or by the same peer of theirs', () => {
    const { gathered, manifests } = yarnMonorepo(
      { web: { dependencies: { react: '^18.0.0', dialog: '^1.0.0', tool: '^1.0.0' } } },
      {
        'react@18.0.0': {},
        'dialog@1.0.0': { dependencies: { button: '^1.0.0' }, peerDependencies: { react: '>=17' } },
        'button@1.0.0': { peerDependencies: { react: '>=17', theme: '*' } },
        'tool@1.0.0': { dependencies: { plugin: '^1.0.0' } },
        'plugin@1.0.0': { peerDependencies: { tool: '^1.0.0' } },
      },
    )
    const result = withLockedPeers(gathered, manifests)
    expect(edgesOf(result, 'dialog@1.0.0')).toEqual({ button: ['button@1.0.0'], react: ['react@18.0.0'] })
    expect(edgesOf(result, 'button@1.0.0')).toEqual({ react: ['react@18.0.0'] })
    expect(edgesOf(result, 'plugin@1.0.0')).toEqual({ tool: ['tool@1.0.0'] })
  })

  test('are all that several users provide, and each instance sees its own', () => {
    const repository = yarnMonorepo(
      {
        old: { dependencies: { react: '^17.0.0', dialog: '^1.0.0' } },
        web: { dependencies: { react: '^18.0.0', dialog: '^1.0.0' } },
      },
      { 'react@17.0.0': {}, 'react@18.0.0': {}, 'dialog@1.0.0': { peerDependencies: { react: '>=17' } } },
    )
    const { lock } = flatten(repository.gathered, repository.manifests)
    const sees = (service: string): unknown =>
      lock.npm.instances[lock.npm.services[service]?.dependencies?.['dialog']?.use as never]?.links
    expect([sees('old'), sees('web')]).toEqual([{ react: 'react@17.0.0' }, { react: 'react@18.0.0' }])
  })

  test('that are out of range are the baseline: nothing is brought in for them, and nobody is warned of anything new', () => {
    const repository = yarnMonorepo(
      { web: { dependencies: { react: '^18.0.0', dialog: '^1.0.0' } }, old: { dependencies: { react: '^17.0.0' } } },
      { 'react@17.0.0': {}, 'react@18.0.0': {}, 'dialog@1.0.0': { peerDependencies: { react: '^17.0.0' } } },
    )
    const { lock } = flatten(repository.gathered, repository.manifests)
    expect(lock.npm.instances['dialog@1.0.0' as never]?.links).toEqual({ react: 'react@18.0.0' })
  })

  test('that nobody provides stay open', () => {
    const { gathered, manifests } = yarnMonorepo(
      { web: { dependencies: { dialog: '^1.0.0' } } },
      { 'react@18.0.0': {}, 'dialog@1.0.0': { peerDependencies: { react: '>=17' } } },
    )
    expect(edgesOf(withLockedPeers(gathered, manifests), 'dialog@1.0.0')).toEqual({})
  })

  test('may come from an extension, and so may dependencies, which then have their range', () => {
    const extension = { dependencies: { debug: '^4.0.0' }, peerDependencies: { react: '*' }, optionalPeers: [] }
    const repository = yarnMonorepo(
      { web: { dependencies: { react: '^18.0.0', forgetful: '^1.0.0', debug: '4.2.0' } } },
      {
        'react@18.0.0': {},
        'debug@4.1.0': {},
        'debug@4.2.0': {},
        'forgetful@1.0.0': {},
      },
      { 'forgetful@1.0.0': extension },
    )
    const id = 'forgetful@1.0.0' as PackageId
    const pin = repository.gathered.pins.get(id) as Pin
    const edges = [{ name: 'debug', targets: [{ package: 'debug@4.1.0' as PackageId }] }]
    const pins = new Map(repository.gathered.pins).set(id, { ...pin, edges })
    const { lock } = flatten({ ...repository.gathered, pins }, repository.manifests)
    expect(lock.npm.instances[id as never]?.links).toEqual({ debug: 'debug@4.2.0', react: 'react@18.0.0' })
    expect(Object.keys(lock.npm.packages)).toEqual(['debug@4.2.0', id, 'react@18.0.0'])
  })
})

test('an extension replaces nothing that the manifest has', () => {
  const { manifests } = monorepo(
    {},
    { 'a@1.0.0': { dependencies: { b: '^1.0.0' }, peerDependencies: { c: '^1.0.0' } } },
  )
  const manifest = manifests.get('a@1.0.0' as PackageId)?.manifest
  if (manifest === undefined) throw new Error('there is no manifest')
  const extended = extendedManifest(manifest, {
    dependencies: { b: '^2.0.0', c: '^2.0.0', d: '^2.0.0' },
    peerDependencies: { b: '*', e: '*' },
    optionalPeers: ['c'],
  })
  expect([extended.dependencies, extended.peerDependencies, extended.optionalPeers]).toEqual([
    { b: '^1.0.0', d: '^2.0.0' },
    { c: '^1.0.0', e: '*' },
    ['c'],
  ])
})
