import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import { type Integrity, packageId } from '@polder/spec'
import { openStore, type Store } from '@polder/store'
import { afterEach, beforeEach } from 'vitest'

import {
  startRegistry,
  type Registry,
  type RegistryOptions,
  type ServedVersion,
} from '../../../test/support/registry.ts'
import type { Clock } from '../src/upstream/backoff.ts'
import type { NpmConfig } from '../src/upstream/npm-config.ts'
import { type ReleaseOptions, type ReleaseReport, syncReleases } from '../src/trust/sync-releases.ts'
import type { WantedRelease } from '../src/trust/wanted-releases.ts'
import { npmConfig } from './npm-config.ts'

export const NOW: number = Date.parse('2026-06-01T00:00:00.000Z')
export const clock: Clock = { now: () => NOW, random: () => 0, sleep: async () => undefined }

/** A store and a registry for each test, and what asks that registry for releases. */
export interface World {
  directory: string
  store: Store
  registry: Registry
  start(options?: RegistryOptions): Promise<Registry>
  /** With the defaults of a first use. */
  sync(served: readonly ServedVersion[], changes?: Partial<ReleaseOptions>): Promise<ReleaseReport>
  config(changes?: Partial<NpmConfig>): () => Promise<NpmConfig>
}

export function useWorld(): World {
  const world = {} as World
  let cleanups: (() => Promise<void>)[] = []
  beforeEach(async () => {
    world.directory = mkdtempSync(join(tmpdir(), 'polder-trust-'))
    world.store = openStore(join(world.directory, 'store'))
    world.registry = await world.start()
  })
  afterEach(async () => {
    for (const cleanup of cleanups) await cleanup()
    cleanups = []
    rmSync(world.directory, { recursive: true, force: true })
  })
  world.start = async (options) => {
    const started = await startRegistry(options)
    cleanups.push(() => started.close())
    return started
  }
  world.config = (changes) => async () => npmConfig(world.registry.url, changes)
  world.sync = (served, changes = {}) =>
    syncReleases(
      world.store,
      served.map((one) => wanted(one)),
      { ...DEFAULTS, npm: world.config(), ...changes },
    )
  return world
}

const DEFAULTS: Omit<ReleaseOptions, 'npm'> = {
  keys: {},
  signatures: 'verify',
  scope: 'all',
  trustedRoot: null,
  clock,
}

export function wanted(
  { name, version, integrity }: Pick<ServedVersion, 'name' | 'version' | 'integrity'>,
  changes: Partial<WantedRelease> = {},
): WantedRelease {
  return {
    id: packageId(name, version),
    name,
    reference: version,
    integrity: integrity as Integrity,
    source: { kind: 'registry' },
    neededBy: ['services/web'],
    optional: false,
    ...changes,
  }
}

/** `CODE: message` of each failure. */
export function failures({ failures: all }: Pick<ReleaseReport, 'failures'>): readonly string[] {
  return all.map(({ code, message }) => `${code}: ${message}`)
}
