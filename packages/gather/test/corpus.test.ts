import { existsSync } from 'node:fs'
import { join } from 'node:path'

import { describe, expect, test, type TestContext } from 'vitest'

import type { Gathered } from '../src/gathered.ts'
import { gather, parseConfig } from '../src/index.ts'
import { edges, pin, refusal, requirement } from './support/repository.ts'

const CORPUS = process.env['POLDER_CORPUS'] ?? join(import.meta.dirname, '../../../../shared/corpus')

/** A real repository, or the end of the test with the reason. */
function corpus(name: string, context: TestContext): string {
  const root = join(CORPUS, name)
  if (!existsSync(root)) context.skip(`${root} does not exist; set POLDER_CORPUS to the folder that holds ${name}`)
  return root
}

/** How many names are pinned, and how many of them more than once. */
function counts({ pins }: Gathered): { names: number; multiple: number } {
  const versions = new Map<string, number>()
  for (const { name } of pins.values()) versions.set(name, (versions.get(name) ?? 0) + 1)
  return { names: versions.size, multiple: [...versions.values()].filter((count) => count > 1).length }
}

/** Everything that anything leads to is a pin or a service. */
function expectClosed({ services, pins }: Gathered): void {
  const known = new Set<string>([...pins.keys(), ...services.map(({ path }) => `link:${path}`)])
  const targets = [
    ...services.flatMap(({ requirements }) => requirements.map(({ locked }) => locked)),
    ...[...pins.values()].flatMap((one) => one.edges.flatMap((edge) => edge.targets)),
  ]
  const lost = targets.filter(
    (target) => target !== null && !known.has('package' in target ? target.package : `link:${target.workspace}`),
  )
  expect(lost).toEqual([])
  expect([...pins.keys()]).toEqual([...pins.keys()].sort())
}

describe('real repositories', () => {
  test('vuejs-core: a pnpm workspace', async (context) => {
    const result = await gather(corpus('vuejs-core', context), parseConfig(''))
    expect(result.services).toHaveLength(18)
    expect(counts(result)).toEqual({ names: 563, multiple: 46 })
    expect(result.warnings).toEqual([])
    expectClosed(result)
    expect(edges(result, '@vitejs/plugin-vue@6.0.8')['vue']).toEqual(['link:packages/vue'])
    expect(requirement(result, 'packages/vue-compat', 'vue')).toMatchObject({
      kind: 'peer',
      locked: { workspace: 'packages/vue' },
    })
    expect(requirement(result, 'packages/compiler-core', 'entities')).toMatchObject({
      specifier: 'catalog:',
      range: '^7.0.1',
    })
  })

  test('langfuse: overrides, patches, aliases and catalogs', async (context) => {
    const result = await gather(corpus('langfuse', context), parseConfig(''))
    expect(result.services).toHaveLength(9)
    // One of the 1,916 names in the lockfile is an orphan, the half-locked @aws-sdk/client-kendra.
    expect(counts(result)).toEqual({ names: 1915, multiple: 189 })
    // The corpus has manifests and lockfiles only.
    expect(result.warnings).toEqual(
      ['@radix-ui/react-roving-focus@1.1.11', 'next-auth@4.24.15', 'react-resizable-panels@4.8.0'].map(
        (id) =>
          `patches/${id.replace('/', '__')}.patch, the patch of ${id}, does not exist: pnpm-lock.yaml has its hash, so it can be locked, but not installed`,
      ),
    )
    expectClosed(result)
    expect(requirement(result, '.', 'ts7')).toMatchObject({ range: '^7.0.2', locked: { package: 'typescript@7.0.2' } })
    expect(requirement(result, 'ee', 'typescript')).toMatchObject({
      range: '^6.0.2',
      locked: { package: '@typescript/typescript6@6.0.2' },
    })
    expect(pin(result, '@tailwindcss/oxide-linux-x64-musl@4.2.2')).toMatchObject({
      os: ['linux'],
      cpu: ['x64'],
      libc: ['musl'],
      optional: true,
    })
  })

  test('aks-store-demo: four projects of npm', async (context) => {
    const result = await gather(corpus('aks-store-demo', context), parseConfig(''))
    expect(result.services.map(({ path }) => path)).toEqual([
      'src/order-service',
      'src/store-admin',
      'src/store-front',
      'tests',
    ])
    expect(counts(result)).toEqual({ names: 818, multiple: 211 })
    expect(result.warnings).toEqual([])
    expectClosed(result)
  })

  test('microservices-demo: package-lock 2 and 3', async (context) => {
    const result = await gather(corpus('microservices-demo', context), parseConfig(''))
    expect(result.services.map(({ path }) => path)).toEqual(['src/currencyservice', 'src/paymentservice'])
    expect(counts(result)).toEqual({ names: 249, multiple: 25 })
    expectClosed(result)
  })

  test('experimenter: a yarn workspace with resolutions beside npm', async (context) => {
    const result = await gather(corpus('experimenter', context), parseConfig(''))
    expect(result.services.map(({ path, lockfile }) => [path, lockfile])).toEqual([
      ['demo-app/frontend', 'demo-app/frontend/package-lock.json'],
      ['experimenter', 'experimenter/yarn.lock'],
      ['experimenter/experimenter/legacy/legacy-ui/core', 'experimenter/yarn.lock'],
      ['experimenter/experimenter/nimbus_ui/static', 'experimenter/yarn.lock'],
      ['schemas', 'schemas/yarn.lock'],
    ])
    expect(counts(result)).toEqual({ names: 1576, multiple: 615 })
    expect(result.warnings).toEqual([
      'experimenter/experimenter/reporting/reporting-ui has a lockfile but no package.json and is left out',
    ])
    expectClosed(result)
  })

  test('experimenter: the one project whose lockfile has no package.json cannot be named', async (context) => {
    const error = await refusal(() =>
      gather(corpus('experimenter', context), parseConfig('services: ["experimenter/experimenter/reporting/*"]')),
    )
    expect(error.code).toBe('SERVICE_UNKNOWN')
  })
})
