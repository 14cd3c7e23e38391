import { hash } from 'node:crypto'
import { closeSync, fstatSync, openSync, readSync } from 'node:fs'

import { openVerified } from '@polder/store'

import {
  digestOf,
  digestOfFile,
  type DocumentBody,
  type DocumentLength,
  makeBody,
  type StoredBody,
} from './document-body.ts'
import type { BodyFile } from './sent-file.ts'
import { VerifiedFile } from './verified-file.ts'

// The documents of one lock, as they are sent, in one file of the store (`pack-documents.ts` writes it):
//
//   bodies    one after the other, by name: full, full packed with gzip, abbreviated, abbreviated packed with gzip
//   list      a line for each name: `<name>\t<PackedDocument as JSON>`
//   footer    80 bytes: the sha256 of the list, hex, and where it begins, decimal
//
// It is derived data: what is damaged, or of another state than the store is in, is as good as not there.

/** What URLs in packed documents begin with: where a server listens that is not told otherwise, and every sandbox. */
export const PACKED_BASE = 'http://127.0.0.1:4873/'

/** How long the footer is, and the number at its end. */
const FOOTER = 80
const DIGITS = 16

export interface DocumentPack {
  readonly path: string
  /** Name → its line, of which a server reads only what it is asked for. */
  readonly lines: ReadonlyMap<string, string>
}

/** What is known of the document of a name. */
export interface PackedDocument extends Readonly<Record<DocumentLength, PackedBody>> {
  /** Of everything that it was made from, a digest. */
  readonly inputs: string
  /** Name and range of optional dependencies, and whether they could be had here: if not, the document is without. */
  readonly optional: readonly (readonly [name: string, range: string, served: boolean])[]
  /** ISO 8601. */
  readonly modified: string
}

/** Where a body is, and what it has to be. Sizes and offsets in bytes. */
export interface PackedBody {
  readonly at: number
  readonly bytes: number
  readonly digest: string
  /** It follows the plain one. */
  readonly gzip?: { readonly bytes: number; readonly digest: string }
  /** Where in the plain body the base URL is: that of tarballs, and that of attestations. */
  readonly tarballs: readonly number[]
  readonly attestations: readonly number[]
}

/** Undefined if there is none, or none that can be believed. */
export function openPack(path: string): DocumentPack | undefined {
  return reading(path, (file) => {
    const { size } = fstatSync(file)
    const footer = bytesAt(file, size - FOOTER, FOOTER)?.toString('latin1')
    const begin = Number(footer?.slice(-DIGITS))
    const list = footer === undefined ? undefined : bytesAt(file, begin, size - FOOTER - begin)
    if (list === undefined || footer?.slice(0, -DIGITS) !== hash('sha256', list, 'hex')) return undefined
    const lines = list.toString('utf8').split('\n').slice(0, -1)
    return { path, lines: new Map(lines.map((line) => [line.slice(0, line.indexOf('\t')), line])) }
  })
}

/** The end of a pack. */
export function packFooter(list: Buffer, begin: number): string {
  return `${hash('sha256', list, 'hex')}${String(begin).padStart(DIGITS)}`
}

export function packedDocument({ lines }: DocumentPack, name: string): PackedDocument | undefined {
  const line = lines.get(name)
  return line === undefined ? undefined : (JSON.parse(line.slice(line.indexOf('\t') + 1)) as PackedDocument)
}

/** The body, if it is what the list says. */
export function readBody(pack: DocumentPack, body: PackedBody): DocumentBody | undefined {
  const { identity, gzip } = storedBody(pack, body)
  const [plain, packed] = [identity.read(), gzip?.read()]
  if (plain === undefined || (packed === undefined && gzip !== undefined)) return undefined
  return { identity: plain, digest: body.digest, ...(packed === undefined ? {} : { gzip: packed }) }
}

/** The body where it is. What turns out not to be what the list says is lost. */
function storedBody({ path }: DocumentPack, { at, bytes, digest, gzip }: PackedBody): StoredBody {
  const identity = packedPart(path, { at, bytes, digest })
  return gzip === undefined
    ? { identity, digest }
    : { identity, digest, gzip: packedPart(path, { at: at + bytes, ...gzip }) }
}

function packedPart(path: string, { at, bytes, digest }: Pick<PackedBody, 'at' | 'bytes' | 'digest'>): BodyFile {
  const opened = new VerifiedFile((verified) =>
    openVerified(path, verified, async (file) => {
      if ((await digestOfFile(file, at, bytes)) !== digest) throw new Error(`${path} is damaged`)
    }),
  )
  return {
    size: () => bytes,
    read: () =>
      reading(path, (file) => {
        const found = bytesAt(file, at, bytes)
        return found !== undefined && digestOf(found) === digest ? found : undefined
      }),
    open: async () => {
      try {
        return { ...(await opened.open()), at, size: bytes }
      } catch {
        return undefined
      }
    },
  }
}

/** URLs that a document may be served with. Both end in a slash. */
interface Urls {
  readonly origin: string
  readonly base: string
}

/** The body under these URLs: as it is, or with them put in where {@link PackedBody} says, and nothing is parsed. */
export async function bodyUnder(
  pack: DocumentPack,
  body: PackedBody,
  { origin, base }: Urls,
): Promise<DocumentBody | StoredBody | undefined> {
  const stored = storedBody(pack, body)
  if (base === PACKED_BASE && origin === PACKED_BASE) return stored
  const identity = stored.identity.read()
  if (identity === undefined) return undefined
  const places = [
    ...body.tarballs.map((at) => ({ at, url: base })),
    ...body.attestations.map((at) => ({ at, url: origin })),
  ].sort((a, b) => a.at - b.at)
  const parts: Buffer[] = []
  let from = 0
  for (const { at, url } of places) {
    parts.push(identity.subarray(from, at), Buffer.from(url))
    from = at + PACKED_BASE.length
  }
  return makeBody(Buffer.concat([...parts, identity.subarray(from)]))
}

/** Whatever is wrong with the file, it is as good as not there. */
function reading<T>(path: string, read: (file: number) => T | undefined): T | undefined {
  let file: number | undefined
  try {
    file = openSync(path, 'r')
    return read(file)
  } catch {
    return undefined
  } finally {
    if (file !== undefined) closeSync(file)
  }
}

/** Undefined if the file is shorter. */
function bytesAt(file: number, at: number, length: number): Buffer | undefined {
  if (!(at >= 0) || !(length >= 0) || at + length > fstatSync(file).size) return undefined
  // Not of the pool that Node shares out: bodies stay in memory for long.
  const bytes = Buffer.allocUnsafeSlow(length)
  return readSync(file, bytes, 0, length, at) === length ? bytes : undefined
}
