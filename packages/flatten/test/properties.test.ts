import type { InstanceId, Lock, LockedInstance } from '@polder/lock'
import { serializeLock } from '@polder/lock'
import { splitPackageId } from '@polder/spec'
import fc from 'fast-check'
import semver from 'semver'
import { expect, test } from 'vitest'

import { flatten } from '../src/flatten.ts'
import { monorepo, type Monorepo, type PackageSpec } from './support/monorepo.ts'
import { packages, services } from './support/universes.ts'

test('every hard edge is satisfied by what the lock links it to', () => {
  fc.assert(
    fc.property(services, packages, (wanted, available) => {
      const { gathered, manifests } = monorepo(wanted, available)
      const { npm } = flatten(gathered, manifests).lock
      for (const [path, { dependencies = {} }] of Object.entries(npm.services)) {
        for (const [name, { specifier, use }] of Object.entries(dependencies)) {
          const possible = someSatisfies(available, name, specifier)
          expect({ path, name, satisfied: use !== undefined && semver.satisfies(versionOf(use), specifier) }).toEqual({
            path,
            name,
            satisfied: possible,
          })
        }
      }
      for (const [id, { package: own, links = {} }] of Object.entries(
        npm.instances as Readonly<Record<string, LockedInstance>>,
      )) {
        const { dependencies = {}, peerDependencies = {} } = available[own] ?? {}
        for (const [name, wantedRange] of Object.entries({ ...peerDependencies, ...dependencies })) {
          const target = links[name]
          const satisfied =
            target !== undefined &&
            npm.instances[target as InstanceId] !== undefined &&
            semver.satisfies(versionOf(target), wantedRange)
          expect({ id, name, satisfied }).toEqual({ id, name, satisfied: someSatisfies(available, name, wantedRange) })
        }
      }
    }),
    { numRuns: 300 },
  )
})

test('the order of services, pins and edges never changes a byte', () => {
  fc.assert(
    fc.property(services, packages, fc.infiniteStream(fc.nat()), (wanted, available, keys) => {
      const straight = monorepo(wanted, available)
      expect(text(shuffled(straight, keys))).toBe(text(straight))
    }),
    { numRuns: 200 },
  )
})

test('what is kept is between the bound and what was locked, and all three count packages', () => {
  fc.assert(
    fc.property(services, packages, (wanted, available) => {
      const { gathered, manifests } = monorepo(wanted, available)
      const { lock, report } = flatten(gathered, manifests)
      expect(report.after).toBeLessThanOrEqual(report.before)
      expect(report.lowerBound).toBeLessThanOrEqual(report.after)
      expect(report.optimal).toBe(report.lowerBound === report.after)
      expect(report.after).toBe(Object.keys(lock.npm.packages).length)
    }),
    { numRuns: 300 },
  )
})

function someSatisfies(available: Record<string, PackageSpec>, name: string, wanted: string): boolean {
  return Object.keys(available).some(
    (id) => splitPackageId(id).name === name && semver.satisfies(splitPackageId(id).reference, wanted),
  )
}

function versionOf(target: string): string {
  return splitPackageId(target).reference.replace(/\(.*$/, '')
}

function text({ gathered, manifests }: Monorepo): string {
  const lock: Lock = flatten(gathered, manifests).lock
  return serializeLock(lock)
}

function shuffled({ gathered, manifests }: Monorepo, keys: IterableIterator<number>): Monorepo {
  const shuffle = <T>(list: Iterable<T>): T[] =>
    [...list]
      .map((item) => ({ item, key: Number(keys.next().value) }))
      .sort((a, b) => a.key - b.key)
      .map(({ item }) => item)
  return {
    manifests: new Map(shuffle(manifests)),
    gathered: {
      ...gathered,
      services: shuffle(
        gathered.services.map((service) => ({ ...service, requirements: shuffle(service.requirements) })),
      ),
      pins: new Map(shuffle(gathered.pins).map(([id, pin]) => [id, { ...pin, edges: shuffle(pin.edges) }])),
    },
  }
}
