import { readFileSync } from 'node:fs'
import { join } from 'node:path'

import { Ajv2020 } from 'ajv/dist/2020.js'
import { describe, expect, test } from 'vitest'
import { parse } from 'yaml'

import { configSchema } from '../src/config-schema.ts'
import { findRoot, parseConfig, proposeConfig, readConfig } from '../src/index.ts'
import { hash, refusal, repository } from './support/repository.ts'

describe('polder.yaml', () => {
  test('an empty file is all defaults', () => {
    expect(parseConfig('# nothing\n')).toEqual({
      services: null,
      exclude: [],
      platforms: ['linux-x64-glibc'],
      policy: { versions: 'fewest', pins: 'hard', engines: null, single: [], split: {} },
      newPins: { minimumReleaseAge: 0, minimumReleaseAgeExclude: [], allow: [], deny: [] },
      builds: { allow: {}, env: {}, workspaces: {}, limits: {} },
      layout: 'linked',
      index: { allowWeakIntegrity: [], private: [], signatures: 'verify', trustedRoot: null },
    })
  })

  test('every key is read, and lists whose order means nothing are sorted', () => {
    const text = `
services: [services/*, web]
exclude: ["**/fixtures"]
platforms: [linux-x64-musl, linux-x64, darwin-arm64, linux-x64-glibc]
policy:
  versions: fewest
  minimumReleaseAge: 3d
  minimumReleaseAgeExclude: [react@^19.0.0, "@acme/*"]
  allow: ["*"]
  deny: ["@evil/*", "lodash@<4.17.21 || =5.0.0"]
layout: self-contained
builds:
  allow: { sharp: ^0.34.0, esbuild: '*' }
  env: { sharp: { SHARP_FORCE: '1' } }
  workspaces: { ./packages/b/: [scripts/, assets, scripts], packages/a: [] }
  limits: { minutes: 5 }
index:
  allowWeakIntegrity: [zeta, "@scope/alpha"]
  private: ["acme-*", "@acme/*"]
  signatures: required
  trustedRoot: trust/trusted_root.json
`
    expect(parseConfig(text)).toEqual({
      services: ['services/*', 'web'],
      exclude: ['**/fixtures'],
      platforms: ['darwin-arm64', 'linux-x64-glibc', 'linux-x64-musl'],
      policy: { versions: 'fewest', pins: 'hard', engines: null, single: [], split: {} },
      newPins: {
        minimumReleaseAge: 3 * 24 * 60,
        minimumReleaseAgeExclude: ['@acme/*', 'react@^19.0.0'],
        allow: ['*'],
        deny: ['@evil/*', 'lodash@<4.17.21 || =5.0.0'],
      },
      layout: 'self-contained',
      builds: {
        allow: { esbuild: '*', sharp: '^0.34.0' },
        env: { sharp: { SHARP_FORCE: '1' } },
        workspaces: { 'packages/a': [], 'packages/b': ['assets', 'scripts'] },
        limits: { minutes: 5 },
      },
      index: {
        allowWeakIntegrity: ['@scope/alpha', 'zeta'],
        private: ['@acme/*', 'acme-*'],
        signatures: 'required',
        trustedRoot: 'trust/trusted_root.json',
      },
    })
  })

  test.each([
    ['45', 45],
    ['90m', 90],
    ['"1.5 h"', 90],
    ['2w', 20160],
    ['"3"', 3],
  ])('an age of %s is %i minutes', (text, minutes) => {
    expect(parseConfig(`policy: { minimumReleaseAge: ${text} }`).newPins.minimumReleaseAge).toBe(minutes)
  })

  test.each([
    ['policy: { minimumReleaseAge: soon }', 'policy.minimumReleaseAge: is no age; ages look like'],
    ['policy: { single: [a, b], split: { b: why } }', 'policy.single.1: policy.split keeps b apart'],
    ['policy: { minimumReleaseAge: -1 }', 'policy.minimumReleaseAge: is no age'],
    ['policy: { deny: ["../x"] }', 'policy.deny.0: begins with no package name and no pattern'],
    ['policy: { allow: ["react@"] }', 'policy.allow.0: begins with no package name and no pattern'],
    ['index: { private: ["a b"] }', 'index.private.0: is no package name, and no pattern'],
    ['index: { trustedRoot: /etc/x }', 'index.trustedRoot: must stay inside the repository'],
  ])('%s is refused', async (text, message) => {
    expect((await refusal(() => parseConfig(text))).message).toContain(message)
  })

  test('an unknown key is refused with its line, its column and the nearest key', async () => {
    const error = await refusal(() => parseConfig('layout: linked\nplatfroms:\n  - linux-x64\n'))
    expect(error.code).toBe('CONFIG_INVALID')
    expect(error.message).toBe('polder.yaml:2:1: unknown key "platfroms"')
    expect(error.details.hint).toBe('did you mean "platforms"?')
  })

  test('an unknown key inside another is named in full', async () => {
    const error = await refusal(() => parseConfig('index:\n  allowWeakIntegrty: [a]\n'))
    expect(error.message).toBe('polder.yaml:2:3: unknown key "index.allowWeakIntegrty"')
    expect(error.details.hint).toBe('did you mean "allowWeakIntegrity"?')
  })

  test('a key that is near to none gets the list of keys', async () => {
    const error = await refusal(() => parseConfig('colour: blue\n'))
    expect(error.details.hint).toBe('the keys here are builds, exclude, index, layout, platforms, policy, services')
  })

  test('all mistakes are reported, in the order of the file', async () => {
    const error = await refusal(() => parseConfig('layout: nested\nplatforms: [vax]\nservice: [a]\n'))
    expect([error.message, ...(error.details.others ?? []).map((other) => other.message)]).toEqual([
      'polder.yaml:1:9: layout: Invalid option: expected one of "linked"|"self-contained"',
      'polder.yaml:2:13: platforms.0: is no platform; platforms look like linux-x64-glibc or darwin-arm64',
      'polder.yaml:3:1: unknown key "service"',
    ])
  })

  test('a path that leaves the repository is refused', async () => {
    const error = await refusal(() => parseConfig('services:\n  - ../other\n'))
    expect(error.message).toBe('polder.yaml:2:5: services.0: must stay inside the repository')
  })

  test('what is no YAML is refused with its place', async () => {
    const error = await refusal(() => parseConfig('layout: linked\nplatforms: [a, b\n'))
    expect(error.code).toBe('CONFIG_INVALID')
    expect(error.message).toMatch(/^polder\.yaml:3:1: Flow sequence in block collection must be/)
  })

  test('aliases that multiply each other are refused', async () => {
    const bomb = [
      'exclude: &a [x, x]',
      ...['b', 'c', 'd', 'e', 'f', 'g', 'h'].map(
        (name, index) =>
          `${name}: &${name} [${Array(9)
            .fill(`*${'abcdefg'[index] ?? ''}`)
            .join(', ')}]`,
      ),
    ]
    const error = await refusal(() => parseConfig(bomb.join('\n')))
    expect(error.code).toBe('CONFIG_INVALID')
    expect(error.message).toMatch(/^polder\.yaml: Excessive alias count/)
  })

  test('a key that is written twice is refused', async () => {
    expect((await refusal(() => parseConfig('layout: linked\nlayout: linked\n'))).message).toBe(
      'polder.yaml:2:1: Map keys must be unique',
    )
  })

  test('the key __proto__ is an unknown key and nothing else', async () => {
    const error = await refusal(() => parseConfig('__proto__: { layout: x }\n'))
    expect(error.message).toBe('polder.yaml:1:1: unknown key "__proto__"')
  })

  test('the root is the nearest directory above that holds one', async () => {
    const root = repository({ 'polder.yaml': '', 'a/b/package.json': {}, 'c/polder.yaml': '', 'c/d/file': '' })
    expect(findRoot(join(root, 'a/b'))).toBe(root)
    expect(findRoot(join(root, 'c/d'))).toBe(join(root, 'c'))
    expect(readConfig(root).layout).toBe('linked')
  })

  test('without one, the error says how to make it', async () => {
    const root = repository({ 'a/file': '' })
    const error = await refusal(() => findRoot(join(root, 'a')))
    expect(error.code).toBe('CONFIG_NOT_FOUND')
    expect(error.message).toBe(`no polder.yaml in ${join(root, 'a')} or any directory above it`)
    expect(error.details.hint).toBe('run `polder init` at the root of the repository')
    expect((await refusal(() => readConfig(root))).code).toBe('CONFIG_NOT_FOUND')
  })
})

describe('the published schema', () => {
  test('is the one that the code validates with', () => {
    const published = readFileSync(join(import.meta.dirname, '../../../docs/schema/polder.schema.json'), 'utf8')
    expect(JSON.parse(published)).toEqual(configSchema())
  })

  test('accepts what polder accepts and refuses an unknown key', () => {
    const validate = new Ajv2020().compile(configSchema())
    expect(validate(parse('services: [a]\nlayout: linked\n'))).toBe(true)
    expect(validate(parse('layuot: linked\n'))).toBe(false)
  })
})

describe('polder init', () => {
  const files = {
    'web/package.json': { name: 'web' },
    'web/package-lock.json': {},
    'api/package.json': { name: 'api' },
    'api/yarn.lock': hash(),
    'web/node_modules/x/package-lock.json': {},
    'web/node_modules/x/package.json': {},
  }

  test('proposes a configuration that names what it found, and that is valid', () => {
    const { text, services } = proposeConfig(repository(files), 'darwin-arm64', 'docs/polder.schema.json')
    expect(services).toEqual(['api', 'web'])
    expect(text.split('\n').slice(0, 6)).toEqual([
      '# yaml-language-server: $schema=docs/polder.schema.json',
      '#',
      '# polder keeps one environment for all services of this repository. Lockfiles found:',
      '#   api/yarn.lock (api)',
      '#   web/package-lock.json (web)',
      '',
    ])
    expect(parseConfig(text)).toEqual({ ...parseConfig(''), platforms: ['darwin-arm64'] })
  })

  test('its commented keys are valid too', () => {
    const { text } = proposeConfig(repository(files), 'linux-x64-glibc', 's.json')
    const body = text.slice(text.indexOf('\n\n'))
    const uncommented = body.replaceAll(/^# (services:|exclude:|index:|  )/gm, '$1')
    expect(parseConfig(uncommented)).toMatchObject({
      services: ['api', 'web'],
      exclude: ['**/fixtures'],
      index: { allowWeakIntegrity: ['some-package'], private: [], signatures: 'verify', trustedRoot: null },
    })
  })
})
