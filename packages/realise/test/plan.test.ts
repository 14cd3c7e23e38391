import { posix } from 'node:path'

import type { Lock } from '@polder/lock'
import { PolderError } from '@polder/spec'
import { runningNode } from '@polder/spec/semver-ranges'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'

import { planEnvironment, type Plan } from '../src/index.ts'
import { HARBOUR } from './harbour.ts'
import { LINUX, World, type LockSpec } from './world.ts'

let world: World
beforeAll(() => {
  world = new World()
})
afterAll(() => world.dispose())

const plan = async (spec: LockSpec, change: (lock: Lock) => Lock = (lock) => lock): Promise<Plan> =>
  planEnvironment(change(await world.lock(spec)), LINUX, 'linked')

const failure = async (run: () => Promise<unknown>): Promise<PolderError> => {
  try {
    await run()
  } catch (error) {
    if (error instanceof PolderError) return error
    throw error
  }
  throw new Error('nothing was thrown')
}

describe('platforms', () => {
  test('a required package that does not run here is an error that says who needs it', async () => {
    const error = await failure(() =>
      plan({
        services: { 'services/a': { uses: { b: 'b@1.0.0' } } },
        instances: { 'b@1.0.0': { links: { c: 'c@1.0.0' } }, 'c@1.0.0': { os: ['darwin'] } },
        root: [],
      }),
    )
    expect(error.code).toBe('PLATFORM_EXCLUDED')
    expect(error.message).toBe('c@1.0.0 does not run on linux-x64-glibc (os darwin), and b@1.0.0 needs it')
  })

  test('every package that does not run here is named', async () => {
    const error = await failure(() =>
      plan({
        services: { a: { uses: { b: 'b@1.0.0', c: 'c@1.0.0' } } },
        instances: { 'b@1.0.0': { os: ['!linux'] }, 'c@1.0.0': { os: ['win32'] } },
        root: [],
      }),
    )
    expect([error, ...(error.details.others ?? [])].map(({ details }) => details.spec)).toEqual(['b@1.0.0', 'c@1.0.0'])
  })

  test('what only an excluded package requires is no error', async () => {
    const { environment } = await plan({
      services: { a: { uses: { b: 'b@1.0.0' } } },
      instances: {
        'b@1.0.0': { os: ['darwin'], optional: true, links: { c: 'c@1.0.0' } },
        'c@1.0.0': { os: ['darwin'] },
      },
      root: ['b@1.0.0', 'c@1.0.0'],
    })
    expect(environment).toEqual([])
  })

  test('a platform that the lock does not have is refused', async () => {
    const error = await failure(async () =>
      planEnvironment(await world.lock(HARBOUR), { os: 'linux', cpu: 'arm64', libc: 'musl' }, 'linked'),
    )
    expect(error.code).toBe('PLATFORM_NOT_LOCKED')
    expect(error.message).toBe('the lock is for linux-x64-glibc, darwin-arm64, and this is linux-arm64-musl')
  })
})

describe('engines', () => {
  const spec: LockSpec = {
    services: { 'services/a': { uses: { b: 'b@1.0.0', native: 'native@1.0.0' } } },
    instances: {
      'b@1.0.0': { engines: { node: '<20' }, links: { native: 'native@1.0.0' } },
      'native@1.0.0': { engines: { node: '<20' }, optional: true, links: { helper: 'helper@1.0.0' } },
      'helper@1.0.0': { optional: true },
    },
    root: ['b@1.0.0', 'native@1.0.0', 'helper@1.0.0'],
  }
  const on = async (version: string | null, engines?: 'strict'): Promise<Plan> => {
    const lock = await world.lock(spec)
    return planEnvironment(
      { ...lock, policy: { ...lock.policy, ...(engines === undefined ? {} : { engines }) } },
      version === null ? LINUX : { ...LINUX, node: runningNode(version) },
      'linked',
    )
  }

  test('leave an optional package out, with what only it leads to; a required one stays and is reported', async () => {
    const { environment, unsupported } = await on('v26.10.0')
    expect(environment.map(({ instance }) => instance)).toEqual(['b@1.0.0'])
    expect(unsupported).toEqual([{ package: 'b@1.0.0', node: '<20', neededBy: 'services/a' }])
  })

  test('that hold, or that nobody asks about, change nothing', async () => {
    const all = ['b@1.0.0', 'helper@1.0.0', 'native@1.0.0']
    for (const version of ['v18.20.0', null]) {
      const { environment, unsupported } = await on(version, 'strict')
      expect(environment.map(({ instance }) => instance)).toEqual(all)
      expect(unsupported).toEqual([])
    }
  })

  test('of a required package are an error where the policy is strict', async () => {
    const error = await failure(() => on('v26.10.0', 'strict'))
    expect(error.code).toBe('ENGINE_UNSUPPORTED')
    expect(error.message).toBe('b@1.0.0 is for Node <20, and this is 26.10.0; services/a needs it')
    expect(error.details.others).toEqual([])
  })
})

describe('the id of an environment', () => {
  const small: LockSpec = {
    services: { 'services/a': { uses: { b: 'b@1.0.0', c: 'c@1.0.0' } } },
    instances: { 'b@1.0.0': { links: { c: 'c@2.0.0' } }, 'c@1.0.0': {}, 'c@2.0.0': {} },
    root: ['b@1.0.0', 'c@1.0.0'],
  }

  test('is 40 hex digits and the same for another order of the lock', async () => {
    const { id } = await plan(small)
    expect(id).toMatch(/^[0-9a-f]{40}$/)
    const turned: LockSpec = {
      services: { 'services/a': { uses: { c: 'c@1.0.0', b: 'b@1.0.0' } } },
      instances: { 'c@2.0.0': {}, 'c@1.0.0': {}, 'b@1.0.0': { links: { c: 'c@2.0.0' } } },
      root: ['c@1.0.0', 'b@1.0.0'],
    }
    expect((await plan(turned)).id).toBe(id)
  })

  test('is the same where only a service differs', async () => {
    const another = { ...small, services: { ...small.services, 'services/z': { uses: { c: 'c@2.0.0' } } } }
    expect((await plan(another)).id).toBe((await plan(small)).id)
  })

  test('differs with a link, a version at the root, a file of a package, a command and a platform', async () => {
    const { instances } = small
    const changed: LockSpec[] = [
      { ...small, instances: { ...instances, 'b@1.0.0': { links: { c: 'c@1.0.0' } } } },
      { ...small, root: ['b@1.0.0', 'c@2.0.0'] },
      { ...small, instances: { ...instances, 'c@1.0.0': { files: { more: '1' } } } },
      { ...small, instances: { ...instances, 'c@1.0.0': { bin: { c: 'lib/index.js' } } } },
    ]
    const ids = [(await plan(small)).id]
    for (const spec of changed) ids.push((await plan(spec)).id)
    ids.push(planEnvironment(await world.lock(small), { os: 'darwin', cpu: 'arm64' }, 'linked').id)
    expect(new Set(ids).size).toBe(6)
  })
})

describe('a lock that contradicts itself', () => {
  const root = ['b@1.0.0']
  test.each<readonly [string, LockSpec, string]>([
    [
      'a shared package that needs a workspace package',
      {
        services: { a: { uses: { b: 'b@1.0.0' } }, lib: {} },
        instances: { 'b@1.0.0': { links: { lib: 'link:lib' } } },
        root,
      },
      'b@1.0.0 needs link:lib, which stands in the checkout, but is not marked inCheckout itself',
    ],
    [
      'a shared package that needs one inside the checkout',
      {
        services: { a: { uses: { b: 'b@1.0.0' } } },
        instances: { 'b@1.0.0': { links: { c: 'c@1.0.0' } }, 'c@1.0.0': { inCheckout: true } },
        root,
      },
      'b@1.0.0 needs c@1.0.0, which stands in the checkout, but is not marked inCheckout itself',
    ],
    [
      'an instance whose name leaves node_modules',
      {
        services: { a: { uses: { b: '../../b@1.0.0' } } },
        instances: { '../../b@1.0.0': { package: 'b@1.0.0' } },
        root: [],
      },
      '"../../b@1.0.0" does not begin with a package name',
    ],
    [
      'an instance called node_modules in a scope',
      {
        services: { a: { uses: { b: '@s/node_modules@1.0.0' } } },
        instances: { '@s/node_modules@1.0.0': { package: 'b@1.0.0' } },
        root: [],
      },
      '"@s/node_modules@1.0.0" does not begin with a package name',
    ],
    [
      'a command that is no file name',
      { services: { a: { uses: { b: 'b@1.0.0' } } }, instances: { 'b@1.0.0': { bin: { '..': 'x.js' } } }, root },
      'b@1.0.0 offers the command "..", which is no file name',
    ],
    [
      'a service at the top that uses something else than the flat root',
      { services: { '.': { uses: { b: 'b@2.0.0' } } }, instances: { 'b@1.0.0': {}, 'b@2.0.0': {} }, root },
      'the service at the top uses b@2.0.0, but the flat root holds nothing',
    ],
    [
      'an instance that is not there',
      { services: { a: { uses: { b: 'b@1.0.0' } } }, instances: {}, root: [] },
      'the lock does not hold b@1.0.0',
    ],
  ])('%s is refused', async (_, spec, message) => {
    const error = await failure(() => plan(spec))
    expect(error.code).toBe('LOCK_INVALID')
    expect(error.message).toBe(message)
  })
})

describe('commands', () => {
  const bins = (plan: Plan, nodeModules: string): Record<string, string> =>
    Object.fromEntries(
      plan.checkout.links
        .filter(({ path }) => path === `${nodeModules}/.bin`)
        .flatMap(({ path, others }) => others.map(([name, text]) => [name, posix.join(path, text)])),
    )
  const offering = (...ids: string[]): LockSpec['instances'] =>
    Object.fromEntries(ids.map((id) => [id, { bin: { run: 'run.js' } }]))

  test('at the root the first by name wins, before it what a service declares, before that the namesake, first the service at the top', async () => {
    const ids = ['a@1.0.0', 'b@1.0.0', 'run@1.0.0', 'z@1.0.0']
    const instances = {
      ...offering(...ids),
      'x@1.0.0': { links: { a: 'a@1.0.0', b: 'b@1.0.0', run: 'run@1.0.0', z: 'z@1.0.0' } },
    }
    const root = [...ids, 'x@1.0.0']
    const winner = async (services: LockSpec['services'], names = root): Promise<string | undefined> =>
      bins(await plan({ services, instances, root: names }), 'node_modules')['run']
    const withoutNamesake = root.filter((id) => !id.startsWith('run'))
    expect(await winner({ s: { uses: { x: 'x@1.0.0' } } }, withoutNamesake)).toBe('node_modules/a/run.js')
    expect(await winner({ s: { uses: { x: 'x@1.0.0', z: 'z@1.0.0' } } }, withoutNamesake)).toBe('node_modules/z/run.js')
    expect(await winner({ s: { uses: { x: 'x@1.0.0', z: 'z@1.0.0' } } })).toBe('node_modules/run/run.js')
    expect(await winner({ '.': { uses: { b: 'b@1.0.0' } }, s: { uses: { x: 'x@1.0.0', z: 'z@1.0.0' } } })).toBe(
      'node_modules/b/run.js',
    )
  })

  test('a service gets a command of its own for the variant that it uses', async () => {
    const planned = await plan({
      services: { s: { uses: { run: 'run@1.0.0' } }, t: { uses: { run: 'run@2.0.0' } } },
      instances: offering('run@1.0.0', 'run@2.0.0'),
      root: ['run@2.0.0'],
    })
    expect(bins(planned, 's/node_modules')).toEqual({ run: 's/node_modules/run/run.js' })
    expect(bins(planned, 't/node_modules')).toEqual({})
    expect(planned.checkout.services).toEqual(['s'])
  })

  test('a service inside another gets back what the outer one changed', async () => {
    const planned = await plan({
      services: { s: { uses: { run: 'run@1.0.0' } }, 's/inner': { uses: { run: 'run@2.0.0' } } },
      instances: offering('run@1.0.0', 'run@2.0.0'),
      root: ['run@2.0.0'],
    })
    expect(bins(planned, 's/inner/node_modules')).toEqual({ run: 's/inner/node_modules/run/run.js' })
    expect(planned.checkout.links.find(({ path }) => path === 's/inner/node_modules')).toEqual({
      path: 's/inner/node_modules',
      to: '/node_modules',
      names: ['run'],
      others: [],
    })
  })
})

test('packages with install scripts are listed', async () => {
  expect((await plan(HARBOUR)).notBuilt).toEqual(['packer@1.0.0'])
})
