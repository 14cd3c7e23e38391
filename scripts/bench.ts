// polder beside pnpm and bun on one workspace, see USAGE.
// Everything is copied first; every cache is filled before anything is measured; every run has a fresh directory; the
// tools take turns; and the registry that cold caches are filled from is on loopback and serves only the pins.
import { cpSync, mkdirSync, mkdtempSync, renameSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'

import { commandLine, wrongUsage } from './benchmark/command-line.ts'
import { measure, type Measurement } from './benchmark/measure.ts'
import { prepareTools, type Tool } from './benchmark/tools.ts'
import { startPinRegistry } from './benchmark/pin-registry.ts'
import { polderCheckout } from './benchmark/workspace.ts'

const CASES = {
  noop: 'no-op: installed already',
  second: 'second checkout: everything is there but this one',
  warm: 'warm: all packages are in the store, no environment is',
  cold: 'cold: empty store, registry on loopback',
} as const
type Case = keyof typeof CASES

const USAGE = `usage: scripts/bench WORKSPACE [--runs N] [--cases ${Object.keys(CASES).join(',')}]

Compares polder with pnpm and bun on a copy of the workspace: wall time, processor time and memory.

  --runs N         of which the medians are printed (7)
  --cases LIST     the ones to measure (all)
${Object.values(CASES)
  .map((text) => `    ${text}`)
  .join('\n')}`

const { values, positionals } = commandLine(USAGE, {
  runs: { type: 'string', default: '7' },
  cases: { type: 'string', default: Object.keys(CASES).join(',') },
})
const [workspace] = positionals
const runs = Number(values.runs)
const cases = values.cases.split(',').filter((name): name is Case => Object.hasOwn(CASES, name))
if (workspace === undefined || positionals.length > 1 || !(runs >= 1) || cases.join() !== values.cases)
  wrongUsage(USAGE)

const directory = mkdtempSync(join(tmpdir(), 'polder-bench-'))
const trash = join(directory, 'trash')
mkdirSync(trash)
let discarded = 0
try {
  await bench(resolve(workspace))
} finally {
  rmSync(directory, { recursive: true, force: true })
}

async function bench(source: string): Promise<void> {
  const checkout = await polderCheckout(source, directory)
  const registry = await startPinRegistry(checkout)
  const tools: Tool[] = []
  for (const tool of await prepareTools(checkout, directory, registry.url)) {
    // Fills the tool's caches. One that cannot install the workspace takes no part, and the reason is shown.
    const first = await attempt(tool, tool.template, tool.cold)
    if (first !== undefined) tools.push(tool)
  }
  console.log(`${source}: ${registry.packages} packages, ${runs} runs, ${process.platform}-${process.arch}`)
  for (const name of cases) {
    const results = new Map<Tool, Measurement[]>(tools.map((tool) => [tool, []]))
    for (let run = 0; run < runs; run += 1) {
      for (const tool of tools) results.get(tool)?.push(await once(name, tool))
    }
    print(CASES[name], results)
  }
  await registry.close()
}

async function once(name: Case, tool: Tool): Promise<Measurement> {
  // A no-op is one in the directory where the caches were filled, which is installed.
  if (name === 'noop') return measure(tool.install, tool.template, tool.env)
  const fresh = join(directory, `fresh-${tool.name.replaceAll(' ', '-')}`)
  cpSync(tool.pristine, fresh, { recursive: true, verbatimSymlinks: true })
  if (name === 'warm') tool.environments().forEach(discard)
  if (name === 'cold') tool.caches.forEach(discard)
  const measured = await measure(name === 'cold' ? tool.cold : tool.install, fresh, tool.env)
  discard(fresh)
  return measured
}

async function attempt(tool: Tool, cwd: string, command: readonly string[]): Promise<Measurement | undefined> {
  try {
    cpSync(tool.pristine, cwd, { recursive: true, verbatimSymlinks: true })
    return await measure(command, cwd, tool.env)
  } catch (error) {
    console.log(`${tool.name} takes no part: ${(error as Error).message}`)
    return undefined
  }
}

/** Moves aside, so that deleting (which file systems do late) falls into nobody's time. */
function discard(path: string): void {
  try {
    renameSync(path, join(trash, String((discarded += 1))))
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
  }
}

function print(title: string, results: ReadonlyMap<Tool, readonly Measurement[]>): void {
  const rows = [...results].map(([tool, measured]) => ({
    name: tool.name,
    wall: median(measured.map(({ wallMs }) => wallMs)),
    cpu: median(measured.map(({ cpuMs }) => cpuMs)),
    memory: median(measured.map(({ peakMb }) => peakMb)),
  }))
  const base = rows[0]
  console.log(`\n${title}`)
  console.log(
    `  ${'tool'.padEnd(26)}${'wall'.padStart(10)}${'×'.padStart(7)}${'CPU'.padStart(10)}${'×'.padStart(7)}${'peak'.padStart(9)}`,
  )
  for (const { name, wall, cpu, memory } of rows) {
    const wallRatio = ratio(wall, base?.wall)
    const cpuRatio = ratio(cpu, base?.cpu)
    const peak = Number.isNaN(memory) ? '–' : `${memory.toFixed(0)} MB`
    console.log(`  ${name.padEnd(26)}${ms(wall)}${wallRatio}${ms(cpu)}${cpuRatio}${peak.padStart(9)}`)
  }
}

function ms(value: number): string {
  return (Number.isNaN(value) ? '–' : `${value.toFixed(0)} ms`).padStart(10)
}

function ratio(value: number, base: number | undefined): string {
  return (base === undefined || !(base > 0) || Number.isNaN(value) ? '–' : (value / base).toFixed(2)).padStart(7)
}

function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b)
  const middle = sorted.length >> 1
  const [below, above] = [sorted[(sorted.length - 1) >> 1], sorted[middle]]
  return below === undefined || above === undefined ? Number.NaN : (below + above) / 2
}
