import { spawn } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

export interface Measurement {
  readonly wallMs: number
  /** User and system time of the process and all its children. */
  readonly cpuMs: number
  /** Of the largest single process; NaN where GNU time is not installed. */
  readonly peakMb: number
}

const GNU_TIME = '/usr/bin/time'

/** Runs the command. @throws Error with the end of its output if it fails */
export async function measure(
  command: readonly string[],
  cwd: string,
  env: Readonly<Record<string, string>>,
): Promise<Measurement> {
  const directory = mkdtempSync(join(tmpdir(), 'polder-bench-time-'))
  const gnuTime = existsSync(GNU_TIME)
  try {
    await run(timed(command, directory, gnuTime), cwd, env)
    const [wall = Number.NaN, user = Number.NaN, system = Number.NaN] = numbers(join(directory, 'times'))
    const [kilobytes = Number.NaN] = gnuTime ? numbers(join(directory, 'memory')) : []
    return { wallMs: wall * 1000, cpuMs: (user + system) * 1000, peakMb: kilobytes / 1024 }
  } finally {
    rmSync(directory, { recursive: true, force: true })
  }
}

/**
 * Bash's `time` knows milliseconds but no memory, GNU time the memory but only hundredths of a second. What it takes to
 * start the two counts for nobody.
 */
function timed(command: readonly string[], directory: string, gnuTime: boolean): readonly string[] {
  const withMemory = gnuTime ? [GNU_TIME, '--output', join(directory, 'memory'), '--format', '%M', ...command] : command
  const script = 'TIMEFORMAT="%3R %3U %3S"; { time "${@:2}" 2>&3; } 3>&2 2>"$1"'
  return ['bash', '-c', script, 'bash', join(directory, 'times'), ...withMemory]
}

function numbers(path: string): readonly number[] {
  return readFileSync(path, 'utf8').trim().split(/\s+/).map(Number)
}

function run(command: readonly string[], cwd: string, env: Readonly<Record<string, string>>): Promise<void> {
  const [program = '', ...args] = command
  return new Promise((done, fail) => {
    const child = spawn(program, args, { cwd, env, stdio: ['ignore', 'pipe', 'pipe'] })
    let output = ''
    const collect = (chunk: Buffer): void => void (output = (output + chunk.toString()).slice(-2000))
    child.stdout.on('data', collect)
    child.stderr.on('data', collect)
    child.on('error', fail)
    child.on('close', (code) => {
      if (code === 0) done()
      else fail(new Error(`${command.slice(-3).join(' ')} failed with exit code ${code}:\n${output.trim()}`))
    })
  })
}
