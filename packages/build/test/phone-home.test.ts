import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { chmodSync, closeSync, copyFileSync, openSync, readFileSync, writeFileSync } from 'node:fs'
import { createServer, type AddressInfo } from 'node:net'
import { networkInterfaces } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'

import type { Attempt } from '../src/egress/attempts.ts'
import {
  directoryOf,
  needs,
  own,
  runBuilds,
  USERS,
  WAYS,
  withoutFor,
  type Outcome,
  type User,
} from './support/sandboxes.ts'

const PACKAGE = new URL('support/phone-home.mjs', import.meta.url).pathname
const WRITES = ['/usr/was-here', '/etc/was-here', '/was-here', '/dev/was-here', '../was-here', '/proc/was-here']

/** What listens outside, and what it heard. */
interface Outside {
  readonly heard: string[]
  readonly targets: Record<string, unknown>
}

async function listenOutside(directory: string, user: User): Promise<Outside> {
  const heard: string[] = []
  const listen = async (name: string, where: { port: number; host?: string } | { path: string }): Promise<number> => {
    const server = createServer((socket) => {
      heard.push(name)
      socket.on('error', () => undefined)
      socket.end('who is there?')
    })
    server.listen(where)
    await once(server, 'listening')
    onTestFinished(() => void server.close())
    return (server.address() as AddressInfo | string as AddressInfo).port
  }
  const udp = createSocket('udp4')
  udp.on('message', () => heard.push('a datagram to the loopback'))
  udp.bind(0, '127.0.0.1')
  await once(udp, 'listening')
  onTestFinished(() => void udp.close())
  const secret = join(directory, 'secret')
  writeFileSync(secret, 'the secret of the host')
  chmodSync(secret, 0o644)
  own(secret, user)
  const path = join(directory, 'socket')
  const abstract = `polder-test-${process.pid}-${Date.now()}`
  await listen('a unix socket', { path })
  chmodSync(path, 0o777)
  await listen('an abstract socket', { path: `\0${abstract}` })
  return {
    heard,
    targets: {
      port: await listen('the loopback', { port: 0, host: '0.0.0.0' }),
      port6: await listen('the loopback of IPv6', { port: 0, host: '::1' }),
      udp: udp.address().port,
      address: Object.values(networkInterfaces())
        .flat()
        .find((address) => address?.family === 'IPv4' && !address.internal)?.address,
      path,
      abstract,
      secret,
      write: [],
    },
  }
}

/** What each way out came to, by its name. */
function outcomes(log: string): ReadonlyMap<string, unknown> {
  return new Map(
    readFileSync(log, 'utf8')
      .split('\n')
      .filter((line) => line.startsWith('['))
      .map((line) => JSON.parse(line) as [string, unknown]),
  )
}

async function phoneHome(
  user: User,
  how: { readonly without: readonly string[]; readonly require: boolean },
): Promise<{ readonly outside: Outside; readonly outcome: Outcome; readonly log: string; readonly leaked: string }> {
  const directory = directoryOf(user)
  const outside = await listenOutside(directory, user)
  const leak = join(directory, 'descriptor')
  const file = openSync(leak, 'w')
  const program = join(directory, 'phone-home.mjs')
  copyFileSync(PACKAGE, program)
  const targets = how.require ? { ...outside.targets, write: WRITES } : outside.targets
  try {
    const outcome = await runBuilds({ user, directory, descriptor: { number: 200, file }, ...how }, [
      {
        // A shell between, so that there is somebody the process has been started by.
        command: ['sh', '-c', 'node "$0" "$@"; exit $?', program, JSON.stringify(targets)],
        mounts: [{ source: program }],
      },
    ])
    return { outside, outcome, log: join(directory, 'log-0'), leaked: readFileSync(leak, 'utf8') }
  } finally {
    closeSync(file)
  }
}

test.for(WAYS)('nothing that a build of $user tries gets out of $level', async ({ user, level }, context) => {
  needs(context, user)
  const { outside, outcome, log, leaked } = await phoneHome(user, { without: withoutFor(level), require: true })
  expect(outcome).toMatchObject({ level, recorded: 'everything' })
  expect(outside.heard).toEqual([])
  expect(leaked).toBe('polder has it\n')

  expect(outcome.results).toMatchObject([{ status: 0 }])
  const told = outcomes(log)
  const refused = (name: string, ...codes: readonly unknown[]): void => {
    expect(codes, `${name}: ${String(told.get(name))}`).toContain(told.get(name))
  }
  // Answered by ourselves.
  expect(told.get('a name')).toMatch(/^198\.1[89]\./)
  expect(told.get('a server of names')).toBe(1)
  expect(told.get('a server of names over TCP')).toBe('heard')
  refused('https', 'ERR_SSL_TLSV1_ALERT_ACCESS_DENIED')
  refused('http', 403)
  refused('an address', 'closed')
  refused('an address of IPv6', 'closed')
  refused('an address of the host', 'closed', undefined)
  refused('a datagram', 'sent')
  refused('a datagram of IPv6', 'sent')
  // Nobody there: its loopback is another one.
  refused('the loopback', 'ECONNREFUSED')
  refused('the loopback of IPv6', 'ECONNREFUSED')
  refused('a datagram to the loopback', 'ECONNREFUSED')
  refused('a unix socket', 'ENOENT')
  refused('an abstract socket', 'ECONNREFUSED')
  refused('a file of the host', 'ENOENT')
  refused('a file through /proc/1/root', 'ENOENT', 'EACCES')
  refused('a file through a link', 'ENOENT')
  refused('an inherited descriptor', 'EBADF')
  refused('a nested user namespace', 1)
  refused('a nested network namespace', 1)
  refused('the processes outside', 0)
  for (const path of WRITES) refused(`writing ${path}`, 'EROFS', 'EACCES', 'ENOENT')
  refused('writing a setting of the kernel', 'EROFS', 'EACCES')
  refused('writing here', undefined, null)

  const [result] = outcome.results
  const attempts = result?.attempts ?? []
  const who = {
    command: expect.stringContaining('phone-home.mjs') as string,
    ancestry: [expect.stringMatching(/^sh -c node/) as string],
  }
  const recorded = (attempt: Partial<Attempt>): void => {
    expect(attempts).toContainEqual(expect.objectContaining({ ...who, ...attempt }))
  }
  recorded({ kind: 'dns', name: 'secret.exfiltration.example', type: 'A' })
  recorded({ kind: 'dns', name: 'direct.example', type: 'A', address: '203.0.113.53', port: 53 })
  recorded({ kind: 'dns', name: 'stream.example', type: 'A', address: '2001:db8::53', port: 53 })
  recorded({ kind: 'tcp', name: 'secure.example', port: 443, sni: 'secure.example' })
  recorded({ kind: 'tcp', name: 'plain.example', port: 80, request: 'GET /path?token=1', host: 'plain.example' })
  recorded({ kind: 'tcp', address: '203.0.113.9', port: 4444, first: 'raw \\x1b bytes' })
  recorded({ kind: 'tcp', address: '2001:db8::5', port: 8443 })
  recorded({ kind: 'udp', address: '198.51.100.3', port: 123, first: 'a datagram' })
  recorded({ kind: 'udp', address: '2001:db8::7', port: 124, first: 'a datagram' })
})

test.for(USERS)(
  'the same build of $user gets out of everything where it is not confined, and that is said',
  async ({ user }, context) => {
    needs(context, user)
    // The ladder ends here without the program that makes namespaces.
    const { outside, outcome, log } = await phoneHome(user, { without: ['bwrap', 'unshare'], require: false })
    expect(outcome).toMatchObject({ level: 'unenforced', recorded: 'nothing' })
    expect(outcome.shortcomings).toEqual([
      'no sandbox with bubblewrap: bwrap, unshare not found (apt-get install bubblewrap util-linux)',
      'no sandbox with unshare: unshare not found (apt-get install util-linux)',
    ])
    expect(outside.heard.sort()).toEqual(
      [
        'a datagram to the loopback',
        'a unix socket',
        'an abstract socket',
        'the loopback',
        'the loopback of IPv6',
        ...(outside.targets['address'] === undefined ? [] : ['the loopback']),
      ].sort(),
    )
    expect(outcomes(log).get('a file of the host')).toBe('the secret of the host')
    expect(outcome.results[0]?.attempts).toEqual([])
  },
)
