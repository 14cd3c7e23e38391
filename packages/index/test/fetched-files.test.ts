import { packageId, type Platform } from '@polder/spec'
import { describe, expect, test } from 'vitest'

import { type BuildingPackage, lackingFiles } from '../src/pins/build-requirements.ts'
import { redirections, toolEnvironment } from '../src/pins/files.ts'
import type { RawManifest } from '../src/pins/prebuilt-binaries.ts'

const LINUX: Platform = { os: 'linux', cpu: 'x64', libc: 'glibc' }
const NODE = { modules: '147', napi: 10 }
const PREBUILD = 'prebuild-install || node-gyp rebuild'

/** Of a real manifest what says where its binaries are; hosts that are not GitHub's are examples. */
const github = (repository: string): RawManifest => ({
  repository: { type: 'git', url: `git+https://github.com/${repository}.git` },
})

interface About {
  readonly platforms?: readonly Platform[]
  readonly files?: Parameters<typeof lackingFiles>[1]['files']
  readonly locked?: readonly string[]
  readonly env?: Readonly<Record<string, string>>
  readonly optional?: readonly string[]
}

function lacking(
  name: string,
  version: string,
  script: string,
  fields: RawManifest = {},
  { platforms = [LINUX], files = {}, locked = [], env = {}, optional = [] }: About = {},
): ReturnType<typeof lackingFiles> {
  const pkg: BuildingPackage = {
    id: packageId(name, version),
    name,
    version,
    optionalDependencies: Object.fromEntries(optional.map((other) => [other, '*'])),
    script,
    env,
    manifest: { name, version, ...fields },
  }
  return lackingFiles([pkg], { files, platforms, node: NODE, locked: new Set(locked) })
}

const release = (repository: string, path: string): string =>
  `https://github.com/${repository}/releases/download/${path}`

describe('what prebuild-install and node-pre-gyp will ask for follows from the manifest', () => {
  test.for<[string, string, string, RawManifest, string]>([
    [
      'sqlite3',
      '6.0.1',
      'prebuild-install -r napi || node-gyp rebuild',
      { ...github('TryGhost/node-sqlite3'), binary: { napi_versions: [3, 6] } },
      release('TryGhost/node-sqlite3', 'v6.0.1/sqlite3-v6.0.1-napi-v6-linux-x64.tar.gz'),
    ],
    [
      'kerberos',
      '7.0.0',
      'prebuild-install --runtime napi || node-gyp rebuild',
      { ...github('mongodb-js/kerberos'), binary: { napi_versions: [9, 12] } },
      release('mongodb-js/kerberos', 'v7.0.0/kerberos-v7.0.0-napi-v9-linux-x64.tar.gz'),
    ],
    [
      'keytar',
      '7.9.0',
      'prebuild-install || npm run build',
      { ...github('atom/node-keytar'), binary: { napi_versions: [3] }, config: { runtime: 'napi', target: 3 } },
      release('atom/node-keytar', 'v7.9.0/keytar-v7.9.0-napi-v3-linux-x64.tar.gz'),
    ],
    [
      'libxmljs2',
      '0.37.0',
      PREBUILD,
      github('marudor/libxmljs2'),
      release('marudor/libxmljs2', 'v0.37.0/libxmljs2-v0.37.0-node-v147-linux-x64.tar.gz'),
    ],
    [
      'duckdb',
      '1.4.4',
      'node-pre-gyp install --fallback-to-build',
      {
        binary: { module_name: 'duckdb', module_path: './lib/binding/', host: 'https://binaries.example/duckdb' },
      },
      'https://binaries.example/duckdb/duckdb-v1.4.4-node-v147-linux-x64.tar.gz',
    ],
    [
      'grpc',
      '1.24.11',
      'node-pre-gyp install --fallback-to-build --library=static_library',
      {
        binary: {
          module_name: 'grpc_node',
          host: 'https://binaries.example/',
          remote_path: '{name}/v{version}',
          package_name: '{node_abi}-{platform}-{arch}-{libc}.tar.gz',
        },
      },
      'https://binaries.example/grpc/v1.24.11/node-v147-linux-x64-glibc.tar.gz',
    ],
    [
      'oldstyle',
      '2.0.0',
      'node-pre-gyp install --fallback-to-build',
      {
        binary: {
          module_name: 'old-style',
          host: 'https://binaries.example',
          remote_path: './napi-v{napi_build_version}/{version}/',
          napi_versions: [3, 8],
        },
      },
      'https://binaries.example/napi-v8/2.0.0/old-style-v2.0.0-node-v147-linux-x64.tar.gz',
    ],
  ])('%s %s', ([name, version, script, fields, url]) => {
    const [file] = lacking(name, version, script, fields)
    expect(file).toMatchObject({ neededBy: `${name}@${version}`, url, compiles: true })
    // Pinned as it says, there is a variable that leads to it, and nothing is lacking.
    const files = { [url]: { integrity: 'sha512-x', ...(file?.for === undefined ? {} : { for: file.for }) } } as never
    const variable = Object.keys(toolEnvironment(files, 'http://index.example')).filter((one) =>
      /binary_host/.test(one),
    )
    expect(variable.length).toBeGreaterThan(0)
    expect(redirections(url, file?.for).every(({ base }) => url.replace('https:/', '/-/files').startsWith(base))).toBe(
      true,
    )
    expect(lacking(name, version, script, fields, { files })).toEqual([])
  })

  test('for each platform once, with its libc', () => {
    const musl = { ...LINUX, libc: 'musl' }
    const arm: Platform = { os: 'darwin', cpu: 'arm64' }
    const files = lacking('addon', '1.0.0', PREBUILD, github('o/addon'), { platforms: [LINUX, musl, arm, LINUX] })
    expect(files.map(({ url = '' }) => url.slice(url.lastIndexOf('/') + 1))).toEqual([
      'addon-v1.0.0-node-v147-linux-x64.tar.gz',
      'addon-v1.0.0-node-v147-linuxmusl-x64.tar.gz',
      'addon-v1.0.0-node-v147-darwin-arm64.tar.gz',
    ])
  })

  test('of a scoped package, and of one whose path has no version, it says whose it is', () => {
    expect(lacking('@scope/addon', '1.0.0', PREBUILD, github('o/addon'))[0]).toMatchObject({
      url: release('o/addon', 'v1.0.0/addon-v1.0.0-node-v147-linux-x64.tar.gz'),
      for: '@scope/addon',
    })
    const binary = { module_name: 'duckdb', host: 'https://binaries.example/duckdb' }
    expect(lacking('duckdb', '1.4.4', 'node-pre-gyp install', { binary })[0]).toMatchObject({
      for: 'npm_config_duckdb_binary_host_mirror=https://binaries.example/duckdb',
      compiles: false,
    })
  })

  test('nothing is said of who compiles on purpose, brings its binaries along, or says what cannot be told', () => {
    const env = { npm_config_build_from_source: 'true' }
    expect(lacking('addon', '1.0.0', PREBUILD, github('o/addon'), { env })).toEqual([])
    for (const script of ['node-gyp-build', 'node-gyp rebuild', 'prebuild-install --target 3.0.0 -r electron'])
      expect(lacking('addon', '1.0.0', script, github('o/addon')), script).toEqual([])
    expect(lacking('addon', '1.0.0', PREBUILD)).toEqual([])
    const binary = { module_name: 'm', host: 'https://binaries.example', remote_path: '{unknown}' }
    expect(lacking('addon', '1.0.0', 'node-pre-gyp install', { binary })).toEqual([])
  })

  test.for<[string, RawManifest]>([
    ['a host that is no URL', { binary: { module_name: 'm', host: 'javascript:alert(1)' } }],
    ['fields of other types', { binary: [7], config: 'x', repository: 9 }],
    ['a name of a property', { binary: { module_name: '__proto__', host: { toString: 1 } } }],
  ])('%s is nothing', ([, fields]) => {
    expect(lacking('addon', '1.0.0', 'node-pre-gyp install', fields)).toEqual([])
    expect(lacking('addon', '1.0.0', PREBUILD, fields)).toEqual([])
  })
})

describe('of tools that fetch files of their own', () => {
  test.for([
    ['electron', '30.0.0', '/v30.0.0/electron-v30.0.0-linux-x64.zip', 'ELECTRON_SKIP_BINARY_DOWNLOAD'],
    ['cypress', '15.3.0', '/desktop/15.3.0?platform=linux&arch=x64', 'CYPRESS_INSTALL_BINARY'],
    ['@sentry/cli', '3.8.0', '/3.8.0/sentry-cli-Linux-x86_64', 'SENTRYCLI_SKIP_DOWNLOAD'],
  ] as const)('%s %s: the end of the URL is known', ([name, version, end, variable]) => {
    const [file] = lacking(name, version, 'node install.js')
    expect(file).toMatchObject({ end, without: [variable, expect.any(String)] })
    const url = `https://downloads.example${end}`
    expect(lacking(name, version, '', {}, { files: { [url]: { integrity: 'sha512-x' } } as never })).toEqual([])
    // That of another version does not help.
    const other = { [url.replaceAll(version, '1.2.3')]: { integrity: 'sha512-x' } } as never
    expect(lacking(name, version, '', {}, { files: other })).toHaveLength(1)
    const [skip, value] = file?.without ?? ['', '']
    expect(lacking(name, version, '', {}, { env: { [skip]: value } })).toEqual([])
  })

  test.for(['puppeteer', 'playwright-chromium', '@prisma/engines', 'geckodriver'])(
    '%s: only that it fetches',
    (name) => {
      const [file] = lacking(name, '9.0.0', 'node install.js')
      expect(file).toMatchObject({ neededBy: `${name}@9.0.0`, compiles: false })
      expect(file).not.toHaveProperty('url')
      expect(file).not.toHaveProperty('end')
    },
  )

  test('@sentry/cli fetches nothing where the package of the platform is locked', () => {
    const optional = ['@sentry/cli-linux-x64']
    expect(lacking('@sentry/cli', '3.8.0', '', {}, { optional, locked: optional })).toEqual([])
    expect(lacking('@sentry/cli', '3.8.0', '', {}, { optional })).toHaveLength(1)
  })
})
