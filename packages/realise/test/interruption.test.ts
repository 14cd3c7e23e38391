import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, cpSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Lock } from '@polder/lock'
import { openStore } from '@polder/store'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'

import { withCheckoutLock } from '../src/checkout-lock.ts'
import { readState, verifyCheckout } from '../src/index.ts'
import type { ChildOptions } from './install-process.ts'
import { install, LAYOUTS, walkInstalled, World, type LockSpec } from './world.ts'

/** Small, so that every single call can be the last one: both places, a variant, a service of its own, a command. */
const TINY: LockSpec = {
  services: { lib: { name: 'lib' }, s: { uses: { b: 'b@1.0.0', c: 'c@1.0.0', g: 'g@1.0.0', lib: 'link:lib' } } },
  instances: {
    'b@1.0.0': { links: { c: 'c@2.0.0' } },
    'c@1.0.0': { bin: { c: 'lib/index.js' } },
    'c@2.0.0': {},
    'g@1.0.0': { inCheckout: true, links: { lib: 'link:lib' } },
  },
  root: ['b@1.0.0', 'c@2.0.0', 'g@1.0.0'],
  workspace: { lib: 'link:lib' },
}

let world: World
let lock: Lock
let lockFile: string
beforeAll(async () => {
  world = new World()
  lock = await world.lock(TINY)
  lockFile = join(world.directory, 'lock.json')
  writeFileSync(lockFile, JSON.stringify(lock))
})
afterAll(() => world.dispose())

describe.each(LAYOUTS)('in the %s layout', (layout) => {
  test.each(['a first installation', 'one that replaces another'])(
    '%s may be killed before any change: the next one succeeds, and verify is clean',
    async (kind) => {
      const again = kind !== 'a first installation'
      const { changes = 0 } = await child({ ...(await scene(layout, 'measure', again)), lock: lockFile, layout })
      expect(changes).toBeGreaterThan(20)
      const points = Array.from({ length: changes }, (_, index) => index + 1).filter(
        (point) => point % Math.ceil(changes / 10) === 0,
      )
      for (const killAt of points) {
        const { home, checkout } = await scene(layout, `${kind}-${killAt}`, again)
        expect(await child({ home, checkout, lock: lockFile, layout, killAt })).toEqual({ signal: 'SIGKILL' })
        const known = readState(checkout)
        if (known !== undefined && !again) walkInstalled(lock, checkout)
        const store = openStore(home)
        const { plan, environmentPath } = await install(store, lock, checkout, layout, { waitMs: 0 })
        walkInstalled(lock, checkout)
        expect(await verifyCheckout({ store, checkout, plan, environmentPath }), `killed at ${killAt}`).toEqual([])
        expect(readdirSync(join(checkout, '.polder')).filter((name) => /^(?:tmp|trash)-/.test(name))).toEqual([])
        rmSync(home, { recursive: true })
        rmSync(checkout, { recursive: true })
      }
    },
  )
})

test('several installations at once in one checkout, and in several, all succeed', async () => {
  const { home, checkout } = await scene('linked', 'crowd', false)
  const other = world.checkout(lock)
  const options: Omit<ChildOptions, 'checkout'> = { home, lock: lockFile, layout: 'linked' }
  const results = await Promise.all(
    [checkout, other, checkout, other].map((path) => child({ ...options, checkout: path })),
  )
  for (const result of results) expect(result).toEqual({ changes: expect.any(Number) })
  const store = openStore(home)
  for (const path of [checkout, other]) {
    walkInstalled(lock, path)
    expect(readState(path)?.environment).toMatch(/^[0-9a-f]{40}$/)
  }
  expect(readdirSync(join(store.home, 'envs'))).toHaveLength(1)
})

test('whoever finds another installation at work says so, waits, and fails clearly in the end', async () => {
  const checkout = world.checkout(lock)
  mkdirSync(join(checkout, '.polder'))
  const waitedFor: number[] = []
  await withCheckoutLock(checkout, { waitMs: 0 }, async () => {
    const inner = withCheckoutLock(checkout, { waitMs: 0, onWait: (pid) => waitedFor.push(pid) }, () => 'never')
    await expect(inner).rejects.toMatchObject({
      code: 'CHECKOUT_BUSY',
      message: `another polder (process ${process.pid}) is installing in ${checkout}`,
    })
  })
  expect(waitedFor).toEqual([process.pid])
  expect(await withCheckoutLock(checkout, { waitMs: 0 }, () => 'free again')).toBe('free again')
})

test('only one at a time holds the lock of a checkout, whoever dies in between', async () => {
  const checkout = world.checkout(lock)
  const held = join(checkout, '.polder/lock/1')
  const holder = await withCheckoutLock(checkout, { waitMs: 0 }, () => JSON.parse(readFileSync(held, 'utf8')) as object)
  // As a process leaves it that was killed; this one's id is in use again, by one that started at another time.
  writeFileSync(held, JSON.stringify({ ...holder, started: 'never' }))
  let inside = 0
  const most: number[] = []
  await Promise.all(
    Array.from({ length: 8 }, () =>
      withCheckoutLock(checkout, { waitMs: 20_000 }, async () => {
        inside += 1
        most.push(inside)
        await new Promise((resolve) => setImmediate(resolve))
        inside -= 1
      }),
    ),
  )
  expect(most).toEqual([1, 1, 1, 1, 1, 1, 1, 1])
  expect(readdirSync(join(checkout, '.polder/lock'))).toHaveLength(1)
})

test('a store that cannot be written is an error that says so, and the checkout is left as it was', async () => {
  const { home, checkout } = await scene('linked', 'read-only', false)
  for (const name of ['locks', 'trees', 'envs', 'tmp']) chmodSync(join(home, name), 0o555)
  for (const path of [world.directory, home]) chmodSync(path, 0o755)
  const result = await child({ home, checkout, lock: lockFile, layout: 'linked', unprivileged: true })
  expect(result.code).toBe('STORE_UNWRITABLE')
  expect(result.message).toContain(home)
  expect(readdirSync(checkout).sort()).toEqual(['lib', 's'])
})

/** A copy of the store as it was filled, and a checkout; `again`: with an installation of an older lock in it. */
async function scene(
  layout: ChildOptions['layout'],
  name: string,
  again: boolean,
): Promise<{ home: string; checkout: string }> {
  const home = join(world.directory, `home-${layout}-${name.replaceAll(' ', '-')}-${again}`)
  cpSync(world.store.home, home, { recursive: true })
  const checkout = world.checkout(lock)
  if (again) {
    const older = await world.lock({
      services: { lib: { uses: { c: 'c@1.0.0' } } },
      instances: { 'c@1.0.0': { bin: { c: 'lib/index.js' } }, 'c@2.0.0': {} },
      root: ['c@2.0.0'],
    })
    await install(openStore(home), older, checkout, layout)
  }
  return { home, checkout }
}

interface ChildResult {
  readonly changes?: number
  readonly code?: string
  readonly message?: string
  readonly signal?: string
}

async function child(options: ChildOptions): Promise<ChildResult> {
  const script = join(import.meta.dirname, 'install-process.ts')
  const started = spawn(process.execPath, [script, JSON.stringify(options)], { stdio: ['ignore', 'pipe', 'pipe'] })
  let [output, errors] = ['', '']
  started.stdout.setEncoding('utf8').on('data', (text: string) => (output += text))
  started.stderr.setEncoding('utf8').on('data', (text: string) => (errors += text))
  const [, signal] = (await once(started, 'close')) as [number | null, string | null]
  if (signal !== null) return { signal }
  if (output === '') throw new Error(errors)
  return JSON.parse(output) as ChildResult
}
