import { type Integrity, integrityOf, type PackageId } from '@polder/spec'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'

import { diffLocks, isEmptyDiff } from '../src/diff.ts'
import type { Lock, LockedIndex } from '../src/lock.ts'
import { parseLock, parseSigningKeys } from '../src/parse.ts'
import { serializeLock } from '../src/serialize.ts'

const integrity = (text: string): Integrity => integrityOf('sha512', Buffer.from(text))

/** A lock as a test writes it: only `npm`, without brands. */
function lockWith(npm: object): Lock {
  return {
    lockfileVersion: 1,
    policy: { versions: 'fewest', platforms: ['linux-x64-glibc'] },
    inputs: { 'polder.yaml': 'sha256-0' },
    npm: { services: {}, packages: {}, instances: {}, root: {}, splits: {}, ...npm },
  } as unknown as Lock
}

const harbour = (): Lock =>
  lockWith({
    services: {
      'services/cranes': {
        lockfile: 'services/cranes/yarn.lock',
        dependencies: { chalk: { specifier: '^5.0.0', use: 'chalk@5.6.2' } },
      },
      'services/berths': {
        name: '@harbour/berths',
        version: '1.0.0',
        lockfile: 'services/berths/package-lock.json',
        dependencies: {
          tide: { specifier: 'workspace:*', use: 'link:packages/tide' },
          chalk: { specifier: '^4.1.0', use: 'chalk@4.1.2', was: 'chalk@4.1.0' },
        },
      },
      'packages/tide': { name: 'tide', lockfile: 'pnpm-lock.yaml' },
    },
    packages: {
      'chalk@5.6.2': { integrity: integrity('5') },
      'chalk@4.1.2': { integrity: integrity('4'), engines: { node: '>=10' }, needsBuild: true },
    },
    instances: { 'chalk@5.6.2': { package: 'chalk@5.6.2' }, 'chalk@4.1.2': { package: 'chalk@4.1.2' } },
    root: { chalk: 'chalk@5.6.2', tide: 'link:packages/tide' },
    splits: {
      chalk: {
        proven: true,
        versions: {
          '4.1.2': { range: '^4.1.0', owner: 'services/berths', owners: 1 },
          '5.6.2': { range: '^5.0.0', owner: 'services/cranes', owners: 1 },
        },
      },
    },
  })

const KEY = { keytype: 'ecdsa-sha2-nistp256', scheme: 'ecdsa-sha2-nistp256', key: 'AAAA' }

describe('the file', () => {
  test('is sorted, with one line a fact', () => {
    expect(serializeLock(harbour()).replaceAll(/sha512-\S+/g, 'sha512-…')).toMatchInlineSnapshot(`
      "lockfileVersion: 1
      policy:
        platforms:
          - linux-x64-glibc
        versions: fewest
      inputs:
        polder.yaml: sha256-0
      npm:
        services:
          packages/tide:
            name: tide
            lockfile: pnpm-lock.yaml
          services/berths:
            name: '@harbour/berths'
            version: 1.0.0
            lockfile: services/berths/package-lock.json
            dependencies:
              chalk: {specifier: ^4.1.0, use: chalk@4.1.2, was: chalk@4.1.0}
              tide: {specifier: workspace:*, use: link:packages/tide}
          services/cranes:
            lockfile: services/cranes/yarn.lock
            dependencies:
              chalk: {specifier: ^5.0.0, use: chalk@5.6.2}
        splits:
          chalk:
            proven: true
            versions:
              4.1.2: {range: ^4.1.0, owner: services/berths, owners: 1}
              5.6.2: {range: ^5.0.0, owner: services/cranes, owners: 1}
        root:
          chalk: chalk@5.6.2
          tide: link:packages/tide
        packages:
          chalk@4.1.2:
            integrity: sha512-…
            engines:
              node: '>=10'
            needsBuild: true
          chalk@5.6.2:
            integrity: sha512-…
        instances:
          chalk@4.1.2: {}
          chalk@5.6.2: {}
      "
    `)
  })

  test('survives a round trip whatever the order of its keys', () => {
    const name = fc.stringMatching(/^[a-z][a-z0-9-]{0,8}$/)
    const version = fc.tuple(fc.nat(20), fc.nat(20), fc.nat(20)).map((parts) => parts.join('.'))
    const instances = fc.uniqueArray(
      fc.tuple(name, version).map(([text, number]) => `${text}@${number}`),
      { minLength: 1, maxLength: 12 },
    )
    fc.assert(
      fc.property(
        instances,
        fc.infiniteStream(fc.nat(1000)),
        fc.array(name, { maxLength: 4 }),
        (ids, picks, services) => {
          const shuffled = <T>(entries: [string, T][]): Record<string, T> =>
            Object.fromEntries(
              entries
                .map((entry) => [picks.next().value as number, entry] as const)
                .sort(([a], [b]) => a - b)
                .map(([, entry]) => entry),
            )
          const build = (): Lock =>
            lockWith({
              packages: shuffled(
                ids.map((id) => [id, { integrity: integrity(id), os: ['linux'], peerDependencies: { x: '>=1 <3' } }]),
              ),
              instances: shuffled(ids.map((id) => [id, { package: id, links: { [id.split('@')[0] ?? '']: id } }])),
              root: shuffled(
                ids.map((id) => [
                  id.split('@')[0] ?? '',
                  ids.find((other) => other.startsWith(`${id.split('@')[0] ?? ''}@`)),
                ]),
              ),
              services: shuffled(
                services.map((path) => [
                  path,
                  { lockfile: 'yarn.lock', dependencies: { dep: { specifier: '*', use: ids[0] } } },
                ]),
              ),
            })
          const text = serializeLock(build())
          expect(serializeLock(build())).toBe(text)
          expect(serializeLock(parseLock(text, 'polder.lock'))).toBe(text)
        },
      ),
      { numRuns: 60 },
    )
  })

  test('holds the signing keys of registries, sorted, and no trace of the index without any', () => {
    const text = serializeLock({
      ...harbour(),
      index: { keys: { 'SHA256:b': KEY, 'SHA256:a': { ...KEY, expires: '2026-01-01T00:00:00.000Z' } } },
    })
    expect(text).toContain(`index:
  keys:
    SHA256:a:
      keytype: ecdsa-sha2-nistp256
      scheme: ecdsa-sha2-nistp256
      key: AAAA
      expires: '2026-01-01T00:00:00.000Z'
    SHA256:b:
`)
    expect(serializeLock(parseLock(text, 'polder.lock'))).toBe(text)
    expect(parseSigningKeys(text)).toEqual(parseLock(text, 'polder.lock').index?.keys)
    for (const other of [
      '',
      serializeLock(harbour()),
      text.replace('key: AAAA', 'key: "'),
      text.replace('keytype', 'x'),
    ])
      expect(parseSigningKeys(other)).toEqual({})
    expect(serializeLock({ ...harbour(), index: { keys: {} } })).toBe(serializeLock(harbour()))
  })

  test('holds the pins that no lockfile has, sorted, a fact a line', () => {
    const index: LockedIndex = {
      packages: {
        ['tide@1.0.0' as PackageId]: { integrity: integrity('t'), workspace: true, private: true },
        ['@acme/lib@2.0.0' as PackageId]: { integrity: integrity('l'), file: 'vendor/lib.tgz' },
      },
      files: { 'https://host.example/b.zip?x=1': { integrity: integrity('f'), bytes: 12, for: 'node-gyp' } },
    }
    const text = serializeLock({ ...harbour(), index })
    expect(text.replaceAll(/sha512-\S+/g, 'sha512-…')).toContain(`index:
  packages:
    '@acme/lib@2.0.0':
      integrity: sha512-…
      file: vendor/lib.tgz
    tide@1.0.0:
      integrity: sha512-…
      workspace: true
      private: true
  files:
    https://host.example/b.zip?x=1:
      integrity: sha512-…
      bytes: 12
      for: node-gyp
`)
    expect(serializeLock(parseLock(text, 'polder.lock'))).toBe(text)
  })

  test.each([
    ['another version', 'lockfileVersion: 2\n', 'polder.lock has lockfileVersion 2'],
    ['no mapping', 'just text\n', 'polder.lock has no lockfileVersion'],
    ['broken YAML', 'lockfileVersion: [1\n', /^polder\.lock is not YAML: /],
    [
      'merge conflict markers',
      '<<<<<<< ours\nlockfileVersion: 1\n=======\n>>>>>>> theirs\n',
      'polder.lock holds merge conflict markers',
    ],
    [
      'an unknown key',
      serializeLock(harbour()).replace('npm:', 'conda: {}\nnpm:'),
      /^polder\.lock: .*Unrecognized key: "conda"/,
    ],
    [
      'a weak hash',
      serializeLock(harbour()).replace(/sha512-\S+/, 'sha1-AAAAAAAAAAAAAAAAAAAAAAAAAAA='),
      /integrity: is no sha512$/,
    ],
    [
      'a path out of the repository',
      serializeLock(harbour()).replace('lockfile: pnpm-lock.yaml', 'lockfile: ../x'),
      /lockfile: leads out of the repository$/,
    ],
    [
      'a dangling target',
      serializeLock(harbour()).replace('chalk: chalk@5.6.2', 'chalk: chalk@9.9.9'),
      'polder.lock: root > chalk leads to chalk@9.9.9, which the lock does not hold',
    ],
    [
      'an instance outside of node_modules',
      serializeLock(harbour()).replaceAll('chalk@5.6.2', '../../chalk@5.6.2'),
      /begins with no package name|is no package name/,
    ],
    [
      'node_modules as a name',
      serializeLock(harbour()).replace('chalk: chalk@5.6.2', '"@x/node_modules": chalk@5.6.2'),
      /is no package name/,
    ],
    [
      'a command ..',
      serializeLock(harbour()).replace('name: tide\n', 'name: tide\n      bin: {..: x.js}\n'),
      /is no command/,
    ],
    [
      'a signing key that is no base64',
      serializeLock({ ...harbour(), index: { keys: { a: { ...KEY, key: '-----BEGIN' } } } }),
      'polder.lock: index > keys > a > key: is no base64',
    ],
    [
      'a file by another scheme than http',
      serializeLock({ ...harbour(), index: { files: { 'file:///etc/passwd': { integrity: integrity('f') } } } }),
      /index > files > .*: is no http or https URL$/,
    ],
    [
      'an added tarball outside of the repository',
      serializeLock({
        ...harbour(),
        index: { packages: { ['a@1.0.0' as PackageId]: { integrity: integrity('f'), file: '../a.tgz' } } },
      }),
      /file: leads out of the repository$/,
    ],
    [
      '__proto__ as a name',
      serializeLock(harbour()).replace('chalk: chalk@5.6.2', '__proto__: chalk@5.6.2'),
      'polder.lock holds the name __proto__, which no package has',
    ],
  ])('with %s is refused', (_, text, message) => {
    expect(() => parseLock(text, 'polder.lock')).toThrowError(
      expect.objectContaining({
        code: 'LOCK_INVALID',
        message: typeof message === 'string' ? message : expect.stringMatching(message),
      }),
    )
  })
})

describe('a comparison', () => {
  test('of a lock with itself is empty, also when only its inputs differ', () => {
    expect(isEmptyDiff(diffLocks(harbour(), { ...harbour(), inputs: {} }))).toBe(true)
  })

  test('names versions, services, splits and changed bytes', () => {
    const after = harbour() as unknown as { npm: Record<string, Record<string, unknown>> }
    after.npm['packages'] = {
      'chalk@5.6.2': { integrity: integrity('other') },
      'ms@2.1.3': { integrity: integrity('ms') },
    }
    after.npm['splits'] = {}
    after.npm['services'] = {
      ...after.npm['services'],
      'services/berths': {
        lockfile: 'services/berths/package-lock.json',
        dependencies: { chalk: { specifier: '^5.0.0', use: 'chalk@5.6.2' } },
      },
    }
    expect(diffLocks(harbour(), after as unknown as Lock)).toEqual({
      packages: [
        { name: 'chalk', removed: ['4.1.2'], added: [] },
        { name: 'ms', removed: [], added: ['2.1.3'] },
      ],
      services: [
        { service: 'services/berths', name: 'chalk', before: 'chalk@4.1.2', after: 'chalk@5.6.2' },
        { service: 'services/berths', name: 'tide', before: 'link:packages/tide', after: null },
      ],
      splits: { added: [], removed: ['chalk'] },
      integrity: [{ id: 'chalk@5.6.2', before: integrity('5'), after: integrity('other') }],
      keys: [],
      additions: { added: [], removed: [] },
    })
  })

  test('names each signing key that came, went or is another', () => {
    const before = { ...harbour(), index: { keys: { 'SHA256:b': KEY, 'SHA256:c': KEY } } }
    const other = { ...KEY, key: 'AAAB' }
    const after = { ...harbour(), index: { keys: { 'SHA256:c': other, 'SHA256:a': KEY } } }
    const diff = diffLocks(before, after)
    expect(isEmptyDiff(diff)).toBe(false)
    expect(diff.keys).toEqual([
      { keyid: 'SHA256:a', before: null, after: KEY },
      { keyid: 'SHA256:b', before: KEY, after: null },
      { keyid: 'SHA256:c', before: KEY, after: other },
    ])
  })

  test('names what was added, and added pins whose bytes changed', () => {
    const file = (text: string): LockedIndex => ({
      packages: { ['lib@1.0.0' as PackageId]: { integrity: integrity(text) } },
      files: { [`https://host.example/${text}`]: { integrity: integrity(text) } },
    })
    const diff = diffLocks({ ...harbour(), index: file('a') }, { ...harbour(), index: file('b') })
    expect(isEmptyDiff(diff)).toBe(false)
    expect(diff.additions).toEqual({ added: ['https://host.example/b'], removed: ['https://host.example/a'] })
    expect(diff.integrity).toEqual([{ id: 'lib@1.0.0', before: integrity('a'), after: integrity('b') }])
  })
})
