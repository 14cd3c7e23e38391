import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, test } from 'vitest'

import { directoryOf, needs, runBuilds, WAYS, withoutFor } from './support/sandboxes.ts'

/** The processes whose command line has this in it, outside of all namespaces. */
function processesWith(text: string): readonly number[] {
  const pids = readdirSync('/proc').map(Number)
  return pids.filter((pid) => pid > 0 && pid !== process.pid && commandLine(pid).includes(text))
}

/** Empty for one that has ended, whether it has been waited for or not. */
function commandLine(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'latin1')
  } catch {
    return ''
  }
}

async function until(condition: () => boolean): Promise<void> {
  const deadline = Date.now() + 20_000
  while (!condition()) {
    if (Date.now() > deadline) throw new Error('it did not come to that')
    await sleep(20)
  }
}

const children = (pid: number): readonly number[] => {
  try {
    return readFileSync(`/proc/${pid}/task/${pid}/children`, 'latin1').trim().split(' ').filter(Boolean).map(Number)
  } catch {
    return []
  }
}
const descendants = (pid: number): readonly number[] => [pid, ...children(pid).flatMap(descendants)]

const CASES = WAYS.flatMap((way) => [
  { ...way, how: 'killed', stopped: false },
  { ...way, how: 'killed while its own process is stopped', stopped: true },
])

test.for(CASES)('nothing is left when polder of $user is $how, in $level', async (way, context) => {
  const { user, level, stopped } = way
  needs(context, user)
  const directory = directoryOf(user)
  // The number tells its processes from all others.
  const marker = `${process.pid}${Math.trunc(performance.now() * 1000)}`
  const script = `setsid sleep 4${marker} & (trap '' TERM HUP; sleep 5${marker}) & touch started; sleep 6${marker}`
  const job = { user, directory, without: withoutFor(level) }
  const running = runBuilds(job, [{ command: ['sh', '-c', script] }])
  await until(() => existsSync(join(directory, 'build-0/started')))
  const [polder = 0] = processesWith('sandbox-process').filter((pid) => processesWith(marker).includes(pid))
  const tree = descendants(polder)
  expect(tree.length).toBeGreaterThan(4)
  if (stopped) {
    const cells = tree.filter((pid) => processesWith('cell-process').includes(pid))
    expect(cells).not.toEqual([])
    for (const pid of cells) process.kill(pid, 'SIGSTOP')
  }
  process.kill(polder, 'SIGKILL')
  await running
  await until(() => processesWith(marker).length === 0 && tree.every((pid) => commandLine(pid) === ''))
  expect(execFileSync('cat', ['/proc/mounts'], { encoding: 'utf8' })).not.toContain(directory)
})

test('an aborted build ends, with all that it started, and one whose sandbox is only being opened does not begin', async (context) => {
  const user = process.geteuid?.() === 0 ? 'the superuser' : 'an ordinary user'
  needs(context, user)
  const { openSandboxes } = await import('../src/sandbox/ladder.ts')
  const directory = directoryOf(user)
  const source = join(directory, 'source')
  mkdirSync(source)
  const sandboxes = await openSandboxes({ scratch: join(directory, 'scratch'), require: true, parallel: 2 })
  try {
    const controller = new AbortController()
    const request = {
      label: 'example@1.0.0',
      script: 'install',
      directory: { source, target: '/build' },
      env: {},
      log: join(directory, 'log'),
    }
    const command = ['sh', '-c', 'touch started; sleep 600']
    const running = sandboxes.run({ ...request, command, signal: controller.signal })
    await until(() => existsSync(join(source, 'started')))
    const other = join(directory, 'other')
    mkdirSync(other)
    const opening = sandboxes.run({
      ...request,
      command: ['sh', '-c', 'touch started; sleep 600'],
      directory: { source: other, target: '/build' },
      log: join(directory, 'other.log'),
      signal: controller.signal,
    })
    controller.abort()
    expect(await running).toMatchObject({ status: null, signal: 'SIGKILL' })
    await expect(opening).rejects.toThrow('aborted')
    expect(existsSync(join(other, 'started'))).toBe(false)
    expect(await sandboxes.run({ ...request, command: ['true'] })).toMatchObject({ status: 0 })
  } finally {
    await sandboxes.close()
  }
})
