import { hash } from 'node:crypto'
import { promisify } from 'node:util'
import { gzip, gzipSync } from 'node:zlib'

import { hashFile } from '@polder/store'

import type { BodyFile } from './sent-file.ts'

/** Clients ask for a document in one of these. */
export type DocumentLength = 'full' | 'abbreviated'

/** The bytes of a document in one length, ready to be sent. */
export interface DocumentBody {
  readonly identity: Buffer
  /** Of the plain bytes, {@link digestOf}. */
  readonly digest: string
  /** Absent where it would not be shorter by much. */
  readonly gzip?: Buffer
}

/** The same bytes, if they are in a file as they are sent. */
export interface StoredBody {
  readonly identity: BodyFile
  readonly digest: string
  readonly gzip?: BodyFile
}

/** A document whose bodies can be had, made long ago or only now. */
export interface DocumentSource {
  /** ISO 8601. */
  readonly modified: string
  /** @param anew nothing that was made long ago */
  body(length: DocumentLength, anew: boolean): Promise<DocumentBody | StoredBody>
}

/** Smaller bodies fit into one packet anyway. */
const GZIP_FROM = 1024
/** Larger ones are compressed in another thread. */
const GZIP_ASIDE_FROM = 64 * 1024

export async function makeBody(identity: Buffer): Promise<DocumentBody> {
  const digest = digestOf(identity)
  if (identity.length < GZIP_FROM) return { identity, digest }
  return {
    identity,
    digest,
    // By default each would take 16 KB until somebody collects them, most for far less.
    gzip:
      identity.length < GZIP_ASIDE_FROM
        ? gzipSync(identity, { chunkSize: Math.min(16_384, identity.length >> 1) })
        : await promisify(gzip)(identity),
  }
}

/** What bytes are known by: the first 162 bits of their sha256, base64url. */
export function digestOf(bytes: Uint8Array): string {
  return hash('sha256', bytes, 'base64url').slice(0, DIGEST)
}

/** Those of a part of a file. */
export async function digestOfFile(file: number, at: number, bytes: number): Promise<string> {
  return (await hashFile('sha256', file, at, bytes)).digest('base64url').slice(0, DIGEST)
}

const DIGEST = 27
