import { spawn, type ChildProcess } from 'node:child_process'
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join, posix } from 'node:path'

import { bubblewrapArguments } from './bubblewrap.ts'
import { inOwnNetwork } from '../egress/own-network.ts'
import { commonRoot } from './common-root.ts'
import { BASE_ENVIRONMENT, commonPieces, ownPieces, USER } from './file-system.ts'
import type { Limits } from './limits.ts'
import { mountTable } from './mount-table.ts'
import type { CellBuild, CellConfig } from './protocol.ts'
import { filteredBy, seccompFilter } from './seccomp.ts'
import { writeUnshareScript } from './unshare.ts'

/**
 * Starts the command of a build at the level of this cell; where it is confined, in a network of its own, which the child
 * hands over before (`receiveNetwork`). It first writes a line with `begin`, and what it writes before is
 * what keeps it from beginning.
 * @param output the descriptor for all that it writes
 * @throws Error if what it is to see is not there
 */
export function confinedProcess(config: CellConfig, build: CellBuild, begin: string, output: number): ChildProcess {
  const { level, programs, scratch, etc, ownUser } = config
  const limited = [programs.prlimit ?? 'prlimit', ...resourceLimits(build.limits), '--']
  // What could change the programs that lead to the command is set by the last of them.
  const late = Object.entries(build.env).filter(([name]) => LATE.test(name))
  const env = Object.fromEntries(Object.entries(build.env).filter(([name]) => !LATE.test(name)))
  if (late.length > 0) limited.push('/usr/bin/env', ...late.map(([name, value]) => `${name}=${value}`))
  const stdio: ('ignore' | number)[] = ['ignore', output, output]
  if (level === 'unenforced') {
    const words = [...limited, '/bin/sh', '-c', 'echo "$0"; exec "$@"', begin, ...build.command]
    if (programs.prlimit === undefined) words.splice(0, words.indexOf('--') + 1)
    // A session of its own: no terminal, and a signal to the whole of polder's group does not end it half-way.
    const cwd = join(build.directory.source, build.cwd)
    return spawn(words[0] ?? '', words.slice(1), { env: unconfined(env, scratch), cwd, stdio, detached: true })
  }
  const [perl = '', ...network] = inOwnNetwork(programs, scratch)
  const cwd = posix.join(build.directory.target, build.cwd)
  const own = ownPieces(build.directory, build.mounts, build.limits)
  const drop = ['--inh-caps=-all', '--ambient-caps=-all', '--bounding-set=-all', '--no-new-privs', '--']
  const setpriv = programs.setpriv ?? 'setpriv'
  const becomeUser = [setpriv, `--reuid=${USER.id}`, `--regid=${USER.id}`, '--clear-groups', ...drop]
  if (level === 'bubblewrap') {
    const options = join(scratch, 'options')
    const filterFile = join(scratch, 'seccomp')
    if (FILTER !== undefined && !existsSync(filterFile)) writeFileSync(filterFile, FILTER)
    const seccomp = FILTER === undefined ? undefined : 4
    const pieces = [...commonPieces(etc), ...own]
    writeFileSync(options, bubblewrapArguments({ pieces, env, cwd, ownUser, seccomp }), {
      mode: 0o600,
    })
    const descriptors = [openSync(options, 'r'), ...(FILTER === undefined ? [] : [openSync(filterFile, 'r')])]
    const inside = [...limited, '/bin/sh', '-c', 'echo "$0"; exec "$@"', begin, ...build.command]
    try {
      const bwrap = [programs.bwrap ?? 'bwrap', '--args', '3', '--', ...(ownUser ? becomeUser : []), ...inside]
      return spawn(perl, [...network, ...bwrap], {
        env: {},
        cwd: '/',
        stdio: [...stdio, ...descriptors, 'ipc'],
        detached: true,
      })
    } finally {
      for (const descriptor of descriptors) closeSync(descriptor)
    }
  }
  const filtered = FILTER === undefined ? [] : filteredBy(FILTER, perl)
  // The shell stays as the first process of the namespace: another program would not take care of orphans.
  const inside = [...filtered, ...limited, '/bin/sh', '-c', 'echo "$0"; "$@"; exit $?', begin, ...build.command]
  const unshare = programs.unshare ?? 'unshare'
  const change = ownUser
    ? becomeUser
    : [unshare, '--user', `--map-user=${USER.id}`, `--map-group=${USER.id}`, '--keep-caps', '--', setpriv, ...drop]
  const { mount = 'mount', pivot_root: pivotRoot = 'pivot_root' } = programs
  const root = join(scratch, 'root')
  const table = mountTable(own, root)
  const script = writeUnshareScript({
    common: commonRoot({ scratch, etc, mount }, table.points),
    table,
    root,
    scratch,
    programs: { mount, pivotRoot },
    cwd,
    command: [...change, ...inside],
    ownNamespace: !ownUser,
  })
  const namespaces = ['--mount', '--pid', '--ipc', '--uts', '--fork', '--kill-child']
  const user = ownUser ? [] : ['--user', '--map-root-user']
  return spawn(perl, [...network, unshare, ...user, ...namespaces, '--', '/bin/sh', script], {
    env,
    cwd: '/',
    stdio: [...stdio, 'ipc'],
    detached: true,
  })
}

const FILTER = seccompFilter()

const LATE = /^(?:LD_|PERL|LIBMOUNT_|BLKID_|BASH|POSIXLY_CORRECT$|ENV$|IFS$|PS4$|GLIBC_TUNABLES$|GCONV_PATH$|LOCPATH$)/

/** Private directories are made on disk where there is no private file system. */
function unconfined(env: CellBuild['env'], scratch: string): Record<string, string> {
  const fresh = (name: string): string => {
    const path = join(scratch, name)
    rmSync(path, { recursive: true, force: true })
    mkdirSync(path)
    return path
  }
  const own = { HOME: fresh('home'), TMPDIR: fresh('tmp') }
  const given = Object.entries(env).filter(([name, value]) => BASE_ENVIRONMENT[name] !== value)
  return { ...BASE_ENVIRONMENT, ...own, ...Object.fromEntries(given) }
}

/** What the kernel limits for each process, and never more than it allows us ourselves. */
function resourceLimits({ memoryBytes, processes, diskBytes }: Limits): readonly string[] {
  const allowed = readFileSync('/proc/self/limits', 'latin1')
  const hard = (name: string): number => {
    const value = new RegExp(`^${name} +\\S+ +(\\S+)`, 'm').exec(allowed)?.[1]
    return value === undefined || value === 'unlimited' ? Number.POSITIVE_INFINITY : Number(value)
  }
  return [
    '--core=0',
    `--fsize=${Math.min(diskBytes, hard('Max file size'))}`,
    // Counted are the processes and threads of the build alone, as its user has no others in its namespace. A build that
    // meets this limit has gone over the one that ends it, but cannot take the machine with it before that is seen.
    `--nproc=${Math.min(Math.ceil(processes * 1.25) + 32, hard('Max processes'))}`,
    // What a process may write to in memory, used or not: programs reserve far more than they use.
    `--data=${Math.min(memoryBytes * 2 + 2 ** 30, hard('Max data size'))}`,
  ]
}
