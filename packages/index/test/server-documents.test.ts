import { readdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { gunzipSync } from 'node:zlib'

import { integrityOf } from '@polder/spec'
import { describe, expect, test } from 'vitest'

import { readManifest } from '../src/pins/manifests.ts'
import { writeAttestations } from '../src/trust/releases.ts'
import { ABBREVIATED, ask, askJson, lockOf, noise, useServedWorld } from './served-world.ts'

const world = useServedWorld()

describe('the document of a name', () => {
  test('has everything that a client reads, of the pinned versions and no others', async () => {
    const old = await world.pin('@scope/lib', '1.9.0', { dependencies: { leaf: '^1.0.0' } })
    const recent = await world.pin('@scope/lib', '1.10.0', {
      dependencies: { leaf: '^2.0.0' },
      devDependencies: { tool: '1.0.0' },
      peerDependencies: { host: '>=1', extra: '*' },
      peerDependenciesMeta: { extra: { optional: true } },
      bundleDependencies: ['inner'],
      bin: { lib: './cli.js' },
      engines: { node: '>=18' },
      os: ['linux'],
      cpu: ['x64'],
      libc: ['glibc'],
      scripts: { postinstall: 'node build.js', test: 'node test.js' },
    })
    world.release(old, { published: '2020-03-01T00:00:00.000Z', deprecated: 'use 1.10', shasum: 'a'.repeat(40) })
    world.release(recent, {
      published: '2021-05-01T00:00:00.000Z',
      shasum: 'b'.repeat(40),
      fileCount: 3,
      unpackedSize: 1234,
      signatures: [{ keyid: 'SHA256:key', sig: 'MEUCIQ==' }],
      distTags: { latest: '1.10.0', next: '2.0.0-rc.1', old: '1.9.0' },
    })
    const server = await world.serve(lockOf([recent, old]))
    const { headers, text } = await ask(server, '/@scope%2flib')
    const dist = {
      tarball: `${server.url}@scope/lib/-/lib-1.10.0.tgz`,
      integrity: recent.integrity,
      shasum: 'b'.repeat(40),
      fileCount: 3,
      unpackedSize: 1234,
      signatures: [{ keyid: 'SHA256:key', sig: 'MEUCIQ==' }],
    }
    expect(headers['content-type']).toBe('application/json')
    expect(JSON.parse(text)).toEqual({
      _id: '@scope/lib',
      _rev: '1-pinned',
      name: '@scope/lib',
      'dist-tags': { latest: '1.10.0', old: '1.9.0' },
      modified: '2021-05-01T00:00:00.000Z',
      time: {
        created: '2020-03-01T00:00:00.000Z',
        modified: '2021-05-01T00:00:00.000Z',
        '1.9.0': '2020-03-01T00:00:00.000Z',
        '1.10.0': '2021-05-01T00:00:00.000Z',
      },
      versions: {
        '1.9.0': {
          _id: '@scope/lib@1.9.0',
          name: '@scope/lib',
          version: '1.9.0',
          dependencies: { leaf: '^1.0.0' },
          deprecated: 'use 1.10',
          dist: {
            tarball: `${server.url}@scope/lib/-/lib-1.9.0.tgz`,
            integrity: old.integrity,
            shasum: 'a'.repeat(40),
          },
        },
        '1.10.0': {
          _id: '@scope/lib@1.10.0',
          name: '@scope/lib',
          version: '1.10.0',
          dependencies: { leaf: '^2.0.0' },
          devDependencies: { tool: '1.0.0' },
          peerDependencies: { extra: '*', host: '>=1' },
          peerDependenciesMeta: { extra: { optional: true } },
          bundleDependencies: ['inner'],
          bin: { lib: 'cli.js' },
          engines: { node: '>=18' },
          os: ['linux'],
          cpu: ['x64'],
          libc: ['glibc'],
          hasInstallScript: true,
          scripts: { postinstall: 'node build.js', test: 'node test.js' },
          dist,
        },
      },
    })
    const short = await ask(server, '/@scope%2Flib', { headers: { accept: `${ABBREVIATED}; q=1.0, application/json` } })
    expect(short.headers['content-type']).toBe(ABBREVIATED)
    const document = JSON.parse(short.text) as Record<string, Record<string, object>>
    expect(Object.keys(document)).toEqual(['name', 'modified', 'dist-tags', 'versions'])
    expect(document['modified']).toBe('2021-05-01T00:00:00.000Z')
    expect(document['versions']?.['1.10.0']).toMatchObject({ hasInstallScript: true, dist })
    for (const field of ['scripts', 'devDependencies', '_id'])
      expect(document['versions']?.['1.10.0']).not.toHaveProperty(field)
  })

  test('without a record of the registry has a fixed old date, its own sha1 and the highest release as latest', async () => {
    const pins = [
      await world.pin('lib', '1.9.0'),
      await world.pin('lib', '1.10.0'),
      await world.pin('lib', '2.0.0-rc.1'),
    ]
    const document = await askJson(await world.serve(lockOf(pins)), '/lib')
    expect(document).toMatchObject({
      'dist-tags': { latest: '1.10.0' },
      time: { created: '1985-10-26T08:15:00.000Z', '2.0.0-rc.1': '1985-10-26T08:15:00.000Z' },
    })
    const shasum = Buffer.from(integrityOf('sha1', pins[0]?.bytes ?? Buffer.of()).slice(5), 'base64').toString('hex')
    expect(document).toHaveProperty(['versions', '1.9.0', 'dist', 'shasum'], shasum)
  })

  test('passes nothing on that a registry said of other bytes than the pinned', async () => {
    const pinned = await world.pin('lib', '1.0.0')
    const other = integrityOf('sha512', Buffer.from('something else'))
    world.release(pinned, {
      integrity: other,
      shasum: 'c'.repeat(40),
      published: '2022-01-01T00:00:00.000Z',
      signatures: [{ keyid: 'k', sig: 's' }],
      fileCount: 9,
    })
    const document = await askJson(await world.serve(lockOf([pinned])), '/lib')
    expect(document).toHaveProperty(['time', '1.0.0'], '2022-01-01T00:00:00.000Z')
    const { dist } = (document['versions'] as Record<string, { dist: Record<string, unknown> }>)['1.0.0'] ?? {}
    expect(dist?.['integrity']).toBe(pinned.integrity)
    expect(dist?.['shasum']).not.toBe('c'.repeat(40))
    expect(dist).not.toHaveProperty('signatures')
    expect(dist).not.toHaveProperty('fileCount')
  })

  test('leaves out optional dependencies that nobody could get, and no others', async () => {
    const pins = [
      await world.pin('tool', '1.0.0', {
        optionalDependencies: {
          '@tool/linux': '1.0.0',
          '@tool/windows': '1.0.0',
          '@tool/mac': '2.0.0',
          other: 'npm:@tool/linux@1.0.0',
        },
        dependencies: { gone: '1.0.0' },
      }),
      await world.pin('@tool/linux', '1.0.0'),
      await world.pin('@tool/mac', '1.0.0'),
    ]
    const document = await askJson(await world.serve(lockOf(pins)), '/tool')
    expect(document).toHaveProperty(['versions', '1.0.0', 'optionalDependencies'], {
      '@tool/linux': '1.0.0',
      other: 'npm:@tool/linux@1.0.0',
    })
    expect(document).toHaveProperty(['versions', '1.0.0', 'dependencies'], { gone: '1.0.0' })
  })

  test('is sent packed to whoever takes that, and says that there are two of it', async () => {
    const scripts = Object.fromEntries(Array.from({ length: 200 }, (_, at) => [`script-${at}`, `node ${at}.js`]))
    const server = await world.serve(lockOf([await world.pin('large', '1.0.0', { scripts })]))
    const plain = await ask(server, '/large')
    const packed = await ask(server, '/large', { headers: { 'accept-encoding': 'br, gzip;q=0.8' } })
    expect(plain.headers['content-encoding']).toBeUndefined()
    expect(packed.headers).toMatchObject({ 'content-encoding': 'gzip', vary: 'Accept, Accept-Encoding' })
    expect(Number(packed.headers['content-length'])).toBe(packed.body.length)
    expect(packed.body.length).toBeLessThan(plain.body.length / 3)
    expect(gunzipSync(packed.body).equals(plain.body)).toBe(true)
    for (const refusal of ['identity', 'gzip;q=0', 'br', '*;q=0']) {
      const { headers } = await ask(server, '/large', { headers: { 'accept-encoding': refusal } })
      expect({ refusal, encoding: headers['content-encoding'] }).toEqual({ refusal, encoding: undefined })
    }
  })

  test('is answered with 304 to whoever has it, by tag before date, and changes its tag with its contents', async () => {
    const [one, two] = [await world.pin('lib', '1.0.0'), await world.pin('lib', '2.0.0')]
    const server = await world.serve(lockOf([one]))
    const { headers } = await ask(server, '/lib')
    const etag = headers.etag ?? ''
    const date = headers['last-modified'] ?? ''
    expect(etag).toMatch(/^W\/"[\w-]{27}"$/)
    const with304 = async (sent: Record<string, string>): Promise<number> =>
      (await ask(server, '/lib', { headers: sent })).status
    expect(await with304({ 'if-none-match': etag })).toBe(304)
    expect(await with304({ 'if-none-match': `"x", ${etag.slice(2)}` })).toBe(304)
    expect(await with304({ 'if-none-match': '*' })).toBe(304)
    expect(await with304({ 'if-none-match': '"x"' })).toBe(200)
    expect(await with304({ 'if-modified-since': date })).toBe(304)
    expect(await with304({ 'if-modified-since': date, 'if-none-match': '"x"' })).toBe(200)
    const short = await ask(server, '/lib', { headers: { accept: ABBREVIATED } })
    expect(short.headers.etag).not.toBe(etag)
    const other = await ask(await world.serve(lockOf([one, two]), { baseUrl: server.url }), '/lib')
    expect(other.headers.etag).not.toBe(etag)
  })

  test('HEAD has the headers of GET and no body', async () => {
    const server = await world.serve(lockOf([await world.pin('lib', '1.0.0')]))
    const [got, head] = [await ask(server, '/lib'), await ask(server, '/lib', { method: 'HEAD' })]
    const withoutDate = (headers: typeof got.headers): object => ({ ...headers, date: undefined })
    expect(head.body.length).toBe(0)
    expect(withoutDate(head.headers)).toEqual(withoutDate(got.headers))
  })

  test('of one version or tag is that version', async () => {
    const pins = [await world.pin('lib', '1.0.0'), await world.pin('lib', '1.1.0')]
    const server = await world.serve(lockOf(pins))
    expect(await askJson(server, '/lib/1.0.0')).toMatchObject({ version: '1.0.0' })
    expect(await askJson(server, '/lib/latest')).toMatchObject({ version: '1.1.0' })
    expect((await ask(server, '/lib/3.0.0')).status).toBe(404)
    expect((await ask(server, '/lib/constructor')).status).toBe(404)
  })

  test('comes from the artifact where the record of its manifest is gone', async () => {
    const pinned = await world.pin('lib', '1.0.0', { dependencies: { leaf: '^1.0.0' } })
    expect(readManifest(world.store, pinned.integrity)).toBeUndefined()
    const document = await askJson(await world.serve(lockOf([pinned])), '/lib')
    expect(document).toHaveProperty(['versions', '1.0.0', 'dependencies'], { leaf: '^1.0.0' })
    expect(readManifest(world.store, pinned.integrity)?.manifest.version).toBe('1.0.0')
  })

  test('is the same beyond the memory limit, where it is made once and then sent from a file that nobody else sees', async () => {
    const pinned = await world.pin('lib', '1.0.0', { scripts: { build: noise(100_000).toString('base64') } })
    const lock = lockOf([pinned])
    const [held, stored] = [
      await world.serve(lock),
      await world.serve(lock, { memoryBytes: 0, baseUrl: 'http://b.example/' }),
    ]
    const asIs = async (server: typeof held, headers: Readonly<Record<string, string>>): Promise<string> => {
      const { body } = await ask(server, '/lib', { headers })
      const text = (headers['accept-encoding'] === undefined ? body : gunzipSync(body)).toString()
      return text.replaceAll(server.url, 'BASE/')
    }
    for (const headers of [{}, { 'accept-encoding': 'gzip' }, { accept: ABBREVIATED }]) {
      const expected = await asIs(held, headers)
      for (const _ of ['made', 'stored', 'stored']) expect(await asIs(stored, headers)).toBe(expected)
    }
    // Its manifest is gone: what is sent now was not made now.
    rmSync(join(world.store.home, 'manifests'), { recursive: true })
    rmSync(join(world.store.home, 'artifacts'), { recursive: true })
    const { headers, body } = await ask(stored, '/lib')
    expect(JSON.parse(body.toString())).toHaveProperty(['versions', '1.0.0'])
    expect(await ask(stored, '/lib', { method: 'HEAD' })).toMatchObject({
      status: 200,
      headers: { 'content-length': String(body.length) },
    })
    const unchanged = await ask(stored, '/lib', { headers: { 'if-none-match': headers.etag ?? '' } })
    expect(unchanged).toMatchObject({ status: 304, text: '' })
    expect(stored.sample()).toMatchObject({ bodies: 0, bodyBytes: 0 })
    expect(readdirSync(join(world.store.home, 'tmp'))).toEqual([])
  })

  test('is made each time where there is no room for it, neither in memory nor on disk', async () => {
    const pinned = await world.pin('lib', '1.0.0', { scripts: { build: 'node build.js' } })
    const server = await world.serve(lockOf([pinned]), { memoryBytes: 0 })
    // Its manifest is recorded then, which needs the directory.
    await ask(await world.serve(lockOf([pinned])), '/lib')
    rmSync(join(world.store.home, 'tmp'), { recursive: true })
    for (const _ of ['once', 'again'])
      expect(await askJson(server, '/lib')).toHaveProperty(['versions', '1.0.0', 'scripts', 'build'], 'node build.js')
  })
})

describe('several locks', () => {
  test('are served together, and each alone below its own path', async () => {
    const [one, two, other] = [
      await world.pin('@s/lib', '1.0.0'),
      await world.pin('@s/lib', '2.0.0'),
      await world.pin('other', '1.0.0'),
    ]
    const server = await world.serve([lockOf([one, other]), lockOf([two])])
    expect(Object.keys((await askJson(server, '/@s/lib'))['versions'] as object)).toEqual(['1.0.0', '2.0.0'])
    const exact = await askJson(server, '/@lock/lock1/@s%2flib')
    expect(Object.keys(exact['versions'] as object)).toEqual(['2.0.0'])
    const tarball = `${server.url}@lock/lock1/@s/lib/-/lib-2.0.0.tgz`
    expect(exact).toHaveProperty(['versions', '2.0.0', 'dist', 'tarball'], tarball)
    expect((await ask(server, new URL(tarball).pathname)).body.equals(two.bytes)).toBe(true)
    expect((await ask(server, '/@lock/lock1/@s%2Flib/-/lib-2.0.0.tgz')).body.equals(two.bytes)).toBe(true)
    expect((await ask(server, '/@lock/lock1/@s/lib/-/lib-1.0.0.tgz')).status).toBe(404)
    expect((await ask(server, '/@lock/lock1/other')).status).toBe(404)
    expect((await ask(server, '/@lock/lock0/other')).status).toBe(200)
    expect((await ask(server, '/@lock/lock2/other')).status).toBe(404)
    expect(await askJson(server, '/-/locks')).toEqual({
      locks: [
        { id: 'lock0', url: `${server.url}@lock/lock0/`, names: 2 },
        { id: 'lock1', url: `${server.url}@lock/lock1/`, names: 1 },
      ],
    })
    expect(await askJson(server, '/@lock/lock1/-/ping')).toEqual({})
  })

  test('that mean different bytes by one version are refused', async () => {
    const [one, other] = [
      await world.pin('lib', '1.0.0'),
      await world.pin('lib', '1.0.0', { files: { 'index.js': 'other' } }),
    ]
    await expect(world.serve([lockOf([one]), lockOf([other])])).rejects.toMatchObject({
      code: 'PIN_CONFLICT',
      message: 'two of the locks mean different bytes by lib@1.0.0',
    })
  })

  test('what comes from a URL is served under its name and version, after what comes from the registry', async () => {
    const published = await world.pin('lib', '1.0.0')
    const fork = await world.pin('lib', '1.0.0', { files: { 'index.js': 'fork' } })
    const only = await world.pin('only', '3.0.0')
    const url = 'https://host.example/lib.tgz'
    const lock = lockOf([
      { ...fork, id: `lib@${url}` as typeof fork.id, tarball: url, version: '1.0.0' },
      published,
      { ...only, id: 'only@https://host.example/only.tgz' as typeof only.id, tarball: 'x', version: '3.0.0' },
    ])
    const server = await world.serve(lock)
    expect((await ask(server, '/lib/-/lib-1.0.0.tgz')).body.equals(published.bytes)).toBe(true)
    expect((await ask(server, '/only/-/only-3.0.0.tgz')).body.equals(only.bytes)).toBe(true)
  })
})

describe('keys and attestations', () => {
  test('are those of the lock and of the record, and the document leads to them', async () => {
    const pinned = await world.pin('@s/lib', '1.0.0')
    const provenance = { predicateType: 'https://slsa.dev/provenance/v1' }
    world.release(pinned, { attestations: { url: 'https://registry.example/-/npm/v1/attestations/x', provenance } })
    writeAttestations(world.store, pinned.id, { attestations: [{ predicateType: provenance.predicateType }] })
    const keys = { 'SHA256:one': { keytype: 'ecdsa-sha2-nistp256', scheme: 'ecdsa-sha2-nistp256', key: 'MFkw' } }
    const server = await world.serve(lockOf([pinned], { keys }))
    const document = await askJson(server, '/@s%2flib')
    const url = `${server.url}-/npm/v1/attestations/@s/lib@1.0.0`
    expect(document).toHaveProperty(['versions', '1.0.0', 'dist', 'attestations'], { url, provenance })
    for (const path of [new URL(url).pathname, '/-/npm/v1/attestations/@s%2flib@1.0.0'])
      expect(await askJson(server, path)).toEqual({ attestations: [{ predicateType: provenance.predicateType }] })
    expect(await askJson(server, '/-/npm/v1/keys')).toEqual({
      keys: [{ expires: null, keyid: 'SHA256:one', ...keys['SHA256:one'] }],
    })
  })

  test('that nobody recorded are 404 with a reason, and no document leads there', async () => {
    const pinned = await world.pin('lib', '1.0.0')
    world.release(pinned, { attestations: { url: 'https://registry.example/-/npm/v1/attestations/lib@1.0.0' } })
    const server = await world.serve(lockOf([pinned]))
    expect((await ask(server, '/lib')).text).not.toContain('attestations')
    expect(await askJson(server, '/-/npm/v1/keys')).toMatchObject({ code: 'NO_KEYS' })
    expect(await askJson(server, '/-/npm/v1/attestations/lib@1.0.0')).toMatchObject({ code: 'NO_ATTESTATIONS' })
    expect(await ask(server, '/-/npm/v1/attestations/lib@9.9.9')).toMatchObject({ status: 404 })
  })
})
