import { appendFileSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

import { afterEach, beforeEach, describe, expect, test } from 'vitest'

import { temporaryDirectory, type Finished, type Invocation } from '../support/cli.ts'
import { writeMonorepo } from '../support/monorepo.ts'
import { startRegistry, type Registry, type ServedVersion } from '../support/registry.ts'
import { json, normalised, run } from '../support/sample.ts'
import { makeSigningKey, signRelease } from '../support/signing-key.ts'

let registry: Registry
let where: Invocation

beforeEach(async () => {
  registry = await startRegistry()
  where = { cwd: join(temporaryDirectory('trust'), 'repository'), home: join(temporaryDirectory('trust'), 'store') }
})
afterEach(() => registry.close())

/** One service that locks just these. */
function repository(locked: Readonly<Record<string, ServedVersion>>, config = ''): void {
  const dependencies = Object.fromEntries(Object.entries(locked).map(([name, { version }]) => [name, version]))
  writeMonorepo(where.cwd, registry, { 'services/web': { manifest: { dependencies }, locked } })
  if (config !== '') appendFileSync(join(where.cwd, 'polder.yaml'), `${config}\n`)
}

async function done(line: string): Promise<Finished> {
  const finished = await run(line, where)
  if (finished.code !== 0) throw new Error(`${line}: ${finished.code}\n${finished.stdout}${finished.stderr}`)
  return finished
}

async function refused(line: string, code: number): Promise<string> {
  const finished = await run(line, where)
  expect({ line, code: finished.code }).toEqual({ line, code })
  return normalised(finished.stderr, where).replaceAll(registry.url, '<registry>/')
}

const lockText = (): string => readFileSync(join(where.cwd, 'polder.lock'), 'utf8')

describe('signing keys', () => {
  test('are pinned when they first come, and the lock is the same bytes from a warm store', async () => {
    const key = makeSigningKey()
    registry.signWith(key)
    repository({ tide: registry.serve('tide', '1.0.0'), gull: registry.serve('@sea/gull', '2.0.0') })
    await done('lock')
    const text = lockText()
    expect(text).toContain(`index:\n  keys:\n    ${key.listed.keyid}:\n      keytype: ecdsa-sha2-nistp256\n`)
    const requests = registry.requests.length
    await done('lock')
    await done('lock --check')
    expect(lockText()).toBe(text)
    writeFileSync(join(where.cwd, 'polder.lock'), '')
    await done('lock --offline')
    expect(lockText()).toBe(text)
    expect(registry.requests.length).toBe(requests)
  })

  test('a registry without keys is asked for them once, and for no document', async () => {
    repository({ tide: registry.serve('tide', '1.0.0'), gull: registry.serve('@sea/gull', '2.0.0') })
    await done('lock')
    expect(registry.requests.map(({ path }) => path).sort()).toEqual([
      '/-/npm/v1/keys',
      '/@sea/gull/-/gull-2.0.0.tgz',
      '/tide/-/tide-1.0.0.tgz',
    ])
    expect(lockText()).not.toContain('\nindex:')
  })
})

describe('a registry that signs', () => {
  const key = makeSigningKey()
  let tide: ServedVersion
  let text: string

  beforeEach(async () => {
    registry.signWith(key)
    tide = registry.serve('tide', '1.0.0')
    repository({ tide })
    await done('lock')
    text = lockText()
  })

  /** Pins a second package, with whatever the registry has become. */
  function pinAnother(): void {
    repository({ tide, gull: registry.serve('gull', '1.0.0') })
  }

  test('and then has another key under the same id is refused, and accepted only if asked for', async () => {
    const swapped = makeSigningKey({ keyid: key.listed.keyid })
    registry.signWith(swapped)
    pinAnother()
    expect(await refused('lock', 5)).toBe(
      `polder: <registry>/ has another key under the id of a pinned one: ${key.listed.keyid} [SIGNING_KEY_SWAPPED]\n` +
        '  hint: a new key gets a new id, so this is no rotation; ask who runs the registry, and only then `polder lock --accept-keys`\n',
    )
    expect(lockText()).toBe(text)
    expect(await refused('index sync', 5)).toContain('[SIGNING_KEY_SWAPPED]')
    expect(await refused('lock --accept-keys --offline', 2)).toContain('[USAGE]')
    registry.serve('tide', '1.0.0')
    const { stdout } = await done('lock --accept-keys')
    expect(stdout).toContain(`! signing key ${key.listed.keyid}: another key\n`)
    expect(lockText()).toContain(swapped.listed.key)
    expect(lockText()).not.toContain(key.listed.key)
  })

  test('and then with a key that is not pinned is refused, and accepted if asked for', async () => {
    const fresh = makeSigningKey()
    registry.signWith(fresh, [key, fresh])
    pinAnother()
    const error = await refused('lock', 5)
    expect(error).toContain(
      `polder: gull@1.0.0 is signed by ${fresh.listed.keyid}, which is no pinned key, needed by services/web [SIGNING_KEY_UNKNOWN]`,
    )
    expect(error).toContain(`drift: ${fresh.listed.keyid}: is a new signing key of <registry>/, and not pinned`)
    expect(lockText()).toBe(text)
    const { stdout } = await done('lock --accept-keys')
    expect(stdout).toContain(`+ signing key ${fresh.listed.keyid}\n`)
    expect(lockText()).toContain(key.listed.key)
    expect(lockText()).toContain(fresh.listed.key)
  })

  test('but not what its document says is refused', async () => {
    const sig = signRelease(key, 'gull', '1.0.0', 'sha512-of-something-else')
    repository({ tide, gull: registry.serve('gull', '1.0.0', { dist: { signatures: [sig] } }) })
    expect(await refused('lock', 5)).toContain(
      `the signature of gull@1.0.0 by ${key.listed.keyid} does not match <hash>, needed by services/web [SIGNATURE_INVALID]`,
    )
    expect(lockText()).toBe(text)
    expect(await refused('index sync', 5)).toContain('[SIGNATURE_INVALID]')
  })

  test('with a key that had expired before is refused', async () => {
    const expired = makeSigningKey({ expires: '2019-06-01T00:00:00.000Z' })
    registry.signWith(expired, [expired])
    where = { ...where, cwd: join(temporaryDirectory('trust'), 'repository'), home: `${where.home}-other` }
    pinAnother()
    expect(await refused('lock', 5)).toContain(
      `was published at 2020-01-01T00:00:00.000Z and is signed by ${expired.listed.keyid}, which expired at 2019-06-01T00:00:00.000Z`,
    )
  })

  test('but not everything is told so, and refused if every release needs a signature', async () => {
    registry.signWith(null, [key])
    pinAnother()
    expect((await done('lock')).stderr).toBe('warning: gull@1.0.0 has no signature, although its registry signs\n')
    where = { ...where, home: `${where.home}-other` }
    appendFileSync(join(where.cwd, 'polder.yaml'), 'index: { signatures: required }\n')
    expect(await refused('lock', 5)).toContain(
      'no signature of gull@1.0.0 could be verified: it has none, needed by services/web [SIGNATURE_MISSING]',
    )
  })

  test('and no longer answers for its keys is checked with those that are pinned', async () => {
    registry.fault('/-/npm/v1/keys', { kind: 'status', status: 503 })
    const sig = signRelease(makeSigningKey({ keyid: key.listed.keyid }), 'gull', '1.0.0', 'x')
    repository({ tide, gull: registry.serve('gull', '1.0.0', { dist: { signatures: [sig] } }) })
    expect(await refused('lock', 5)).toContain('[SIGNATURE_INVALID]')
  })

  test('is verified by a lock that comes after one that was killed', async () => {
    const sig = signRelease(key, 'gull', '1.0.0', 'x')
    repository({ tide, gull: registry.serve('gull', '1.0.0', { dist: { signatures: [sig] } }) })
    await refused('lock', 5)
    // The artifact is there, and nothing has to be fetched any more.
    expect(registry.count('/gull/-/gull-1.0.0.tgz')).toBe(1)
    expect(await refused('lock', 5)).toContain('[SIGNATURE_INVALID]')
    expect(registry.count('/gull/-/gull-1.0.0.tgz')).toBe(1)
  })

  test('index sync says what it recorded and verified', async () => {
    const document = await json('index sync', { ...where, home: `${where.home}-other` })
    expect(document).toEqual({
      pins: 1,
      fetched: 1,
      bytes: tide.bytes.length,
      releases: {
        recorded: 1,
        verified: 1,
        unsigned: [],
        unverifiable: [],
        attestations: { verified: 0, key: 0, unverified: 0 },
      },
      drift: [],
    })
  })
})
