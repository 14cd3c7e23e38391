import fc from 'fast-check'

import type { PackageSpec, ServiceSpec } from './monorepo.ts'

// Small universes: a handful of names at one to three majors, ranges that the lockfiles could resolve.
const names = ['a', 'b', 'c', 'd', 'e', 'f']
const range = fc.constantFrom('*', '^1.0.0', '^2.0.0', '>=1', '>=2', '^1.0.0 || ^3.0.0')
const requirements = fc.dictionary(fc.constantFrom(...names), range, { maxKeys: 3 })
export const packages: fc.Arbitrary<Record<string, PackageSpec>> = fc
  .array(
    fc.record({
      name: fc.constantFrom(...names),
      major: fc.integer({ min: 1, max: 3 }),
      dependencies: requirements,
      peerDependencies: requirements,
    }),
    { minLength: 3, maxLength: 12 },
  )
  .map((list) =>
    Object.fromEntries(
      list.map(({ name, major, dependencies, peerDependencies }) => {
        const without = (record: Record<string, string>, ...out: readonly string[]): Record<string, string> =>
          Object.fromEntries(Object.entries(record).filter(([key]) => !out.includes(key)))
        const own = without(dependencies, name)
        return [
          `${name}@${major}.0.0`,
          { dependencies: own, peerDependencies: without(peerDependencies, name, ...Object.keys(own)) },
        ]
      }),
    ),
  )
export const services: fc.Arbitrary<Record<string, ServiceSpec>> = fc.dictionary(
  fc.constantFrom('s1', 's2', 's3', 's4'),
  requirements.map((dependencies) => ({ dependencies })),
  {
    minKeys: 1,
  },
)
