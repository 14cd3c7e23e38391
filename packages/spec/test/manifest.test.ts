import { describe, expect, test } from 'vitest'

import { installScripts, manifestFromJson, parseManifest } from '../src/manifest.ts'

const PATH = 'a/package.json'
const refused = (message: string | RegExp): unknown =>
  expect.objectContaining({
    code: 'MANIFEST_INVALID',
    message: typeof message === 'string' ? message : expect.stringMatching(message),
  })

describe('parseManifest', () => {
  test('an empty document is a manifest without anything', () => {
    expect(parseManifest('{}', PATH)).toEqual({
      dependencies: {},
      devDependencies: {},
      optionalDependencies: {},
      peerDependencies: {},
      optionalPeers: [],
      bundled: [],
      engines: {},
      bin: {},
      scripts: {},
    })
  })

  test('a byte order mark is no mistake', () => {
    expect(parseManifest('\uFEFF{"name":"a"}', PATH).name).toBe('a')
  })

  test('what is no JSON is refused, with its path', () => {
    expect(() => parseManifest('{', PATH)).toThrow(refused(/^a\/package\.json is not JSON: /))
  })

  test.each(['[]', 'null', '1', '"text"'])('%s is no manifest', (text) => {
    expect(() => parseManifest(text, PATH)).toThrow(refused(/^a\/package\.json: the document /))
  })
})

describe('requirements', () => {
  test('are sorted, trimmed, and what is no text is left out', () => {
    const { dependencies } = manifestFromJson({ dependencies: { b: ' ^1.0.0 ', a: '*', c: 7, d: null } }, PATH)
    expect(Object.entries(dependencies)).toEqual([
      ['a', '*'],
      ['b', '^1.0.0'],
    ])
  })

  test('an optional dependency is none of the others, as with npm', () => {
    const manifest = manifestFromJson({ dependencies: { a: '1', b: '1' }, optionalDependencies: { a: '2' } }, PATH)
    expect(manifest.dependencies).toEqual({ b: '1' })
    expect(manifest.optionalDependencies).toEqual({ a: '2' })
  })

  test('an optional peer needs no range of its own', () => {
    const manifest = manifestFromJson(
      {
        peerDependencies: { react: '>=18' },
        peerDependenciesMeta: {
          immer: { optional: true },
          react: { optional: true },
          vue: { optional: false },
          odd: 'text',
        },
      },
      PATH,
    )
    expect(manifest.peerDependencies).toEqual({ immer: '*', react: '>=18' })
    expect(manifest.optionalPeers).toEqual(['immer', 'react'])
  })

  test.each(['../../etc', '.bin', 'node_modules', 'a b', ''])('the name %j is refused', (name) => {
    const text = `{"dependencies":{${JSON.stringify(name)}:"1.0.0"}}`
    expect(() => parseManifest(text, PATH)).toThrow(
      refused(`${PATH} depends on ${JSON.stringify(name)}, which is no package name`),
    )
  })

  test('a dependency called __proto__ is left out', () => {
    const { dependencies } = parseManifest('{"dependencies":{"__proto__":"1.0.0","a":"1"}}', PATH)
    expect(Object.keys(dependencies)).toEqual(['a'])
    expect(Object.getPrototypeOf(dependencies)).toBeNull()
  })

  test('an optional peer with a hostile name is refused as well', () => {
    const text = '{"peerDependenciesMeta":{"../../etc":{"optional":true}}}'
    expect(() => parseManifest(text, PATH)).toThrow(refused(/is no package name/))
  })

  test('records have no prototype, so that no package name is special', () => {
    const { dependencies } = manifestFromJson({ dependencies: { constructor: '1' } }, PATH)
    expect(Object.getPrototypeOf(dependencies)).toBeNull()
    expect(Object.keys(dependencies)).toEqual(['constructor'])
  })
})

describe('commands', () => {
  const bin = (value: unknown, name = '@scope/tool'): unknown => manifestFromJson({ name, bin: value }, PATH).bin

  test('one file is the command of the package, without its scope', () => {
    expect(bin('./cli.js')).toEqual({ tool: 'cli.js' })
    expect(bin('cli.js', 'plain')).toEqual({ plain: 'cli.js' })
    expect(manifestFromJson({ bin: 'cli.js' }, PATH).bin).toEqual({})
  })

  test('paths are made relative and POSIX', () => {
    expect(bin({ b: '/dist/b.js', a: './/a.js', c: 'dist\\c.js' })).toEqual({
      a: 'a.js',
      b: 'dist/b.js',
      c: 'dist/c.js',
    })
  })

  test('what is no text or is empty is left out', () => {
    expect(bin({ a: 1, b: '', c: null, d: 'd.js' })).toEqual({ d: 'd.js' })
  })

  test.each([
    { a: '../a.js' },
    { a: 'x/../../a.js' },
    { a: 'x\\..\\..\\a.js' },
    { a: 'C:\\a.js' },
    { a: 'a\0.js' },
    { a: 'a\n.js' },
    { a: './' },
    { '../a': 'a.js' },
    { '..': 'a.js' },
    { '.': 'a.js' },
    { 'a/b': 'a.js' },
    { 'a b': 'a.js' },
    { '$(touch x)': 'a.js' },
    { 'a;b': 'a.js' },
    { 'a\0': 'a.js' },
  ])('%j is refused', (value) => {
    expect(() => bin(value)).toThrow(refused(/declares the command .*, which leaves the package$/))
  })
})

describe('other fields', () => {
  test('both spellings of bundled dependencies, and true for all of them', () => {
    expect(manifestFromJson({ bundledDependencies: ['b', 'a'] }, PATH).bundled).toEqual(['a', 'b'])
    expect(manifestFromJson({ bundleDependencies: ['a'] }, PATH).bundled).toEqual(['a'])
    expect(manifestFromJson({ bundleDependencies: true, dependencies: { b: '1', a: '1' } }, PATH).bundled).toEqual([
      'a',
      'b',
    ])
    expect(manifestFromJson({ bundleDependencies: false, dependencies: { a: '1' } }, PATH).bundled).toEqual([])
  })

  test('a condition may be one text, and an empty list is none', () => {
    expect(manifestFromJson({ os: 'linux', cpu: ['x64', '!arm'], libc: [] }, PATH)).toMatchObject({
      os: ['linux'],
      cpu: ['x64', '!arm'],
    })
    expect(manifestFromJson({ libc: [] }, PATH)).not.toHaveProperty('libc')
  })

  test('fields of a type that nobody expects are ignored, as every client does', () => {
    const manifest = manifestFromJson(
      { name: 1, version: {}, engines: ['node >= 4'], scripts: 'test', os: 5, bin: 7, license: {} },
      PATH,
    )
    expect(manifest).toEqual(manifestFromJson({}, PATH))
  })

  test('a script called __proto__ changes no prototype', () => {
    const manifest = parseManifest('{"scripts":{"__proto__":"x","install":"node-gyp rebuild","n":1}}', PATH)
    expect(Object.entries(manifest.scripts)).toEqual([['install', 'node-gyp rebuild']])
    expect(({} as Record<string, unknown>)['install']).toBeUndefined()
  })
})

test('install scripts are those of the three stages, and that of a binding.gyp only where none is declared', () => {
  const scripts = (record: Record<string, string>, gyp: boolean): readonly string[] =>
    installScripts(manifestFromJson({ scripts: record }, PATH), gyp)
  expect(scripts({ postinstall: 'x', test: 'x', preinstall: 'x' }, false)).toEqual(['preinstall', 'postinstall'])
  expect(scripts({}, true)).toEqual(['install'])
  expect(scripts({ postinstall: 'x' }, true)).toEqual(['postinstall'])
  expect(scripts({ prepare: 'x' }, false)).toEqual([])
})
