import { execFileSync } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'

export interface Load {
  readonly perSecond: number
  /** The server's own, of all its processes: what a request costs it. */
  readonly cpuMs: number
}

const TICKS_PER_SECOND = 100

/** Asks for one URL as fast as it is answered. @throws Error if any answer is not 200 */
export function load(
  url: string,
  pid: number,
  {
    connections,
    seconds,
    headers,
  }: { readonly connections: number; readonly seconds: number; readonly headers: readonly string[] },
): Load {
  const before = cpuTicks(pid)
  const output = execFileSync(
    'wrk',
    ['-t1', `-c${connections}`, `-d${seconds}s`, ...headers.flatMap((header) => ['-H', header]), url],
    { encoding: 'utf8' },
  )
  const ticks = cpuTicks(pid) - before
  if (output.includes('Non-2xx')) throw new Error(`${url} was not always answered:\n${output}`)
  const requests = Number(/(\d+) requests in/.exec(output)?.[1])
  return {
    perSecond: Number(/Requests\/sec:\s+([\d.]+)/.exec(output)?.[1]),
    cpuMs: (ticks * 1000) / TICKS_PER_SECOND / requests,
  }
}

/** Of the process and its children. */
function cpuTicks(pid: number): number {
  let sum = 0
  for (const each of family(pid)) {
    const fields = statOf(each)
    sum += Number(fields[11]) + Number(fields[12])
  }
  return sum
}

/** The most that its processes held in memory at any time, in MB. */
export function peakMb(pid: number): number {
  let sum = 0
  for (const each of family(pid)) {
    sum += Number(/VmHWM:\s+(\d+)/.exec(readFileSync(`/proc/${each}/status`, 'utf8'))?.[1] ?? 0)
  }
  return sum / 1024
}

function family(pid: number): readonly number[] {
  const children = readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((other) => Number(statOf(other)[1]) === pid)
  return [pid, ...children.flatMap(family)]
}

/** The fields behind the command, which may hold spaces: state, parent, … */
function statOf(pid: number): readonly string[] {
  try {
    return readFileSync(`/proc/${pid}/stat`, 'utf8')
      .replace(/^.*\) /, '')
      .split(' ')
  } catch {
    return []
  }
}
