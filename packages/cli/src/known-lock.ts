import { closeSync, existsSync, fstatSync, mkdirSync, openSync, readdirSync, readSync, rmSync } from 'node:fs'
import { join } from 'node:path'

import { toolchainFiles } from '@polder/build/toolchain-files'
import { digestBytes } from '@polder/gather/inputs'
import type { Layout, LinkPlan, StateInput } from '@polder/realise'
import { currentPlatform, platformName } from '@polder/spec'
import { atomicWrite, hasEnvironment, type Store, type TreeId } from '@polder/store'

import { ifWritable, PLAN_FORMAT } from './kept-plan.ts'
import { LOCK_FILE, lockDigest } from './lock-file.ts'
import type { PlannedLock } from './planned-lock.ts'
import { polderVersion } from './version.ts'

// `known/` of the store: what was installed here, each lock with its own bytes and those of its inputs. A further
// checkout mostly has the same bytes, and to compare them takes a tenth of what hashing them does, half of which is to
// load `node:crypto`. Nothing is taken on trust: whatever differs by a byte is hashed, parsed and planned.

/** What a further checkout has to know of a lock. */
export interface KnownLock {
  /** sha256 of the lock's text, hex. */
  readonly lockDigest: string
  /** Path → digest, as in the lock. */
  readonly inputs: Readonly<Record<string, string>>
  /** How many packages are installed, each counted once. */
  readonly packages: number
  readonly plan: LinkPlan
  /** The workspace packages with scripts that nobody allowed. */
  readonly notRun: readonly string[]
  /** What was built, and the files that it was built with; absent if the lock allows no install scripts. */
  readonly builds?: { readonly trees: readonly TreeId[]; readonly toolchainFiles: string }
}

/** A known lock that a checkout has, and what its next `install` is to compare first. */
export interface RecalledLock {
  readonly known: KnownLock
  readonly stateInputs: Readonly<Record<string, StateInput>>
}

/** A file as it was at one moment. */
interface FileRead {
  readonly bytes: Buffer
  readonly mtimeMs: number
}

/**
 * What is known of the checkout's lock.
 * @param layout undefined for the one that `polder.yaml` says, which is one of the inputs
 * @returns undefined if nothing is: the lock is new, or an input or the toolchain is another than it was
 */
export function recallLock(store: Store, root: string, layout: Layout | undefined): RecalledLock | undefined {
  const lock = readMoment(join(root, LOCK_FILE))
  if (lock === undefined) return undefined
  const kept = unpack(readMoment(knownPath(store, lock.bytes, layout))?.bytes)
  if (kept === undefined || !kept.lock.equals(lock.bytes)) return undefined
  const { known } = kept
  if (known.builds !== undefined && known.builds.toolchainFiles !== toolchainFiles()) return undefined
  const inputs = new Map<string, FileRead>()
  for (const path of Object.keys(known.inputs)) {
    const input = readMoment(join(root, path))
    if (input === undefined || kept.inputs[inputs.size]?.equals(input.bytes) !== true) return undefined
    if (isCompiled(root, path)) return undefined
    inputs.set(path, input)
  }
  return { known, stateInputs: stateInputs(lock, inputs, known) }
}

/**
 * Remembers a lock that was just installed. Not if it or an input has changed meanwhile, nor what is not the same in the
 * next checkout: the scripts of workspace packages, and what was built without a sandbox.
 */
export function rememberLock(
  store: Store,
  root: string,
  asked: Layout | undefined,
  installed: PlannedLock & Pick<KnownLock, 'notRun'>,
): void {
  const { lockDigest: digest, inputs: digests, packages, plan, builds, workspaces, notRun } = installed
  if (workspaces !== undefined || builds?.builds.some(({ unenforced }) => unenforced === true) === true) return
  const lock = readMoment(join(root, LOCK_FILE))
  if (lock === undefined || lockDigest(lock.bytes) !== digest) return
  const inputs: FileRead[] = []
  for (const [path, wanted] of Object.entries(digests)) {
    const input = readMoment(join(root, path))
    if (input === undefined || digestBytes(path, input.bytes) !== wanted || isCompiled(root, path)) return
    inputs.push(input)
  }
  const { layout, platform, id, checkout, notBuilt, unsupported } = plan
  keep(knownPath(store, lock.bytes, asked), lock, inputs, {
    lockDigest: digest,
    inputs: digests,
    packages,
    plan: { layout, platform, id, checkout, notBuilt, unsupported },
    notRun,
    ...(builds === undefined
      ? {}
      : { builds: { trees: builds.builds.map(({ id }) => id), toolchainFiles: toolchainFiles() } }),
  })
}

/** A package with a `binding.gyp` has an install script that stands in no input. */
function isCompiled(root: string, path: string): boolean {
  return path.endsWith('package.json') && existsSync(join(root, path, '../binding.gyp'))
}

/** Forgets the locks whose environments are gone; one that is missed is remembered again. */
export function forgetStaleLocks(store: Store): void {
  mkdirSync(directory(store), { recursive: true })
  for (const name of readdirSync(directory(store))) {
    const path = join(directory(store), name)
    const plan = unpack(readMoment(path)?.bytes)?.known.plan
    if (plan?.layout !== 'linked' || !hasEnvironment(store, plan.id)) rmSync(path, { force: true })
  }
}

function directory(store: Store): string {
  return join(store.home, 'known')
}

/**
 * Named after all that a plan depends on but the lock, and a sample of that: locks that happen to have the same sample
 * displace each other, which costs time and nothing else. Each change of a lock changes a digest in it, and no digest is
 * shorter than 64 bytes.
 */
function knownPath(store: Store, lock: Buffer, layout: Layout | undefined): string {
  const words = new Int32Array(lock.buffer, lock.byteOffset, lock.length >> 2)
  let sample = lock.length
  for (let at = 0; at < words.length; at += 16) sample = Math.imul(sample ^ (words[at] ?? 0), 0x01000193)
  const made = [polderVersion(), PLAN_FORMAT, process.version, platformName(currentPlatform()), layout ?? 'configured']
  return join(directory(store), `${made.join('-')}-${lock.length}-${(sample >>> 0).toString(16)}`)
}

function stateInputs(
  lock: FileRead,
  inputs: ReadonlyMap<string, FileRead>,
  known: KnownLock,
): RecalledLock['stateInputs'] {
  const digests: KnownLock['inputs'] = { ...known.inputs, [LOCK_FILE]: `sha256-${known.lockDigest}` }
  return Object.fromEntries(
    [...inputs, [LOCK_FILE, lock] as const].map(([path, { bytes, mtimeMs }]) => [
      path,
      { mtimeMs, size: bytes.length, digest: digests[path] ?? '' },
    ]),
  )
}

/** @returns undefined if it cannot be read, or is written to at this moment */
function readMoment(path: string): FileRead | undefined {
  let file: number
  try {
    file = openSync(path, 'r')
  } catch {
    return undefined
  }
  try {
    const { mtimeMs, size } = fstatSync(file)
    const bytes = Buffer.allocUnsafeSlow(size)
    for (let at = 0; at < size;) {
      const read = readSync(file, bytes, at, size - at, null)
      if (read === 0) return undefined
      at += read
    }
    return { bytes, mtimeMs }
  } catch {
    return undefined
  } finally {
    closeSync(file)
  }
}

/** The sizes of the first two parts on a line; the lock; the facts, and once more; and the inputs, one after another. */
function keep(path: string, lock: FileRead, inputs: readonly FileRead[], known: KnownLock): void {
  const facts = Buffer.from(JSON.stringify({ ...known, sizes: inputs.map(({ bytes }) => bytes.length) }))
  const sizes = Buffer.from(`${lock.bytes.length} ${facts.length}\n`)
  const parts = [sizes, lock.bytes, facts, facts, ...inputs.map(({ bytes }) => bytes)]
  ifWritable(() => {
    mkdirSync(join(path, '..'), { recursive: true })
    // Not made durable: what a power cut leaves of it is no lock that anybody has, or has two different copies of the facts.
    atomicWrite(path, Buffer.concat(parts), { durable: false })
  })
}

interface Kept {
  readonly lock: Buffer
  readonly known: KnownLock
  /** In the order of the known ones. */
  readonly inputs: readonly Buffer[]
}

/** @returns undefined for what is no more, or never was, what {@link keep} wrote */
function unpack(kept: Buffer | undefined): Kept | undefined {
  if (kept === undefined) return undefined
  let at = kept.indexOf('\n') + 1
  const [lockSize = 0, factsSize = 0] = kept.toString('latin1', 0, at).split(' ').map(Number)
  const take = (size: number): Buffer => kept.subarray(at, (at += size))
  const [lock, facts, again] = [take(lockSize), take(factsSize), take(factsSize)]
  if (!facts.equals(again)) return undefined
  try {
    const { sizes, ...known } = JSON.parse(facts.toString()) as KnownLock & { readonly sizes: readonly number[] }
    const inputs = sizes.map(take)
    return at === kept.length ? { lock, known, inputs } : undefined
  } catch {
    return undefined
  }
}
