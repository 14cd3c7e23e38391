import type { Attempt } from '../egress/attempts.ts'
import type { Mount } from './file-system.ts'
import type { Limit, Limits, Peak } from './limits.ts'
import type { Programs } from '../programs.ts'

/** How much keeps a build in: the namespaces and the private root of either program, or nothing. */
export type Level = 'bubblewrap' | 'unshare' | 'unenforced'

// Between polder and the process that lives in the namespaces of a cell: one JSON document a line, requests on its
// stdin and replies on its stdout. Its end of input ends it, and with it all that it started.

/** The first line that a cell is sent. */
export interface CellConfig {
  readonly level: Level
  readonly programs: Programs
  /** Of this cell alone. */
  readonly scratch: string
  readonly etc: string
  /** The user namespace of the cell has an id to spare for builds. */
  readonly ownUser: boolean
  /** Polder's own namespaces, by kind: the cell makes sure that it is in none of them before it changes anything. */
  readonly outside: Readonly<Record<string, string>>
}

export interface CellReady {
  readonly ready: true
  /** Where builds find the index. */
  readonly indexPort: number
}

/** One build, with nothing left to decide. */
export interface CellBuild {
  readonly command: readonly string[]
  readonly directory: Required<Mount>
  /** Relative to the directory. */
  readonly cwd: string
  readonly env: Readonly<Record<string, string>>
  readonly mounts: readonly Mount[]
  readonly socket?: string
  readonly limits: Limits
  readonly log: string
  /** It must not begin if addresses cannot be recorded. */
  readonly everything: boolean
}

/** What became of it; or why it did not even begin, or could not go on: an error of the system with its code in front. */
export type CellReply = { readonly ended: CellResult } | { readonly failed: string }

export interface CellResult {
  /** The exit status; null if a signal ended it. */
  readonly status: number | null
  readonly signal: string | null
  /** The limit that it ran into. */
  readonly limit?: Limit
  /** The last lines of the log, of at most 16 KiB. */
  readonly tail: string
  readonly logBytes: number
  readonly attempts: readonly Attempt[]
  /** Attempts beyond those listed. */
  readonly moreAttempts: number
  readonly durationMs: number
  readonly peak: Readonly<Peak>
  /** Why only names were recorded; not there if addresses were, too. */
  readonly incomplete?: string
}

export type CellRequest = { readonly run: CellBuild } | { readonly kill: true }
