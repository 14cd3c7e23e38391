import { isErrno, type Integrity } from '@polder/spec'
import { existsSync, lstatSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, statSync } from 'node:fs'
import { basename, join } from 'node:path'

import { TEMPORARY } from '../durable/atomic-write.ts'
import { artifactPath, type Store } from '../content-path.ts'
import { ENVIRONMENT_MARKER, environmentTrees } from '../environments/environments.ts'
import { whileUnused } from './leases.ts'
import { linkPool } from '../environments/link-pool.ts'
import { GARBAGE, temporaryPath } from '../durable/publish.ts'
import { readRoots, type Root } from '../environments/roots.ts'
import { writeFailure } from '../durable/write-failure.ts'

/** Ten minutes. */
const MIN_AGE_MS = 10 * 60 * 1000

export interface CollectOptions {
  /** Given `artifacts`, all others are removed; without it every artifact stays. `trees` are kept besides those in use. */
  readonly keep?: { readonly artifacts?: Iterable<Integrity>; readonly trees?: Iterable<string> }
  /** The clock, in milliseconds since 1970. */
  readonly now: number
  /** Nothing younger is removed. Default: ten minutes. */
  readonly minAgeMs?: number
  /** Called for every entry that has been deleted. */
  readonly onProgress?: (progress: { readonly done: number; readonly total: number; readonly label: string }) => void
}

export interface GarbageReport {
  /** True if nothing was collected because an installation (or another collection) was running. */
  readonly busy: boolean
  /** Checkouts that are gone or use another environment. */
  readonly roots: readonly string[]
  readonly environments: readonly string[]
  readonly trees: readonly string[]
  /** As paths below `artifacts/`. */
  readonly artifacts: readonly string[]
  /** Leftovers of killed processes, quarantined artifacts, and records of builds without a tree. */
  readonly leftovers: number
  /** Of trees and artifacts; environments are links to the trees' files. */
  readonly bytes: number
  readonly files: number
}

interface Removal {
  readonly path: string
  readonly label: string
}

/** The report while it is being made. */
type Garbage = {
  -readonly [K in keyof Omit<GarbageReport, 'busy'>]: GarbageReport[K] extends readonly string[] ? string[] : number
}

/**
 * Removes what no checkout uses: roots of checkouts that are gone, environments without a root, trees that no
 * remaining environment was made from and, if asked, artifacts. Gives up (`busy`) while any process holds a lease.
 * What goes is renamed into `tmp/` in one short step and deleted afterwards; being killed leaves rubbish there which
 * the next collection deletes.
 * @throws PolderError `STORE_UNWRITABLE`
 */
export async function collectGarbage(store: Store, options: CollectOptions): Promise<GarbageReport> {
  const garbage: Garbage = { roots: [], environments: [], trees: [], artifacts: [], leftovers: 0, bytes: 0, files: 0 }
  const aside = temporaryPath(store, GARBAGE)
  let removals: readonly Removal[]
  try {
    const decided = whileUnused(store, () => setAside(store, aside, options, garbage))
    if (decided === undefined) return { ...garbage, busy: true }
    removals = decided.result
    await remove(removals, options.onProgress)
    removeTree(aside)
  } catch (error) {
    throw writeFailure(error, 'collecting garbage', store.home)
  }
  return { ...garbage, busy: false }
}

function setAside(store: Store, aside: string, options: CollectOptions, garbage: Garbage): readonly Removal[] {
  const removals: Removal[] = []
  const cutoff = options.now - (options.minAgeMs ?? MIN_AGE_MS)
  const move = (path: string, label: string): void => {
    mkdirSync(aside, { recursive: true })
    const to = join(aside, String(removals.length))
    renameSync(path, to)
    removals.push({ path: to, label })
  }
  const used = dropRoots(store, cutoff, garbage)
  const usedTrees = collectEnvironments(store, used, cutoff, garbage, move)
  for (const id of options.keep?.trees ?? []) usedTrees.add(id)
  collectTrees(store, usedTrees, cutoff, garbage, move)
  if (options.keep?.artifacts !== undefined) collectArtifacts(store, options.keep.artifacts, cutoff, garbage, move)
  collectLeftovers(store, aside, cutoff, garbage, move)
  dropUnusedLinks(store, cutoff)
  return removals
}

/** @returns the environments that are in use */
function dropRoots(store: Store, cutoff: number, garbage: Garbage): Set<string> {
  const used = new Set<string>()
  for (const root of readRoots(store)) {
    if (isYounger(root.path, cutoff) || isCurrent(root)) used.add(root.environment)
    else {
      rmSync(root.path, { force: true })
      garbage.roots.push(root.checkout)
    }
  }
  return used
}

/** A state that cannot be read is no proof that the environment is unused. */
function isCurrent(root: Root): boolean {
  try {
    const state = JSON.parse(readFileSync(join(root.checkout, '.polder', 'state.json'), 'utf8')) as {
      environment?: unknown
    } | null
    return typeof state?.environment !== 'string' || state.environment === root.environment
  } catch (error) {
    return !isErrno(error, 'ENOENT', 'ENOTDIR')
  }
}

/** @returns the trees of those that stay */
function collectEnvironments(
  store: Store,
  used: ReadonlySet<string>,
  cutoff: number,
  garbage: Garbage,
  move: (path: string, label: string) => void,
): Set<string> {
  const trees = new Set<string>()
  for (const id of readdirSync(join(store.home, 'envs')).sort()) {
    const path = join(store.home, 'envs', id)
    if (used.has(id) || isYounger(join(path, ENVIRONMENT_MARKER), cutoff)) {
      for (const tree of environmentTrees(store, id)) trees.add(tree)
      continue
    }
    move(path, `environment ${id}`)
    garbage.environments.push(id)
  }
  return trees
}

function collectTrees(
  store: Store,
  used: ReadonlySet<string>,
  cutoff: number,
  garbage: Garbage,
  move: (path: string, label: string) => void,
): void {
  for (const id of readdirSync(join(store.home, 'trees')).sort()) {
    const path = join(store.home, 'trees', id)
    const list = join(path, 'files.json')
    if (used.has(id) || isYounger(list, cutoff)) continue
    const sizes = readSizes(list)
    garbage.bytes += sizes.reduce((sum, size) => sum + size, 0)
    garbage.files += sizes.length
    move(path, `tree ${id}`)
    garbage.trees.push(id)
  }
}

function readSizes(list: string): readonly number[] {
  try {
    return (JSON.parse(readFileSync(list, 'utf8')) as { sizes: readonly number[] }).sizes
  } catch {
    return []
  }
}

function collectArtifacts(
  store: Store,
  keep: Iterable<Integrity>,
  cutoff: number,
  garbage: Garbage,
  move: (path: string, label: string) => void,
): void {
  const kept = new Set<string>()
  for (const integrity of keep) kept.add(artifactPath(store, integrity))
  const root = join(store.home, 'artifacts', 'sha512')
  for (const directory of readdirSync(root).sort()) {
    for (const name of readdirSync(join(root, directory)).sort()) {
      const path = join(root, directory, name)
      if (kept.has(path) || isYounger(path, cutoff)) continue
      garbage.bytes += statSync(path).size
      garbage.files += 1
      move(path, `artifact ${directory}${name.slice(0, 14)}`)
      garbage.artifacts.push(`sha512/${directory}/${name}`)
    }
  }
}

function collectLeftovers(
  store: Store,
  aside: string,
  cutoff: number,
  garbage: Garbage,
  move: (path: string, label: string) => void,
): void {
  const leftover = (path: string): void => {
    move(path, 'leftovers')
    garbage.leftovers += 1
  }
  for (const name of readdirSync(join(store.home, 'tmp')).sort()) {
    const path = join(store.home, 'tmp', name)
    // A collection that is deleting at this moment loses its files to us, which is what it wants.
    if (name.startsWith(`${GARBAGE}-`) ? path !== aside : !isYounger(path, cutoff)) leftover(path)
  }
  for (const name of readdirSync(join(store.home, 'quarantine'))) {
    const path = join(store.home, 'quarantine', name)
    if (!isYounger(path, cutoff)) leftover(path)
  }
  // What is known of builds whose trees are gone, or never came to be.
  for (const path of buildRecords(store)) {
    const [id = ''] = basename(path).split('.')
    if (!existsSync(join(store.home, 'trees', id)) && !isYounger(path, cutoff)) leftover(path)
  }
  for (const name of readdirSync(join(store.home, 'roots'))) {
    const path = join(store.home, 'roots', name)
    if (TEMPORARY.test(name) && !isYounger(path, cutoff)) leftover(path)
  }
}

function buildRecords(store: Store): readonly string[] {
  const directory = join(store.home, 'builds')
  return existsSync(directory) ? readdirSync(directory).map((name) => join(directory, name)) : []
}

/** Those of the pool that no checkout shares. Each is one inode, so they go at once. */
function dropUnusedLinks(store: Store, cutoff: number): void {
  const { directory } = linkPool(store)
  for (const name of existsSync(directory) ? readdirSync(directory) : []) {
    const { nlink, mtimeMs } = lstatSync(join(directory, name))
    if (nlink === 1 && mtimeMs <= cutoff) rmSync(join(directory, name), { force: true })
  }
}

/** By its modification time, which is when its last file was added. */
function isYounger(path: string, cutoff: number): boolean {
  const found = lstatSync(path, { throwIfNoEntry: false })
  return found !== undefined && found.mtimeMs > cutoff
}

async function remove(removals: readonly Removal[], onProgress: CollectOptions['onProgress']): Promise<void> {
  for (const [index, { path, label }] of removals.entries()) {
    removeTree(path)
    onProgress?.({ done: index + 1, total: removals.length, label })
    await new Promise((resolve) => setImmediate(resolve))
  }
}

/** Another collection may be deleting the same. */
function removeTree(path: string): void {
  try {
    rmSync(path, { recursive: true, force: true })
  } catch (error) {
    if (!isErrno(error, 'ENOENT', 'ENOTEMPTY')) throw error
  }
}
