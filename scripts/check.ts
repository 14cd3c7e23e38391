// Every static check, two at a time, with all failures reported: `scripts/check [NAME…]`.
import { spawn } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

import { checkErrorCodes } from './checks/error-codes.ts'
import { checkForbiddenText } from './checks/forbidden-text.ts'
import { checkLayers } from './checks/layers.ts'
import { checkManifests } from './checks/manifests.ts'

interface Outcome {
  readonly name: string
  readonly ok: boolean
  readonly milliseconds: number
  readonly output: string
}

type Check = () => Promise<{ readonly ok: boolean; readonly output: string }>

const ROOT = fileURLToPath(new URL('..', import.meta.url))
const AT_ONCE = 2

const CHECKS: Readonly<Record<string, Check>> = {
  types: command('tsc', '-p', '.'),
  layers: failures(checkLayers),
  unused: command('knip', '--no-progress'),
  lint: command('oxlint', '--deny-warnings'),
  format: command('oxfmt', '--list-different', '.'),
  manifests: failures(checkManifests),
  'forbidden text': failures(checkForbiddenText),
  'error codes': failures(checkErrorCodes),
}

const wanted = process.argv.slice(2)
const unknown = wanted.filter((name) => !Object.hasOwn(CHECKS, name))
if (unknown.length > 0) {
  console.error(`no check is called ${unknown.join(', ')}; there are: ${Object.keys(CHECKS).join(', ')}`)
  process.exit(2)
}

const queue = Object.entries(CHECKS).filter(([name]) => wanted.length === 0 || wanted.includes(name))
const outcomes: Outcome[] = []
await Promise.all(Array.from({ length: AT_ONCE }, work))

for (const { name, output } of outcomes.filter((outcome) => !outcome.ok))
  console.log(`\n── ${name}\n${output.trimEnd()}`)
const failed = outcomes.filter((outcome) => !outcome.ok).map((outcome) => outcome.name)
const passed = outcomes.length - failed.length
if (process.env['CHECK_COUNTS'] !== undefined) {
  writeFileSync(process.env['CHECK_COUNTS'], JSON.stringify({ passed, failed: failed.length }))
}
const list = failed.length === 0 ? '' : `: ${failed.join(', ')}`
console.log(
  `\nStatic checks: ${passed} of ${outcomes.length} passed${failed.length === 0 ? '' : `, ${failed.length} failed${list}`}`,
)
process.exitCode = failed.length === 0 ? 0 : 1

async function work(): Promise<void> {
  for (let next = queue.shift(); next !== undefined; next = queue.shift()) {
    const [name, check] = next
    const start = performance.now()
    const result = await check().catch((error: unknown) => ({ ok: false, output: String((error as Error).stack) }))
    const milliseconds = performance.now() - start
    outcomes.push({ name, milliseconds, ...result })
    console.log(
      `${result.ok ? 'ok    ' : 'FAILED'}  ${name.padEnd(14)} ${(milliseconds / 1000).toFixed(1).padStart(5)} s`,
    )
  }
}

/** A program of the workspace's own node_modules; it fails by its exit code. */
function command(program: string, ...args: readonly string[]): Check {
  return () =>
    new Promise((resolve, reject) => {
      const child = spawn(`${ROOT}node_modules/.bin/${program}`, args, { cwd: ROOT, stdio: ['ignore', 'pipe', 'pipe'] })
      let output = ''
      const collect = (chunk: Buffer): void => void (output += chunk.toString())
      child.stdout.on('data', collect)
      child.stderr.on('data', collect)
      child.on('error', reject)
      child.on('close', (code, signal) => {
        if (code !== 0 && output === '') output = `${program} ended with ${signal ?? `exit code ${code}`}`
        resolve({ ok: code === 0, output })
      })
    })
}

function failures(check: (root: string) => readonly string[] | Promise<readonly string[]>): Check {
  return async () => {
    const lines = await check(ROOT)
    return { ok: lines.length === 0, output: lines.join('\n') }
  }
}
