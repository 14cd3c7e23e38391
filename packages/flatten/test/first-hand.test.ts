import type { LockedInstance, NpmLock } from '@polder/lock'
import { splitPackageId } from '@polder/spec'
import fc from 'fast-check'
import semver from 'semver'
import { describe, expect, test } from 'vitest'

import { flatten, type Flattened } from '../src/flatten.ts'
import { monorepo, type PackageSpec, type ServiceSpec } from './support/monorepo.ts'
import { packages, services } from './support/universes.ts'

type Services = Readonly<Record<string, ServiceSpec>>
type Packages = Readonly<Record<string, PackageSpec>>

function flattened(wanted: Services, available: Packages): Flattened {
  const { gathered, manifests } = monorepo(wanted, available)
  return flatten(gathered, manifests)
}

function follows(wanted: Services, available: Packages): Record<string, readonly string[]> {
  const { splits } = flattened(wanted, available).lock.npm
  return Object.fromEntries(Object.entries(splits).map(([name, split]) => [name, split.follows ?? []]))
}

describe('a split is first-hand', () => {
  const packages = {
    'glob@7.0.0': { dependencies: { minimatch: '^3.0.0' } },
    'glob@10.0.0': { dependencies: { minimatch: '^9.0.0' } },
    'minimatch@3.0.0': { dependencies: { brace: '^1.0.0' } },
    'minimatch@9.0.0': { dependencies: { brace: '^2.0.0' } },
    'brace@1.0.0': {},
    'brace@2.0.0': {},
  }
  const old = { dependencies: { glob: '^7.0.0' } }
  const young = { dependencies: { glob: '^10.0.0' } }

  test('where services disagree, and what follows from it names it, however far away', () => {
    expect(follows({ old, young }, packages)).toEqual({ brace: ['glob'], glob: [], minimatch: ['glob'] })
  })

  test('where something that all versions need of it is not the only thing that needs the older one', () => {
    const direct = { dependencies: { glob: '^10.0.0', minimatch: '^3.0.0' } }
    expect(follows({ direct, old, young }, packages)).toEqual({ brace: ['glob', 'minimatch'], glob: [], minimatch: [] })
  })

  test('only where services reach it over main versions: what an older one brings along does not count', () => {
    const available = {
      ...packages,
      'glob@7.0.0': { dependencies: { helper: '^1.0.0' } },
      'helper@1.0.0': { dependencies: { minimatch: '^3.0.0' } },
    }
    expect(follows({ old, young }, available)).toEqual({ brace: ['glob'], glob: [], minimatch: ['glob'] })
  })

  test('of the name whose newest version is only there because of the other', () => {
    // The newest x is there because of y 1, and y 1 because of the x that the service asks for.
    const available = {
      'x@1.0.0': { dependencies: { y: '^1.0.0' } },
      'x@2.0.0': {},
      'y@1.0.0': { dependencies: { x: '^2.0.0' } },
      'y@2.0.0': {},
    }
    expect(follows({ a: { dependencies: { x: '^1.0.0', y: '^2.0.0' } } }, available)).toEqual({ x: ['y'], y: [] })
  })
})

test('the main version suits everybody where one does, even if it is not the newest', () => {
  // x 2 is there only because of y 1.
  const wanted = {
    a: { dependencies: { x: '*', y: '^1.0.0' } },
    b: { dependencies: { x: '^1.0.0', y: '^2.0.0' } },
  }
  const available = {
    'x@1.0.0': {},
    'x@2.0.0': {},
    'y@1.0.0': { dependencies: { x: '^2.0.0' } },
    'y@2.0.0': {},
  }
  expect(follows(wanted, available)).toEqual({ x: ['y'], y: [] })
})

test('a split follows from those whose other versions lead to it, not from those whose main version does', () => {
  const wanted = {
    a: { dependencies: { p: '^1.0.0', q: '^1.0.0' } },
    b: { dependencies: { p: '^2.0.0', q: '^2.0.0' } },
  }
  const available = {
    'p@1.0.0': { dependencies: { x: '^1.0.0' } },
    'p@2.0.0': {},
    'q@1.0.0': {},
    'q@2.0.0': { dependencies: { x: '^2.0.0' } },
    'x@1.0.0': {},
    'x@2.0.0': {},
  }
  expect(follows(wanted, available)).toEqual({ p: [], q: [], x: ['p'] })
})

test('what only development dependencies split is not split in production', () => {
  const available = {
    'x@1.0.0': { dependencies: { z: '^1.0.0' } },
    'x@2.0.0': { dependencies: { z: '^2.0.0' } },
    'y@1.0.0': {},
    'y@2.0.0': {},
    'z@1.0.0': {},
    'z@2.0.0': {},
  }
  const { report } = flattened(
    {
      a: { dependencies: { x: '^1.0.0' }, devDependencies: { y: '^1.0.0' } },
      b: { dependencies: { x: '^2.0.0', y: '^2.0.0' } },
    },
    available,
  )
  expect(report).toMatchObject({ firstHand: { all: 2, production: 1 } })
})

test('if any version would do of the names whose splits are first-hand, one version of each other name suits everybody', () => {
  fc.assert(
    fc.property(services, packages, (wanted, available) => {
      const { lock, report } = flattened(wanted, available)
      const splits = Object.entries(lock.npm.splits)
      const firstHand = new Set(splits.flatMap(([name, split]) => (split.follows === undefined ? [name] : [])))
      expect(report.firstHand.all).toBe(firstHand.size)
      for (const [name, { follows: causes = [] }] of splits) {
        for (const cause of causes) {
          expect([...firstHand]).toContain(cause)
          expect({ cause, name, reaches: reaches(lock.npm, cause, name) }).toEqual({ cause, name, reaches: true })
        }
      }
      const anything = (name: string): string => (firstHand.has(name) ? '*' : '')
      const names = [...new Set(Object.keys(lock.npm.instances).map((id) => splitPackageId(id).name))]
      const choices = names.map((name) => versionsOf(lock.npm, name))
      const suits = (chosen: readonly string[]): boolean => {
        const choice = new Map(names.map((name, i) => [name, chosen[i] ?? '']))
        const queue = new Map(Object.values(wanted).map(({ dependencies = {} }, i) => [`service ${i}`, dependencies]))
        for (const [, demands] of queue) {
          for (const [name, range] of Object.entries(demands)) {
            if (!someSatisfies(available, name, range)) continue
            const version = choice.get(name) ?? ''
            if (!semver.satisfies(version, anything(name) || range)) return false
            const { dependencies, peerDependencies } = available[`${name}@${version}`] ?? {}
            queue.set(name, { ...peerDependencies, ...dependencies })
          }
        }
        return true
      }
      expect(anyProduct(choices, suits)).toBe(true)
    }),
    { numRuns: 500 },
  )
})

/** Whether one of each, in any combination, passes. */
function anyProduct(
  choices: readonly (readonly string[])[],
  passes: (chosen: readonly string[]) => boolean,
  chosen: readonly string[] = [],
): boolean {
  const [first, ...rest] = choices
  return first === undefined ? passes(chosen) : first.some((one) => anyProduct(rest, passes, [...chosen, one]))
}

function someSatisfies(available: Packages, name: string, range: string): boolean {
  return Object.keys(available).some(
    (id) => splitPackageId(id).name === name && semver.satisfies(splitPackageId(id).reference, range),
  )
}

function versionsOf(npm: NpmLock, name: string): string[] {
  return [
    ...new Set(
      Object.keys(npm.instances)
        .filter((id) => splitPackageId(id).name === name)
        .map(versionOf),
    ),
  ]
}

function versionOf(target: string): string {
  return splitPackageId(target).reference.replace(/\(.*$/, '')
}

function reaches(npm: NpmLock, from: string, to: string): boolean {
  const instances = npm.instances as Readonly<Record<string, LockedInstance>>
  const queue = Object.keys(instances).filter((id) => splitPackageId(id).name === from)
  const seen = new Set(queue)
  for (const id of seen) {
    for (const target of Object.values(instances[id]?.links ?? {})) {
      if (splitPackageId(target).name === to) return true
      seen.add(target)
    }
  }
  return false
}
