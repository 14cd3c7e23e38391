import { PolderError } from '@polder/spec'
import { writeFailure } from '@polder/store'

import { BASE_ENVIRONMENT, type Mount } from './file-system.ts'
import { handOver, takeBack } from './hand-over.ts'
import { DEFAULT_LIMITS, type Limits } from './limits.ts'
import type { MissingProgram } from '../programs.ts'
import type { Level, CellReply, CellResult } from './protocol.ts'
import { spareUser, type Cell } from './cell.ts'

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

export interface BuildResult extends CellResult {
  readonly log: string
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
   * @throws PolderError `SANDBOX_FAILED` if the build could not be started; `DISK_FULL`, unless that is its own limit
   */
  readonly run: (request: BuildRequest) => Promise<BuildResult>
  /** Ends what runs. Resolves when none of its processes is left. */
  readonly close: () => Promise<void>
}

/** The places for builds; those beyond the first are opened when they are needed. */
export interface Pool {
  readonly first: Cell
  readonly open: (number: number) => Promise<Cell>
  readonly parallel: number
  /** Why only names are recorded; undefined if addresses are, too. */
  readonly incomplete: string | undefined
}

/** The error for what a cell says of a full disk; undefined for anything else. */
export function diskFull(failed: string, doing: string, path: string): PolderError | undefined {
  const code = /^(?:ENOSPC|EDQUOT)(?=:)/.exec(failed)?.[0]
  const error = code === undefined ? undefined : writeFailure(Object.assign(new Error(failed), { code }), doing, path)
  return error instanceof PolderError ? error : undefined
}

/** @param about what the level is that the pool was opened at */
export function sandboxesOf(
  { first, open, parallel, incomplete }: Pool,
  about: Pick<Sandboxes, 'level' | 'recorded' | 'shortcomings' | 'missing'>,
): Sandboxes {
  const enforced = about.level !== 'unenforced'
  const cells: (Cell | undefined)[] = Array.from({ length: parallel }, (_, at) => (at === 0 ? first : undefined))
  const free = cells.map((_, at) => at)
  const waiting: ((number: number) => void)[] = []
  let closed = false

  // The place that was used last comes first: others may not be open yet.
  const release = (number: number): void => {
    const next = waiting.shift()
    if (next === undefined) free.unshift(number)
    else next(number)
  }
  const openAnother = async (number: number): Promise<Cell> => {
    const cell = await open(number)
    if (!closed) return cell
    await cell.close()
    throw new Error('the sandboxes were closed')
  }
  const runIn = async (number: number, request: BuildRequest): Promise<BuildResult> => {
    const { label, script, directory, cwd = '.', env, mounts = [], socket, limits, log, signal } = request
    if (closed) throw new PolderError('SANDBOX_FAILED', `${label}: the sandboxes are closed`)
    signal?.throwIfAborted()
    const owner = enforced ? spareUser(number)?.outside : undefined
    handOver(directory.source, owner)
    let reply: CellReply
    const kill = (): void => cells[number]?.kill()
    try {
      const cell = (cells[number] ??= await openAnother(number))
      // What was aborted while its cell was opened does not begin.
      if (signal?.aborted === true) reply = { failed: 'aborted' }
      else {
        signal?.addEventListener('abort', kill)
        reply = await cell.run({
          command: request.command,
          directory,
          cwd,
          env: { ...BASE_ENVIRONMENT, ...env },
          mounts,
          ...(socket === undefined ? {} : { socket }),
          limits: { ...DEFAULT_LIMITS, ...limits },
          log,
          // What was said of the first build holds for all.
          everything: enforced && incomplete === undefined,
        })
      }
    } catch (error) {
      // A cell that failed is not to be used again; the next build gets a new one.
      await cells[number]?.close()
      cells[number] = undefined
      reply = { failed: (error as Error).message }
    }
    signal?.removeEventListener('abort', kill)
    takeBack(directory.source, owner)
    if ('ended' in reply) {
      const { incomplete: _, ...result } = reply.ended
      return { ...result, log }
    }
    signal?.throwIfAborted()
    throw (
      diskFull(reply.failed, `writing what ${label} is built to`, directory.source) ??
      new PolderError('SANDBOX_FAILED', `${label}: the sandbox for its ${script} script: ${reply.failed}`)
    )
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
      await Promise.all(cells.map(async (cell) => cell?.close()))
    },
  }
}
