// scripts/solve FILE.json[.gz] [--peers] [--json]
// scripts/solve --generate SERVICES,NAMES,LEAST-MOST,SEED
//
// Solves the problem in FILE for the fewest versions and prints one line of JSON; times are processor time of a warm
// run, in milliseconds; the peak of memory is that of the first run, before the repetitions. Without --json the splits
// follow on standard error, each with its certificate. --peers makes optional peers hard; other peers always are.
// --generate makes the problem instead: a monorepo in which each name has LEAST to MOST candidates.
import { parseArgs } from 'node:util'

import { certificatesOf } from '../packages/solver/src/fewest/certificate.ts'
import { solveFewest, type Certificate, type Solution } from '../packages/solver/src/index.ts'
import { generateProblem } from '../packages/solver/test/support/generate.ts'
import type { CompiledProblem } from '../packages/solver/test/support/problem-file.ts'

const WARM_UP_RUNS = 20
const WARM_UP_MS = 1000
const MEASURED_RUNS = 5

try {
  await main()
} catch (error) {
  console.error(`solve: ${error instanceof Error ? error.message : String(error)}`)
  process.exitCode = 1
}

async function main(): Promise<void> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: { peers: { type: 'boolean' }, json: { type: 'boolean' }, generate: { type: 'string' } },
  })
  const [path] = positionals
  if ((path === undefined) === (values.generate === undefined) || positionals.length > 1)
    throw new Error(
      'usage: scripts/solve FILE.json[.gz] [--peers] [--json] | --generate SERVICES,NAMES,LEAST-MOST,SEED',
    )
  const make = path === undefined ? generated(values.generate ?? '') : await fromFile(path, values.peers === true)
  solveFewest(make().problem)
  const peakMb = Math.round(process.resourceUsage().maxRSS / 1024)
  const [compiled, compileMs] = warm(make)
  const [solution, solveMs] = warm(() => solveFewest(compiled.problem))
  const [, explainMs] = warm(() => certificatesOf(compiled.problem, solution.selected))
  console.log(JSON.stringify({ ...figuresOf(solution), compileMs, solveMs, explainMs, peakMb }))
  if (values.json !== true && path !== undefined)
    for (const certificate of solution.certificates) console.error(sentence(compiled, certificate))
}

async function fromFile(path: string, optionalPeers: boolean): Promise<() => CompiledProblem> {
  // Loaded only here: ranges take memory that would be counted.
  const { compileProblemFile, readProblemFile } = await import('../packages/solver/test/support/problem-file.ts')
  const file = readProblemFile(path)
  return () => compileProblemFile(file, { optionalPeers })
}

function generated(text: string): () => CompiledProblem {
  const shape = /^(\d+),(\d+),(\d+)-(\d+),(\d+)$/.exec(text)?.slice(1).map(Number)
  if (shape === undefined) throw new Error(`${text} is not SERVICES,NAMES,LEAST-MOST,SEED`)
  const [services = 0, names = 0, least = 0, most = 0, seed = 0] = shape
  const problem = generateProblem({ services, names, candidates: [least, most], seed })
  return () => ({ problem, owners: [] })
}

/** The result, and the median time of some runs after the engine has compiled the code. */
function warm<T>(run: () => T): [T, number] {
  let result = run()
  const start = performance.now()
  for (let i = 1; i < WARM_UP_RUNS && performance.now() - start < WARM_UP_MS; i++) result = run()
  const times = Array.from({ length: MEASURED_RUNS }, () => {
    const from = process.cpuUsage()
    result = run()
    const { user, system } = process.cpuUsage(from)
    return (user + system) / 1000
  })
  const median = times.sort((a, b) => a - b)[MEASURED_RUNS >> 1] ?? 0
  return [result, Math.round(median * 10) / 10]
}

function figuresOf({ selected, optimal, lowerBound }: Solution): Readonly<Record<string, number | boolean>> {
  const copies = selected.map((candidates) => candidates.length).filter((count) => count > 0)
  const total = copies.reduce((sum, count) => sum + count, 0)
  return {
    total,
    names: copies.length,
    splitNames: copies.filter((count) => count > 1).length,
    extraCopies: total - copies.length,
    optimal,
    lowerBound: lowerBound.total,
  }
}

function sentence({ problem, owners }: CompiledProblem, { slot, demands, proven }: Certificate): string {
  const name = problem.names[slot] ?? ''
  const lines = demands.map(({ candidate, count, owner }) => {
    const range = owners[owner]?.edges.find((edge) => edge[1] === name)?.[2] ?? ''
    const others = count > 1 ? ` and ${count - 1} more` : ''
    return `  ${problem.versions[slot]?.[candidate]}  needed by ${owners[owner]?.label} (${range})${others}`
  })
  return [
    `${name} is kept at ${demands.length} versions`,
    ...lines,
    ...(proven ? ['  No version satisfies two of these.'] : []),
  ].join('\n')
}
