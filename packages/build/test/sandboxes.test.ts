import { execFileSync } from 'node:child_process'
import { createServer } from 'node:http'
import { once } from 'node:events'
import {
  chmodSync,
  chownSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'

import { directoryOf, needs, runBuild, runBuilds, USERS, WAYS, withoutFor, type User } from './support/sandboxes.ts'

const ME: User = process.geteuid?.() === 0 ? 'the superuser' : 'an ordinary user'

/** An index that answers everything with its name, at a Unix socket. */
async function startIndex(directory: string, name: string): Promise<string> {
  const socket = join(directory, `${name}.sock`)
  const server = createServer((request, response) => response.end(`${name} answers ${request.url}`))
  server.listen(socket)
  await once(server, 'listening')
  chmodSync(socket, 0o777)
  onTestFinished(() => void server.close())
  return socket
}

const get = (path: string): readonly string[] => [
  'node',
  '-e',
  `fetch('http://127.0.0.1:4873${path}').then(async (r) => console.log(await r.text()), (e) => console.log(e.cause.code))`,
]

test.for(WAYS)('each build of $user reaches its own index, in $level', async ({ user, level }, context) => {
  needs(context, user)
  const directory = directoryOf(user)
  const one = await startIndex(directory, 'one')
  const two = await startIndex(directory, 'two')
  const { results, indexUrl } = await runBuilds({ user, directory, without: withoutFor(level) }, [
    { command: get('/a'), socket: one },
    { command: get('/b'), socket: two },
    { command: get('/c') },
  ])
  expect(indexUrl).toBe('http://127.0.0.1:4873/')
  expect(results.map(({ tail }) => tail)).toEqual(['one answers /a\n', 'two answers /b\n', expect.any(String)])
  expect(results[2]?.tail).not.toContain('answers')
  // The index is no attempt.
  expect(results.map(({ attempts }) => attempts)).toEqual([[], [], []])
})

test.for(WAYS)('a build of $user has nothing of polder’s environment, in $level', async ({ user, level }, context) => {
  needs(context, user)
  const environment = { SECRET_TOKEN: 'abc', NODE_OPTIONS: '--title=outside', LD_LIBRARY_PATH: '/outside' }
  const build = {
    command: ['sh', '-c', 'env; hostname; pwd; id -u; umask'],
    env: { GIVEN: 'it\'s\n"given" $HOME', LD_LIBRARY_PATH: '/given' },
  }
  const { tail } = await runBuild({ user, without: withoutFor(level), environment }, build)
  const lines = tail.split('\n').filter((line) => !line.startsWith('PATH='))
  // The shell adds PWD.
  expect(lines.filter((line) => !/^(?:PWD|OLDPWD|SHLVL|_)=/.test(line)).sort()).toEqual(
    [
      '',
      '"given" $HOME',
      '/build',
      '0022',
      '1000',
      "GIVEN=it's",
      'HOME=/home/polder',
      'LANG=C.UTF-8',
      'LD_LIBRARY_PATH=/given',
      'LOGNAME=polder',
      'SHELL=/bin/sh',
      'TERM=dumb',
      'TMPDIR=/tmp',
      'TZ=UTC',
      'USER=polder',
      'polder',
    ].sort(),
  )
})

test.for(WAYS)('a build of $user has no privileges and can get none, in $level', async ({ user, level }, context) => {
  needs(context, user)
  const status = 'grep -E "^(Cap|NoNewPrivs|Seccomp:|Groups)" /proc/self/status'
  const { tail } = await runBuild(
    { user, without: withoutFor(level) },
    { command: ['sh', '-c', `${status}; ulimit -c`] },
  )
  const lines = tail.trim().split('\n')
  expect(lines.filter((line) => line.startsWith('Cap'))).toEqual(
    ['Inh', 'Prm', 'Eff', 'Bnd', 'Amb'].map((set) => `Cap${set}:\t0000000000000000`),
  )
  expect(lines).toContain('NoNewPrivs:\t1')
  expect(lines).toContain('Seccomp:\t2')
  // Those of anybody else cannot be given up without a privilege, and are no more than what polder has.
  if (user === 'the superuser') expect(lines).toContain('Groups:\t ')
  // No core dumps.
  expect(lines.at(-1)).toBe('0')
})

test.for(WAYS)('what a build of $user makes belongs to that user, out of $level', async ({ user, level }, context) => {
  needs(context, user)
  const directory = directoryOf(user)
  const script = `
    id -un; mkdir -p "a b"; echo built > "a b/file"; ln -s "a b/file" inside; ln -s ../.. outside; mkfifo fifo
    ln "a b/file" twice; cp /bin/true set-id; chmod 6755 set-id; mkdir closed; echo x > closed/x; chmod 0 closed`
  const result = await runBuild({ user, directory, without: withoutFor(level) }, { command: ['sh', '-ec', script] })
  expect(result).toMatchObject({ status: 0, tail: 'polder\n' })
  const made = join(directory, 'build-0')
  expect(readFileSync(join(made, 'inside'), 'utf8')).toBe('built\n')
  expect(statSync(join(made, 'set-id')).mode & 0o7777).toBe(0o755)
  const owners = execFileSync('find', [made, '-printf', '%U\n'], { encoding: 'utf8' })
  expect(new Set(owners.trim().split('\n'))).toEqual(new Set([String(statSync(directory).uid)]))
})

test.for(WAYS)('what a build of $user leaves running is gone before the next, in $level', async (way, context) => {
  const { user, level } = way
  needs(context, user)
  const listen = 'require("net").createServer().listen(7777, () => require("fs").writeFileSync("listening", ""))'
  const { results } = await runBuilds({ user, without: withoutFor(level) }, [
    {
      command: [
        'sh',
        '-c',
        `sh -c 'setsid node -e "$0"; :' '${listen}' & until [ -e listening ]; do :; done; touch /tmp/left; exit 3`,
      ],
    },
    {
      command: [
        'node',
        '-e',
        `require('net').connect(7777).on('error', (e) => console.log(e.code));
         const { readdirSync, readFileSync } = require('fs');
         const lines = readdirSync('/proc').filter(Number).map((pid) => readFileSync('/proc/' + pid + '/cmdline', 'utf8'));
         console.log(readdirSync('/tmp').includes('left'), lines.filter((line) => line.includes('set' + 'sid')).length)`,
      ],
    },
  ])
  expect(results[0]).toMatchObject({ status: 3, signal: null })
  expect(results[1]?.tail).toBe('false 0\nECONNREFUSED\n')
})

test.for(WAYS)('what a build of $user does just before it ends is recorded, in $level', async (way, context) => {
  const { user, level } = way
  needs(context, user)
  const perl = `use Socket;
    for (1 .. 20) {
      socket(my $s, PF_INET, SOCK_STREAM, 0); connect($s, sockaddr_in(4444, inet_aton('203.0.113.9'))) or die $!;
      socket(my $u, PF_INET, SOCK_DGRAM, 0); send($u, 'x', 0, sockaddr_in(123, inet_aton('198.51.100.3')));
      push @all, $s, $u;
      socket(my $d, PF_INET, SOCK_DGRAM, 0); push @all, $d;
      send($d, pack('H*', '000701000001000000000000047269736b076578616d706c650000010001'), 0, sockaddr_in(53, inet_aton('127.0.0.1')));
    }
    send($all[-3], 'last words', 0); kill 9, $$;`
  const { results } = await runBuilds({ user, without: withoutFor(level) }, [
    { command: ['perl', '-e', perl] },
    { command: ['true'] },
  ])
  const sum = (kind: string): number =>
    (results[0]?.attempts ?? []).filter((attempt) => attempt.kind === kind).reduce((all, { count }) => all + count, 0)
  expect(results[0]).toMatchObject({ status: null, signal: 'SIGKILL' })
  expect([sum('tcp'), sum('udp'), sum('dns')]).toEqual([20, 20, 20])
  expect(results[0]?.attempts).toContainEqual(
    expect.objectContaining({ kind: 'tcp', address: '203.0.113.9', port: 4444, first: 'last words' }),
  )
  // Nothing of it is taken for the next build's.
  expect(results[1]?.attempts).toEqual([])
})

test.for(WAYS)('each build of $user has namespaces of its own, in $level', async ({ user, level }, context) => {
  needs(context, user)
  const kinds = ['net', 'mnt', 'pid', 'ipc', 'uts']
  // A connection that the client closes stays in the tables of its network for a minute.
  const connect = `perl -e 'use Socket; socket(my $s, 2, 1, 0); connect($s, sockaddr_in(53, inet_aton("127.0.0.1"))) or die'`
  const command = ['sh', '-c', `cd /proc/self/ns; readlink ${kinds.join(' ')}; cat /proc/net/tcp | wc -l; ${connect}`]
  const { results } = await runBuilds({ user, without: withoutFor(level) }, [{ command }, { command }])
  const here = kinds.map((kind) => readlinkSync(`/proc/self/ns/${kind}`))
  for (const { status, tail } of results) {
    const lines = tail.trim().split('\n')
    expect(status).toBe(0)
    for (const at of kinds.keys()) expect(lines[at]).not.toBe(here[at])
    // The head, the index and the name server: nothing of the build before.
    expect(lines[kinds.length]).toBe('3')
  }
})

test('two builds at once are in networks of their own', async (context) => {
  needs(context, ME)
  const directory = directoryOf(ME)
  // Each listens, waits until the other has listened too, and asks who is there.
  const program = `
    const [own] = process.argv.slice(1), fs = require('fs'), net = require('net')
    net.createServer((socket) => socket.end(own)).listen(7777, () => {
      fetch('http://127.0.0.1:4873/' + own).then((r) => r.text()).then(() => {
        net.connect(7777).on('data', (bytes) => { console.log(String(bytes)); process.exit() })
      })
    })`
  const socket = join(directory, 'meeting.sock')
  const waiting: (() => void)[] = []
  const server = createServer((_, response) => {
    waiting.push(() => response.end('both are there'))
    if (waiting.length === 2) for (const go of waiting) go()
  })
  server.listen(socket)
  await once(server, 'listening')
  onTestFinished(() => void server.close())
  const { results } = await runBuilds({ user: ME, directory, parallel: 2, atOnce: true }, [
    // One that fails would leave the other waiting.
    { command: ['node', '-e', program, 'one'], socket, limits: { timeMs: 60_000 } },
    { command: ['node', '-e', program, 'two'], socket, limits: { timeMs: 60_000 } },
  ])
  expect(results.map(({ tail }) => tail)).toEqual(['one\n', 'two\n'])
})

test.for(['nft', 'ip'])(
  'without %s only the names are recorded, and the network is cut all the same',
  async (program, context) => {
    needs(context, ME)
    const install = `apt-get install ${program === 'nft' ? 'nftables' : 'iproute2'}`
    const outcome = await runBuilds({ user: ME, without: [program] }, [
      {
        command: [
          'node',
          '-e',
          `fetch('http://name.example').catch((e) => console.log(e.cause.code));
         require('net').connect(80, '203.0.113.9').on('error', (e) => console.log(e.code))`,
        ],
      },
    ])
    expect(outcome).toMatchObject({
      level: 'bubblewrap',
      recorded: 'names',
      shortcomings: [`addresses are not recorded: ${program} is missing (${install})`],
      missing: [{ program, install }],
    })
    const [result] = outcome.results
    expect(result?.tail).toBe('ENETUNREACH\nENETUNREACH\n')
    expect(result?.attempts.map(({ kind, name, type }) => [kind, name, type]).sort()).toEqual([
      ['dns', 'name.example', 'A'],
      ['dns', 'name.example', 'AAAA'],
    ])
  },
)

test.for(USERS)(
  'what is missing is named with the command that installs it, and nothing of $user runs unenforced unasked',
  async ({ user }, context) => {
    needs(context, user)
    const outcome = await runBuilds({ user, without: ['bwrap', 'perl'] }, [])
    expect(outcome).toMatchObject({
      error: 'SANDBOX_UNAVAILABLE',
      message: 'builds cannot be confined on this machine',
      details: {
        hint: 'apt-get install bubblewrap perl-base',
        explanation:
          'no sandbox with bubblewrap: bwrap, perl not found (apt-get install bubblewrap perl-base)\n' +
          'no sandbox with unshare: perl not found (apt-get install perl-base)',
      },
    })
  },
)

test('a build of which less would be recorded than was said does not begin', async (context) => {
  needs(context, ME)
  const directory = directoryOf(ME)
  // The one that is tried out and the first build set up their networks, the second build cannot.
  const nft = `case "$1" in -f) mkdir ${directory}/once || mkdir ${directory}/twice || { echo busy; exit 1; };; esac 2>/dev/null; exec "$0-real" "$@"`
  const { recorded, results } = await runBuilds({ user: ME, directory, instead: { nft } }, [
    { command: ['true'] },
    { command: ['touch', 'begun'] },
  ])
  expect(recorded).toBe('everything')
  expect(results[0]).toMatchObject({ status: 0 })
  expect(results[1]).toMatchObject({ error: 'SANDBOX_FAILED' })
  expect(results[1]?.message).toContain('addresses cannot be recorded in it: busy')
  expect(readdirSync(join(directory, 'build-1'))).toEqual([])
})

test('a cell that shares a namespace with polder is found out before it changes anything in it', async (context) => {
  needs(context, ME)
  const instead = {
    unshare: 'for word; do shift; [ "$word" = --net ] || set -- "$@" "$word"; done; exec "$0-real" "$@"',
  }
  const { error, details } = await runBuilds({ user: ME, instead }, [])
  expect(error).toBe('SANDBOX_UNAVAILABLE')
  expect(details?.explanation).toBe(
    'no sandbox with bubblewrap: the cell has no net namespace of its own\n' +
      'no sandbox with unshare: the cell has no net namespace of its own',
  )
})

test.for(USERS)(
  'a build of $user that is not confined has a fresh HOME, its limits, and the index, too',
  async ({ user }, context) => {
    needs(context, user)
    const directory = directoryOf(user)
    const socket = await startIndex(directory, 'one')
    const program = `
    const { HOME, TMPDIR, SECRET, INDEX } = process.env
    fetch(INDEX + 'a').then(async (response) => console.log(await response.text(), HOME, TMPDIR, SECRET))
    setTimeout(() => {}, 60_000)`
    const environment = { SECRET: 'abc' }
    const job = { user, directory, without: ['bwrap', 'unshare'], require: false, environment }
    const outcome = await runBuilds(job, [
      { command: ['node', '-e', program], env: { INDEX: '<index>' }, socket, limits: { timeMs: 2000 } },
    ])
    expect(outcome).toMatchObject({ level: 'unenforced', recorded: 'nothing' })
    expect(outcome.indexUrl).toMatch(/^http:\/\/127\.0\.0\.1:\d+\/$/)
    const scratch = join(directory, 'scratch/cell-0')
    expect(outcome.results[0]).toMatchObject({ signal: 'SIGKILL', limit: 'time' })
    expect(outcome.results[0]?.tail).toContain(`one answers /a ${scratch}/home ${scratch}/tmp undefined\n`)
  },
)

test('what is not confined ends with its build as far as it is in its session, and never keeps that from ending', async (context) => {
  needs(context, ME)
  const marker = `${process.pid}${Math.trunc(performance.now() * 1000)}`
  const job = { user: ME, without: ['bwrap', 'unshare'], require: false }
  const began = performance.now()
  const { results } = await runBuilds(job, [
    { command: ['sh', '-c', `sleep 3${marker} & (sleep 4${marker} &) ; echo built`] },
    // What leaves it as well is found by nobody.
    { command: ['sh', '-c', `setsid sleep 20 & sleep 0.1; echo built`] },
  ])
  expect(results).toMatchObject([
    { status: 0, tail: 'built\n' },
    { status: 0, tail: 'built\n' },
  ])
  expect(performance.now() - began).toBeLessThan(18_000)
  const lines = readdirSync('/proc').filter(Number).map(commandLineOf)
  expect(lines.filter((line) => line.includes(marker) && line.startsWith('sleep'))).toEqual([])
})

function commandLineOf(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'latin1')
  } catch {
    return ''
  }
}

test.for(WAYS)('paths with spaces and quotes are what they are, for $user in $level', async (way, context) => {
  const { user, level } = way
  needs(context, user)
  const directory = directoryOf(user)
  const source = join(directory, `it's a "source" \\ #1`)
  mkdirSync(source)
  writeFileSync(join(source, 'file'), 'contents')
  const target = `/opt/it's a "target" \\ #2`
  const own = { source: join(directory, 'its "own" \\ #3'), target: '/opt/its "own" \\ #4' }
  mkdirSync(own.source)
  chownSync(own.source, statSync(directory).uid, statSync(directory).gid)
  await runBuild(
    { user, directory, without: withoutFor(level) },
    { command: ['cp', `${target}/file`, 'copy'], mounts: [{ source, target }], directory: own },
  )
  expect(readFileSync(join(own.source, 'copy'), 'utf8')).toBe('contents')
})

test.for(WAYS)('a sandbox that cannot be made says why, for $user with $level', async ({ user, level }, context) => {
  needs(context, user)
  const { results } = await runBuilds({ user, without: withoutFor(level) }, [
    { command: ['true'], mounts: [{ source: '/nowhere/at-all' }] },
    { command: ['no-such-program'] },
  ])
  expect(results[0]).toMatchObject({ error: 'SANDBOX_FAILED' })
  expect(results[0]?.message).toContain('o such file or directory')
  expect(results[0]?.message).toMatch(/^example@1\.0\.0: the sandbox for its install script: .*\/nowhere\/at-all/)
  // Nothing to do with the sandbox; and the place goes on.
  expect(results[1]).toMatchObject({ status: 127 })
  expect(results[1]?.tail).toContain('no-such-program')
})

test('a directory that shares files with another is not given to a build', async (context) => {
  needs(context, ME)
  const { linkSync } = await import('node:fs')
  const directory = directoryOf(ME)
  mkdirSync(join(directory, 'build-0'))
  writeFileSync(join(directory, 'elsewhere'), '')
  linkSync(join(directory, 'elsewhere'), join(directory, 'build-0/file'))
  const { results } = await runBuilds({ user: ME, directory }, [{ command: ['true'] }])
  expect(results[0]?.message).toContain('build-0/file is a hard link: what a build may write to must be a copy')
})
