// node client-session.ts SESSION, inside of a network of its own with nothing but loopback: starts the index server,
// runs the steps one after the other, and prints what became of each as JSON.
import { spawn, type ChildProcess } from 'node:child_process'
import { mkdirSync } from 'node:fs'
import { createInterface } from 'node:readline'

/** Words and variables may hold `{index}`, the URL of the index. */
export interface Session {
  /** Words that start the server, which prints `{ "url": … }` when it is ready. */
  readonly serve: { readonly command: readonly string[]; readonly cwd: string; readonly env: NodeJS.ProcessEnv }
  readonly steps: readonly Step[]
}

export interface Step {
  readonly command: readonly string[]
  readonly cwd: string
  readonly env: NodeJS.ProcessEnv
}

export interface StepResult {
  readonly code: number | null
  readonly output: string
  readonly milliseconds: number
}

/** A client that waits for a network that never comes is not to hold up the others. */
const PATIENCE_MS = 60_000

if (import.meta.main) {
  const session = JSON.parse(process.argv[2] ?? '') as Session
  const { program, url } = await serve(session)
  const results: StepResult[] = []
  try {
    for (const step of session.steps) results.push(await run(step, url))
  } finally {
    program.kill('SIGTERM')
  }
  const code = await new Promise((resolve) => program.once('exit', resolve))
  process.stdout.write(JSON.stringify({ results, serverExit: code }))
}

async function serve({ serve: { command, cwd, env } }: Session): Promise<{ program: ChildProcess; url: string }> {
  const [program = '', ...args] = command
  const child = spawn(program, args, { cwd, env, stdio: ['ignore', 'pipe', 'inherit'] })
  for await (const line of createInterface(child.stdout)) {
    const { url } = JSON.parse(line) as { readonly url?: unknown }
    // What it says from now on is nobody's, but it must not fill the pipe.
    child.stdout.resume()
    if (typeof url === 'string') return { program: child, url }
  }
  throw new Error('the index server ended before it was ready')
}

function run(step: Step, url: string): Promise<StepResult> {
  const filled = (text: string): string => text.replaceAll('{index}', url)
  const [program = '', ...args] = step.command.map(filled)
  const env = Object.fromEntries(Object.entries(step.env).map(([name, value]) => [name, filled(value ?? '')]))
  mkdirSync(step.cwd, { recursive: true })
  const start = performance.now()
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { cwd: step.cwd, env, stdio: ['ignore', 'pipe', 'pipe'] })
    let output = ''
    const collect = (chunk: Buffer): void => void (output += chunk.toString())
    child.stdout.on('data', collect)
    child.stderr.on('data', collect)
    child.once('error', reject)
    const timer = setTimeout(() => {
      output += `\nended after ${PATIENCE_MS / 1000} s`
      child.kill('SIGKILL')
    }, PATIENCE_MS)
    child.once('close', (code) => {
      clearTimeout(timer)
      resolve({ code, output, milliseconds: Math.round(performance.now() - start) })
    })
  })
}
