import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import { PolderError } from '@polder/spec'
import { hasTree, publishTree, type Store, type TreeId } from '@polder/store'

import { buildEnvironment } from './build-environment.ts'
import type { PlannedBuild } from './build-plan.ts'
import {
  type BuildRecord,
  logPath,
  type RecordedAttempt,
  type RefusedRequest,
  writeBuildRecord,
} from './build-record.ts'
import { buildFailure } from './build-failure.ts'
import { furnishRoom } from './build-room.ts'
import type { Limits } from './limits.ts'
import { openSandboxes } from './ladder.ts'
import type { BuildResult, Sandboxes } from './sandboxes.ts'
import type { Toolchain } from './toolchain.ts'

/** Serves the pinned index to one build; made by whoever knows the lock. */
export type ServeIndex = (options: {
  readonly socket: string
  readonly asker: string
  readonly onRefused: (what: string) => void
}) => Promise<{ close(): Promise<void> }>

export interface BuildOptions {
  readonly toolchain: Toolchain
  /** Refuses to run anything that cannot be confined. */
  readonly requireSandbox: boolean
  readonly serveIndex: ServeIndex
  /** The variables that lead clients, and tools that fetch files, to an index at that URL. */
  readonly indexVariables: (indexUrl: string) => Readonly<Record<string, string>>
  readonly limits?: Partial<Limits>
  readonly onProgress?: (progress: { readonly done: number; readonly total: number; readonly label: string }) => void
  /**
   * Given, everything is built, whether it was or not, and nothing of it is kept: this looks at what each left in its
   * directory instead.
   */
  readonly inspect?: (build: PlannedBuild, directory: string, record: BuildRecord) => void
  /** Milliseconds since the epoch. */
  readonly now?: () => number
  readonly signal?: AbortSignal
}

export interface BuildReport {
  /** Of the builds that ran, in the order of the plan. */
  readonly records: readonly BuildRecord[]
  /** How many trees were there already. */
  readonly reused: number
  /** Why not everything could be confined or recorded, a sentence each. Empty if nothing ran. */
  readonly shortcomings: readonly string[]
}

/**
 * Runs the builds whose trees are not in the store, each after those that it needs, as many at a time as there are
 * places. The trees that they start from, and all that is beside them, have to be there. A tree appears complete or not
 * at all; being killed loses what was under way only. Hold a lease on the store around this.
 * @param builds in any order
 * @throws PolderError `BUILD_FAILED` (the first; all others in `details.others`), `SANDBOX_UNAVAILABLE`,
 *   `SANDBOX_FAILED`, `DISK_FULL`, `STORE_UNWRITABLE`
 */
export async function runBuilds(
  store: Store,
  builds: readonly PlannedBuild[],
  options: BuildOptions,
): Promise<BuildReport> {
  const wanted = options.inspect === undefined ? builds.filter(({ id }) => !hasTree(store, id)) : builds
  const reused = builds.length - wanted.length
  if (wanted.length === 0) return { records: [], reused, shortcomings: [] }
  // Not in the store: the path of a unix socket must be short.
  const scratch = mkdtempSync(join(tmpdir(), 'polder-build-'))
  let sandboxes: Sandboxes | undefined
  try {
    sandboxes = await openSandboxes({ scratch: join(scratch, 'sandboxes'), require: options.requireSandbox })
    const workshop = new Workshop(store, wanted, options, sandboxes, scratch)
    const results = await workshop.runAll()
    const records = results.map(({ record }) => record).filter((record) => record !== undefined)
    const [first, ...others] = results.map(({ error }) => error).filter((error) => error !== undefined)
    if (first !== undefined) throw new PolderError(first.code, first.message, { ...first.details, others })
    return { records, reused, shortcomings: sandboxes.shortcomings }
  } finally {
    await sandboxes?.close()
    rmSync(scratch, { recursive: true, force: true })
  }
}

interface Outcome {
  readonly record?: BuildRecord
  readonly error?: PolderError
}

class Workshop {
  readonly #store: Store
  readonly #builds: readonly PlannedBuild[]
  readonly #options: BuildOptions
  readonly #sandboxes: Sandboxes
  readonly #scratch: string
  readonly #outcomes = new Map<TreeId, Promise<Outcome>>()
  #done = 0

  constructor(
    store: Store,
    builds: readonly PlannedBuild[],
    options: BuildOptions,
    sandboxes: Sandboxes,
    scratch: string,
  ) {
    this.#store = store
    this.#builds = builds
    this.#options = options
    this.#sandboxes = sandboxes
    this.#scratch = scratch
  }

  /** What failed keeps only those from being built that need it. */
  runAll(): Promise<readonly Outcome[]> {
    return Promise.all(this.#builds.map((build) => this.#outcome(build)))
  }

  #outcome(build: PlannedBuild): Promise<Outcome> {
    let outcome = this.#outcomes.get(build.id)
    if (outcome === undefined) this.#outcomes.set(build.id, (outcome = this.#afterOthers(build)))
    return outcome
  }

  async #afterOthers(build: PlannedBuild): Promise<Outcome> {
    const needed = this.#builds.filter(({ id }) => build.after.includes(id))
    for (const other of needed) {
      const { error } = await this.#outcome(other)
      if (error === undefined) continue
      const message = `${build.package} was not built, because ${other.package} could not be`
      return { error: new PolderError('BUILD_FAILED', message, { spec: build.package }) }
    }
    try {
      return await this.#build(build)
    } finally {
      this.#done += 1
      this.#options.onProgress?.({ done: this.#done, total: this.#builds.length, label: build.package })
    }
  }

  async #build(build: PlannedBuild): Promise<Outcome> {
    const { toolchain, now = Date.now } = this.#options
    const startedAt = new Date(now()).toISOString()
    const confined = this.#sandboxes.level !== 'unenforced'
    const path = join(this.#scratch, build.id)
    mkdirSync(path)
    const room = furnishRoom(this.#store, build, path, toolchain, confined)
    const attempts: RecordedAttempt[] = []
    const refused = new Map<string, number>()
    const socket = join(this.#scratch, `${build.id.slice(0, 8)}.sock`)
    const server = await this.#options.serveIndex({
      socket,
      asker: build.package,
      onRefused: (what) => refused.set(what, (refused.get(what) ?? 0) + 1),
    })
    const begun = performance.now()
    let failed: { readonly script: BuildRecord['scripts'][number]; readonly result: BuildResult } | undefined
    try {
      const url = this.#sandboxes.indexUrl
      const index = { url, env: this.#options.indexVariables(url) }
      for (const script of build.scripts) {
        const result = await this.#sandboxes.run({
          label: build.package,
          script: script.event,
          command: ['/bin/sh', '-c', script.command],
          directory: room.directory,
          mounts: room.mounts,
          env: buildEnvironment(build, script, room, toolchain, index, readManifest(room.directory.source)),
          socket,
          log: join(path, 'log'),
          ...(this.#options.limits === undefined ? {} : { limits: this.#options.limits }),
          ...(this.#options.signal === undefined ? {} : { signal: this.#options.signal }),
        })
        attempts.push(...result.attempts.map((attempt) => ({ ...attempt, script: script.event })))
        if (result.status === 0 && result.limit === undefined) continue
        failed = { script, result }
        break
      }
    } finally {
      await server.close()
    }
    const about = {
      format: 1,
      id: build.id,
      package: build.package,
      level: this.#sandboxes.level,
      scripts: build.scripts,
      startedAt,
      durationMs: Math.round(performance.now() - begun),
      attempts,
      refused: refusals(refused),
      log: logPath(this.#store, build.id),
    } as const
    const record: BuildRecord =
      failed === undefined
        ? { ...about, status: 'built', ...this.#keep(build, room.directory.source) }
        : { ...about, status: 'failed', failure: failureOf(failed) }
    writeBuildRecord(this.#store, record)
    copyFileSync(join(path, 'log'), record.log)
    this.#options.inspect?.(build, room.directory.source, record)
    rmSync(path, { recursive: true, force: true })
    return failed === undefined ? { record } : { record, error: buildFailure(record) }
  }

  #keep(build: PlannedBuild, directory: string): Pick<BuildRecord, 'files' | 'bytes' | 'leftOut'> {
    return this.#options.inspect === undefined ? publishTree(this.#store, build.id, directory, build.source.bin) : {}
  }
}

function failureOf({
  script,
  result: { status, signal, limit, tail },
}: {
  readonly script: BuildRecord['scripts'][number]
  readonly result: BuildResult
}): NonNullable<BuildRecord['failure']> {
  return { script, status, signal, ...(limit === undefined ? {} : { limit }), tail }
}

function refusals(counts: ReadonlyMap<string, number>): readonly RefusedRequest[] {
  return [...counts].map(([what, count]) => ({ what, count })).sort((a, b) => (a.what < b.what ? -1 : 1))
}

function readManifest(directory: string): Readonly<Record<string, unknown>> {
  return JSON.parse(readFileSync(join(directory, 'package.json'), 'utf8').replace(/^\uFEFF/, '')) as Record<
    string,
    unknown
  >
}
