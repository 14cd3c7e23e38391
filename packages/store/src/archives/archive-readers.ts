import { PolderError, type ErrorCode } from '@polder/spec'
import { hash } from 'node:crypto'
import { availableParallelism } from 'node:os'
import { Worker } from 'node:worker_threads'

import type { Answer, Failure, Opened, Question } from './archive-thread.ts'
import { type ArchiveFacts, factsOf, useArchive } from './use-archive.ts'
import { writeTree } from '../trees/write-tree.ts'

/** An archive that was read and is harmless, in whichever thread its files are. */
export interface CheckedArchive extends ArchiveFacts {
  /** sha1 of the bytes, hex. */
  readonly shasum: string
  /** Writes it as `writeTree` does, without hashes. @returns the bytes written */
  write(directory: string, bin: Readonly<Record<string, string>>): Promise<number>
}

/** Reads many archives, and writes their trees. */
export interface ArchiveReaders {
  /**
   * As `useArchive`.
   * @param contents the archive, given away: nobody else may read it any more
   * @throws PolderError `ARCHIVE_REFUSED`, and what `use` throws
   */
  use<T>(contents: () => Buffer, label: string, use: (archive: CheckedArchive) => Promise<T>): Promise<T>
  /** When nothing is in use any more. */
  close(): void
}

// A thread takes 30 ms of a processor until it is ready, as long as reading and writing ten packages takes.
const MANY = 64
const MOST_THREADS = 4

/** @param expected how many archives there will be: many are read by threads, one for each processor */
export function openArchiveReaders(expected: number): ArchiveReaders {
  if (expected < MANY) return { use: async (contents, label, use) => useHere(contents(), label, use), close() {} }
  const threads = Array.from({ length: Math.min(availableParallelism(), MOST_THREADS) }, () => new Thread())
  return {
    use: async (contents, label, use) => {
      const thread = threads.reduce((least, other) => (other.open < least.open ? other : least))
      return thread.use(contents(), label, use)
    },
    close() {
      for (const thread of threads) thread.end()
    },
  }
}

async function useHere<T>(bytes: Buffer, label: string, use: (archive: CheckedArchive) => Promise<T>): Promise<T> {
  const shasum = hash('sha1', bytes)
  return useArchive(bytes, label, async (archive) =>
    use({
      shasum,
      ...factsOf(archive),
      write: async (directory, bin) => writeTree(directory, archive, bin, { hashes: false }),
    }),
  )
}

// Which file it is depends on whether we run from source or from the bundle, where it is an entry of its own.
const PROGRAM = new URL(
  import.meta.url.endsWith('.ts') ? './archive-thread.ts' : './archive-thread.mjs',
  import.meta.url,
)

/** One thread, and the questions that it has not answered yet. */
class Thread {
  /** How many archives it was given. */
  open = 0
  readonly #worker = new Worker(PROGRAM, { trackUnmanagedFds: false })
  readonly #waiting = new Map<number, { resolve: (value: never) => void; reject: (error: unknown) => void }>()
  #last = 0
  #lost: unknown

  constructor() {
    this.#worker.on('message', (answer: Answer) => {
      const asker = this.#waiting.get(answer.id)
      this.#waiting.delete(answer.id)
      if ('failure' in answer) asker?.reject(restored(answer.failure))
      else asker?.resolve(answer.value as never)
    })
    this.#worker.on('error', (error) => this.#lose(error))
    this.#worker.on('exit', () => this.#lose(new Error('a thread that reads archives ended')))
  }

  async use<T>(bytes: Buffer, label: string, use: (archive: CheckedArchive) => Promise<T>): Promise<T> {
    this.open += 1
    const id = (this.#last += 1)
    try {
      const { buffer } = bytes
      // Small buffers are parts of one that Node shares out: those are copied.
      const given = buffer instanceof ArrayBuffer && buffer.byteLength === bytes.byteLength ? [buffer] : []
      const opened = await this.#ask<Opened>({ ask: 'open', id, bytes, label }, given)
      try {
        return await use({
          ...opened,
          write: async (directory, bin) => this.#ask<number>({ ask: 'write', id, directory, bin }),
        })
      } finally {
        this.#worker.postMessage({ ask: 'close', id } satisfies Question)
      }
    } finally {
      this.open -= 1
    }
  }

  end(): void {
    void this.#worker.terminate()
  }

  #ask<T>(question: Question, transfer: readonly ArrayBuffer[] = []): Promise<T> {
    return new Promise((resolve, reject) => {
      if (this.#lost !== undefined) return reject(this.#lost)
      this.#waiting.set(question.id, { resolve, reject })
      this.#worker.postMessage(question, transfer)
    })
  }

  #lose(error: unknown): void {
    this.#lost ??= error
    for (const { reject } of this.#waiting.values()) reject(error)
    this.#waiting.clear()
  }
}

function restored({ name, code, message, stack, details }: Failure): Error {
  const error = name === 'PolderError' ? new PolderError(code as ErrorCode, message, details) : new Error(message)
  return Object.assign(error, { stack: stack ?? '', ...(code === undefined ? {} : { code }) })
}
