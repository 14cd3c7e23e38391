import { describe, expect, test } from 'vitest'

import type { Lock } from '@polder/lock'

import { flatten } from '../src/flatten.ts'
import { monorepo, type PackageSpec, type ServiceSpec } from './support/monorepo.ts'

function lockOf(
  services: Readonly<Record<string, ServiceSpec>>,
  packages: Readonly<Record<string, PackageSpec>>,
): Lock['npm'] {
  const { gathered, manifests } = monorepo(services, packages)
  return flatten(gathered, manifests).lock.npm
}

function lockAndReport(
  services: Readonly<Record<string, ServiceSpec>>,
  packages: Readonly<Record<string, PackageSpec>>,
): ReturnType<typeof flatten> {
  const { gathered, manifests } = monorepo(services, packages)
  return flatten(gathered, manifests)
}

const links = (npm: Lock['npm'], id: string): unknown =>
  (npm.instances as Record<string, { links?: unknown }>)[id]?.links

describe('versions', () => {
  test('services whose locks drifted apart share the one version that satisfies all of them', () => {
    const npm = lockOf(
      {
        a: { dependencies: { semver: '^7.5.0' }, locked: { semver: '7.5.4' } },
        b: { dependencies: { semver: '^7.6.0' }, locked: { semver: '7.8.0' } },
      },
      { 'semver@7.5.4': {}, 'semver@7.8.0': {} },
    )
    expect(Object.keys(npm.packages)).toEqual(['semver@7.8.0'])
    expect(npm.services['a']?.dependencies?.['semver']).toEqual({
      specifier: '^7.5.0',
      use: 'semver@7.8.0',
      was: 'semver@7.5.4',
    })
    expect(npm.services['b']?.dependencies?.['semver']).toEqual({ specifier: '^7.6.0', use: 'semver@7.8.0' })
    expect(npm.splits).toEqual({})
  })

  test('the shared version may be an older one, where only that satisfies everyone', () => {
    const npm = lockOf(
      { a: { dependencies: { x: '1.0.0' } }, b: { dependencies: { x: '^1.0.0' } } },
      { 'x@1.0.0': {}, 'x@1.9.0': {} },
    )
    expect(npm.root).toEqual({ x: 'x@1.0.0' })
  })

  test('a name that truly needs two majors is split, with the demand behind each', () => {
    const npm = lockOf(
      {
        a: { dependencies: { chalk: '^4.0.0' } },
        b: { dependencies: { chalk: '^5.0.0' } },
        c: { dependencies: { chalk: '^5.2.0' } },
      },
      { 'chalk@4.1.2': {}, 'chalk@5.6.2': {} },
    )
    expect(npm.root).toEqual({ chalk: 'chalk@5.6.2' })
    expect(npm.services['a']?.dependencies?.['chalk']?.use).toBe('chalk@4.1.2')
    expect(npm.splits).toEqual({
      chalk: {
        proven: true,
        versions: {
          '4.1.2': { range: '^4.0.0', owner: 'a', owners: 1 },
          '5.6.2': { range: '^5.0.0', owner: 'b', owners: 2 },
        },
      },
    })
  })

  test('what the lockfile chose outside the declared range stays: an override is the baseline', () => {
    const npm = lockOf(
      { a: { dependencies: { server: '^1.0.0' } }, b: { dependencies: { qs: '6.5.0' } } },
      { 'server@1.0.0': { dependencies: { qs: '~6.5.0' }, locked: { qs: '6.14.0' } }, 'qs@6.5.0': {}, 'qs@6.14.0': {} },
    )
    expect(links(npm, 'server@1.0.0')).toEqual({ qs: 'qs@6.14.0' })
  })

  test('a dependency that the lockfile left out stays left out', () => {
    const npm = lockOf(
      { a: { dependencies: { watcher: '^1.0.0' } }, b: { dependencies: { native: '^1.0.0' } } },
      { 'watcher@1.0.0': { optionalDependencies: { native: '^1.0.0' }, locked: { native: null } }, 'native@1.0.0': {} },
    )
    expect(links(npm, 'watcher@1.0.0')).toEqual({})
  })

  test('an alias is a slot of its own beside the package under its own name', () => {
    const npm = lockOf(
      { a: { dependencies: { 'old-chalk': 'npm:chalk@^4.0.0', chalk: '^5.0.0' } } },
      { 'chalk@4.1.2': {}, 'chalk@5.6.2': {} },
    )
    expect(npm.root).toEqual({ chalk: 'chalk@5.6.2', 'old-chalk': 'old-chalk@npm:chalk@4.1.2' })
    expect(npm.splits).toEqual({})
  })
})

test('the service at the root of the repository gets what it asks for at the flat root, however many ask for another', () => {
  const npm = lockOf(
    {
      '.': { dependencies: { x: '^1.0.0' } },
      a: { dependencies: { x: '^2.0.0' } },
      b: { dependencies: { x: '^2.0.0' } },
    },
    { 'x@1.0.0': {}, 'x@2.0.0': {} },
  )
  expect(npm.root).toEqual({ x: 'x@1.0.0' })
})

describe('peers', () => {
  const packages: Record<string, PackageSpec> = {
    'react@17.0.2': {},
    'react@18.3.1': {},
    'dialog@1.0.0': { peerDependencies: { react: '>=17' } },
    'form@1.0.0': { dependencies: { dialog: '^1.0.0' }, peerDependencies: { react: '>=17' } },
    'plain@1.0.0': {},
  }

  test('a package whose peer is split has one instance for each context, and so have its dependents', () => {
    const npm = lockOf(
      {
        old: { dependencies: { react: '^17.0.0', form: '^1.0.0', plain: '^1.0.0' } },
        new: { dependencies: { react: '^18.0.0', form: '^1.0.0', plain: '^1.0.0' } },
      },
      packages,
    )
    expect(Object.keys(npm.instances)).toEqual([
      'dialog@1.0.0(react@17.0.2)',
      'dialog@1.0.0(react@18.3.1)',
      'form@1.0.0(react@17.0.2)',
      'form@1.0.0(react@18.3.1)',
      'plain@1.0.0',
      'react@17.0.2',
      'react@18.3.1',
    ])
    expect(links(npm, npm.services['old']?.dependencies?.['form']?.use ?? '')).toEqual({
      dialog: 'dialog@1.0.0(react@17.0.2)',
      react: 'react@17.0.2',
    })
    expect(links(npm, npm.services['new']?.dependencies?.['form']?.use ?? '')).toEqual({
      dialog: 'dialog@1.0.0(react@18.3.1)',
      react: 'react@18.3.1',
    })
  })

  test('a package between the service and the peer passes the context on although it has no such peer itself', () => {
    const npm = lockOf(
      {
        old: { dependencies: { react: '^17.0.0', page: '^1.0.0' } },
        new: { dependencies: { react: '^18.0.0', page: '^1.0.0' } },
      },
      { ...packages, 'page@1.0.0': { dependencies: { dialog: '^1.0.0' } } },
    )
    expect(links(npm, npm.services['old']?.dependencies?.['page']?.use ?? '')).toEqual({
      dialog: 'dialog@1.0.0(react@17.0.2)',
    })
    expect(links(npm, npm.services['new']?.dependencies?.['page']?.use ?? '')).toEqual({
      dialog: 'dialog@1.0.0(react@18.3.1)',
    })
  })

  test("a service that could use either version gets the one that its dependencies' peers ask for", () => {
    const npm = lockOf(
      {
        both: { dependencies: { react: '^17.0.0 || ^18.0.0', legacy: '^1.0.0' }, locked: { react: '17.0.2' } },
        new: { dependencies: { react: '^18.0.0' } },
        newer: { dependencies: { react: '^18.1.0' } },
      },
      { ...packages, 'legacy@1.0.0': { peerDependencies: { react: '^17.0.0' }, locked: { react: '17.0.2' } } },
    )
    expect(npm.root['react']).toBe('react@18.3.1')
    expect(npm.services['both']?.dependencies?.['react']?.use).toBe('react@17.0.2')
    expect(links(npm, 'legacy@1.0.0')).toEqual({ react: 'react@17.0.2' })
  })

  test('a package that has a workspace package as its peer has to stand inside the checkout, with all that use it', () => {
    const npm = lockOf(
      {
        'packages/tide': { name: 'tide', version: '3.5.0' },
        web: {
          dependencies: { tide: 'workspace:*', app: '^1.0.0', plain: '^1.0.0' },
          locked: { tide: 'link:packages/tide' },
        },
      },
      {
        'plugin@1.0.0': { peerDependencies: { tide: '^3.0.0' }, locked: { tide: 'link:packages/tide' } },
        'app@1.0.0': { dependencies: { plugin: '^1.0.0' } },
        'plain@1.0.0': {},
      },
    )
    expect(npm.root).toEqual({
      app: 'app@1.0.0',
      plain: 'plain@1.0.0',
      plugin: 'plugin@1.0.0',
      tide: 'link:packages/tide',
    })
    expect(links(npm, 'plugin@1.0.0')).toEqual({ tide: 'link:packages/tide' })
    const inCheckout = Object.entries(npm.instances as Record<string, { inCheckout?: true }>).filter(
      ([, { inCheckout: bound }]) => bound === true,
    )
    expect(inCheckout.map(([id]) => id)).toEqual(['app@1.0.0', 'plugin@1.0.0'])
  })

  test('an optional peer that the flat root would show at the wrong version sees the right one, if there is one', () => {
    const npm = lockOf(
      {
        a: { dependencies: { ws: '^8.0.0', buffer: '^5.0.0' } },
        b: { dependencies: { buffer: '^4.0.0' } },
        c: { dependencies: { buffer: '^5.0.0' } },
      },
      {
        'ws@8.0.0': { peerDependencies: { buffer: '^4.0.0' }, peerDependenciesMeta: { buffer: { optional: true } } },
        'buffer@4.0.0': {},
        'buffer@5.0.0': {},
      },
    )
    expect(npm.root['buffer']).toBe('buffer@5.0.0')
    expect(links(npm, 'ws@8.0.0')).toEqual({ buffer: 'buffer@4.0.0' })
  })

  test('an optional peer that some lockfile resolved keeps a version that fits, though others would do without it', () => {
    const npm = lockOf(
      {
        a: { dependencies: { chat: '^1.0.0', ai: '^6.0.0 || ^7.0.0' }, locked: { ai: '6.0.0' } },
        b: { dependencies: { ai: '^7.0.0' } },
      },
      {
        'chat@1.0.0': {
          peerDependencies: { ai: '^6.0.0' },
          peerDependenciesMeta: { ai: { optional: true } },
          locked: { ai: '6.0.0' },
        },
        'ai@6.0.0': {},
        'ai@7.0.0': {},
      },
    )
    expect(links(npm, 'chat@1.0.0')).toEqual({ ai: 'ai@6.0.0' })
    expect(Object.keys(npm.splits)).toEqual(['ai'])
  })

  test('a peer that nobody provides is reported and does not fail', () => {
    const { gathered, manifests } = monorepo(
      { a: { dependencies: { dialog: '^1.0.0' } } },
      { 'dialog@1.0.0': { peerDependencies: { react: '>=17' } } },
    )
    const { lock, report } = flatten(gathered, manifests)
    expect(Object.keys(lock.npm.instances)).toEqual(['dialog@1.0.0'])
    expect(report.unmetPeers).toEqual([])
  })

  test("packages that are each other's peers end in one instance each", () => {
    const npm = lockOf(
      {
        a: { dependencies: { left: '^1.0.0', right: '^1.0.0' } },
        b: { dependencies: { left: '^2.0.0', right: '^1.0.0' } },
      },
      {
        'left@1.0.0': { peerDependencies: { right: '*' } },
        'left@2.0.0': { peerDependencies: { right: '*' } },
        'right@1.0.0': { peerDependencies: { left: '*' } },
      },
    )
    expect(Object.keys(npm.instances)).toEqual([
      'left@1.0.0',
      'left@2.0.0',
      'right@1.0.0(left@1.0.0)',
      'right@1.0.0(left@2.0.0)',
    ])
  })
})

test("a directory without a lockfile of its own gets what fits its ranges among the others' candidates", () => {
  const npm = lockOf(
    {
      a: { dependencies: { x: '^1.0.0' } },
      b: { dependencies: { x: '^2.0.0' } },
      linked: { dependencies: { x: '^1.0.0' }, locked: { x: null } },
    },
    { 'x@1.0.0': {}, 'x@2.0.0': {} },
  )
  expect(npm.services['linked']?.dependencies?.['x']).toEqual({ specifier: '^1.0.0', use: 'x@1.0.0' })
})

test('a package that no service reaches is not in the lock', () => {
  const npm = lockOf(
    { a: { dependencies: { x: '^1.0.0' } } },
    { 'x@1.0.0': {}, 'x@1.1.0': { dependencies: { gone: '^1.0.0' } }, 'gone@1.0.0': {}, 'y@1.0.0': {} },
  )
  expect(Object.keys(npm.packages)).toContain('x@1.1.0')
  expect(Object.keys(npm.packages)).not.toContain('y@1.0.0')
})

test('a pin without a manifest is an error that names the command to run', () => {
  const { gathered } = monorepo({ a: { dependencies: { x: '^1.0.0' } } }, { 'x@1.0.0': {} })
  expect(() => flatten(gathered, new Map())).toThrowError(
    expect.objectContaining({
      code: 'ARTIFACT_MISSING',
      message: 'x@1.0.0 is locked, but the index has no manifest of it',
      details: expect.objectContaining({ hint: 'run `polder index sync`' }),
    }),
  )
})

describe('an optional peer that nobody provides', () => {
  const packages = {
    'lint@6.0.0': {
      peerDependencies: { plugin: '^3.0.0' },
      peerDependenciesMeta: { plugin: { optional: true } },
    },
    'lint@7.0.0': { dependencies: { plugin: '^5.0.0' } },
    'plugin@5.0.0': {},
  }

  test('does not see at the root what is outside its range, and whoever needs that has a link', () => {
    const { lock, report } = lockAndReport(
      { old: { dependencies: { lint: '^6.0.0' } }, web: { dependencies: { lint: '^7.0.0' } } },
      packages,
    )
    expect(lock.npm.root).toEqual({ lint: expect.stringMatching(/^lint@/) as string })
    expect(lock.npm.instances['lint@6.0.0' as never]?.links).toEqual({})
    expect(lock.npm.instances['lint@7.0.0' as never]?.links).toEqual({ plugin: 'plugin@5.0.0' })
    expect(report.unmetPeers).toEqual([])
  })

  test('sees it where the service at the root asks for it, or somebody has nothing but the root', () => {
    const unmet = [{ owner: 'lint@6.0.0', name: 'plugin', range: '^3.0.0', sees: '5.0.0' }]
    const asked = lockAndReport(
      { '.': { dependencies: { plugin: '^5.0.0' } }, old: { dependencies: { lint: '^6.0.0' } } },
      packages,
    )
    expect(asked.lock.npm.root).toMatchObject({ plugin: 'plugin@5.0.0' })
    expect(asked.report.unmetPeers).toEqual(unmet)
    const relied = lockAndReport(
      {
        old: { dependencies: { lint: '^6.0.0', preset: '^1.0.0' } },
        web: { dependencies: { plugin: '^5.0.0' } },
      },
      { ...packages, 'preset@1.0.0': { peerDependencies: { plugin: '*' }, locked: { plugin: null } } },
    )
    expect(relied.lock.npm.root).toMatchObject({ plugin: 'plugin@5.0.0' })
    expect(relied.report.unmetPeers).toEqual(unmet)
  })
})
