// What a sandbox costs before a build does anything, by level and with what is recorded: bench-sandbox.ts [RUNS]
import { accessSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'

import { openSandboxes } from '../packages/build/src/sandbox/ladder.ts'
import type { Sandboxes } from '../packages/build/src/sandbox/sandboxes.ts'

const runs = Number(process.argv[2] ?? 30)
const directory = mkdtempSync(join(tmpdir(), 'polder-bench-sandbox-'))
// Programs are left out by a PATH of links to the others.
const PROGRAMS = ['bwrap', 'unshare', 'setpriv', 'prlimit', 'mount', 'pivot_root', 'ip', 'nft', 'mkfifo']

try {
  console.log(`user ${process.geteuid?.()}, ${runs} builds of \`true\` each, one after another`)
  await row('bubblewrap', [])
  await row('bubblewrap', ['nft'])
  await row('unshare', ['bwrap'])
} finally {
  rmSync(directory, { recursive: true, force: true })
}

async function row(name: string, without: readonly string[]): Promise<void> {
  const path = pathWithout(without)
  const opening = performance.now()
  const before = childTime()
  const sandboxes = await open(name, path)
  const opened = performance.now() - opening
  if (sandboxes.level !== name) console.log(sandboxes.shortcomings.join('\n'))
  await build(sandboxes)
  const walls: number[] = []

  for (let run = 0; run < runs; run++) {
    const start = performance.now()
    await build(sandboxes)
    walls.push(performance.now() - start)
  }
  await sandboxes.close()
  const total = childTime() - before
  const atRest = childTime()
  await (await open(name, path)).close()
  const once = childTime() - atRest
  const [median = 0] = walls.sort((a, b) => a - b).slice(walls.length >> 1)
  const cpu = (total - once) / (runs + 1)
  console.log(
    `${sandboxes.level}, recorded: ${sandboxes.recorded}: ${ms(median)} a build (median; least ${ms(walls[0] ?? 0)}), ` +
      `processor ${ms(cpu)} a build; opened once in ${ms(opened)} (processor ${ms(once)})`,
  )
}

async function open(name: string, path: string): Promise<Sandboxes> {
  return openSandboxes({ scratch: join(directory, name), require: true, path })
}

async function build(sandboxes: Sandboxes): Promise<number> {
  const source = join(directory, 'build')
  mkdirSync(source, { recursive: true })
  const { status, durationMs } = await sandboxes.run({
    label: 'nothing',
    script: 'install',
    command: ['true'],
    directory: { source, target: '/build' },
    env: {},
    log: join(directory, 'log'),
  })
  if (status !== 0) throw new Error('true failed')
  return durationMs
}

function pathWithout(without: readonly string[]): string {
  const bin = join(directory, `bin-${without.join('-')}`)
  mkdirSync(bin)
  for (const program of PROGRAMS.filter((other) => !without.includes(other))) {
    const found = [...(process.env['PATH'] ?? '').split(delimiter), '/usr/sbin', '/sbin'].find((at) => {
      try {
        accessSync(join(at, program))
        return true
      } catch {
        return false
      }
    })
    if (found !== undefined) symlinkSync(join(found, program), join(bin, program))
  }
  return bin
}

/** Milliseconds of processor time of all processes that we started and that have ended (proc(5), cutime and cstime). */
function childTime(): number {
  const fields = readFileSync('/proc/self/stat', 'latin1').split(') ')[1]?.split(' ') ?? []
  return (Number(fields[13]) + Number(fields[14])) * 10
}

function ms(value: number): string {
  return `${value.toFixed(1)} ms`
}
