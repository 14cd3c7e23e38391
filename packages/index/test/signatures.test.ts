import { packageId } from '@polder/spec'
import { describe, expect, test } from 'vitest'

import { makeSigningKey, signRelease } from '../../../test/support/signing-key.ts'
import { readRelease } from '../src/trust/releases.ts'
import { recalledKeys, remembersKeys, type SigningKeys } from '../src/trust/remembered-keys.ts'
import { failures, useWorld } from './release-world.ts'

const world = useWorld()
const id = packageId('tide', '1.0.0')

/** As the lock pins them. */
function pinned(...keys: readonly ReturnType<typeof makeSigningKey>[]): SigningKeys {
  return Object.fromEntries(
    keys.map(({ listed: { keyid, keytype, scheme, key, expires } }) => [
      keyid,
      { keytype, scheme, key, ...(expires === null ? {} : { expires }) },
    ]),
  )
}

describe('keys', () => {
  test('are trusted and remembered when they first come, sorted, and hold against others from then on', async () => {
    const [first, second] = [makeSigningKey(), makeSigningKey()]
    world.registry.signWith(first, [first, second])
    const tide = world.registry.serve('tide', '1.0.0')
    const report = await world.sync([tide])
    expect(report).toMatchObject({ recorded: 1, verified: 1, keys: pinned(first, second), drift: [] })
    expect(remembersKeys(world.store)).toBe(true)
    expect(recalledKeys(world.store, [id])).toEqual(pinned(first, second))
    expect(recalledKeys(world.store, [packageId('gull', '1.0.0')])).toEqual({})

    // No lock pins them yet; another key is refused all the same.
    world.registry.signWith(makeSigningKey({ keyid: first.listed.keyid }))
    const gull = world.registry.serve('gull', '1.0.0')
    const again = await world.sync([gull])
    expect(failures(again)).toEqual([
      `SIGNING_KEY_SWAPPED: ${world.registry.url} has another key under the id of a pinned one: ${first.listed.keyid}`,
    ])
    expect(recalledKeys(world.store, [id])).toEqual(pinned(first, second))
  })

  test('that are swapped are one failure, whatever the number of packages', async () => {
    const key = makeSigningKey()
    world.registry.signWith(makeSigningKey({ keyid: key.listed.keyid }))
    const served = ['a', 'b', 'c'].map((name) => world.registry.serve(name, '1.0.0'))
    const report = await world.sync(served, { keys: pinned(key) })
    expect(report.failures).toHaveLength(1)
    expect([report.recorded, report.keys]).toEqual([0, pinned(key)])
  })

  test('that are new are drift as long as nothing is signed by them alone', async () => {
    const [old, fresh] = [makeSigningKey(), makeSigningKey()]
    world.registry.signWith(old, [old, fresh])
    const tide = world.registry.serve('tide', '1.0.0')
    const report = await world.sync([tide], { keys: pinned(old) })
    expect(report).toMatchObject({ verified: 1, failures: [], keys: pinned(old) })
    expect(report.drift).toEqual([
      {
        kind: 'key',
        subject: fresh.listed.keyid,
        message: `is a new signing key of ${world.registry.url}, and not pinned`,
      },
    ])
  })

  test('of a release that both an old and a new key signed are enough by the old one', async () => {
    const [old, fresh] = [makeSigningKey(), makeSigningKey()]
    world.registry.signWith(null, [old, fresh])
    const plain = world.registry.serve('tide', '1.0.0')
    const signatures = [fresh, old].map((key) => signRelease(key, 'tide', '1.0.0', plain.integrity))
    const tide = world.registry.serve('tide', '1.0.0', { dist: { signatures } })
    expect(await world.sync([tide], { keys: pinned(old) })).toMatchObject({ verified: 1, failures: [] })
  })

  test('expire as early as pinned or served says, and not later because the registry says so', async () => {
    const expires = '2019-06-01T00:00:00.000Z'
    const key = makeSigningKey()
    const expired = { ...key, listed: { ...key.listed, expires } }
    world.registry.signWith(key, [expired])
    const tide = world.registry.serve('tide', '1.0.0')
    const sooner = await world.sync([tide], { keys: pinned(key) })
    expect(failures(sooner)).toEqual([
      `SIGNING_KEY_EXPIRED: tide@1.0.0 was published at 2020-01-01T00:00:00.000Z and is signed by ${key.listed.keyid}, which expired at ${expires}, needed by services/web`,
    ])
    const prolonged = { ...key, listed: { ...key.listed, expires: '2030-01-01T00:00:00.000Z' } }
    for (const [pin, listed] of [
      [expired, prolonged],
      [prolonged, expired],
    ] as const) {
      world.registry.signWith(key, [listed])
      expect(failures(await world.sync([tide], { keys: pinned(pin) }))).toEqual([
        expect.stringContaining(`which expired at ${expires}`),
      ])
    }
    world.registry.signWith(key)
    const later = await world.sync([tide], { keys: pinned(expired) })
    expect(failures(later)).toEqual([expect.stringContaining('SIGNING_KEY_EXPIRED: ')])
    expect(later.drift.map(({ message }) => message)).toEqual([
      `expires at ${world.registry.url} never, and as pinned ${expires}`,
    ])
    expect(await world.sync([tide], { keys: pinned(expired), acceptKeys: true })).toMatchObject({
      verified: 1,
      failures: [],
      keys: pinned(key),
    })
  })

  test('of an expired key and a release without a date cannot vouch for it, which is told', async () => {
    const key = makeSigningKey({ expires: '2021-01-01T00:00:00.000Z' })
    world.registry.signWith(key)
    const tide = world.registry.serve('tide', '1.0.0', { published: null })
    const report = await world.sync([tide])
    expect(report.unverifiable).toEqual([{ id, reason: expect.stringContaining('expired at 2021-01-01') as unknown }])
    world.store = { home: `${world.directory}/other` }
    expect(failures(await world.sync([tide], { signatures: 'required' }))[0]).toContain('SIGNATURE_MISSING: ')
  })

  test.each([
    ['HTML', '<html>not here</html>'],
    [
      'two keys of one id',
      JSON.stringify({ keys: [makeSigningKey({ keyid: 'a' }).listed, makeSigningKey({ keyid: 'a' }).listed] }),
    ],
    ['a key that is none', JSON.stringify({ keys: [{ ...makeSigningKey().listed, key: '<key>' }] })],
  ])('that are %s are no keys: told, and nothing is believed or remembered', async (_, body) => {
    world.registry.fault('/-/npm/v1/keys', { kind: 'status', status: 200, body })
    const report = await world.sync([world.registry.serve('tide', '1.0.0')])
    expect(report).toMatchObject({ recorded: 1, verified: 0, keys: {}, failures: [] })
    expect(report.warnings).toEqual([expect.stringContaining('were not verified: ')])
    expect(remembersKeys(world.store)).toBe(false)
  })

  test('of an unknown kind verify nothing, which is told', async () => {
    const key = makeSigningKey({ keytype: 'ssh-ed25519' })
    world.registry.signWith(key)
    const report = await world.sync([world.registry.serve('tide', '1.0.0')])
    expect(report.unverifiable[0]?.reason).toContain('is a ssh-ed25519 key, which polder does not know')
  })

  test('are neither asked for nor used if signatures are off', async () => {
    world.registry.signWith(makeSigningKey())
    const report = await world.sync([world.registry.serve('tide', '1.0.0')], { signatures: 'off' })
    expect(report).toMatchObject({ recorded: 1, verified: 0, keys: {} })
    expect(world.registry.count('/-/npm/v1/keys')).toBe(0)
  })

  test('under a name that every object has are no keys', async () => {
    const key = makeSigningKey({ keyid: 'constructor' })
    world.registry.signWith(key, [makeSigningKey()])
    expect(failures(await world.sync([world.registry.serve('tide', '1.0.0')]))[0]).toContain(
      'SIGNING_KEY_UNKNOWN: tide@1.0.0 is signed by constructor, which is no pinned key',
    )
  })
})

test('what was signed for other bytes, or for another package, is refused and not recorded', async () => {
  const key = makeSigningKey()
  world.registry.signWith(key)
  const tide = world.registry.serve('tide', '1.0.0')
  const stolen = signRelease(key, 'gull', '1.0.0', tide.integrity)
  const moved = world.registry.serve('tide', '1.0.0', { dist: { signatures: [stolen] } })
  expect(failures(await world.sync([moved]))[0]).toContain(
    `SIGNATURE_INVALID: the signature of tide@1.0.0 by ${key.listed.keyid} does not match ${tide.integrity}`,
  )
  expect(readRelease(world.store, id)).toBeUndefined()
})

test('of the registries that sign only: another one is asked for its keys, and for no document', async () => {
  const other = await world.start()
  world.registry.signWith(makeSigningKey())
  const [tide, crane] = [world.registry.serve('tide', '1.0.0'), other.serve('@sea/crane', '1.0.0')]
  const npm = world.config({ scopes: new Map([['@sea', other.url]]) })
  const report = await world.sync([tide, crane], { scope: 'signed', npm })
  expect(report).toMatchObject({ recorded: 1, verified: 1, failures: [] })
  expect(other.requests.map(({ path }) => path)).toEqual(['/-/npm/v1/keys'])
})
