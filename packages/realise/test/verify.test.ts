import { discard } from '@polder/store'
import { chmodSync, mkdirSync, readFileSync, readlinkSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'

import { verifyCheckout, type CheckoutDifference } from '../src/index.ts'
import { HARBOUR } from './harbour.ts'
import { LAYOUTS, World, type Installed } from './world.ts'

let world: World
beforeEach(() => {
  world = new World()
})
afterEach(() => world.dispose())

describe.each(LAYOUTS)('in the %s layout', (layout) => {
  test('an untouched checkout has no differences, whatever tools keep in node_modules', async () => {
    const { checkout, verify } = await installed(layout)
    mkdirSync(join(checkout, 'node_modules/.cache/tool'), { recursive: true })
    expect(await verify()).toEqual([])
  })

  test('a changed file is named, in the store too where it is the same file', async () => {
    const { checkout, verify, base } = await installed(layout)
    overwrite(join(checkout, 'node_modules/paper/lib/index.js'), 'changed')
    const found = await verify()
    expect(found.filter(({ path }) => path.startsWith(base))).toEqual([
      { path: join(base, 'node_modules/paper/lib/index.js'), kind: 'differs', package: 'paper@1.0.0' },
    ])
    expect(found.filter(({ path }) => !path.startsWith(base))).toEqual([
      {
        path: expect.stringMatching(/\/trees\/[0-9a-f]{40}\/package\/lib\/index\.js$/),
        kind: 'differs',
        package: 'paper@1.0.0',
      },
    ])
  })

  test('a file that was replaced by a copy with other bytes is named, one with the same bytes is not', async () => {
    const { verify, base } = await installed(layout)
    const file = join(base, 'node_modules/paper/lib/index.js')
    replace(file, readFileSync(file, 'utf8'))
    expect(await verify()).toEqual([])
    replace(file, 'module.exports = "paper@1.0.1"')
    expect(await verify()).toEqual([{ path: file, kind: 'differs', package: 'paper@1.0.0' }])
  })

  test('missing and added files, directories and links are named', async () => {
    const { checkout, verify, base } = await installed(layout)
    rmSync(join(base, 'node_modules/paper/lib/index.js'))
    writeFileSync(join(base, 'node_modules/ink/added.js'), '')
    rmSync(join(base, 'node_modules/loop/node_modules/loop'))
    rmSync(join(base, 'node_modules/binder'), { recursive: true })
    mkdirSync(join(checkout, 'node_modules/stranger'))
    rmSync(join(checkout, 'services/office/node_modules/ink'))
    symlinkSync('..', join(checkout, 'services/office/node_modules/ink'))
    rmSync(join(checkout, 'node_modules/.bin/tool'))
    const names = (await verify()).map(
      ({ path, kind, package: owner }) =>
        `${kind} ${path.replace(base, 'BASE').replace(checkout, 'CHECKOUT')} ${owner ?? '-'}`,
    )
    const top = layout === 'linked' ? 'CHECKOUT' : 'BASE'
    expect(names.sort()).toEqual(
      [
        'missing BASE/node_modules/paper/lib/index.js paper@1.0.0',
        'added BASE/node_modules/ink/added.js ink@2.0.0',
        'missing BASE/node_modules/loop/node_modules/loop loop@2.0.0',
        'missing BASE/node_modules/binder/lib/index.js binder@2.0.0',
        'missing BASE/node_modules/binder/package.json binder@2.0.0',
        `added ${top}/node_modules/stranger -`,
        `differs ${top}/services/office/node_modules/ink -`,
        `missing ${top}/node_modules/.bin/tool -`,
      ].sort(),
    )
  })

  test('a file that lost its executable bit differs', async () => {
    const { verify, base } = await installed(layout)
    const file = join(base, 'node_modules/tool-a/bin/tool.js')
    replace(file, readFileSync(file, 'utf8'))
    expect(await verify()).toEqual([{ path: file, kind: 'differs', package: 'tool-a@1.0.0' }])
  })

  test('a whole node_modules that is gone is named file by file', async () => {
    const { checkout, verify } = await installed(layout)
    rmSync(join(checkout, 'services/office/node_modules'), { recursive: true })
    const found = await verify()
    expect(found.every(({ kind }) => kind === 'missing')).toBe(true)
    expect(found.map(({ path }) => path)).toContain(join(checkout, 'services/office/node_modules/.bin/tool'))
  })
})

test('a link of the pool that leads elsewhere is named in each checkout that got it, and goes when the store discards', async () => {
  const { checkout } = await installed('linked')
  const pooled = join(world.store.home, 'links', '.polder%env%paper')
  const before = readlinkSync(pooled)
  rmSync(pooled)
  symlinkSync('../elsewhere', pooled)
  const other = await installed('linked')
  expect(await other.verify()).toEqual([
    { path: join(other.checkout, 'node_modules/paper'), kind: 'differs', package: null },
  ])
  expect(readlinkSync(join(checkout, 'node_modules/paper'))).toBe(before)
  discard(world.store, [], undefined)
  expect(await (await installed('linked')).verify()).toEqual([])
})

async function installed(
  layout: (typeof LAYOUTS)[number],
): Promise<{ checkout: string; base: string; verify: () => Promise<readonly CheckoutDifference[]> }> {
  const lock = await world.lock(HARBOUR)
  const checkout = world.checkout(lock)
  const { plan, environmentPath }: Installed = await world.install(lock, checkout, layout)
  return {
    checkout,
    base: environmentPath ?? checkout,
    verify: () => verifyCheckout({ store: world.store, checkout, plan, environmentPath }),
  }
}

/** Through the hard link. */
function overwrite(path: string, text: string): void {
  chmodSync(path, 0o644)
  writeFileSync(path, text)
  chmodSync(path, 0o444)
}

function replace(path: string, text: string): void {
  rmSync(path)
  writeFileSync(path, text, { mode: 0o444 })
}
