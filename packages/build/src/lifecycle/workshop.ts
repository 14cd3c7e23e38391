import { existsSync, mkdirSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'

import { PolderError } from '@polder/spec'
import { hasTree, publishTree, readTree, type Store, type TreeId } from '@polder/store'

import { buildEnvironment } from './build-environment.ts'
import { buildFailure } from './build-failure.ts'
import type { BuildScript, PlannedBuild } from './build-plan.ts'
import {
  type BuildRecord,
  logPath,
  type RecordedAttempt,
  type RefusedRequest,
  writeBuildLog,
  writeBuildRecord,
} from './build-record.ts'
import { type BuildRoom, clearRoom, furnishRoom } from './build-room.ts'
import type { BuildOptions } from './build-options.ts'
import type { BuildResult, Sandboxes } from '../sandbox/sandboxes.ts'

/** What became of a build; without a record it did not begin. */
export interface Outcome {
  readonly record?: BuildRecord
  readonly error?: PolderError
}

interface Work {
  readonly store: Store
  readonly builds: readonly PlannedBuild[]
  readonly options: BuildOptions
  readonly sandboxes: Sandboxes
  /** A directory for what stands only while it is built. */
  readonly scratch: string
  /** One with a short path. */
  readonly sockets: string
}

type Failed = { readonly script: BuildRecord['scripts'][number]; readonly result: BuildResult }

/** What the scripts of one build did. */
interface Ran {
  readonly durationMs: number
  readonly attempts: readonly RecordedAttempt[]
  readonly refused: readonly RefusedRequest[]
  readonly failed?: Failed
}

/** Runs builds, each after those that it needs. */
export class Workshop {
  readonly #work: Work
  readonly #outcomes = new Map<TreeId, Promise<Outcome>>()
  readonly #waiting: (() => void)[] = []
  #places: number
  #done = 0

  constructor(work: Work) {
    this.#work = work
    this.#places = work.sandboxes.parallel
  }

  /**
   * What failed keeps only those from being built that need it.
   * @throws what keeps builds from being run at all, when none is running any more
   */
  async runAll(): Promise<readonly Outcome[]> {
    const settled = await Promise.allSettled(this.#work.builds.map((build) => this.#outcome(build)))
    return settled.map((outcome) => {
      if (outcome.status === 'rejected') throw outcome.reason
      return outcome.value
    })
  }

  #outcome(build: PlannedBuild): Promise<Outcome> {
    let outcome = this.#outcomes.get(build.id)
    if (outcome === undefined) this.#outcomes.set(build.id, (outcome = this.#afterOthers(build)))
    return outcome
  }

  async #afterOthers(build: PlannedBuild): Promise<Outcome> {
    const { builds, options } = this.#work
    for (const other of builds.filter(({ id }) => build.after.includes(id))) {
      const { error } = await this.#outcome(other)
      if (error === undefined) continue
      const message = `${build.package} was not built, because ${other.package} could not be`
      return { error: new PolderError('BUILD_FAILED', message, { spec: build.package }) }
    }
    try {
      return await this.#inPlace(() => this.#build(build))
    } finally {
      this.#done += 1
      options.onProgress?.({ done: this.#done, total: builds.length, label: build.package })
    }
  }

  /** Rooms are furnished, and indexes served, only for as many builds as run at a time. */
  async #inPlace<T>(build: () => Promise<T>): Promise<T> {
    if (this.#places > 0) this.#places -= 1
    else await new Promise<void>((resolve) => this.#waiting.push(resolve))
    try {
      return await build()
    } finally {
      const next = this.#waiting.shift()
      if (next === undefined) this.#places += 1
      else next()
    }
  }

  async #build(build: PlannedBuild): Promise<Outcome> {
    const { store, options, sandboxes, scratch } = this.#work
    const { toolchain, now = Date.now } = options
    const startedAt = new Date(now()).toISOString()
    const path = join(scratch, build.id)
    mkdirSync(path)
    const room = furnishRoom(store, build, path, toolchain, sandboxes.level !== 'unenforced')
    const { failed, ...did } = await this.#runScripts(build, room)
    clearRoom(build, room)
    const about = {
      format: 1,
      id: build.id,
      package: build.package,
      level: sandboxes.level,
      recorded: sandboxes.recorded,
      scripts: build.scripts,
      startedAt,
      ...did,
      log: logPath(store, build.id),
    } as const
    const result: BuildRecord =
      failed === undefined ? { ...about, status: 'built' } : { ...about, status: 'failed', failure: failureOf(failed) }
    const record = this.#keep(result, build, room)
    writeBuildLog(store, build.id, wholeLog(build, room))
    await options.inspect?.(build, room.directory.source, record)
    rmSync(path, { recursive: true, force: true })
    return failed === undefined ? { record } : { record, error: buildFailure(record, build) }
  }

  async #runScripts(build: PlannedBuild, room: BuildRoom): Promise<Ran> {
    const { store, builds, options, sandboxes, sockets } = this.#work
    const { toolchain, limits, signal } = options
    const refused = new Map<string, number>()
    const attempts: RecordedAttempt[] = []
    const socket = join(sockets, `index-${builds.indexOf(build)}.sock`)
    const server = await options.serveIndex({
      socket,
      asker: build.package,
      onRefused: (what) => refused.set(what, (refused.get(what) ?? 0) + 1),
    })
    let durationMs = 0
    let failed: Failed | undefined
    try {
      const url = sandboxes.indexUrl
      const index = { url, env: options.indexVariables(url) }
      const manifest = sourceManifest(store, build)
      for (const script of build.scripts) {
        const result = await sandboxes.run({
          label: build.package,
          script: script.event,
          command: ['/bin/sh', '-c', script.command],
          directory: room.directory,
          mounts: room.mounts,
          env: buildEnvironment(build, script, room, toolchain, index, manifest),
          socket,
          log: logOf(room, script),
          ...(limits === undefined ? {} : { limits }),
          ...(signal === undefined ? {} : { signal }),
        })
        durationMs += result.durationMs
        attempts.push(...result.attempts.map((attempt) => ({ ...attempt, script: script.event })))
        if (result.status === 0 && result.limit === undefined) continue
        failed = { script, result }
        break
      }
    } finally {
      await server.close()
    }
    return {
      durationMs,
      attempts,
      refused: [...refused].map(([what, count]) => ({ what, count })).sort((a, b) => (a.what < b.what ? -1 : 1)),
      ...(failed === undefined ? {} : { failed }),
    }
  }

  /** Of a tree that stays, what is known of how it was made stays too. */
  #keep(record: BuildRecord, build: PlannedBuild, room: BuildRoom): BuildRecord {
    const { store, options } = this.#work
    if (options.inspect !== undefined && hasTree(store, build.id)) return record
    const whole =
      record.status === 'built'
        ? { ...record, ...publishTree(store, build.id, room.directory.source, build.source.bin) }
        : record
    writeBuildRecord(store, whole)
    return whole
  }
}

function failureOf({ script, result: { status, signal, limit, tail } }: Failed): NonNullable<BuildRecord['failure']> {
  return { script, status, signal, ...(limit === undefined ? {} : { limit }), tail }
}

/** Each script has a log of its own while it runs. */
function logOf(room: BuildRoom, { event }: BuildScript): string {
  return join(room.path, `${event}.log`)
}

/** Of all scripts that ran, each below its command. */
function wholeLog({ scripts }: PlannedBuild, room: BuildRoom): Buffer {
  const ran = scripts.filter((script) => existsSync(logOf(room, script)))
  return Buffer.concat(
    ran.flatMap((script) => [
      Buffer.from(`$ ${script.command}  (${script.event})\n`),
      readFileSync(logOf(room, script)),
      Buffer.from('\n'),
    ]),
  )
}

/** As the package came: what its scripts make of the copy that they work on is nothing to rely on. */
function sourceManifest(store: Store, { source }: PlannedBuild): Readonly<Record<string, unknown>> {
  const text = readFileSync(join(readTree(store, source.tree).path, 'package.json'), 'utf8')
  return JSON.parse(text.replace(/^\uFEFF/, '')) as Record<string, unknown>
}
