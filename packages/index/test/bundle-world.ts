import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import { type InstanceId, type Lock, serializeLock } from '@polder/lock'
import { type Integrity, integrityOf, type PackageId } from '@polder/spec'
import { builtTreeId, openStore, publishTree, type Store, writeArtifact } from '@polder/store'
import { afterAll } from 'vitest'

import { packTarball } from '../../../test/support/tarball.ts'
import { type BuiltTree, exportBundle, type ExportRequest } from '../src/bundle/bundle-export.ts'
import { writeAttestations, writeRelease } from '../src/trust/releases.ts'

const made: string[] = []

/** Gone when the tests of the file are done. */
export function temporaryDirectory(): string {
  const directory = mkdtempSync(join(tmpdir(), 'polder-bundle-'))
  made.push(directory)
  return directory
}

afterAll(() => {
  for (const directory of made.splice(0)) rmSync(directory, { recursive: true, force: true })
})

export function temporaryStore(): Store {
  return openStore(join(temporaryDirectory(), 'home'))
}

async function* chunks(...parts: readonly Uint8Array[]): AsyncGenerator<Uint8Array> {
  yield* parts
}

export async function put(store: Store, bytes: Uint8Array): Promise<Integrity> {
  return (await writeArtifact(store, chunks(bytes), { expected: null, maxBytes: 2 ** 32, label: 'x' })).integrity
}

/** The tarball of a package that holds its own name, so that no two are alike. */
export function tarball(id: string): Buffer {
  const at = id.indexOf('@', 1)
  const manifest = { name: id.slice(0, at), version: id.slice(at + 1) }
  return packTarball({
    'package.json': JSON.stringify(manifest),
    'index.js': `module.exports = ${JSON.stringify(id)}\n`,
  })
}

export const PACKAGES: readonly string[] = ['alpha@1.0.0', 'beta@2.0.0', '@scope/gamma@3.0.0', 'delta@4.0.0']
export const FILE: Buffer = Buffer.from('headers'.repeat(300))
export const FILE_URL = 'https://host.example/dist/v22.1.0/node-v22.1.0-headers.tar.gz'

/** Two services: `web` needs alpha, and beta through the workspace package `lib`; `api` needs gamma, which needs alpha. */
export function lockOf(packages: readonly string[] = PACKAGES): Lock {
  const known = (id: string): boolean => packages.includes(id)
  const requirement = (id: string): object =>
    known(id) ? { [id.slice(0, id.indexOf('@', 1))]: { specifier: '*', use: id } } : {}
  const links = (id: string): object =>
    id === '@scope/gamma@3.0.0' && known('alpha@1.0.0') ? { links: { alpha: 'alpha@1.0.0' } } : {}
  return {
    lockfileVersion: 1,
    policy: { versions: 'fewest', platforms: ['linux-x64-glibc'] },
    inputs: {},
    npm: {
      services: {
        'services/web': {
          lockfile: 'package-lock.json',
          dependencies: { ...requirement('alpha@1.0.0'), lib: { specifier: '*', use: 'link:packages/lib' } },
        },
        'services/api': { lockfile: 'package-lock.json', dependencies: requirement('@scope/gamma@3.0.0') },
        'packages/lib': {
          lockfile: 'package-lock.json',
          dependencies: requirement('beta@2.0.0'),
          devDependencies: requirement('delta@4.0.0'),
        },
      },
      packages: Object.fromEntries(packages.map((id) => [id, { integrity: integrityOf('sha512', tarball(id)) }])),
      instances: Object.fromEntries(packages.map((id) => [id, { package: id, ...links(id) }])),
      root: {},
      splits: {},
    },
    index: {
      packages: {
        ['tide@1.0.0' as PackageId]: { integrity: integrityOf('sha512', tarball('tide@1.0.0')), workspace: true },
      },
      files: { [FILE_URL]: { integrity: integrityOf('sha512', FILE), bytes: FILE.length } },
    },
  } as unknown as Lock
}

/** A store that has all of it, with release records that say where and when they were asked for. */
export async function filledStore(said = 'one', packages: readonly string[] = PACKAGES): Promise<Store> {
  const store = temporaryStore()
  for (const id of [...packages, 'tide@1.0.0']) await put(store, tarball(id))
  await put(store, FILE)
  for (const id of packages) {
    const at = id.indexOf('@', 1)
    writeRelease(store, id as PackageId, {
      name: id.slice(0, at),
      version: id.slice(at + 1),
      registry: `https://${said}.example/npm/`,
      published: '2020-01-01T00:00:00.000Z',
      integrity: integrityOf('sha512', tarball(id)),
      distTags: { latest: said },
      modified: said,
      etag: said,
      attestations: {
        url: `https://${said}.example/npm/-/npm/v1/attestations/${id}`,
        provenance: { predicateType: 'x' },
      },
    })
    writeAttestations(store, id as PackageId, { attestations: [{ predicateType: 'x', bundle: { z: 1, a: 2 } }] })
  }
  return store
}

/** A lock that lets alpha, which web needs, run its scripts. */
export function buildingLock(): Lock {
  const lock = lockOf()
  return { ...lock, policy: { ...lock.policy, builds: { allow: { alpha: '*' } } } }
}

/** Puts what an instance was built to into the store: here a package that says so. */
export function putBuilt(store: Store, instance: string): BuiltTree {
  const recipe = JSON.stringify([1, instance, 'node build.js'])
  const id = builtTreeId(recipe)
  const directory = temporaryDirectory()
  writeFileSync(join(directory, 'package.json'), JSON.stringify({ name: instance, built: true }))
  writeFileSync(join(directory, 'tool'), '#!/bin/sh\n', { mode: 0o755 })
  publishTree(store, id, directory, {})
  return { id, instance: instance as InstanceId, recipe }
}

/** Exports to a new file. */
export async function exported(store: Store, request: Partial<ExportRequest> = {}): Promise<string> {
  const lock = request.lock ?? lockOf()
  const path = join(temporaryDirectory(), 'bundle.tar')
  await exportBundle(store, path, { lock, lockText: serializeLock(lock), ...request })
  return path
}
