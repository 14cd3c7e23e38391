import { mkdirSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'

import { PolderError } from '@polder/spec'
import { hasTree, publishTree, readTree, type Store, type TreeId } from '@polder/store'

import { boundAddons } from './bound-addons.ts'
import { buildEnvironment } from './build-environment.ts'
import { buildFailure } from './build-failure.ts'
import type { PlannedBuild } from './planned-build.ts'
import { type BuildRecord, logPath, writeBuildLog, writeBuildRecord } from './build-record.ts'
import { type BuildRoom, clearRoom, furnishRoom } from './build-room.ts'
import type { BuildOptions } from './build-options.ts'
import { failureOf, type Ran, runScripts, wholeLog } from './run-scripts.ts'
import type { Sandboxes } from '../sandbox/sandboxes.ts'

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
    writeBuildLog(store, build.id, wholeLog(build.scripts, room.path))
    await options.inspect?.(build, room.directory.source, record)
    rmSync(path, { recursive: true, force: true })
    return failed === undefined ? { record } : { record, error: buildFailure(record, { ...build, toolchain }) }
  }

  async #runScripts(build: PlannedBuild, room: BuildRoom): Promise<Ran> {
    const { store, builds, options, sandboxes, sockets } = this.#work
    const manifest = sourceManifest(store, build)
    return runScripts(
      {
        label: build.package,
        scripts: build.scripts,
        directory: room.directory,
        mounts: room.mounts,
        logs: room.path,
        socket: join(sockets, `index-${builds.indexOf(build)}.sock`),
        envOf: (script, index) => buildEnvironment(build, script, room, options.toolchain, index, manifest),
      },
      sandboxes,
      options,
    )
  }

  /** Of a tree that stays, what is known of how it was made stays too. */
  #keep(record: BuildRecord, build: PlannedBuild, room: BuildRoom): BuildRecord {
    const { store, options } = this.#work
    if (options.inspect !== undefined && hasTree(store, build.id)) return record
    const whole = record.status === 'built' ? { ...record, ...this.#publish(build, room) } : record
    writeBuildRecord(store, whole)
    return whole
  }

  #publish({ id, source }: PlannedBuild, room: BuildRoom): Partial<BuildRecord> {
    const { store } = this.#work
    const made = publishTree(store, id, room.directory.source, source.bin)
    const addons = boundAddons(store, id, source.tree)
    return { ...made, ...(addons.length === 0 ? {} : { addons }) }
  }
}

/** As the package came: what its scripts make of the copy that they work on is nothing to rely on. */
function sourceManifest(store: Store, { source }: PlannedBuild): Readonly<Record<string, unknown>> {
  const text = readFileSync(join(readTree(store, source.tree).path, 'package.json'), 'utf8')
  return JSON.parse(text.replace(/^\uFEFF/, '')) as Record<string, unknown>
}
