import { spawn } from 'node:child_process'
import { once } from 'node:events'
import {
  accessSync,
  chmodSync,
  chownSync,
  mkdirSync,
  mkdtempSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { delimiter, dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { onTestFinished, type TestContext } from 'vitest'

import type { MissingProgram } from '../../src/programs.ts'
import type { BuildRequest, BuildResult } from '../../src/sandbox/sandboxes.ts'

export type User = 'the superuser' | 'an ordinary user'
export type Confined = 'bubblewrap' | 'unshare'

export const USERS: readonly { readonly user: User }[] = [{ user: 'the superuser' }, { user: 'an ordinary user' }]

/** Each user with each way of confining builds. */
export const WAYS: readonly { readonly user: User; readonly level: Confined }[] = [
  { user: 'the superuser', level: 'bubblewrap' },
  { user: 'the superuser', level: 'unshare' },
  { user: 'an ordinary user', level: 'bubblewrap' },
  { user: 'an ordinary user', level: 'unshare' },
]

const PACKAGES: Readonly<Record<string, string>> = {
  bwrap: 'bubblewrap',
  unshare: 'util-linux',
  nsenter: 'util-linux',
  setpriv: 'util-linux',
  prlimit: 'util-linux',
  mount: 'mount',
  pivot_root: 'util-linux',
  ip: 'iproute2',
  nft: 'nftables',
  perl: 'perl-base',
  mkfifo: 'coreutils',
}
const NOBODY = 65534
const NODE = dirname(dirname(realpathSync(process.execPath)))

/** Skips a test that this machine or user cannot run, saying why; in CI nothing may be missing. */
export function needs(context: TestContext, user: User): void {
  const missing = Object.keys(PACKAGES).filter((program) => find(program) === undefined)
  if (missing.length > 0) {
    const how = `apt-get install ${[...new Set(missing.map((program) => PACKAGES[program]))].join(' ')}`
    const why = `the sandbox cannot be tested without ${missing.join(', ')} (${how})`
    if (process.env['CI'] !== undefined) throw new Error(why)
    context.skip(why)
  }
  if (user === 'the superuser' && process.geteuid?.() !== 0) context.skip('only the superuser can test this')
}

function find(program: string): string | undefined {
  const directories = [...(process.env['PATH'] ?? '').split(delimiter), '/usr/local/sbin', '/usr/sbin', '/sbin']
  return directories
    .map((directory) => join(directory, program))
    .find((file) => {
      try {
        accessSync(file)
        return true
      } catch {
        return false
      }
    })
}

/** A directory that belongs to this user, and ends with the test. */
export function directoryOf(user: User): string {
  const directory = realpathSync(mkdtempSync(join(tmpdir(), 'polder-build-')))
  onTestFinished(() => rmSync(directory, { recursive: true, force: true }))
  chmodSync(directory, 0o755)
  own(directory, user)
  return directory
}

/** Makes a file or directory one that this user made. */
export function own(path: string, user: User): void {
  if (user === 'an ordinary user' && process.geteuid?.() === 0) chownSync(path, NOBODY, NOBODY)
}

type Build = Partial<BuildRequest> & { readonly command: readonly string[] }

interface Job {
  readonly user: User
  /** Programs that are not to be found. */
  readonly without?: readonly string[]
  /** Shell scripts to be found as these programs; `$0-real` is the real one. */
  readonly instead?: Readonly<Record<string, string>>
  readonly require?: boolean
  readonly parallel?: number
  readonly atOnce?: boolean
  /** Where it all is; a new one if not given. */
  readonly directory?: string
  /** An open file that the process gets as this descriptor. */
  readonly descriptor?: { readonly number: number; readonly file: number }
  readonly environment?: Readonly<Record<string, string>>
}

export interface Outcome {
  readonly level?: string
  readonly recorded?: string
  readonly shortcomings?: readonly string[]
  readonly missing?: readonly MissingProgram[]
  readonly indexUrl?: string
  readonly error?: string
  readonly message?: string
  readonly details?: { readonly hint?: string; readonly explanation?: string }
  readonly results: readonly (BuildResult & { readonly error?: string; readonly message?: string })[]
  readonly stderr: string
}

/** The programs to leave out, so that builds are confined by this. */
export function withoutFor(level: Confined): readonly string[] {
  return level === 'bubblewrap' ? [] : ['bwrap']
}

/**
 * Runs builds in a process of this user, each in a directory of its own, which is `build-<number>` in the job's. They
 * have our Node, as `node`.
 */
export async function runBuilds(job: Job, builds: readonly Build[]): Promise<Outcome> {
  const { user, without = [], require = true, parallel = 1, descriptor, environment = {} } = job
  const directory = job.directory ?? directoryOf(user)
  const bin = join(directory, 'bin')
  mkdirSync(bin, { recursive: true })
  for (const program of Object.keys(PACKAGES).filter((name) => !without.includes(name))) {
    const file = find(program)
    const script = job.instead?.[program]
    if (file !== undefined) symlinkSync(file, join(bin, script === undefined ? program : `${program}-real`))
    if (script !== undefined) writeFileSync(join(bin, program), `#!/bin/sh\n${script}\n`, { mode: 0o755 })
  }
  const requests = builds.map((build, at): BuildRequest => {
    const source = join(directory, `build-${at}`)
    mkdirSync(source, { recursive: true })
    own(source, user)
    return {
      label: `example@1.0.${at}`,
      script: 'install',
      directory: { source, target: '/build' },
      log: join(directory, `log-${at}`),
      ...build,
      env: { PATH: `${NODE}/bin:/usr/bin:/bin`, ...build.env },
      mounts: [{ source: NODE }, ...(build.mounts ?? [])],
    }
  })
  const argument = JSON.stringify({
    options: { scratch: join(directory, 'scratch'), require, parallel, path: bin },
    builds: requests,
    ...(job.atOnce === undefined ? {} : { atOnce: job.atOnce }),
    ...(descriptor === undefined ? {} : { descriptor: descriptor.number }),
  })
  const stdio: ('ignore' | 'pipe' | number)[] = ['ignore', 'pipe', 'pipe']
  if (descriptor !== undefined) {
    while (stdio.length < descriptor.number) stdio.push('ignore')
    stdio.push(descriptor.file)
  }
  const child = spawn(process.execPath, [fileURLToPath(new URL('sandbox-process.ts', import.meta.url)), argument], {
    stdio,
    env: { PATH: process.env['PATH'], ...environment },
    ...(user === 'an ordinary user' && process.geteuid?.() === 0 ? { uid: NOBODY, gid: NOBODY } : {}),
  })
  onTestFinished(() => void child.kill('SIGKILL'))
  let stdout = ''
  let stderr = ''
  child.stdout?.on('data', (bytes: Buffer) => (stdout += bytes.toString()))
  child.stderr?.on('data', (bytes: Buffer) => (stderr += bytes.toString()))
  await once(child, 'close')
  // Killed by the test.
  if (child.signalCode !== null) return { results: [], stderr }
  try {
    return { ...(JSON.parse(stdout) as Omit<Outcome, 'stderr'>), stderr }
  } catch {
    throw new Error(`sandbox-process: ${stdout}${stderr}`)
  }
}

/** Runs one build, which has to come to an end of its own. */
export async function runBuild(job: Job, build: Build): Promise<BuildResult> {
  const outcome = await runBuilds(job, [build])
  const [result] = outcome.results
  if (result === undefined || result.error !== undefined) throw new Error(JSON.stringify(outcome, undefined, 1))
  return result
}
