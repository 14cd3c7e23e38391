import { execFile, spawn } from 'node:child_process'
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { expect, test } from 'vitest'

import { collectGarbage, hasEnvironment, openStore } from '../src/index.ts'
import { collect, faults, install } from './support/scenario.ts'
import { temporaryDirectory } from './support/temporary-store.ts'

const COUNT = 3
const script = fileURLToPath(new URL('support/killed-process.ts', import.meta.url))

/** @returns how many changing calls were made; undefined if it was killed before its end */
async function run(...parameters: readonly string[]): Promise<number | undefined> {
  try {
    const { stdout } = await promisify(execFile)(process.execPath, [script, ...parameters], {
      env: { PATH: process.env['PATH'] },
    })
    return Number(stdout)
  } catch (error) {
    if ((error as { signal?: string }).signal === 'SIGKILL') return undefined
    throw error
  }
}

/** Every n-th call, always with the first and the last ones; two processes at a time. */
async function atManyCalls(total: number, kills: number, check: (call: number) => Promise<void>): Promise<void> {
  const stride = Math.max(1, Math.floor(total / kills))
  const calls = Array.from({ length: total }, (_, index) => index + 1).filter(
    (call) => call % stride === 0 || call <= 2 || call > total - 4,
  )
  const work = calls.values()
  await Promise.all(
    [0, 1].map(async () => {
      for (const call of work) await check(call)
    }),
  )
}

/** A checkout that uses the environment. */
function newCheckout(directory: string, environment: string): string {
  const checkout = join(directory, 'checkout')
  mkdirSync(join(checkout, '.polder'), { recursive: true })
  writeFileSync(join(checkout, '.polder', 'state.json'), JSON.stringify({ environment }))
  return checkout
}

test('an installation killed at any call leaves a sound store, and the next one completes it', async () => {
  const directory = temporaryDirectory()
  const checkout = newCheckout(directory, `env-${COUNT}`)
  const total = await run('install', join(directory, 'home'), checkout, String(COUNT))
  expect(total).toBeGreaterThan(80)
  await atManyCalls(total ?? 0, 20, async (call) => {
    const home = join(mkdtempSync(join(directory, 'run-')), 'home')
    expect(await run('install', home, checkout, String(COUNT), String(call))).toBeUndefined()
    expect(await faults(home, COUNT), `killed at call ${call}`).toEqual([])
    await install(home, checkout, COUNT)
    expect(await faults(home, COUNT), `installed after call ${call}`).toEqual([])
    expect(hasEnvironment(openStore(home), `env-${COUNT}`)).toBe(true)
    for (const lease of readdirSync(join(home, 'locks'))) {
      // One of which half was written is believed for ten seconds; nobody can tell whose it is.
      const path = join(home, 'locks', lease)
      if (!readFileSync(path, 'utf8').endsWith('}')) rmSync(path)
    }
    await collect(home)
    expect(
      ['tmp', 'locks', 'quarantine'].flatMap((name) => readdirSync(join(home, name))),
      `leftovers after call ${call}`,
    ).toEqual([])
    expect(readdirSync(join(home, 'roots'))).toHaveLength(1)
    expect(hasEnvironment(openStore(home), `env-${COUNT}`)).toBe(true)
    rmSync(home, { recursive: true })
  })
})

test('a collection killed at any call harms nothing that is used, and the next one finishes', async () => {
  const directory = temporaryDirectory()
  const kept = newCheckout(directory, 'env-1')
  const prepare = async (): Promise<string> => {
    const home = join(mkdtempSync(join(directory, 'run-')), 'home')
    await install(home, join(directory, 'gone'), COUNT)
    await install(home, kept, 1)
    return home
  }
  const total = await run('collect', await prepare())
  expect(total).toBeGreaterThan(8)
  await atManyCalls(total ?? 0, 8, async (call) => {
    const home = await prepare()
    expect(await run('collect', home, '', '', String(call))).toBeUndefined()
    expect(await faults(home, 1), `killed at call ${call}`).toEqual([])
    expect(hasEnvironment(openStore(home), 'env-1')).toBe(true)
    await collect(home)
    expect(readdirSync(join(home, 'envs'))).toEqual(['env-1'])
    expect(readdirSync(join(home, 'trees'))).toHaveLength(1)
    expect(
      ['tmp', 'locks'].flatMap((name) => readdirSync(join(home, name))),
      `leftovers after call ${call}`,
    ).toEqual([])
    expect(await faults(home, 1)).toEqual([])
    rmSync(home, { recursive: true })
  })
})

test('processes that install the same at once, beside a collection that never rests, all succeed', async () => {
  const directory = temporaryDirectory()
  const home = join(directory, 'home')
  const checkout = newCheckout(directory, 'env-20')
  const store = openStore(home)
  let running = 3
  const collecting = (async () => {
    while (running > 0) {
      await collectGarbage(store, { now: Date.now() + 1e9 })
      await new Promise((resolve) => setImmediate(resolve))
    }
  })()
  const codes = await Promise.all(
    Array.from({ length: 3 }, async () => {
      const child = spawn(process.execPath, [script, 'install', home, checkout, '20'], {
        stdio: ['ignore', 'ignore', 'inherit'],
        env: { PATH: process.env['PATH'] },
      })
      const code = await new Promise((resolve) => child.on('exit', resolve))
      running -= 1
      return code
    }),
  )
  await collecting
  expect(codes).toEqual([0, 0, 0])
  expect(hasEnvironment(store, 'env-20')).toBe(true)
  expect(await faults(home, 20)).toEqual([])
  await collect(home)
  expect(readdirSync(join(home, 'tmp'))).toEqual([])
})
