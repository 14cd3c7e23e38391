// What a sandbox costs before a build does anything, by level and with what is recorded: bench-sandbox.ts [RUNS]
import { accessSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'

import { PROGRAMS } from '../packages/build/src/programs.ts'
import { openSandboxes } from '../packages/build/src/sandbox/ladder.ts'
import type { Sandboxes } from '../packages/build/src/sandbox/sandboxes.ts'

const runs = Number(process.argv[2] ?? 100)
const directory = mkdtempSync(join(tmpdir(), 'polder-bench-sandbox-'))
// The ways take turns, as whatever else the machine does changes from one minute to the next.
const ROUNDS = 5

interface Way {
  readonly name: string
  readonly without: readonly string[]
  readonly walls: number[]
  /** Processor time, a round each: of a build, and of opening the sandbox. */
  readonly builds: number[]
  readonly openings: number[]
  recorded: string
}

const WAYS: readonly Way[] = [
  way('bubblewrap', []),
  way('bubblewrap', ['nft']),
  way('unshare', ['bwrap']),
  way('unshare', ['bwrap', 'nft']),
]

try {
  for (const { without } of WAYS) makePath(without)
  for (let round = 0; round < ROUNDS; round++) for (const each of WAYS) await measure(each)
  console.log(`user ${process.geteuid?.()}, ${runs} builds of \`true\` each, one after another, in ${ROUNDS} rounds`)
  for (const { name, recorded, walls, builds, openings } of WAYS) {
    console.log(
      `${name}, recorded: ${recorded}: processor ${ms(median(builds))} a build, ${ms(median(walls))} by the clock ` +
        `(least ${ms(Math.min(...walls))}); opened once for processor ${ms(median(openings))}`,
    )
  }
} finally {
  rmSync(directory, { recursive: true, force: true })
}

function way(name: string, without: readonly string[]): Way {
  return { name, without, walls: [], builds: [], openings: [], recorded: '' }
}

async function measure(each: Way): Promise<void> {
  const atRest = childTime()
  await (await open(each)).close()
  const opening = childTime() - atRest
  const before = childTime()
  const sandboxes = await open(each)
  each.recorded = sandboxes.recorded
  const count = Math.ceil(runs / ROUNDS)
  for (let run = 0; run < count; run++) {
    const start = performance.now()
    await build(sandboxes)
    each.walls.push(performance.now() - start)
  }
  await sandboxes.close()
  each.openings.push(opening)
  each.builds.push((childTime() - before - opening) / count)
}

async function open({ name, without }: Way): Promise<Sandboxes> {
  const sandboxes = await openSandboxes({ scratch: join(directory, name), require: true, path: binFor(without) })
  if (sandboxes.level !== name) throw new Error(sandboxes.shortcomings.join('\n'))
  return sandboxes
}

async function build(sandboxes: Sandboxes): Promise<void> {
  const source = join(directory, 'build')
  mkdirSync(source, { recursive: true })
  const { status } = await sandboxes.run({
    label: 'nothing',
    script: 'install',
    command: ['true'],
    directory: { source, target: '/build' },
    env: {},
    log: join(directory, 'log'),
  })
  if (status !== 0) throw new Error('true failed')
}

function binFor(without: readonly string[]): string {
  return join(directory, `bin-${without.join('-')}`)
}

function makePath(without: readonly string[]): void {
  mkdirSync(binFor(without))
  for (const program of PROGRAMS.filter((other) => !without.includes(other))) {
    const found = [...(process.env['PATH'] ?? '').split(delimiter), '/usr/sbin', '/sbin'].find((at) => {
      try {
        accessSync(join(at, program))
        return true
      } catch {
        return false
      }
    })
    if (found !== undefined) symlinkSync(join(found, program), join(binFor(without), program))
  }
}

/** Milliseconds of processor time of all processes that we started and that have ended (proc(5), cutime and cstime). */
function childTime(): number {
  const fields = readFileSync('/proc/self/stat', 'latin1').split(') ')[1]?.split(' ') ?? []
  return (Number(fields[13]) + Number(fields[14])) * 10
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1] ?? 0
}

function ms(value: number): string {
  return `${value.toFixed(1)} ms`
}
