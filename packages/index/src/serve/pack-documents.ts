import { randomBytes } from 'node:crypto'
import { closeSync, openSync, renameSync, rmSync, writeSync } from 'node:fs'

import { compareText, PolderError } from '@polder/spec'
import { type Store, temporaryPath, writeFailure } from '@polder/store'

import { joinInputs } from './described-version.ts'
import { type DocumentBody, type DocumentLength, digestOf, makeBody } from './document-body.ts'
import {
  type DocumentPack,
  openPack,
  PACKED_BASE,
  packedDocument,
  type PackedBody,
  type PackedDocument,
  packFooter,
  readBody,
} from './document-pack.ts'
import type { LockedPins } from './locked-pins.ts'
import { type DescribedVersion, npmDocument } from './npm-documents.ts'
import { fitsView, PinnedIndex } from './pinned-index.ts'

/** A body of a document, and where in it URLs begin. */
type MadeBody = DocumentBody & Pick<PackedBody, 'tarballs' | 'attestations'>
type Made = Omit<PackedDocument, DocumentLength> & Readonly<Record<DocumentLength, MadeBody>>

/**
 * Makes the documents of a lock as they are sent, once and for all servers, in one file. What an older pack has in the
 * same state is taken from there. A document that cannot be made whole, since the store lacks an artifact, is left out.
 * @param path of the pack; if it is up to date nothing is written
 * @param older paths of packs that may have some of the documents
 * @throws PolderError `DISK_FULL`, `STORE_UNWRITABLE`
 */
export async function packDocuments(
  store: Store,
  pins: LockedPins,
  path: string,
  older: readonly string[] = [],
): Promise<'written' | 'unchanged'> {
  const index = new PinnedIndex(store, new Map([['', { pins }]]), 0)
  const own = openPack(path)
  const packs = [own, ...older.map(openPack)].filter((pack) => pack !== undefined)
  const names = [...index.all.versions.keys()].sort(compareText)
  const known = new Map<string, { readonly pack: DocumentPack; readonly document: PackedDocument }>()
  for (const name of names) {
    let inputs: string | undefined
    for (const pack of packs) {
      const document = packedDocument(pack, name)
      if (document === undefined || !fitsView(document, index, index.all)) continue
      if (document.inputs !== (inputs ??= index.inputs(index.all, name))) continue
      known.set(name, { pack, document })
      break
    }
    await turn()
  }
  if (own?.lines.size === names.length && names.every((name) => known.get(name)?.pack === own)) return 'unchanged'
  const urls = placeholders()
  const temporary = temporaryPath(store, 'documents')
  try {
    await writePack(temporary, names, async (name) => {
      const found = known.get(name)
      return (found === undefined ? undefined : taken(found.pack, found.document)) ?? make(index, name, urls)
    })
    // Not fsynced: whatever a power cut leaves of it is not what its hashes say, and is made again.
    renameSync(temporary, path)
  } catch (error) {
    rmSync(temporary, { force: true })
    throw writeFailure(error, 'writing documents', path)
  }
  return 'written'
}

/** Enough for the disk, and little beside everything else. */
const BLOCK = 1024 * 1024

async function writePack(
  path: string,
  names: readonly string[],
  documentOf: (name: string) => Promise<Made | undefined>,
): Promise<void> {
  const file = openSync(path, 'wx', 0o644)
  try {
    let blocks: Buffer[] = []
    let pending = 0
    let at = 0
    const flush = (): void => {
      for (const block = Buffer.concat(blocks), size = block.length; pending > 0;)
        pending -= writeSync(file, block, size - pending)
      blocks = []
    }
    const add = (bytes: Buffer): void => {
      blocks.push(bytes)
      pending += bytes.length
      at += bytes.length
      if (pending >= BLOCK) flush()
    }
    const place = ({ identity, digest, gzip, tarballs, attestations }: MadeBody): PackedBody => {
      const body = { at, bytes: identity.length, digest, tarballs, attestations }
      add(identity)
      if (gzip === undefined) return body
      add(gzip)
      return { ...body, gzip: { bytes: gzip.length, digest: digestOf(gzip) } }
    }
    const lines: string[] = []
    for (const name of names) {
      const made = await documentOf(name)
      if (made === undefined) continue
      const document: PackedDocument = { ...made, full: place(made.full), abbreviated: place(made.abbreviated) }
      lines.push(`${name}\t${JSON.stringify(document)}\n`)
      await turn()
    }
    const list = Buffer.from(lines.join(''))
    const begin = at
    add(list)
    add(Buffer.from(packFooter(list, begin)))
    flush()
  } finally {
    closeSync(file)
  }
}

/** A server that makes its pack answers in between. */
async function turn(): Promise<void> {
  await new Promise((resolve) => setImmediate(resolve))
}

function taken(pack: DocumentPack, document: PackedDocument): Made | undefined {
  const [full, abbreviated] = [takenBody(pack, document.full), takenBody(pack, document.abbreviated)]
  return full === undefined || abbreviated === undefined ? undefined : { ...document, full, abbreviated }
}

function takenBody(pack: DocumentPack, packed: PackedBody): MadeBody | undefined {
  const body = readBody(pack, packed)
  return body === undefined ? undefined : { ...body, tarballs: packed.tarballs, attestations: packed.attestations }
}

/**
 * What stands for the URLs while a document is made. Nobody can have guessed it, so nothing else in a document is taken
 * for one.
 */
interface Placeholders {
  readonly base: string
  readonly origin: string
  readonly either: RegExp
}

function placeholders(): Placeholders {
  const [base, origin] = [randomBytes(16).toString('hex'), randomBytes(16).toString('hex')]
  return { base, origin, either: new RegExp(`(${base}|${origin})`) }
}

async function make(index: PinnedIndex, name: string, urls: Placeholders): Promise<Made | undefined> {
  const versions = await describe(index, name)
  // Without its sha1 an artifact is missing or damaged. Whoever asks is told.
  if (versions === undefined || versions.some(({ shasum }) => shasum === undefined)) return undefined
  const optional: [string, string, boolean][] = []
  const { modified, full, abbreviated } = npmDocument(name, versions, {
    base: urls.base,
    origin: urls.origin,
    ranges: index.ranges,
    isServed: (wanted, range) => {
      const served = index.serves(index.all, wanted, range)
      optional.push([wanted, range, served])
      return served
    },
  })
  return {
    inputs: joinInputs(versions.map(({ inputs }) => inputs)),
    optional,
    modified,
    full: await located(JSON.stringify(full), urls),
    abbreviated: await located(JSON.stringify(abbreviated), urls),
  }
}

async function describe(index: PinnedIndex, name: string): Promise<readonly DescribedVersion[] | undefined> {
  try {
    return await index.describe(index.all, name)
  } catch (error) {
    if (error instanceof PolderError && error.code.startsWith('ARTIFACT_')) return undefined
    throw error
  }
}

async function located(text: string, { base, origin, either }: Placeholders): Promise<MadeBody> {
  const tarballs: number[] = []
  const attestations: number[] = []
  const parts = text.split(either)
  let bytes = 0
  for (const [at, part] of parts.entries()) {
    if (part === base || part === origin) {
      ;(part === base ? tarballs : attestations).push(bytes)
      parts[at] = PACKED_BASE
    }
    bytes += Buffer.byteLength(parts[at] ?? '')
  }
  return { ...(await makeBody(Buffer.from(parts.join('')))), tarballs, attestations }
}
