import { type Additions, type Integrity, PolderError } from '@polder/spec'
import { describe, expect, test } from 'vitest'

import { companions, filePath, redirections, toolEnvironment } from '../src/pins/files.ts'

const INDEX = 'http://127.0.0.1:4873/'

function files(...urls: (string | readonly [url: string, tool: string])[]): Additions['files'] {
  return Object.fromEntries(
    urls.map((entry) => {
      const [url, tool] = typeof entry === 'string' ? [entry] : entry
      return [url, { integrity: 'sha512-x' as Integrity, ...(tool === undefined ? {} : { for: tool }) }]
    }),
  )
}

describe('the path of a file', () => {
  test('holds the host and the path, whatever the scheme', () => {
    expect(filePath('https://host.example/a/b.zip')).toBe('/-/files/host.example/a/b.zip')
    expect(filePath('http://HOST.example:8080/a/b.zip#part')).toBe('/-/files/host.example:8080/a/b.zip')
  })

  test('has the query', () => {
    expect(filePath('https://host.example/desktop/15.3.0?platform=linux&arch=x64')).toBe(
      '/-/files/host.example/desktop/15.3.0?platform=linux&arch=x64',
    )
  })

  test('holds neither user nor password', () => {
    expect(filePath('https://me:secret@host.example/a')).toBe('/-/files/host.example/a')
  })

  test('cannot lead out of the files', () => {
    expect(filePath('https://host.example/a/../../../-/metrics')).toBe('/-/files/host.example/-/metrics')
    expect(filePath('https://host.example/%2e%2e/x')).toBe('/-/files/host.example/x')
  })

  test.each(['ftp://host.example/a', 'file:///etc/passwd', 'a/b.zip'])('is refused for %s', (url) => {
    expect(() => filePath(url)).toThrowError(expect.objectContaining({ code: 'SOURCE_UNSUPPORTED' }))
  })

  test('is the same however it is escaped', () => {
    const path = filePath('https://host.example/a+b/c%20d/e%2Ff.zip?x=1')
    for (const same of ['a%2Bb/c%20d/e%2ff.zip?x=1', 'a%2bb/c d/e%2Ff.zip?x=1'])
      expect(filePath(`http://host.example/${same}`)).toBe(path)
    expect(filePath(`http://${path.slice('/-/files/'.length)}`)).toBe(path)
  })

  test('is another one for another query, host or slash', () => {
    const path = filePath('https://host.example/a/b?x=1')
    for (const other of ['host.example/a/b', 'other.example/a/b?x=1', 'host.example/a%2Fb?x=1'])
      expect(filePath(`https://${other}`)).not.toBe(path)
  })

  test('survives what is no escape', () => {
    expect(filePath('https://host.example/100%')).toBe('/-/files/host.example/100%25')
  })
})

describe('the environment', () => {
  const COMMIT = 'a'.repeat(40)
  // What each tool asks for by default, with its host replaced.
  test.each([
    [
      'https://n.example/dist/v22.1.0/node-v22.1.0-headers.tar.gz',
      {
        NODEJS_ORG_MIRROR: '/-/files/n.example/dist',
        npm_package_config_node_gyp_disturl: '/-/files/n.example/dist',
      },
    ],
    [
      'https://e.example/electron/releases/download/v30.0.0/electron-v30.0.0-linux-x64.zip',
      { ELECTRON_MIRROR: '/-/files/e.example/electron/releases/download/' },
    ],
    [
      'https://c.example/cft/131.0.6778.87/linux64/chrome-linux64.zip',
      { PUPPETEER_CHROME_DOWNLOAD_BASE_URL: '/-/files/c.example/cft' },
    ],
    [
      'https://c.example/cft/131.0.6778.87/linux64/chrome-headless-shell-linux64.zip',
      { PUPPETEER_CHROME_HEADLESS_SHELL_DOWNLOAD_BASE_URL: '/-/files/c.example/cft' },
    ],
    [
      'https://c.example/cft/131.0.6778.87/linux64/chromedriver-linux64.zip',
      { npm_config_chromedriver_cdnbinariesurl: '/-/files/c.example/cft' },
    ],
    [
      'https://p.example/builds/cft/143.0.7499.4/linux64/chrome-linux64.zip',
      { PLAYWRIGHT_CHROMIUM_DOWNLOAD_HOST: '/-/files/p.example' },
    ],
    [
      'https://p.example/dbazure/builds/firefox/1471/firefox-ubuntu-22.04.zip',
      { PLAYWRIGHT_FIREFOX_DOWNLOAD_HOST: '/-/files/p.example/dbazure' },
    ],
    [
      'https://p.example/dbazure/builds/ffmpeg/1011/ffmpeg-linux.zip',
      { PLAYWRIGHT_DOWNLOAD_HOST: '/-/files/p.example/dbazure' },
    ],
    ['https://d.example/desktop/15.3.0?platform=linux&arch=x64', { CYPRESS_DOWNLOAD_MIRROR: '/-/files/d.example/' }],
    ['https://s.example/cli/3.8.0/sentry-cli-Linux-x86_64', { SENTRYCLI_CDNURL: '/-/files/s.example/cli' }],
    [
      `https://b.example/all_commits/${COMMIT}/debian-openssl-3.0.x/libquery_engine.so.node.gz`,
      { PRISMA_ENGINES_MIRROR: '/-/files/b.example' },
    ],
    [
      'https://g.example/releases/download/v0.36.0/geckodriver-v0.36.0-linux64.tar.gz',
      { GECKODRIVER_CDNURL: '/-/files/g.example/releases/download' },
    ],
    [
      'https://g.example/releases/download/b6.1.1/ffmpeg-linux-x64.gz',
      { FFMPEG_BINARIES_URL: '/-/files/g.example/releases/download' },
    ],
    [
      'https://m.example/linux/mongodb-linux-x86_64-ubuntu2204-7.0.14.tgz',
      { MONGOMS_DOWNLOAD_MIRROR: '/-/files/m.example' },
    ],
    [
      'https://g.example/releases/download/v8.14.5/libvips-8.14.5-linux-x64.tar.br',
      { npm_config_sharp_libvips_binary_host: '/-/files/g.example/releases/download' },
    ],
    [
      'https://g.example/o/r/releases/download/v11.2.0/better-sqlite3-v11.2.0-node-v127-linux-x64.tar.gz',
      { npm_config_better_sqlite3_binary_host_mirror: '/-/files/g.example/o/r/releases/download' },
    ],
    [
      'https://g.example/download/v5.1.0/bcrypt_lib-v5.1.0-napi-v3-linux-x64-glibc.tar.gz',
      { npm_config_bcrypt_lib_binary_host_mirror: '/-/files/g.example/download' },
    ],
  ])('of %s', (url, variables: Readonly<Record<string, string>>) => {
    const absolute = Object.fromEntries(
      Object.entries(variables).map(([name, path]) => [name, `http://127.0.0.1:4873${path}`]),
    )
    expect(toolEnvironment(files(url), INDEX)).toEqual(absolute)
    // What the tool makes of the variable is where the index has the file.
    const [base = ''] = Object.values(variables)
    expect(filePath(url).startsWith(base)).toBe(true)
  })

  test('is empty for what fits no tool, or several alike', () => {
    const urls = ['https://host.example/data.bin', 'https://host.example/v1.2.3/SHASUMS256.txt']
    expect(toolEnvironment(files(...urls), INDEX)).toEqual({})
  })

  test('follows the tool that the user named', () => {
    const url = 'https://host.example/v22.1.0/SHASUMS256.txt'
    expect(Object.keys(toolEnvironment(files([url, 'node-gyp']), INDEX))).toEqual([
      'NODEJS_ORG_MIRROR',
      'npm_package_config_node_gyp_disturl',
    ])
    expect(Object.keys(toolEnvironment(files([url, 'electron']), INDEX))).toEqual(['ELECTRON_MIRROR'])
  })

  test('of a scoped package with prebuilt binaries has its whole name', () => {
    const url = 'https://host.example/v1.0.0/native-v1.0.0-napi-v6-linux-x64.tar.gz'
    expect(toolEnvironment(files([url, '@scope/native']), INDEX)).toEqual({
      npm_config_scope_native_binary_host_mirror: 'http://127.0.0.1:4873/-/files/host.example',
    })
  })

  test('can have a variable of the user', () => {
    const url = 'https://host.example/tool/1.0/data.bin'
    expect(
      toolEnvironment(files([url, 'MY_TOOL_MIRROR=https://host.example/tool']), 'http://127.0.0.1:1/@lock/x/'),
    ).toEqual({
      MY_TOOL_MIRROR: 'http://127.0.0.1:1/@lock/x/-/files/host.example/tool',
    })
  })

  test('of two hosts that one variable would have to name is that of the first URL', () => {
    const [one, two] = [
      'https://a.example/v1.0.0/node-v1.0.0-headers.tar.gz',
      'https://b.example/v2.0.0/node-v2.0.0-headers.tar.gz',
    ]
    expect(toolEnvironment(files(two, one), INDEX)['NODEJS_ORG_MIRROR']).toBe('http://127.0.0.1:4873/-/files/a.example')
  })

  test.each([
    ['electron', 'electron never asks for a URL that ends like https://host.example/a/b.zip'],
    ['no tool', '"no tool" is neither a tool nor a package'],
    ['PATH=https://host.example/a', 'PATH is no variable that says where to fetch from'],
    ['NODE_OPTIONS=https://host.example/a', 'NODE_OPTIONS is no variable that says where to fetch from'],
    ['X_URL=https://other.example/a', 'https://host.example/a/b.zip does not begin with https://other.example/a'],
  ])('for %s is refused', (tool, message) => {
    try {
      redirections('https://host.example/a/b.zip', tool)
      expect.unreachable()
    } catch (error) {
      expect(error).toBeInstanceOf(PolderError)
      expect(error).toMatchObject({ code: 'USAGE', message })
    }
  })
})

test('what a tool asks for besides is known', () => {
  expect(companions('https://n.example/dist/v22.1.0/node-v22.1.0-headers.tar.gz', undefined)).toEqual([
    'https://n.example/dist/v22.1.0/SHASUMS256.txt',
  ])
  expect(companions('https://host.example/data.bin', undefined)).toEqual([])
})
