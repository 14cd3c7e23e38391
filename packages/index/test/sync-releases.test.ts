import { readdirSync } from 'node:fs'
import { join } from 'node:path'

import { packageId, type PackageId } from '@polder/spec'
import { describe, expect, test } from 'vitest'

import { readRelease } from '../src/trust/releases.ts'
import { failures, NOW, useWorld, wanted } from './release-world.ts'

const world = useWorld()
const id = packageId('tide', '1.0.0')

describe('a release record', () => {
  test('has what the full document says, and is made with one request a name', async () => {
    const { registry } = world
    const tide = registry.serve('tide', '1.0.0', { published: '2025-03-04T05:06:07.000Z', deprecated: 'ebbed' })
    const later = registry.serve('tide', '1.1.0', { dist: { fileCount: 3, unpackedSize: 1234 } })
    const scoped = registry.serve('@sea/gull', '2.0.0')
    const report = await world.sync([tide, later, scoped])
    expect(report).toMatchObject({ recorded: 3, failures: [], drift: [], unsigned: [], keys: {} })
    expect(registry.requests.map(({ rawUrl }) => rawUrl).sort()).toEqual(['/-/npm/v1/keys', '/@sea%2fgull', '/tide'])
    expect(readRelease(world.store, id)).toEqual({
      name: 'tide',
      version: '1.0.0',
      registry: registry.url,
      etag: expect.stringMatching(/^"/) as unknown,
      modified: '2020-01-01T00:00:00.000Z',
      published: '2025-03-04T05:06:07.000Z',
      deprecated: 'ebbed',
      integrity: tide.integrity,
      shasum: tide.shasum,
      distTags: { latest: '1.1.0' },
    })
    expect(readRelease(world.store, packageId('tide', '1.1.0'))).toMatchObject({ fileCount: 3, unpackedSize: 1234 })
  })

  test('is not asked for again, and a sync that failed goes on with what is missing', async () => {
    const { registry } = world
    const [tide, gull] = [registry.serve('tide', '1.0.0'), registry.serve('gull', '1.0.0')]
    registry.fault('/gull', { kind: 'status', status: 500 })
    const first = await world.sync([tide, gull])
    expect(first).toMatchObject({ recorded: 1 })
    expect(failures(first)).toEqual([
      `FETCH_FAILED: gull@1.0.0 cannot be fetched: ${registry.url}gull answered 500 (3 attempts), needed by services/web`,
    ])
    registry.clearFaults()
    expect(await world.sync([tide, gull])).toMatchObject({ recorded: 1, failures: [] })
    expect(registry.count('/tide')).toBe(1)
    const before = registry.requests.length
    expect(await world.sync([tide, gull])).toMatchObject({ recorded: 0, failures: [] })
    expect(registry.requests.length).toBe(before)
  })

  test('is of tarballs by URL and of files never asked for', async () => {
    const tide = world.registry.serve('tide', '1.0.0')
    const url = wanted(tide, { source: { kind: 'tarball', url: tide.url }, id: `tide@${tide.url}` as PackageId })
    const { syncReleases } = await import('../src/trust/sync-releases.ts')
    const npm = async (): Promise<never> => Promise.reject(new Error('the network was asked for'))
    const report = await syncReleases(world.store, [url], {
      npm,
      keys: {},
      signatures: 'verify',
      scope: 'all',
      trustedRoot: null,
    })
    expect(report.recorded).toBe(0)
  })

  test('two syncs at the same time record the same', async () => {
    const { registry } = world
    const served = Array.from({ length: 30 }, (_, index) => registry.serve(`tide-${index}`, '1.0.0'))
    const reports = await Promise.all([world.sync(served), world.sync(served), world.sync(served)])
    for (const { failures: failed, drift } of reports) expect([failed, drift]).toEqual([[], []])
    for (const { name, integrity } of served)
      expect(readRelease(world.store, packageId(name, '1.0.0'))).toMatchObject({ integrity })
    const files = readdirSync(join(world.store.home, 'releases'), { recursive: true, encoding: 'utf8' })
    expect(files.filter((name) => name.endsWith('.json'))).toHaveLength(30)
    expect(files.filter((name) => name.endsWith('.tmp'))).toEqual([])
  })

  test('survives gzip, also a truncated one', async () => {
    world.registry = await world.start({ gzip: true })
    const tide = world.registry.serve('tide', '1.0.0')
    world.registry.fault('/tide', { kind: 'truncate', times: 1 })
    expect(await world.sync([tide])).toMatchObject({ recorded: 1, failures: [] })
    expect(world.registry.requests.at(-1)?.headers['accept-encoding']).toBe('gzip')
  })
})

test.each([401, 403, 400, 429])(
  'a document that is answered with %i is a failure, not a version that is gone',
  async (status) => {
    const tide = world.registry.serve('tide', '1.0.0')
    world.registry.fault('/tide', { kind: 'status', status })
    const report = await world.sync([tide])
    expect(report.drift).toEqual([])
    expect(failures(report)).toEqual([expect.stringContaining(`answered ${status}`)])
  },
)

describe('a hostile document', () => {
  test.each([
    ['no JSON', '<html>', 'is not JSON: no object at byte 0'],
    ['a document that ends early', '{"name":"tide","versions":{"1.0.0":{"dist":', 'is not JSON: '],
    ['of another package', '{"name":"tidal"}', 'is of another package, tidal'],
    [
      'with another version in its place',
      '{"versions":{"1.0.0":{"name":"tide","version":"0.9.0","dist":{}}}}',
      'has tide@0.9.0 in the place of 1.0.0',
    ],
    [
      'with another package in its place',
      '{"versions":{"1.0.0":{"name":"tidal","version":"1.0.0"}}}',
      'has tidal@1.0.0 in the place of 1.0.0',
    ],
    [
      'with signatures that are none',
      '{"versions":{"1.0.0":{"dist":{"signatures":[{"keyid":1}]}}}}',
      'is malformed: signatures > 0 > keyid > Invalid input',
    ],
    ['with versions that are none', '{"versions":[]}', 'is not JSON: no object at byte '],
  ])('%s is refused', async (_, body, problem) => {
    const { registry } = world
    const tide = registry.serve('tide', '1.0.0')
    registry.fault('/tide', { kind: 'status', status: 200, body })
    const report = await world.sync([tide])
    expect(failures(report)).toEqual([
      expect.stringContaining(
        `FETCH_FAILED: tide@1.0.0 cannot be fetched: the document of tide at ${registry.url} ${problem}`,
      ),
    ])
    expect(readRelease(world.store, id)).toBeUndefined()
  })

  test('with __proto__ everywhere leaves no trace', async () => {
    const { registry } = world
    const tide = registry.serve('tide', '1.0.0')
    const own = '"__proto__":{"polluted":"yes","published":"2001-01-01"}'
    registry.fault('/tide', {
      kind: 'status',
      status: 200,
      body: `{${own},"name":"tide","dist-tags":{${own.replace(/\{.*\}/, '"1.0.0"')},"latest":"1.0.0"},"time":{${own}},"versions":{${own},"1.0.0":{${own},"dist":{${own},"integrity":"${tide.integrity}"}}}}`,
    })
    expect(await world.sync([tide])).toMatchObject({ recorded: 1, failures: [] })
    const release = readRelease(world.store, id)
    expect(release?.published).toBeUndefined()
    expect(release?.distTags).toEqual({ latest: '1.0.0' })
    expect(({} as Record<string, unknown>)['polluted']).toBeUndefined()
  })

  test('that never ends is cut off at its limit, gzipped ones as well', async () => {
    const { registry } = world
    const tide = registry.serve('tide', '1.0.0')
    registry.fault('/tide', { kind: 'endless' })
    expect(failures(await world.sync([tide]))).toEqual([
      expect.stringContaining('sends more than the 104857600 bytes allowed'),
    ])
    const bomb = await import('node:zlib').then(({ gzipSync }) => gzipSync(Buffer.alloc(101 * 1024 * 1024, ' ')))
    registry.clearFaults()
    const { createServer } = await import('node:http')
    const server = createServer((_, response) => {
      response.writeHead(200, { 'content-type': 'application/json', 'content-encoding': 'gzip' }).end(bomb)
    })
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    const { port } = server.address() as { port: number }
    try {
      const npm = async (): ReturnType<ReturnType<typeof world.config>> => ({
        ...(await world.config()()),
        registry: `http://127.0.0.1:${port}/`,
      })
      expect(failures(await world.sync([tide], { npm }))).toEqual([
        expect.stringContaining('sends more than the 104857600 bytes allowed'),
      ])
    } finally {
      server.close()
      server.closeAllConnections()
    }
  })

  test.each(['hang', 'stall', 'reset', 'truncate', 'short'] as const)(
    'that comes at the second attempt only is had: %s',
    async (kind) => {
      const { registry } = world
      const tide = registry.serve('tide', '1.0.0')
      registry.fault('/tide', { kind, times: 1 })
      const sockets = { perHost: 15, localAddress: null, timeoutMs: 400 }
      const report = await world.sync([tide], { npm: world.config({ sockets }) })
      if (kind === 'short') expect(failures(report)[0]).toContain('is not JSON')
      else expect(report).toMatchObject({ recorded: 1, failures: [] })
    },
  )

  test('that redirects for ever is a failure, and nothing is recorded', async () => {
    const { registry } = world
    const tide = registry.serve('tide', '1.0.0')
    registry.fault('/tide', { kind: 'redirect', to: `${registry.url}tide` })
    expect(failures(await world.sync([tide]))).toEqual([expect.stringContaining('redirects more than 10 times')])
    expect(readRelease(world.store, id)).toBeUndefined()
  })
})

describe('drift', () => {
  const drift = async (served: Parameters<typeof world.sync>[0]): Promise<readonly string[]> =>
    (await world.sync(served)).drift.map(({ kind, subject, message }) => `${kind} ${subject}: ${message}`)

  test('a version with other bytes than the pinned ones is reported, and nothing of it recorded', async () => {
    const { registry } = world
    const pinned = registry.serve('tide', '1.0.0')
    const other = registry.serve('tide', '1.0.0', { files: { 'index.js': 'other' } })
    expect(await drift([pinned])).toEqual([
      `bytes tide@1.0.0: its registry has other bytes, ${other.integrity} instead of ${pinned.integrity}`,
    ])
    expect(readRelease(world.store, id)).toBeUndefined()
  })

  test('an unpublished version and an unpublished name are reported', async () => {
    const { registry } = world
    const [tide, gull] = [registry.serve('tide', '1.0.0'), registry.serve('gull', '1.0.0')]
    registry.serve('tide', '1.1.0')
    registry.unpublish('tide', '1.0.0')
    registry.unpublish('gull')
    expect(await drift([tide, gull])).toEqual([
      'unpublished gull@1.0.0: its registry has no such name',
      'unpublished tide@1.0.0: its registry no longer lists it',
    ])
    expect(readRelease(world.store, id)).toMatchObject({ unlisted: true })
  })

  test('a document older than the recorded one, of the future, and a tag that went back, are reported', async () => {
    const { registry } = world
    const first = registry.serve('tide', '1.0.0')
    const second = registry.serve('tide', '1.1.0')
    registry.alterDocument('tide', { modified: '2026-05-01T00:00:00.000Z' })
    await world.sync([first])
    registry.alterDocument('tide', { modified: '2026-04-01T00:00:00.000Z', 'dist-tags': { latest: '1.0.0' } })
    expect(await drift([first, second])).toEqual([
      'rollback tide: its document is of 2026-04-01T00:00:00.000Z, older than the recorded one of 2026-05-01T00:00:00.000Z',
      'tag tide: latest moved from 1.1.0 to 1.0.0',
    ])
    const third = registry.serve('tide', '1.2.0')
    registry.alterDocument('tide', { modified: new Date(NOW + 400 * 86_400_000).toISOString() })
    expect(await drift([third])).toEqual([
      'future tide: its document is of 2027-07-06T00:00:00.000Z, which is yet to come',
    ])
  })
})
