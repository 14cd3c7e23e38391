import { type Additions, integrityOf, type PackageId, sortKeys } from '@polder/spec'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'

import { readAdditions, serializeAdditions } from '../src/index.ts'
import { failure, gathered, type Files, refusal, repository } from './support/repository.ts'

const hash = (text: string): ReturnType<typeof integrityOf> => integrityOf('sha512', Buffer.from(text))
const ADDED: Additions = {
  packages: { ['@acme/lib@2.0.0' as PackageId]: { integrity: hash('lib'), file: 'vendor/lib.tgz', private: true } },
  files: { 'https://host.example/a b.zip?x=1': { integrity: hash('zip'), bytes: 3, for: 'node-gyp' } },
}
/** A service that pins `ms@2.1.3`. */
const SERVICE: Files = {
  'package.json': { name: 'web', version: '1.0.0', dependencies: { ms: '^2.0.0' } },
  'package-lock.json': {
    name: 'web',
    version: '1.0.0',
    lockfileVersion: 3,
    packages: {
      '': { name: 'web', version: '1.0.0', dependencies: { ms: '^2.0.0' } },
      'node_modules/ms': { version: '2.1.3', integrity: hash('ms') },
    },
  },
}

describe('polder.pins.yaml', () => {
  test('is an input of the lock, and what is in it is gathered', async () => {
    const { additions, inputs } = await gathered({ ...SERVICE, 'polder.pins.yaml': serializeAdditions(ADDED) })
    expect(additions).toEqual(ADDED)
    expect(inputs.map(({ path }) => path)).toContain('polder.pins.yaml')
  })

  test('need not be there', async () => {
    const { additions, inputs } = await gathered(SERVICE)
    expect(additions).toBeUndefined()
    expect(inputs.map(({ path }) => path)).not.toContain('polder.pins.yaml')
  })

  test('has one fact a line', () => {
    expect(serializeAdditions(ADDED).replaceAll(/sha512-\S+/g, 'sha512-…')).toBe(
      `# Pins that no lockfile has. \`polder index add\` writes this file, \`polder lock\` takes it into polder.lock.
pinsVersion: 1
packages:
  "@acme/lib@2.0.0":
    integrity: sha512-…
    file: vendor/lib.tgz
    private: true
files:
  https://host.example/a b.zip?x=1:
    integrity: sha512-…
    bytes: 3
    for: node-gyp
`,
    )
  })

  test('survives a round trip, sorted, whatever the order', () => {
    const id = fc
      .tuple(fc.stringMatching(/^(@[a-z]{1,3}\/)?[a-z][a-z0-9._-]{0,6}$/), fc.nat(9))
      .map(([name, major]) => `${name}@${major}.0.0`)
    const entry = fc.record(
      {
        integrity: fc.string().map(hash),
        file: fc.constantFrom('a.tgz', 'vendor/ä: b #.tgz'),
        private: fc.constant(true as const),
      },
      { requiredKeys: ['integrity'] },
    )
    const url = fc.webUrl({ withQueryParameters: true })
    fc.assert(
      fc.property(
        fc.dictionary(id, entry),
        fc.dictionary(url, fc.record({ integrity: fc.string().map(hash) })),
        (packages, files) => {
          const additions = { packages, files } as Additions
          const root = repository({ 'polder.pins.yaml': serializeAdditions(additions) })
          expect(readAdditions(root)).toEqual({ packages: sortKeys(packages), files: sortKeys(files) })
          const reversed = (record: object): object => Object.fromEntries(Object.entries(record).reverse())
          expect(serializeAdditions({ packages: reversed(packages), files: reversed(files) } as Additions)).toBe(
            serializeAdditions(additions),
          )
        },
      ),
      { numRuns: 40 },
    )
  })

  test.each([
    ['no version', 'packages: {}\n', 'polder.pins.yaml: pinsVersion: Invalid input: expected 1'],
    ['broken YAML', 'pinsVersion: [1\n', /^polder\.pins\.yaml: Flow sequence/],
    ['conflict markers', 'pinsVersion: 1\n<<<<<<< ours\n=======\n>>>>>>> theirs\n', /^polder\.pins\.yaml: /],
    [
      'a weak hash',
      `pinsVersion: 1\npackages:\n  a@1.0.0:\n    integrity: sha1-x\n`,
      'polder.pins.yaml: packages: a@1.0.0: integrity: is no sha512',
    ],
    [
      'no version of a package',
      `pinsVersion: 1\npackages:\n  a@latest:\n    integrity: ${hash('')}\n`,
      'polder.pins.yaml: packages: a@latest: is no name@version',
    ],
    [
      'a path out of the repository',
      `pinsVersion: 1\npackages:\n  a@1.0.0:\n    integrity: ${hash('')}\n    file: ../a.tgz\n`,
      'polder.pins.yaml: packages: a@1.0.0: file: leads out of the repository',
    ],
    [
      'no URL',
      `pinsVersion: 1\nfiles:\n  file:///etc/passwd:\n    integrity: ${hash('')}\n`,
      'polder.pins.yaml: files: file:///etc/passwd: is no http or https URL',
    ],
    [
      '__proto__',
      `pinsVersion: 1\npackages:\n  __proto__:\n    integrity: ${hash('')}\n`,
      'polder.pins.yaml: holds the name __proto__, which nothing has',
    ],
    ['aliases', `pinsVersion: 1\npackages: &a {}\nfiles: *a\n`, /^polder\.pins\.yaml: /],
  ])('with %s is refused', async (_, text, message) => {
    const root = repository({ 'polder.pins.yaml': text })
    const error = await refusal(() => readAdditions(root))
    expect(error).toMatchObject({
      code: 'CONFIG_INVALID',
      message: typeof message === 'string' ? message : expect.stringMatching(message),
    })
  })

  test('cannot pin other bytes for a version than a lockfile', async () => {
    const pinned = (text: string): string =>
      serializeAdditions({ packages: { ['ms@2.1.3' as PackageId]: { integrity: hash(text) } }, files: {} })
    const error = await failure({ ...SERVICE, 'polder.pins.yaml': pinned('other') })
    expect(error).toMatchObject({
      code: 'PIN_CONFLICT',
      message: 'ms@2.1.3 has another hash in package-lock.json than in polder.pins.yaml',
    })
    await expect(gathered({ ...SERVICE, 'polder.pins.yaml': pinned('ms') })).resolves.toBeDefined()
  })
})
