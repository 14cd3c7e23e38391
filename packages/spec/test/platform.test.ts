import { describe, expect, test } from 'vitest'

import { currentPlatform, matchesEngines, matchesPlatform, parsePlatform, platformName } from '../src/index.ts'
import type { NodeRelease } from '../src/platform.ts'
import { runningNode } from '../src/semver-ranges.ts'

const glibc = { os: 'linux', cpu: 'x64', libc: 'glibc' }
const musl = { os: 'linux', cpu: 'x64', libc: 'musl' }
const mac = { os: 'darwin', cpu: 'arm64' }

describe('matchesEngines', () => {
  const on = (version: string): typeof glibc & { node: NodeRelease } => ({ ...glibc, node: runningNode(version) })

  test.each([
    ['>=18', 'v26.10.0', true],
    ['<20', 'v26.10.0', false],
    ['^18.18.0 || >=20.9.0', 'v20.8.1', false],
    ['18 || 20 || >=22', 'v20.8.1', true],
    ['*', 'v26.10.0', true],
    ['', 'v26.10.0', true],
    ['>= 0.8.0 < 0.11', 'v26.10.0', false],
    // A nightly is what it leads to.
    ['>=27', 'v27.0.0-nightly20261101abcdef', true],
    // npm cannot read it either.
    ['node 18', 'v26.10.0', false],
  ])('engines.node %j holds %s: %s', (range, version, holds) => {
    expect(matchesEngines({ engines: { node: range } }, on(version))).toBe(holds)
  })

  test('engines of package managers count for nothing, nor does any where no Node is given', () => {
    expect(matchesEngines({ engines: { npm: '<2', pnpm: '<2', yarn: '<1' } }, on('v26.10.0'))).toBe(true)
    expect(matchesEngines({}, on('v26.10.0'))).toBe(true)
    expect(matchesEngines({ engines: { node: '<1' } }, glibc)).toBe(true)
  })

  test('the Node of this process is the one that runs', () => {
    expect(runningNode().version).toBe(process.version.slice(1))
  })
})

describe('matchesPlatform', () => {
  test('a package without conditions runs everywhere', () => {
    for (const platform of [glibc, musl, mac]) {
      expect(matchesPlatform({}, platform)).toBe(true)
      expect(matchesPlatform({ os: [], cpu: [], libc: [] }, platform)).toBe(platform.os === 'linux')
    }
  })

  test('every field that is given must allow the platform', () => {
    expect(matchesPlatform({ os: ['linux'], cpu: ['x64'] }, glibc)).toBe(true)
    expect(matchesPlatform({ os: ['linux'], cpu: ['arm64'] }, glibc)).toBe(false)
    expect(matchesPlatform({ os: ['darwin'], cpu: ['x64'] }, glibc)).toBe(false)
  })

  test('a value behind an exclamation mark is refused and all others are allowed', () => {
    expect(matchesPlatform({ os: ['!win32'] }, glibc)).toBe(true)
    expect(matchesPlatform({ os: ['!linux'] }, glibc)).toBe(false)
    expect(matchesPlatform({ cpu: ['!arm', '!x64'] }, glibc)).toBe(false)
    expect(matchesPlatform({ libc: ['!musl'] }, glibc)).toBe(true)
    expect(matchesPlatform({ libc: ['!musl'] }, musl)).toBe(false)
  })

  test('a refusal wins over a permission', () => {
    expect(matchesPlatform({ os: ['linux', '!linux'] }, glibc)).toBe(false)
    expect(matchesPlatform({ os: ['darwin', '!win32'] }, glibc)).toBe(false)
  })

  test('"any" allows everything only if it stands alone, as with npm', () => {
    expect(matchesPlatform({ os: ['any'] }, mac)).toBe(true)
    expect(matchesPlatform({ os: ['any', 'linux'] }, mac)).toBe(false)
  })

  test('the C library tells two Linuxes apart, and a package that names one runs on Linux only', () => {
    expect(matchesPlatform({ libc: ['musl'] }, glibc)).toBe(false)
    expect(matchesPlatform({ libc: ['musl'] }, musl)).toBe(true)
    expect(matchesPlatform({ libc: ['glibc'] }, mac)).toBe(false)
  })
})

describe('parsePlatform', () => {
  test.each([
    ['linux-x64', glibc],
    ['linux-x64-glibc', glibc],
    ['linux-x64-musl', musl],
    ['darwin-arm64', mac],
  ])('%s is a platform', (name, platform) => {
    expect(parsePlatform(name)).toEqual(platform)
  })

  test.each([
    '',
    'linux',
    'linux-',
    'beos-x64',
    'darwin-arm64-musl',
    'linux-x64-uclibc',
    'linux-x64-glibc\n',
    'LINUX-x64',
  ])('%j is not', (name) => {
    expect(parsePlatform(name)).toBeUndefined()
  })

  test('reads what platformName writes', () => {
    for (const platform of [glibc, musl, mac]) expect(parsePlatform(platformName(platform))).toEqual(platform)
  })
})

test('this machine is a platform that has a name', () => {
  const platform = currentPlatform()
  expect(platform).toMatchObject({ os: process.platform, cpu: process.arch })
  expect(parsePlatform(platformName(platform))).toEqual(platform)
})
