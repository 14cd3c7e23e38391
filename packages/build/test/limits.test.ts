import { statSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'

import type { Limits } from '../src/sandbox/limits.ts'
import { directoryOf, needs, runBuilds, WAYS, withoutFor } from './support/sandboxes.ts'

const MIB = 2 ** 20

/** A build for each limit, which goes over that one, and what it comes to. */
const CASES: readonly {
  readonly limit: string
  readonly limits: Partial<Limits>
  readonly script: string
  readonly said: string | RegExp
}[] = [
  {
    limit: 'processes',
    limits: { processes: 150 },
    script: 'bomb() { bomb | bomb & }; while :; do bomb; done',
    said: /its limit of 150 processes and threads/,
  },
  {
    limit: 'output',
    limits: { outputBytes: MIB },
    script: 'yes this is the end',
    said: 'it went over its limit of 1 MiB of output',
  },
  {
    limit: 'memory',
    limits: { memoryBytes: 300 * MIB },
    script: 'exec node -e "const all = []; setInterval(() => all.push(Buffer.alloc(16 * 2 ** 20, 1)), 5)"',
    said: 'it went over its limit of 300 MiB of memory',
  },
  {
    limit: 'memory',
    limits: { memoryBytes: 100 * MIB },
    script: 'while :; do echo more >> /dev/shm/1; cat /dev/shm/* >> /tmp/2; cat /tmp/2 >> /dev/shm/1; done',
    said: 'it went over its limit of 100 MiB of memory',
  },
  {
    limit: 'time',
    limits: { timeMs: 500 },
    script: 'trap "" TERM; sleep 600',
    said: 'it went over its limit of 0.5 s',
  },
  {
    limit: 'disk',
    limits: { diskBytes: 8 * MIB },
    script: 'i=0; while :; do i=$((i + 1)); head -c 100000 /dev/zero > file-$i; done',
    said: 'it went over its limit of 8 MiB on disk',
  },
  {
    limit: 'disk',
    limits: { diskBytes: 8 * MIB },
    script: `exec node -e 'require("fs").writeFileSync("large", Buffer.alloc(16 * 2 ** 20))'`,
    said: /EFBIG: file too large.*at its limit of 8 MiB on disk/s,
  },
  {
    limit: 'disk',
    limits: { diskBytes: 8 * MIB },
    script: 'set -e; for i in 1 2 3 4; do head -c 4000000 /dev/zero > /tmp/$i; done',
    said: /No space left on device.*at its limit of 8 MiB on disk/s,
  },
]

test.for(WAYS)('a build of $user ends at each of its limits, and says at which, in $level', async (way, context) => {
  const { user, level } = way
  needs(context, user)
  const directory = directoryOf(user)
  const builds = CASES.map(({ script, limits }) => ({ command: ['sh', '-c', script], limits }))
  // The place goes on after each.
  const { results } = await runBuilds({ user, directory, without: withoutFor(level) }, [
    ...builds,
    { command: ['echo', 'still here'] },
  ])
  for (const [at, { limit, said, script }] of CASES.entries()) {
    expect(results[at], script).toMatchObject({ limit })
    expect(results[at]?.tail, script).toMatch(said)
  }
  expect(results.at(-1)).toMatchObject({ status: 0, tail: 'still here\n' })
  // Not a byte more than the limit, and the last line.
  expect(statSync(join(directory, 'log-1')).size).toBeLessThan(MIB + 200)
})

test('a large build that stays within its limits is left alone, and what it took is told', async (context) => {
  const user = process.geteuid?.() === 0 ? 'the superuser' : 'an ordinary user'
  needs(context, user)
  const script = `
    const { fork } = require('child_process')
    const shared = Buffer.alloc(64 * 2 ** 20, 1)
    setTimeout(() => console.log('done', shared.length), 400)`
  const { results } = await runBuilds({ user }, [{ command: ['node', '-e', script] }])
  expect(results[0]).toMatchObject({ status: 0, signal: null, tail: `done ${64 * MIB}\n` })
  expect(results[0]).not.toHaveProperty('limit')
  expect(results[0]?.peak.memoryBytes).toBeGreaterThan(64 * MIB)
  expect(results[0]?.peak.memoryBytes).toBeLessThan(512 * MIB)
  expect(results[0]?.peak.processes).toBeGreaterThan(1)
})
