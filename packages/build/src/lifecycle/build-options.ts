import type { PlannedBuild } from './planned-build.ts'
import type { BuildRecord } from './build-record.ts'
import type { Limits } from '../sandbox/limits.ts'
import type { Toolchain } from './toolchain.ts'

/** Serves the pinned index to one build; made by whoever knows the lock. */
type ServeIndex = (options: {
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
   * Given, everything is built, whether it was or not, and this looks at what each left in its directory. Only trees
   * that were missing are kept: builds that need them find them.
   */
  readonly inspect?: (build: PlannedBuild, directory: string, record: BuildRecord) => void | Promise<void>
  /** Milliseconds since the epoch. */
  readonly now?: () => number
  readonly signal?: AbortSignal
}
