import { compareText, hexDigest, type Integrity, PolderError } from '@polder/spec'
import type { TreeId } from '@polder/store'
import { Header } from 'tar/header'
import { z } from 'zod'

// A bundle is a tar archive (POSIX ustar, nothing else) that follows from its list, byte by byte: docs/bundles.md.
//
//   polder-bundle.json          the list: { format, …, members: [{ kind, path, bytes, integrity }] }
//   polder.lock
//   releases.json               what registries said of the pins
//   artifacts/<40 hex>.tgz      sorted by path
//   candidates/<40 hex>.tgz     what lockfiles have and the lock has not, if it was asked for
//   trees/<40 hex>              what packages were built to
//   files/<40 hex>

/** What a member is. A polder that does not know a kind cannot know what it is for, and refuses the bundle. */
export type MemberKind = (typeof KINDS)[number]

export interface Member {
  readonly kind: MemberKind
  readonly path: string
  readonly bytes: number
  /** sha512 */
  readonly integrity: Integrity
}

/** The list at the head of a bundle. */
export interface BundleList {
  readonly format: 1
  /** Only what these services need, sorted; absent if it is everything that the lock has. */
  readonly services?: readonly string[]
  /** The digest of an older lock's text: what that lock has is left out. */
  readonly since?: string
  readonly members: readonly Member[]
}

// In the order in which they stand in the archive.
const KINDS = ['lock', 'releases', 'artifact', 'candidate', 'tree', 'file'] as const
const PATHS: Readonly<Record<MemberKind, RegExp>> = {
  lock: /^polder\.lock$/,
  releases: /^releases\.json$/,
  artifact: /^artifacts\/[0-9a-f]{40}\.tgz$/,
  candidate: /^candidates\/[0-9a-f]{40}\.tgz$/,
  tree: /^trees\/[0-9a-f]{40}$/,
  file: /^files\/[0-9a-f]{40}$/,
}

const GIB = 1024 ** 3
/** No member of a kind has more bytes. Those that are parsed are held in memory. */
const MAX_BYTES: Readonly<Record<MemberKind, number>> = {
  lock: 64 * 1024 ** 2,
  releases: 256 * 1024 ** 2,
  artifact: GIB,
  candidate: GIB,
  tree: GIB,
  // The size field of a ustar header ends at 8 GiB.
  file: 4 * GIB,
}

export const LIST_PATH = 'polder-bundle.json'
export const BLOCK = 512
export const MAX_LIST_BYTES: number = 64 * 1024 ** 2
/** Two blocks of zeros, and no filling up to a multiple of ten as tar does for tapes. */
export const END_BYTES: number = 2 * BLOCK

// npm's, for the same reason: an old date that no tool finds strange.
const MTIME = new Date('1985-10-26T08:15:00.000Z')

/** What is stored by its hash alone. */
export type ContentKind = 'artifact' | 'candidate' | 'file'

/** The path of a member that holds an artifact or a file. */
export function contentPath(kind: ContentKind, integrity: Integrity): string {
  const hex = hexDigest(integrity).slice(0, 40)
  return kind === 'file' ? `files/${hex}` : `${kind}s/${hex}.tgz`
}

/** The path of a member that holds what a package was built to. */
export function treePath(id: TreeId): string {
  return `trees/${id}`
}

/** Of a member of that kind, whose path was checked. */
export function treeOf({ path }: Member): TreeId {
  return path.slice('trees/'.length) as TreeId
}

export function sortMembers(members: readonly Member[]): readonly Member[] {
  return members.toSorted((a, b) => KINDS.indexOf(a.kind) - KINDS.indexOf(b.kind) || compareText(a.path, b.path))
}

/** The list as its member holds it: one way to write it, a member a line. */
export function serializeList({ format, services, since, members }: BundleList): Buffer {
  const head = JSON.stringify({
    format,
    ...(services === undefined ? {} : { services: services.toSorted(compareText) }),
    ...(since === undefined ? {} : { since }),
  })
  const lines = sortMembers(members).map(({ kind, path, bytes, integrity }) =>
    JSON.stringify({ kind, path, bytes, integrity }),
  )
  return Buffer.from(`${head.slice(0, -1)},"members":[\n${lines.join(',\n')}\n]}\n`)
}

/**
 * @param file named in errors
 * @throws PolderError `BUNDLE_INVALID`: another format, a kind that is not known, or not what `serializeList` gives
 */
export function parseList(text: Buffer, file: string): BundleList {
  let json: unknown
  try {
    json = JSON.parse(text.toString('utf8'))
  } catch (cause) {
    throw bundleInvalid(file, `its list is not JSON: ${(cause as Error).message}`, { cause })
  }
  const format = OUTLINE.safeParse(json)
  if (!format.success) throw bundleInvalid(file, 'its first member is no list of a bundle')
  if (format.data.format !== 1) {
    throw bundleInvalid(file, `it has format ${format.data.format}, and this polder reads format 1`, {
      found: String(format.data.format),
      wanted: '1',
      hint: 'import it with the polder that made it, or export it again with this one',
    })
  }
  const unknown = format.data.members.find(({ kind }) => !KINDS.includes(kind as MemberKind))
  if (unknown !== undefined) {
    throw bundleInvalid(
      file,
      `it has a member of kind ${JSON.stringify(unknown.kind)}, which this polder does not know`,
      {
        found: unknown.kind,
        wanted: KINDS.join(', '),
        hint: 'it was made by a newer polder: import it with that one',
      },
    )
  }
  const parsed = LIST.safeParse(json)
  if (!parsed.success) {
    const issue = parsed.error.issues[0]
    throw bundleInvalid(file, `its list is damaged: ${[...(issue?.path ?? []), issue?.message ?? ''].join(': ')}`)
  }
  const list = parsed.data as unknown as BundleList
  // Sorted, no key twice, no other way to write a number: what is not canonical was not written by us.
  if (!serializeList(list).equals(text))
    throw bundleInvalid(file, 'its list is not in the form in which polder writes it')
  const paths = new Set(list.members.map(({ path }) => path))
  if (paths.size < list.members.length) throw bundleInvalid(file, 'its list names a member twice')
  return list
}

function isContent(kind: MemberKind): kind is ContentKind {
  return kind === 'artifact' || kind === 'candidate' || kind === 'file'
}

const OUTLINE = z.looseObject({ format: z.number(), members: z.array(z.looseObject({ kind: z.string() })) })
const LIST = z.strictObject({
  format: z.literal(1),
  services: z.array(z.string()).optional(),
  since: z
    .string()
    .regex(/^sha256-[0-9a-f]{64}$/)
    .optional(),
  members: z
    .array(
      z
        .strictObject({
          kind: z.enum(KINDS),
          path: z.string(),
          bytes: z.int().positive(),
          integrity: z.string().regex(/^sha512-[A-Za-z0-9+/]{86}==$/, 'is no sha512'),
        })
        .refine(({ kind, path }) => PATHS[kind].test(path), 'has a path that its kind cannot have')
        .refine(({ kind, bytes }) => bytes <= MAX_BYTES[kind], 'is larger than its kind can be')
        .refine(
          ({ kind, path, integrity }) => !isContent(kind) || path === contentPath(kind, integrity as Integrity),
          'has a path that is not of its hash',
        ),
    )
    .refine((members) => members.filter(({ kind }) => kind === 'lock').length === 1, 'holds not just one lock'),
})

/** The 512 bytes in front of a member. They follow from its path and size alone. */
export function memberHeader(path: string, bytes: number): Buffer {
  const header = new Header({
    path,
    mode: 0o644,
    uid: 0,
    gid: 0,
    size: bytes,
    mtime: MTIME,
    type: 'File',
    uname: '',
    gname: '',
    devmaj: 0,
    devmin: 0,
  })
  const block = Buffer.alloc(BLOCK)
  if (header.encode(block)) throw new Error(`${path} (${bytes} bytes) does not fit a ustar header`)
  return block
}

/** The zeros behind a member's bytes. */
export function paddingOf(bytes: number): number {
  return (BLOCK - (bytes % BLOCK)) % BLOCK
}

/** The size of the whole bundle. */
export function bundleBytes(list: BundleList): number {
  const sizes = [serializeList(list).length, ...list.members.map(({ bytes }) => bytes)]
  return sizes.reduce((total, bytes) => total + BLOCK + bytes + paddingOf(bytes), END_BYTES)
}

/** What a header says, for a message about one that should not be there. */
export function describeHeader(block: Buffer): string {
  if (block.every((byte) => byte === 0)) return 'the end of the archive'
  try {
    const header = new Header(block)
    if (!header.cksumValid) return 'no header of an archive'
    const type = header.type === 'File' || header.type === 'OldFile' ? 'a file' : `a ${header.type}`
    return `${type} ${JSON.stringify(header.path ?? '')} of ${header.size ?? 0} bytes`
  } catch {
    return 'no header of an archive'
  }
}

/** The error of a bundle that is refused. Nothing of it was kept. */
export function bundleInvalid(
  file: string,
  problem: string,
  details: Partial<PolderError['details']> = {},
): PolderError {
  return new PolderError('BUNDLE_INVALID', `${file} is refused: ${problem}`, {
    path: file,
    hint: 'nothing of it was kept; copy or export it again, and compare the hash of the file on both machines',
    ...details,
  })
}
