import { integrityOf } from '@polder/spec'
import { load } from 'js-yaml'
import { describe, expect, test } from 'vitest'

import { exportPnpmLock, type PnpmWorkspaceSettings } from '../src/export/pnpm-lock.ts'
import type { Lock } from '../src/lock.ts'

const integrity = integrityOf('sha512', Buffer.from('bytes'))

/** The exported file of a lock whose services and packages are given; every package has one instance unless given. */
function exported(
  npm: { services?: object; packages?: object; instances?: object },
  settings?: PnpmWorkspaceSettings,
): Record<string, unknown> {
  const packages = Object.fromEntries(
    Object.entries(npm.packages ?? {}).map(([id, entry]) => [id, { integrity, ...(entry as object) }]),
  )
  const instances = npm.instances ?? Object.fromEntries(Object.keys(packages).map((id) => [id, { package: id }]))
  const lock = {
    lockfileVersion: 1,
    inputs: {},
    npm: { services: npm.services ?? {}, packages, instances, root: {}, splits: {} },
  }
  return load(exportPnpmLock(lock as unknown as Lock, settings)) as Record<string, unknown>
}

describe('importers', () => {
  test('link to each other relative to themselves, and refer to an alias by its whole key', () => {
    const services = {
      'apps/a': {
        lockfile: 'x',
        dependencies: {
          b: { specifier: 'workspace:*', use: 'link:packages/deep/b' },
          'old-chalk': { specifier: 'npm:chalk@^4.0.0', use: 'old-chalk@npm:chalk@4.1.2' },
        },
        optionalDependencies: { elsewhere: { specifier: '^1.0.0' } },
      },
      'packages/deep/b': { lockfile: 'x', devDependencies: { root: { specifier: 'link:../../..', use: 'link:.' } } },
    }
    expect(exported({ services })['importers']).toEqual({
      'apps/a': {
        dependencies: {
          b: { specifier: 'workspace:*', version: 'link:../../packages/deep/b' },
          'old-chalk': { specifier: 'npm:chalk@^4.0.0', version: 'chalk@4.1.2' },
        },
      },
      'packages/deep/b': { devDependencies: { root: { specifier: 'link:../../..', version: 'link:../../..' } } },
    })
  })

  test('have the specifiers that pnpm compares: after overrides', () => {
    const dependencies = {
      zod: { specifier: '^4.3.6', use: 'zod@4.3.6' },
      qs: { specifier: '^6.0.0', use: 'qs@6.15.2' },
      ip: { specifier: '^10.0.0', use: 'ip@10.2.0' },
      gone: { specifier: '*', use: 'gone@1.0.0' },
      constructor: { specifier: '^1.0.0', use: 'constructor@1.0.0' },
    }
    const overrides = { zod: '4.3.6', 'qs@^6.0.0': '6.15.2', 'ip@^9.0.0': '9.9.9', gone: '-', 'a>ip': '1.0.0' }
    const { importers, overrides: written } = exported(
      { services: { '.': { lockfile: 'x', dependencies } } },
      { overrides },
    )
    expect(importers).toEqual({
      '.': {
        dependencies: {
          constructor: { specifier: '^1.0.0', version: '1.0.0' },
          ip: { specifier: '^10.0.0', version: '10.2.0' },
          qs: { specifier: '6.15.2', version: '6.15.2' },
          zod: { specifier: '4.3.6', version: '4.3.6' },
        },
      },
    })
    expect(written).toEqual(overrides)
    const specifiers = { '.': { ip: '10.2.0' } }
    expect(exported({ services: { '.': { lockfile: 'x', dependencies } } }, { overrides, specifiers })).toMatchObject({
      importers: {
        '.': {
          dependencies: {
            constructor: { specifier: '^1.0.0' },
            ip: { specifier: '10.2.0' },
            qs: { specifier: '6.15.2' },
          },
        },
      },
    })
  })
})

test('peers stand behind a package that is there more than once, here and in every reference to it', () => {
  const packages = {
    'react@17.0.2': {},
    'dialog@1.0.0': { peerDependencies: { react: '*', theme: '*' }, optionalPeers: ['theme'] },
  }
  const instances = {
    'react@17.0.2': { package: 'react@17.0.2' },
    'dialog@1.0.0(react@17.0.2)': { package: 'dialog@1.0.0', links: { react: 'react@17.0.2' } },
  }
  const services = {
    '.': { lockfile: 'x', dependencies: { dialog: { specifier: '1', use: 'dialog@1.0.0(react@17.0.2)' } } },
  }
  expect(exported({ services, packages, instances })).toMatchObject({
    importers: { '.': { dependencies: { dialog: { version: '1.0.0(react@17.0.2)' } } } },
    packages: {
      'dialog@1.0.0': {
        peerDependencies: { react: '*', theme: '*' },
        peerDependenciesMeta: { theme: { optional: true } },
      },
    },
    snapshots: { 'dialog@1.0.0(react@17.0.2)': { dependencies: { react: '17.0.2' } } },
  })
})

describe('what pnpm compares with its configuration', () => {
  test('is what it is without any', () => {
    expect(exported({})).toEqual({
      lockfileVersion: '9.0',
      settings: { autoInstallPeers: true, excludeLinksFromLockfile: false },
      importers: {},
      packages: {},
      snapshots: {},
    })
  })

  test('are the settings that shape a lockfile, and no others', () => {
    const settings = {
      dedupePeers: true,
      autoInstallPeers: false,
      peersSuffixMaxLength: 100,
      minimumReleaseAge: 1440,
      packages: ['a'],
    }
    expect(exported({}, { settings, packageExtensionsChecksum: 'sha256-x' })).toMatchObject({
      settings: {
        autoInstallPeers: false,
        dedupePeers: true,
        excludeLinksFromLockfile: false,
        peersSuffixMaxLength: 100,
      },
      packageExtensionsChecksum: 'sha256-x',
    })
    expect(Object.keys(exported({}, { settings })['settings'] as object)).toHaveLength(4)
  })

  test('are the catalogs, as far as importers use them', () => {
    const services = {
      '.': {
        lockfile: 'x',
        dependencies: {
          vite: { specifier: 'catalog:', use: 'vite@8.2.0' },
          a: { specifier: 'catalog:old', use: 'a@1.0.0' },
        },
      },
    }
    const catalogs = { default: { vite: '^8.2.0', unused: '1' }, old: { a: '^1.0.0' } }
    expect(exported({ services }, { catalogs })['catalogs']).toEqual({
      default: { vite: { specifier: '^8.2.0', version: '8.2.0' } },
      old: { a: { specifier: '^1.0.0', version: '1.0.0' } },
    })
  })
})
