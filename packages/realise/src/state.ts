import { isErrno } from '@polder/spec'
import { atomicWrite } from '@polder/store'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'

import type { Layout } from './planned.ts'

/**
 * `.polder/state.json`: what stands in a checkout. It is written last, so where it is complete, so is the checkout.
 * The command line reads it before it loads anything, to see that there is nothing to do.
 */
export interface State {
  readonly format: 1
  readonly storeHome: string
  /** `<process.platform>-<process.arch>-<process.version>`, since another Node may take other packages; empty while an installation is at work, or was killed. */
  readonly platform: string
  readonly environment: string
  /** Absolute; null in the self-contained layout. */
  readonly environmentPath: string | null
  readonly layout: Layout
  /** The command line asked for this layout: an installation that asks for none has to look at the configuration. */
  readonly layoutAsked?: true
  /** Install scripts ran, or would run, without a sandbox: an installation that requires one has more to do. */
  readonly unenforced?: true
  /** sha256 (hex) of `polder.lock`. */
  readonly lock: string
  /** By path relative to the checkout. */
  readonly inputs: Readonly<Record<string, StateInput>>
  /** What the scripts of workspace packages depend on: files and directories, by path. Absent where none runs. */
  readonly watched?: Readonly<Record<string, Pick<StateInput, 'mtimeMs' | 'size'>>>
  /** The services with a `node_modules` of their own. */
  readonly services: readonly string[]
  readonly notBuilt: readonly string[]
  /** The version of polder that wrote it. */
  readonly polder: string
}

/** A file that the lock was made from. Same time and size: unchanged; otherwise the digest decides. */
export interface StateInput {
  readonly mtimeMs: number
  readonly size: number
  readonly digest: string
}

/**
 * Not made durable: nothing else in a checkout is, and a state that survives a power cut must not tell of links that
 * did not. One that is lost or empty costs an installation of links.
 * @throws PolderError `DISK_FULL`, `STORE_UNWRITABLE`
 */
export function writeState(checkout: string, state: State): void {
  atomicWrite(statePath(checkout), `${JSON.stringify(state, null, 2)}\n`, { durable: false })
}

/** Says that what was left to do when the state was written is done. */
export function completeState(checkout: string, changes: Pick<State, 'inputs' | 'watched'>): void {
  const state = readState(checkout)
  if (state !== undefined) writeState(checkout, { ...state, ...changes })
}

/** The state of a complete installation; undefined if there is none, it was interrupted, or another polder made it. */
export function readState(checkout: string): State | undefined {
  const state = readAnyState(checkout)
  return state === undefined || state.platform === '' ? undefined : state
}

/** Also that of an interrupted installation. */
export function readAnyState(checkout: string): State | undefined {
  let state: unknown
  try {
    state = JSON.parse(readFileSync(statePath(checkout), 'utf8'))
  } catch (error) {
    if (error instanceof SyntaxError || isErrno(error, 'ENOENT', 'ENOTDIR')) return undefined
    throw error
  }
  return isState(state) ? state : undefined
}

function statePath(checkout: string): string {
  return join(checkout, '.polder', 'state.json')
}

function isState(value: unknown): value is State {
  if (typeof value !== 'object' || value === null) return false
  const {
    format,
    storeHome,
    platform,
    environment,
    environmentPath,
    layout,
    lock,
    inputs,
    services,
    notBuilt,
    polder,
  } = value as Record<string, unknown>
  const texts = (list: unknown): boolean => Array.isArray(list) && list.every((entry) => typeof entry === 'string')
  return (
    format === 1 &&
    [storeHome, platform, environment, lock, polder].every((text) => typeof text === 'string') &&
    (environmentPath === null || typeof environmentPath === 'string') &&
    (layout === 'linked' || layout === 'self-contained') &&
    typeof inputs === 'object' &&
    inputs !== null &&
    texts(services) &&
    texts(notBuilt)
  )
}
