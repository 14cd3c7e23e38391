// A thread that reads archives and writes their trees: started, and asked, by archive-readers.ts.
import { hash } from 'node:crypto'
import { parentPort } from 'node:worker_threads'

import { inflateArchiveHere } from './inflate.ts'
import { type Archive, readTar } from './read-tar.ts'
import { type ArchiveFacts, factsOf, giveBack } from './use-archive.ts'
import { writeTree } from '../trees/write-tree.ts'

/** What a thread is asked; each question but the last is answered. */
export type Question =
  | { readonly ask: 'open'; readonly id: number; readonly bytes: Uint8Array; readonly label: string }
  | {
      readonly ask: 'write'
      readonly id: number
      readonly directory: string
      readonly bin: Readonly<Record<string, string>>
    }
  | { readonly ask: 'close'; readonly id: number }

/** sha1 of the archive as it came, hex. */
export type Opened = ArchiveFacts & { readonly shasum: string }

/** Errors lose their fields between threads. */
export interface Failure {
  readonly name: string
  readonly code: string | undefined
  readonly message: string
  readonly stack: string | undefined
  readonly details: object | undefined
}

export type Answer = { readonly id: number } & ({ readonly value: Opened | number } | { readonly failure: Failure })

const opened = new Map<number, { readonly tar: Buffer; readonly archive: Archive }>()

async function answer(question: Question): Promise<Opened | number> {
  const { id } = question
  if (question.ask === 'open') {
    const bytes = Buffer.from(question.bytes.buffer, question.bytes.byteOffset, question.bytes.byteLength)
    const shasum = hash('sha1', bytes)
    const tar = inflateArchiveHere(bytes, question.label)
    if (tar !== bytes) giveBack(bytes)
    const archive = await readTar(tar, question.label)
    opened.set(id, { tar, archive })
    return { shasum, ...factsOf(archive) }
  }
  const known = opened.get(id)
  if (known === undefined) throw new Error(`no archive ${id} is open`)
  if (question.ask === 'write') return writeTree(question.directory, known.archive, question.bin, { hashes: false })
  opened.delete(id)
  giveBack(known.tar)
  return 0
}

parentPort?.on('message', (question: Question) => {
  void answer(question)
    .then(
      (value): Answer => ({ id: question.id, value }),
      (error: unknown): Answer => ({ id: question.id, failure: failureOf(error) }),
    )
    .then((reply) => {
      if (question.ask !== 'close') parentPort?.postMessage(reply)
    })
})

function failureOf(error: unknown): Failure {
  const { name, message, stack } = error instanceof Error ? error : new Error(String(error))
  const { code, details } = error as { code?: string; details?: object }
  return { name, code, message, stack, details }
}
