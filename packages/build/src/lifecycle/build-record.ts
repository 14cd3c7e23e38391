import { mkdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

import { isErrno, type PackageId } from '@polder/spec'
import { atomicWrite, type Store, type TreeId } from '@polder/store'

import type { Attempt } from '../egress/attempts.ts'
import type { BuildScript } from './planned-build.ts'
import type { Limit } from '../sandbox/limits.ts'
import type { Level } from '../sandbox/protocol.ts'
import type { Sandboxes } from '../sandbox/sandboxes.ts'

/** What is known of the last time that a package was built, or was tried to be. `builds/<id>.json` in the store. */
export interface BuildRecord {
  readonly format: 1
  readonly id: TreeId
  readonly package: PackageId
  readonly status: 'built' | 'failed'
  /** How much kept it in. */
  readonly level: Level
  /** How much of what it tried to reach can be in `attempts`. Absent from what an older polder recorded. */
  readonly recorded?: Sandboxes['recorded']
  readonly scripts: readonly BuildScript[]
  /** ISO 8601. */
  readonly startedAt: string
  readonly durationMs: number
  /** What it tried to reach, besides the index. */
  readonly attempts: readonly RecordedAttempt[]
  /** What it asked the index for that is not pinned. */
  readonly refused: readonly RefusedRequest[]
  /** The whole log. */
  readonly log: string
  /** Of what was built. */
  readonly files?: number
  readonly bytes?: number
  /** Those of what it made that load in this major version of Node only; absent if there are none. */
  readonly addons?: readonly string[]
  /** What it left behind that no tree can hold, such as links out of the package. */
  readonly leftOut?: readonly string[]
  readonly failure?: {
    readonly script: BuildScript
    readonly status: number | null
    readonly signal: string | null
    readonly limit?: Limit
    /** The last lines that it printed. */
    readonly tail: string
  }
}

export type RecordedAttempt = Attempt & { readonly script: string }

export interface RefusedRequest {
  /** `left-pad@1.3.0`, a name, or a path. */
  readonly what: string
  readonly count: number
}

export function writeBuildRecord(store: Store, record: BuildRecord): void {
  mkdirSync(buildsDirectory(store), { recursive: true })
  atomicWrite(join(buildsDirectory(store), `${record.id}.json`), `${JSON.stringify(record)}\n`)
}

export function writeBuildLog(store: Store, id: TreeId, log: Buffer): void {
  mkdirSync(buildsDirectory(store), { recursive: true })
  atomicWrite(logPath(store, id), log)
}

/** Undefined if there is none, or it cannot be read: it only tells, nothing depends on it. */
export function readBuildRecord(store: Store, id: TreeId): BuildRecord | undefined {
  try {
    const record = JSON.parse(readFileSync(join(buildsDirectory(store), `${id}.json`), 'utf8')) as BuildRecord
    return record.format === 1 ? record : undefined
  } catch (error) {
    if (error instanceof SyntaxError || isErrno(error, 'ENOENT')) return undefined
    throw error
  }
}

export function logPath(store: Store, id: TreeId): string {
  return join(buildsDirectory(store), `${id}.log`)
}

function buildsDirectory(store: Store): string {
  return join(store.home, 'builds')
}
