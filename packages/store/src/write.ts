import { algorithmOf, integrityFromHash, PolderError, type Integrity } from '@polder/spec'
import { createHash } from 'node:crypto'
import { mkdir, open, rename, rm, type FileHandle } from 'node:fs/promises'
import { dirname } from 'node:path'

import { artifactPath, type Store } from './content-path.ts'
import { temporaryPath } from './publish.ts'
import { writeFailure } from './write-failure.ts'

/** What an artifact must be for {@link writeArtifact} to keep it. */
export interface ArtifactExpectation {
  /** The lock's hash, of any algorithm; null where the caller's policy allows having none. */
  readonly expected: Integrity | null
  /** More than this many bytes are refused while they arrive, whatever length the server announced. */
  readonly maxBytes: number
  /** The package, for messages: `react@19.0.0`. */
  readonly label: string
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
  const { label } = expectation
  const staged = await receiveArtifact(store, chunks, expectation, true)
  const path = artifactPath(store, staged.integrity)
  try {
    await writing(place(staged.path, path), label, path)
  } catch (error) {
    await rm(staged.path, { force: true })
    throw error
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
 * As {@link writeArtifact}, up to where it would become visible. Whoever calls it removes the file or publishes it.
 * @param durable whether it is on the disk when this returns
 */
export async function receiveArtifact(
  store: Store,
  chunks: AsyncIterable<Uint8Array>,
  expectation: ArtifactExpectation,
  durable: boolean,
): Promise<StagedArtifact> {
  const { label } = expectation
  const path = temporaryPath(store, 'artifact')
  try {
    const file = await writing(open(path, 'wx', 0o444), label, path)
    try {
      const received = await receive(file, chunks, expectation, path)
      checkHash(received, expectation)
      if (durable) await writing(file.sync(), label, path)
      return { path, integrity: received.integrity, bytes: received.bytes }
    } finally {
      await file.close()
    }
  } catch (error) {
    await rm(path, { force: true })
    throw error
  }
}

interface Received {
  readonly integrity: Integrity
  /** In the algorithm of the expected hash. */
  readonly comparable: Integrity
  readonly bytes: number
}

async function receive(
  file: FileHandle,
  chunks: AsyncIterable<Uint8Array>,
  { expected, maxBytes, label }: ArtifactExpectation,
  path: string,
): Promise<Received> {
  const sha512 = createHash('sha512')
  const other = expected === null || algorithmOf(expected) === 'sha512' ? undefined : createHash(algorithmOf(expected))
  let bytes = 0
  for await (const chunk of chunks) {
    bytes += chunk.length
    if (bytes > maxBytes) {
      throw new PolderError('FETCH_FAILED', `${label} is larger than the limit of ${maxBytes} bytes`, {
        spec: label,
        wanted: `at most ${maxBytes} bytes`,
      })
    }
    sha512.update(chunk)
    other?.update(chunk)
    await writing(writeAll(file, chunk), label, path)
  }
  if (bytes === 0)
    throw new PolderError('FETCH_FAILED', `${label} is empty: the upstream sent 0 bytes`, { spec: label })
  const integrity = integrityFromHash('sha512', sha512)
  const comparable =
    other === undefined || expected === null ? integrity : integrityFromHash(algorithmOf(expected), other)
  return { integrity, comparable, bytes }
}

function checkHash({ comparable, bytes }: Received, { expected, label }: ArtifactExpectation): void {
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

async function writeAll(file: FileHandle, chunk: Uint8Array): Promise<void> {
  for (let offset = 0; offset < chunk.length;) offset += (await file.write(chunk, offset)).bytesWritten
}

async function place(temporary: string, path: string): Promise<void> {
  await mkdir(dirname(path), { recursive: true })
  await rename(temporary, path)
  const directory = await open(dirname(path), 'r')
  try {
    await directory.sync()
  } finally {
    await directory.close()
  }
}

/** Only our own writes: an upstream that fails with EACCES is not an unwritable store. */
async function writing<T>(operation: Promise<T>, label: string, path: string): Promise<T> {
  try {
    return await operation
  } catch (error) {
    throw writeFailure(error, `writing ${label}`, path)
  }
}
