import { hash } from 'node:crypto'
import { closeSync, fstatSync, openSync, readSync } from 'node:fs'

import { digestOf, type DocumentBody, type DocumentLength, makeBody } from './document-body.ts'

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
export function readBody({ path }: DocumentPack, body: PackedBody): DocumentBody | undefined {
  return reading(path, (file) => {
    const { at, bytes, digest, gzip } = body
    const all = bytesAt(file, at, bytes + (gzip?.bytes ?? 0))
    const identity = all?.subarray(0, bytes)
    if (all === undefined || identity === undefined || digestOf(identity) !== digest) return undefined
    if (gzip === undefined) return { identity, digest }
    const packed = all.subarray(bytes)
    return digestOf(packed) === gzip.digest ? { identity, digest, gzip: packed } : undefined
  })
}

/** The body as it is under other URLs: what {@link PackedBody} remembers is put in, and nothing is parsed. */
export async function rebased(
  body: DocumentBody,
  { tarballs, attestations }: PackedBody,
  { origin, base }: { readonly origin: string; readonly base: string },
): Promise<DocumentBody> {
  if (base === PACKED_BASE && origin === PACKED_BASE) return body
  const places = [
    ...tarballs.map((at) => ({ at, url: base })),
    ...attestations.map((at) => ({ at, url: origin })),
  ].sort((a, b) => a.at - b.at)
  const parts: Buffer[] = []
  let from = 0
  for (const { at, url } of places) {
    parts.push(body.identity.subarray(from, at), Buffer.from(url))
    from = at + PACKED_BASE.length
  }
  return makeBody(Buffer.concat([...parts, body.identity.subarray(from)]))
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
