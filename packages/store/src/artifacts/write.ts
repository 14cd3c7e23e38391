import { algorithmOf, integrityFromHash, PolderError, type Integrity } from '@polder/spec'
import { createHash } from 'node:crypto'
import { closeSync, mkdirSync, openSync, renameSync, rmSync } from 'node:fs'
import { dirname } from 'node:path'

import { syncDirectory } from '../durable/atomic-write.ts'
import { artifactPath, type Store } from '../content-path.ts'
import { syncFile, temporaryPath } from '../durable/publish.ts'
import { writeAll } from '../durable/write-all.ts'
import { writeFailure } from '../durable/write-failure.ts'

/** What an artifact must be for {@link writeArtifact} to keep it. */
export interface ArtifactExpectation {
  /** The lock's hash, of any algorithm; null where the caller's policy allows having none. */
  readonly expected: Integrity | null
  /** More than this many bytes are refused while they arrive, whatever length the server announced. */
  readonly maxBytes: number
  /** The package, for messages: `react@19.0.0`. */
  readonly label: string
  /** How many bytes the server says there are, if it does: a hint for how much memory to take. */
  readonly announced?: number
}

/**
 * Streams an artifact into the store. Nothing is visible under its name before it is complete, verified and on the
 * disk; writing what is there already replaces it with the same bytes. Many may run at once.
 * @returns our own sha512, by which the store finds it again, and its size in bytes
 * @throws PolderError `INTEGRITY_MISMATCH`; `FETCH_FAILED` if it is empty or larger than `maxBytes`; `DISK_FULL`,
 *   `STORE_UNWRITABLE`; what `chunks` throws comes through as it is
 */
export async function writeArtifact(
  store: Store,
  chunks: AsyncIterable<Uint8Array>,
  expectation: ArtifactExpectation,
): Promise<{ readonly integrity: Integrity; readonly bytes: number }> {
  const { staged } = await receiveArtifact(store, chunks, expectation)
  try {
    syncFile(staged.path)
    for (const directory of placeArtifacts(store, [staged])) syncDirectory(directory)
  } catch (error) {
    rmSync(staged.path, { force: true })
    throw writeFailure(error, `writing ${expectation.label}`, staged.path)
  }
  return { integrity: staged.integrity, bytes: staged.bytes }
}

/** An artifact that is complete and verified, in `tmp/`: nobody sees it yet. */
export interface StagedArtifact {
  readonly path: string
  readonly integrity: Integrity
  readonly bytes: number
}

/**
 * As {@link writeArtifact}, up to where it would become visible, and not on the disk yet. Whoever calls it removes the
 * file or places it.
 * @returns also its contents, once, unless they are too large to be held in memory
 */
export async function receiveArtifact(
  store: Store,
  chunks: AsyncIterable<Uint8Array>,
  expectation: ArtifactExpectation,
): Promise<{ readonly staged: StagedArtifact; readonly contents: () => Buffer | undefined }> {
  const { expected, maxBytes, label, announced } = expectation
  const arrival = new Arrival(temporaryPath(store, 'artifact'), label, announced)
  const sha512 = createHash('sha512')
  const other = expected === null || algorithmOf(expected) === 'sha512' ? undefined : createHash(algorithmOf(expected))
  try {
    for await (const chunk of chunks) {
      if (arrival.bytes + chunk.length > maxBytes) {
        throw new PolderError('FETCH_FAILED', `${label} is larger than the limit of ${maxBytes} bytes`, {
          spec: label,
          wanted: `at most ${maxBytes} bytes`,
        })
      }
      sha512.update(chunk)
      other?.update(chunk)
      arrival.take(chunk)
    }
    const { bytes } = arrival
    if (bytes === 0)
      throw new PolderError('FETCH_FAILED', `${label} is empty: the upstream sent 0 bytes`, { spec: label })
    const integrity = integrityFromHash('sha512', sha512)
    const comparable =
      other === undefined || expected === null ? integrity : integrityFromHash(algorithmOf(expected), other)
    checkHash({ comparable, bytes }, expectation)
    return { staged: { path: arrival.path, integrity, bytes }, contents: arrival.finish() }
  } catch (error) {
    arrival.discard()
    throw error
  }
}

/**
 * Gives staged artifacts, which are on the disk, their names. One that is there already is replaced by the same bytes.
 * @returns the directories whose names are to be made durable
 */
export function placeArtifacts(store: Store, staged: readonly StagedArtifact[]): Set<string> {
  const directories = new Set<string>()
  for (const { path: from, integrity } of staged) {
    const path = artifactPath(store, integrity)
    const directory = dirname(path)
    if (!directories.has(directory)) mkdirSync(directory, { recursive: true })
    directories.add(directory)
    renameSync(from, path)
  }
  return directories
}

/** How much of an artifact is held in memory while it arrives; most are smaller, and are written in one go. */
const HELD_BYTES = 4 * 1024 * 1024

/** The file of an artifact that is arriving. Only our own writes fail as such: an upstream's EACCES is no unwritable store. */
class Arrival {
  bytes = 0
  readonly path: string
  readonly #label: string
  // Memory of its own, and not of those that Node shares out: so it can be given to a thread.
  #held: Buffer
  #file: number | undefined

  constructor(path: string, label: string, announced: number = 0) {
    this.path = path
    this.#label = label
    this.#held = Buffer.allocUnsafeSlow(announced > 0 && announced <= HELD_BYTES ? announced : 0)
  }

  take(chunk: Uint8Array): void {
    const end = this.bytes + chunk.length
    if (this.#file === undefined && end <= HELD_BYTES) {
      if (end > this.#held.length) this.#grow(end)
      this.#held.set(chunk, this.bytes)
    } else {
      if (this.#file === undefined) this.#write(this.#held.subarray(0, this.bytes))
      this.#write(chunk)
    }
    this.bytes = end
  }

  /** @returns what is in memory, if all of it is */
  finish(): () => Buffer | undefined {
    const held = this.#file === undefined ? this.#held.subarray(0, this.bytes) : undefined
    if (held !== undefined) this.#write(held)
    this.#close()
    return () => held
  }

  discard(): void {
    this.#close()
    rmSync(this.path, { force: true })
  }

  #grow(bytes: number): void {
    const grown = Buffer.allocUnsafeSlow(Math.min(Math.max(bytes, 2 * this.#held.length), HELD_BYTES))
    this.#held.copy(grown, 0, 0, this.bytes)
    this.#held = grown
  }

  #write(bytes: Uint8Array): void {
    try {
      this.#file ??= openSync(this.path, 'wx', 0o444)
      writeAll(this.#file, bytes)
    } catch (error) {
      throw writeFailure(error, `writing ${this.#label}`, this.path)
    }
  }

  #close(): void {
    if (this.#file !== undefined) closeSync(this.#file)
    this.#file = undefined
  }
}

function checkHash(
  { comparable, bytes }: { readonly comparable: Integrity; readonly bytes: number },
  { expected, label }: ArtifactExpectation,
): void {
  if (expected === null || comparable === expected) return
  throw new PolderError(
    'INTEGRITY_MISMATCH',
    `${label} is not what was locked: its hash is ${comparable} (${bytes} bytes), locked is ${expected}`,
    {
      spec: label,
      found: comparable,
      wanted: expected,
      hint: 'the upstream serves other bytes than when it was locked; nothing was kept. Find out why before you change the lock',
    },
  )
}
