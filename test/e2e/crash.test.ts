import { spawn } from 'node:child_process'
import { hash } from 'node:crypto'
import { cpSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'

import { afterAll, beforeAll, describe, expect, test } from 'vitest'

import { polder, polderCommand, polderDone, temporaryDirectory, type Invocation } from '../support/cli.ts'
import { copyStore, emptyStore, writeChain } from '../support/monorepo.ts'
import { startRegistry, type Registry } from '../support/registry.ts'
import { makeSigningKey } from '../support/signing-key.ts'

const KILL_AT_CHANGE = new URL('../support/kill-at-change.ts', import.meta.url).pathname
const POINTS = 26
const TIMEOUT = 180_000
/** What of a full store is left out to begin with. */
const WITHOUT = { artifacts: ['trees', 'envs', 'roots'], trees: ['envs', 'roots'], installed: ['roots'] }

let registry: Registry
/** What every point starts from a copy of. */
let base: { readonly root: string; readonly home: string; readonly lock: string }
let made = 0

beforeAll(async () => {
  registry = await startRegistry()
  // So that every run verifies signatures, and has to come to the same pinned key.
  registry.signWith(makeSigningKey())
  const root = join(temporaryDirectory('crash'), 'repository')
  const home = join(temporaryDirectory('crash'), 'store')
  writeChain(root, registry, { packages: 8, files: 6 })
  await polderDone(['lock'], { cwd: root, home })
  const lock = readFileSync(join(root, 'polder.lock'), 'utf8')
  // Once through everything, so that what Node has compiled is in the store and a point measures polder.
  const warm = copyRepository(root)
  await polderDone(['install'], { cwd: warm, home })
  await polderDone(['verify'], { cwd: warm, home })
  base = { root, home, lock }
})

afterAll(() => registry.close())

describe.each([
  { phase: 'lock', state: 'nothing', command: ['lock'] },
  { phase: 'install, unpacking', state: 'artifacts', command: ['install'] },
  { phase: 'install, linking', state: 'trees', command: ['install'] },
  {
    phase: 'install in place of another layout',
    state: 'installed',
    command: ['install', '--layout', 'self-contained'],
  },
] as const)('$phase', ({ phase, state, command }) => {
  test('killed before any of its changes to the file system, the next run mends it', { timeout: TIMEOUT }, async () => {
    const countTo = join(temporaryDirectory('count'), 'changes')
    const counting = { nodeOptions: ['--import', KILL_AT_CHANGE], env: { POLDER_COUNT_TO: countTo } }
    await polderDone(command, { ...(await prepare(state)), ...counting })
    const changes = Number(readFileSync(countTo, 'utf8'))
    const killed = await inParallel(spread(changes), async (change) => {
      const world = await prepare(state)
      const dying = { nodeOptions: ['--import', KILL_AT_CHANGE], env: { POLDER_KILL_AT: String(change) } }
      const { code } = await polder(command, { ...world, ...dying })
      await expectMended(world, command, `${phase}, killed before change ${change} of ${changes}`)
      return code === null
    })
    // The number of changes varies a little from run to run, so the last points may lie behind the end.
    expect(killed.filter(Boolean).length).toBeGreaterThan(POINTS - 4)
  })
})

describe.each([
  { phase: 'index sync', state: 'nothing', command: ['index', 'sync'] },
  { phase: 'install', state: 'artifacts', command: ['install'] },
] as const)('$phase', ({ phase, state, command }) => {
  test('killed at any moment, the next run mends it', { timeout: TIMEOUT }, async () => {
    const whole = await prepare(state)
    const started = performance.now()
    await polderDone(command, whole)
    const duration = performance.now() - started
    const killed = await inParallel(spread(duration), async (moment) => {
      const world = await prepare(state)
      const isKilled = await killAfter(command, world, moment)
      await expectMended(world, command, `${phase}, killed after ${Math.round(moment)} of ${Math.round(duration)} ms`)
      return isKilled
    })
    expect(killed.filter(Boolean).length).toBeGreaterThan(POINTS / 2)
  })
})

/** A repository and a store of its own. */
async function prepare(state: 'nothing' | 'artifacts' | 'trees' | 'installed'): Promise<Invocation> {
  const cwd = copyRepository(base.root)
  const home = join(temporaryDirectory('store'), 'store')
  if (state === 'nothing') {
    rmSync(join(cwd, 'polder.lock'))
    emptyStore(base.home, home)
  } else {
    copyStore(base.home, home, WITHOUT[state])
  }
  if (state === 'installed') await polderDone(['install'], { cwd, home })
  return { cwd, home }
}

function copyRepository(from: string): string {
  const to = join(temporaryDirectory(`checkout-${made++}`), 'repository')
  cpSync(from, to, { recursive: true })
  return to
}

async function expectMended(world: Invocation, command: readonly string[], point: string): Promise<void> {
  if (command[0] === 'install') {
    await mend(['install'], world, point)
    await mend(['verify'], world, point)
  } else {
    await mend(['lock'], world, point)
    expect(readFileSync(join(world.cwd, 'polder.lock'), 'utf8'), point).toBe(base.lock)
    expect(artifacts(world.home), point).toEqual(artifacts(base.home))
  }
  rmSync(world.home, { recursive: true, force: true })
}

/** The names of all artifacts; each is the hash of what is in it. */
function artifacts(home: string): string[] {
  const directory = join(home, 'artifacts', 'sha512')
  const names = readdirSync(directory, { recursive: true, encoding: 'utf8' })
    .filter((name) => name.includes('/'))
    .sort()
  for (const name of names) expect(hash('sha512', readFileSync(join(directory, name)))).toBe(name.replace('/', ''))
  return names
}

async function mend(command: readonly string[], world: Invocation, point: string): Promise<void> {
  const { code, stdout, stderr } = await polder(command, world)
  expect({ point, command, code, output: code === 0 ? '' : `${stdout}${stderr}` }).toEqual({
    point,
    command,
    code: 0,
    output: '',
  })
}

/** Evenly over a range, both ends left out. */
function spread(range: number): number[] {
  return Array.from({ length: POINTS }, (_, index) => Math.ceil(((index + 1) * range) / (POINTS + 1)))
}

async function inParallel<T, R>(items: readonly T[], run: (item: T) => Promise<R>): Promise<R[]> {
  const results: R[] = []
  const queue = items.values()
  const work = async (): Promise<void> => {
    for (const item of queue) results.push(await run(item))
  }
  await Promise.all([work(), work()])
  return results
}

/** @returns whether it was still running */
function killAfter(args: readonly string[], world: Invocation, milliseconds: number): Promise<boolean> {
  const { program, args: words, env } = polderCommand(args, world)
  return new Promise((resolve, reject) => {
    const child = spawn(program, words, { cwd: world.cwd, env, stdio: 'ignore' })
    const timer = setTimeout(() => child.kill('SIGKILL'), milliseconds)
    child.once('error', reject)
    child.once('exit', (_, signal) => {
      clearTimeout(timer)
      resolve(signal === 'SIGKILL')
    })
  })
}
