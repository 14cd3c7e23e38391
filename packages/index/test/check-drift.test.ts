import { readdirSync } from 'node:fs'

import { type PackageId } from '@polder/spec'
import { writeArtifact } from '@polder/store'
import { expect, test } from 'vitest'

import type { ServedVersion } from '../../../test/support/registry.ts'
import { makeSigningKey } from '../../../test/support/signing-key.ts'
import { checkDrift, type CheckReport } from '../src/trust/check-drift.ts'
import type { NpmConfig } from '../src/upstream/npm-config.ts'
import type { WantedRelease } from '../src/trust/wanted-releases.ts'
import { clock, useWorld, wanted } from './release-world.ts'

const world = useWorld()

const check = (served: readonly (ServedVersion | WantedRelease)[], config?: Partial<NpmConfig>): Promise<CheckReport> =>
  checkDrift(
    world.store,
    served.map((one) => ('source' in one ? one : wanted(one))),
    { npm: world.config(config), keys: {}, clock },
  )

const lines = ({ drift }: CheckReport): readonly string[] =>
  drift.map(
    ({ kind, subject, message, expected }) => `${kind} ${subject}: ${message}${expected === true ? ' (expected)' : ''}`,
  )

const everything = (): readonly string[] => readdirSync(world.store.home, { recursive: true, encoding: 'utf8' }).sort()

test('where nothing changed, documents are not even sent again, and nothing is written', async () => {
  const served = [world.registry.serve('tide', '1.0.0'), world.registry.serve('tide', '1.1.0')]
  await world.sync(served)
  const before = everything()
  const from = world.registry.requests.length
  expect(await check(served)).toEqual({ checked: 2, skipped: 0, drift: [], failures: [] })
  expect(world.registry.requests.slice(from).map(({ headers }) => headers['if-none-match'])).toEqual([
    expect.stringMatching(/^"/),
  ])
  expect(everything()).toEqual(before)
})

test('everything that a registry says otherwise is told', async () => {
  const { registry } = world
  const key = makeSigningKey()
  registry.signWith(key)
  const tide = registry.serve('tide', '1.0.0')
  const gone = registry.serve('gone', '1.0.0')
  const other = registry.serve('other', '1.0.0')
  const moved = registry.serve('moved', '1.0.0')
  await world.sync([tide, gone, other, moved])
  registry.signWith(null)
  registry.serve('tide', '1.0.0', { document: { deprecated: 'use gull' }, published: '2021-01-01T00:00:00.000Z' })
  registry.unpublish('gone')
  registry.serve('other', '1.0.0', { files: { 'index.js': 'evil' } })
  registry.serve('moved', '2.0.0')
  const report = await check([tide, gone, other, moved])
  expect(lines(report)).toEqual([
    'unpublished gone@1.0.0: its registry has no such name',
    'tag moved: latest moved from 1.0.0 to 2.0.0 (expected)',
    `bytes other@1.0.0: its registry has other bytes, ${world.registry.serve('other', '1.0.0', { files: { 'index.js': 'evil' } }).integrity} instead of ${other.integrity}`,
    'signatures other@1.0.0: had signatures, and has none any more',
    'date tide@1.0.0: was published at 2021-01-01T00:00:00.000Z, says its registry, and recorded is 2020-01-01T00:00:00.000Z',
    'deprecated tide@1.0.0: is deprecated now: use gull',
    'signatures tide@1.0.0: had signatures, and has none any more',
  ])
})

test('a version without better than a sha1 is compared by that', async () => {
  const { registry } = world
  const tide = registry.serve('tide', '1.0.0', { dist: { integrity: undefined } })
  await writeArtifact(
    world.store,
    (async function* () {
      yield tide.bytes
    })(),
    { expected: null, maxBytes: 1e6, label: 'tide' },
  )
  expect((await check([tide])).drift).toEqual([])
  registry.serve('tide', '1.0.0', { dist: { integrity: undefined, shasum: 'a'.repeat(40) } })
  expect(lines(await check([tide]))).toEqual([
    expect.stringMatching(/^bytes tide@1\.0\.0: .*sha1-qqqqqqqqqqqqqqqqqqqqqqqqqqo= instead of sha1-/),
  ])
})

test('of a tarball by URL only the size is asked for', async () => {
  const { registry } = world
  const tide = registry.serve('tide', '1.0.0')
  await writeArtifact(
    world.store,
    (async function* () {
      yield tide.bytes
    })(),
    { expected: null, maxBytes: 1e6, label: 'tide' },
  )
  const url = registry.serveFile('/own/tide.tgz', tide.bytes)
  const pin = wanted(tide, { source: { kind: 'tarball', url }, id: `tide@${url}` as PackageId })
  expect(await check([pin])).toMatchObject({ checked: 1, drift: [] })
  expect(registry.requests.map(({ method }) => method)).toEqual(['HEAD'])
  registry.serveFile('/own/tide.tgz', tide.bytes.subarray(1))
  expect(lines(await check([pin]))).toEqual([
    `bytes tide@${url}: ${url} has ${tide.bytes.length - 1} bytes instead of ${tide.bytes.length}`,
  ])
  registry.fault('/own/tide.tgz', { kind: 'status', status: 404 })
  expect(lines(await check([pin]))).toEqual([`unpublished tide@${url}: ${url} is gone`])
})

test('files of the repository and private names are skipped; an upstream that is down is a failure and no drift', async () => {
  const { registry } = world
  const [tide, secret] = [registry.serve('tide', '1.0.0'), registry.serve('acme-secret', '1.0.0')]
  const file = wanted(tide, { source: { kind: 'file', path: 'tide.tgz' }, id: 'tide@file:tide.tgz' as PackageId })
  registry.fault('/tide', { kind: 'status', status: 500 })
  const report = await check([tide, wanted(secret), file], { isPrivate: (name) => name.startsWith('acme-') })
  expect(report).toMatchObject({ checked: 0, skipped: 2, drift: [] })
  expect(report.failures.map(({ code, message }) => `${code}: ${message}`)).toEqual([
    expect.stringContaining('FETCH_FAILED: tide@1.0.0 cannot be fetched: '),
  ])
  expect(registry.count('/acme-secret')).toBe(0)
})
