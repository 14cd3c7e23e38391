import { PolderError } from '@polder/spec'
import { writeFailure } from '@polder/store'
import { mkdirSync, readlinkSync } from 'node:fs'
import { join } from 'node:path'

import { BASE_ENVIRONMENT, writeOwnFiles } from './file-system.ts'
import { DEFAULT_LIMITS } from './limits.ts'
import {
  findPrograms,
  installCommand,
  missingPrograms,
  programPath,
  type MissingProgram,
  type ProgramName,
  type Programs,
} from '../programs.ts'
import type { Level, CellConfig } from './protocol.ts'
import { diskFull, sandboxesOf, type Pool, type Sandboxes } from './sandboxes.ts'
import { openCell, spareUser, type Cell } from './cell.ts'

interface Options {
  /** A directory for what the sandboxes need themselves; it can be deleted afterwards. */
  readonly scratch: string
  /** Refuses to run builds unenforced. */
  readonly require: boolean
  readonly parallel?: number
  /** Where alone the programs are looked for: a PATH. If not given, that of the environment and what it often lacks. */
  readonly path?: string
}

/**
 * Opens the best sandboxes that there can be here, each tried out with a build before it is relied on.
 * @throws PolderError `SANDBOX_UNAVAILABLE` if nothing can be enforced and it is required; `DISK_FULL`
 */
export async function openSandboxes(options: Options): Promise<Sandboxes> {
  try {
    return await openBest(options)
  } catch (error) {
    throw writeFailure(error, 'writing what a sandbox needs', options.scratch)
  }
}

async function openBest(options: Options): Promise<Sandboxes> {
  const programs = findPrograms(options.path ?? programPath())
  const lacking = (wanted: readonly ProgramName[]): readonly MissingProgram[] => missingPrograms(programs, wanted)
  const missing = lacking([...NEEDED.bubblewrap, 'ip', 'nft'])
  const etc = join(options.scratch, 'etc')
  mkdirSync(options.scratch, { recursive: true })
  writeOwnFiles(etc)
  const shortcomings: string[] = []
  for (const level of ['bubblewrap', 'unshare'] as const) {
    const absent = lacking(NEEDED[level])
    if (absent.length > 0) {
      const names = absent.map(({ program }) => program).join(', ')
      shortcomings.push(`no sandbox with ${level}: ${names} not found (${installCommand(absent)})`)
      continue
    }
    const pool = await tryLevel(options, level, programs, etc, shortcomings)
    if (pool === undefined) continue
    const { incomplete } = pool
    if (incomplete !== undefined) {
      const absent = lacking(['ip', 'nft'])
      const remedy = absent.length > 0 ? ` (${installCommand(absent)})` : ''
      shortcomings.push(`addresses are not recorded: ${incomplete}${remedy}`)
    }
    return sandboxesOf(pool, {
      level,
      missing,
      shortcomings,
      recorded: incomplete === undefined ? 'everything' : 'names',
    })
  }
  if (options.require) {
    throw new PolderError('SANDBOX_UNAVAILABLE', 'builds cannot be confined on this machine', {
      explanation: shortcomings.join('\n'),
      hint: missing.length > 0 ? installCommand(missing) : namespacesHint(),
    })
  }
  const pool = await tryLevel({ ...options, parallel: 1 }, 'unenforced', programs, etc, shortcomings)
  if (pool === undefined)
    throw new PolderError('SANDBOX_UNAVAILABLE', shortcomings.at(-1) ?? 'no process can be started')
  return sandboxesOf(pool, { level: 'unenforced', missing, shortcomings, recorded: 'nothing' })
}

function namespacesHint(): string {
  const root = process.geteuid?.() === 0 ? '' : ', or run as root'
  return `allow user namespaces (the sysctl user.max_user_namespaces; in a container, what its runtime permits)${root}`
}

const NEEDED: Readonly<Record<Exclude<Level, 'unenforced'>, readonly ProgramName[]>> = {
  bubblewrap: ['bwrap', 'unshare', 'nsenter', 'setpriv', 'prlimit', 'perl', 'mkfifo'],
  unshare: ['unshare', 'nsenter', 'setpriv', 'prlimit', 'mount', 'pivot_root', 'perl', 'mkfifo'],
}

const NAMESPACES = ['user', 'net', 'mnt', 'pid', 'uts']

async function tryLevel(
  { scratch, parallel = 2 }: Options,
  level: Level,
  programs: Programs,
  etc: string,
  shortcomings: string[],
): Promise<Pool | undefined> {
  const open = async (number: number): Promise<Cell> => {
    const user = level === 'unenforced' ? undefined : spareUser(number)
    const config: CellConfig = {
      level,
      programs,
      scratch: join(scratch, `cell-${number}`),
      etc,
      ownUser: user !== undefined,
      outside: Object.fromEntries(NAMESPACES.map((kind) => [kind, readlinkSync(`/proc/self/ns/${kind}`)])),
    }
    return openCell(config, user)
  }
  try {
    const first = await open(0)
    const probe = join(scratch, 'probe')
    mkdirSync(probe, { recursive: true })
    const reply = await first.run({
      command: ['true'],
      directory: { source: probe, target: '/build' },
      cwd: '.',
      env: BASE_ENVIRONMENT,
      mounts: [],
      limits: DEFAULT_LIMITS,
      log: join(scratch, 'probe.log'),
      everything: false,
    })
    if ('ended' in reply && reply.ended.status === 0)
      return { first, open, parallel, incomplete: reply.ended.incomplete }
    await first.close()
    throw new Error('failed' in reply ? reply.failed : reply.ended.tail)
  } catch (error) {
    // No reason to run builds less confined.
    const full = diskFull((error as Error).message, 'writing what a sandbox needs', scratch)
    if (full !== undefined) throw full
    const what = level === 'unenforced' ? 'no process of a build can be started' : `no sandbox with ${level}`
    shortcomings.push(`${what}: ${(error as Error).message}`)
    return undefined
  }
}
