import { PolderError } from '@polder/spec'
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'

import { BASE_ENVIRONMENT, writeOwnFiles, type Mount } from './file-system.ts'
import { handOver, takeBack, type Finding } from './hand-over.ts'
import { DEFAULT_LIMITS, type Limits } from './limits.ts'
import {
  findPrograms,
  installCommand,
  missingPrograms,
  programPath,
  type MissingProgram,
  type Programs,
} from './programs.ts'
import type { Level, SlotConfig, SlotResult } from './protocol.ts'
import { openSlot, spareUser, type Slot } from './slot.ts'

export interface BuildRequest {
  /** What is built, such as `bcrypt@6.0.0`. */
  readonly label: string
  /** Which of its scripts, such as `install`. */
  readonly script: string
  readonly command: readonly string[]
  /**
   * The only directory that the build may write, and that outlives it; at `target` inside. Nothing in it may be a hard
   * link. Nobody else may use it meanwhile.
   */
  readonly directory: Required<Mount>
  /** Relative to the directory, which it is if not given. */
  readonly cwd?: string
  /** On top of `BASE_ENVIRONMENT`; nothing comes from the environment of polder. */
  readonly env: Readonly<Record<string, string>>
  /** What else there is to read. */
  readonly mounts?: readonly Mount[]
  /** The Unix socket at which the index answers this build; none is reached without. */
  readonly socket?: string
  readonly limits?: Partial<Limits>
  /** The file for all that it prints. */
  readonly log: string
  readonly signal?: AbortSignal
}

export interface BuildResult extends SlotResult {
  readonly log: string
  /** What it left in its directory that must not be followed or published. */
  readonly findings: readonly Finding[]
}

export interface Sandboxes {
  readonly level: Level
  /** What is recorded of attempts: names and addresses, only the names that were asked for, or nothing. */
  readonly recorded: 'everything' | 'names' | 'nothing'
  /** Why it is not the best level, or not everything is recorded, a sentence each. */
  readonly shortcomings: readonly string[]
  readonly missing: readonly MissingProgram[]
  /** Where builds find the index. */
  readonly indexUrl: string
  /** How many builds run at a time. */
  readonly parallel: number
  /**
   * Runs one build, as soon as there is a place for it. A build that fails is a result.
   * @throws PolderError `SANDBOX_FAILED` if the build could not be started
   */
  readonly run: (request: BuildRequest) => Promise<BuildResult>
  /** Ends what runs. Resolves when none of its processes is left. */
  readonly close: () => Promise<void>
}

interface Options {
  /** A directory for what the sandboxes need themselves; it can be deleted afterwards. */
  readonly scratch: string
  /** Refuses to run builds unenforced. */
  readonly require: boolean
  readonly parallel?: number
  /** Where alone the programs are looked for: a PATH. If not given, that of the environment and what it often lacks. */
  readonly path?: string
}

const INDEX_PORT = 4873

/**
 * Opens the best sandboxes that there can be here, each tried out with a build before it is relied on.
 * @throws PolderError `SANDBOX_UNAVAILABLE` if nothing can be enforced and it is required
 */
export async function openSandboxes(options: Options): Promise<Sandboxes> {
  const programs = findPrograms(options.path ?? programPath())
  const missing = missingPrograms(programs)
  const etc = join(options.scratch, 'etc')
  mkdirSync(options.scratch, { recursive: true })
  writeOwnFiles(etc)
  const shortcomings: string[] = []
  for (const level of ['bubblewrap', 'unshare'] as const) {
    const lacking = missing.filter(({ program }) => (NEEDED[level] as readonly string[]).includes(program))
    if (lacking.length > 0) {
      const names = lacking.map(({ program }) => program).join(', ')
      shortcomings.push(`no sandbox with ${level}: ${names} not found (${installCommand(lacking)})`)
      continue
    }
    const pool = await tryLevel(options, level, programs, etc, shortcomings)
    if (pool === undefined) continue
    const incomplete = pool.first.incomplete
    if (incomplete !== undefined) {
      const nft = missing.filter(({ program }) => program === 'nft')
      const remedy = nft.length > 0 ? ` (${installCommand(nft)})` : ''
      shortcomings.push(`addresses are not recorded: ${incomplete}${remedy}`)
    }
    return sandboxes(pool, {
      level,
      missing,
      shortcomings,
      recorded: incomplete === undefined ? 'everything' : 'names',
    })
  }
  if (options.require) {
    throw new PolderError('SANDBOX_UNAVAILABLE', 'builds cannot be confined on this machine', {
      explanation: shortcomings.join('\n'),
      hint: missing.length > 0 ? `${installCommand(missing)}` : 'allow user namespaces, or run as root',
    })
  }
  const pool = await tryLevel({ ...options, parallel: 1 }, 'unenforced', programs, etc, shortcomings)
  if (pool === undefined)
    throw new PolderError('SANDBOX_UNAVAILABLE', shortcomings.at(-1) ?? 'no process can be started')
  return sandboxes(pool, { level: 'unenforced', missing, shortcomings, recorded: 'nothing' })
}

const NEEDED = {
  bubblewrap: ['bwrap', 'unshare', 'setpriv', 'prlimit', 'ip', 'mkfifo'],
  unshare: ['unshare', 'setpriv', 'prlimit', 'mount', 'pivot_root', 'ip', 'mkfifo'],
} as const

/** The places for builds; those beyond the first are opened when they are needed. */
interface Pool {
  readonly first: Slot
  readonly open: (number: number) => Promise<Slot>
  readonly parallel: number
}

async function tryLevel(
  { scratch, parallel = 2 }: Options,
  level: Level,
  programs: Programs,
  etc: string,
  shortcomings: string[],
): Promise<Pool | undefined> {
  const open = async (number: number): Promise<Slot> => {
    const user = level === 'unenforced' ? undefined : spareUser(number)
    const config: SlotConfig = {
      level,
      programs,
      scratch: join(scratch, `slot-${number}`),
      etc,
      ownUser: user !== undefined,
      indexPort: level === 'unenforced' ? 0 : INDEX_PORT,
    }
    return await openSlot(config, user)
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
    })
    if ('ended' in reply && reply.ended.status === 0) return { first, open, parallel }
    await first.close()
    throw new Error('failed' in reply ? reply.failed : reply.ended.tail)
  } catch (error) {
    shortcomings.push(`no sandbox with ${level}: ${(error as Error).message}`)
    return undefined
  }
}

function sandboxes(
  { first, open, parallel }: Pool,
  about: Pick<Sandboxes, 'level' | 'recorded' | 'shortcomings' | 'missing'>,
): Sandboxes {
  const enforced = about.level !== 'unenforced'
  const slots: (Slot | undefined)[] = Array.from({ length: parallel }, (_, at) => (at === 0 ? first : undefined))
  const free = slots.map((_, at) => at)
  const waiting: ((number: number) => void)[] = []
  let closed = false

  // The place that was used last comes first: others may not be open yet.
  const release = (number: number): void => {
    const next = waiting.shift()
    if (next === undefined) free.unshift(number)
    else next(number)
  }
  const runIn = async (number: number, request: BuildRequest): Promise<BuildResult> => {
    const { label, script, directory, cwd = '.', env, mounts = [], socket, limits, log, signal } = request
    if (closed) throw new PolderError('SANDBOX_FAILED', `${label}: the sandboxes are closed`)
    signal?.throwIfAborted()
    const owner = enforced ? spareUser(number)?.outside : undefined
    handOver(directory.source, owner)
    const slot = (slots[number] ??= await open(number))
    const abort = (): void => slot.kill()
    signal?.addEventListener('abort', abort)
    try {
      const reply = await slot.run({
        command: request.command,
        directory,
        cwd,
        env: { ...BASE_ENVIRONMENT, ...env },
        mounts,
        ...(socket === undefined ? {} : { socket }),
        limits: { ...DEFAULT_LIMITS, ...limits },
        log,
      })
      if ('failed' in reply) {
        throw new PolderError('SANDBOX_FAILED', `${label}: the sandbox for its ${script} script: ${reply.failed}`)
      }
      return { ...reply.ended, log, findings: takeBack(directory.source, directory.target, owner !== undefined) }
    } catch (error) {
      if (error instanceof PolderError) throw error
      // A slot that failed is not to be used again; the next build gets a new one.
      slots[number] = undefined
      await slot.close()
      throw new PolderError('SANDBOX_FAILED', `${label}: the sandbox ended: ${(error as Error).message}`, {
        cause: error,
      })
    } finally {
      signal?.removeEventListener('abort', abort)
    }
  }

  return {
    ...about,
    indexUrl: `http://127.0.0.1:${first.indexPort}/`,
    parallel,
    run: async (request) => {
      const number = free.shift() ?? (await new Promise<number>((resolve) => waiting.push(resolve)))
      try {
        return await runIn(number, request)
      } finally {
        release(number)
      }
    },
    close: async () => {
      closed = true
      await Promise.all(slots.map(async (slot) => await slot?.close()))
    },
  }
}
