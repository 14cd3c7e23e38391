import { lstatSync, readdirSync, readFileSync } from 'node:fs'
import { join, relative } from 'node:path'
import { crc32 } from 'node:zlib'

import { compareText, PolderError } from '@polder/spec'
import packlist from 'npm-packlist'
import { Header } from 'tar/header'
import { Pax } from 'tar/pax'

import { isPrepared, publishedManifest, type Resolved } from './published-manifest.ts'

/** A package of the repository, to be packed. */
export interface WorkspacePackage {
  /** Absolute. */
  readonly directory: string
  /** Of its `package.json`, in the repository, for messages. */
  readonly path: string
  /** What a dependency of it stands for, by install name. */
  readonly resolve: (name: string) => Resolved | undefined
}

const BLOCK = 512
const MTIME = new Date('1985-10-26T08:15:00.000Z')

/**
 * The tarball of a workspace package: the files that npm would publish (npm-packlist) with the manifest that pnpm
 * would ({@link publishedManifest}). Scripts are not run: it is packed as it lies there. The same files give the same
 * bytes on any machine, so it is not compressed either: what zlib makes depends on its version.
 * @throws PolderError `MANIFEST_INVALID`
 */
export async function packWorkspace({ directory, path, resolve }: WorkspacePackage): Promise<Buffer> {
  const manifest = readManifest(directory, path)
  refuseUnpackable(manifest, path)
  const published = publishedManifest(manifest, path, resolve)
  const files = await publishedFiles(directory, manifest)
  return pack(directory, manifest, files, Buffer.from(`${JSON.stringify(published, null, 2)}\n`))
}

/**
 * As {@link packWorkspace}, for the files of a commit: its manifest stays as it is. One that has to be prepared is packed
 * whole, since what npm would publish of it is there only after its scripts ran.
 * @param path of the manifest, named in errors
 * @throws PolderError `MANIFEST_INVALID`
 */
export async function packCommit(directory: string, path: string): Promise<Buffer> {
  const manifest = readManifest(directory, path)
  const files = isPrepared(manifest['scripts']) ? allFiles(directory) : await publishedFiles(directory, manifest)
  return pack(directory, manifest, files, readFileSync(join(directory, 'package.json')))
}

function allFiles(directory: string): readonly string[] {
  return readdirSync(directory, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => relative(directory, join(entry.parentPath, entry.name)))
}

type Json = Readonly<Record<string, unknown>>

async function publishedFiles(directory: string, manifest: Json): Promise<readonly string[]> {
  return packlist({
    path: directory,
    package: normalized(manifest),
    isProjectRoot: true,
    edgesOut: new Map<string, unknown>(),
  })
}

function pack(directory: string, manifest: Json, files: readonly string[], published: Buffer): Buffer {
  const commands = new Set(commandFiles(manifest))
  const blocks: Buffer[] = [...entry('package.json', published, false)]
  for (const file of files.toSorted(compareText)) {
    if (file === 'package.json') continue
    const { mode } = lstatSync(join(directory, file))
    blocks.push(...entry(file, readFileSync(join(directory, file)), commands.has(file) || (mode & 0o111) !== 0))
  }
  return gzipStored(Buffer.concat([...blocks, Buffer.alloc(2 * BLOCK)]))
}

function readManifest(directory: string, path: string): Json {
  let json: unknown
  try {
    json = JSON.parse(readFileSync(join(directory, 'package.json'), 'utf8').replace(/^\uFEFF/, ''))
  } catch (cause) {
    throw new PolderError('MANIFEST_INVALID', `${path} cannot be read: ${(cause as Error).message}`, { path, cause })
  }
  if (typeof json === 'object' && json !== null && !Array.isArray(json)) return json as Json
  throw new PolderError('MANIFEST_INVALID', `${path} is no manifest`, { path })
}

function refuseUnpackable(manifest: Json, path: string): void {
  const lacking = ['name', 'version'].filter((field) => typeof manifest[field] !== 'string' || manifest[field] === '')
  if (lacking.length > 0) {
    throw new PolderError('MANIFEST_INVALID', `${path} has no ${lacking.join(' and no ')}, so it cannot be packed`, {
      path,
      hint: `add ${lacking.map((field) => `"${field}"`).join(' and ')} to it`,
    })
  }
  const bundled = manifest['bundledDependencies'] ?? manifest['bundleDependencies']
  if (bundled === true || (Array.isArray(bundled) && bundled.length > 0)) {
    throw new PolderError('MANIFEST_INVALID', `${path} bundles dependencies, which depends on what is installed`, {
      path,
      hint: 'pack it with its own client, and `polder index add` the tarball',
    })
  }
}

/** npm-packlist expects the forms that npm's own reader of manifests makes. */
function normalized(manifest: Json): Json {
  const { bin, main, browser, files } = manifest
  return {
    ...manifest,
    bin: typeof bin === 'string' ? { command: bin } : bin,
    ...(Array.isArray(files) ? { files: files.filter((file) => typeof file === 'string') } : { files: undefined }),
    main: typeof main === 'string' ? main : undefined,
    browser: typeof browser === 'string' ? browser : undefined,
  }
}

function commandFiles({ bin }: Json): string[] {
  const paths = typeof bin === 'string' ? [bin] : typeof bin === 'object' && bin !== null ? Object.values(bin) : []
  return paths.flatMap((path) => (typeof path === 'string' ? [path.replace(/^(?:\.?\/)+/, '')] : []))
}

/** Header, with an extended one in front where the path needs it, body, and zeros up to a whole block. */
function entry(path: string, body: Buffer, executable: boolean): Buffer[] {
  const fields = {
    path: `package/${path}`,
    mode: executable ? 0o755 : 0o644,
    size: body.length,
    mtime: MTIME,
    type: 'File' as const,
  }
  const block = Buffer.alloc(BLOCK)
  const needsMore = new Header(fields).encode(block)
  const extended: Buffer[] = needsMore ? [new Pax({ path: fields.path, mtime: MTIME }).encode()] : []
  return [...extended, block, body, Buffer.alloc((BLOCK - (body.length % BLOCK)) % BLOCK)]
}

// RFC 1951: a stored block has at most 65,535 bytes.
const STORED_BYTES = 65_535

/** RFC 1952, with nothing in it that depends on a library, a clock or a system. */
function gzipStored(bytes: Buffer): Buffer {
  const parts: Buffer[] = [Buffer.from([0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255])]
  for (let at = 0; at < bytes.length; at += STORED_BYTES) {
    const piece = bytes.subarray(at, at + STORED_BYTES)
    const head = Buffer.alloc(5)
    head.writeUInt8(at + STORED_BYTES >= bytes.length ? 1 : 0, 0)
    head.writeUInt16LE(piece.length, 1)
    head.writeUInt16LE(~piece.length & 0xffff, 3)
    parts.push(head, piece)
  }
  const tail = Buffer.alloc(8)
  tail.writeUInt32LE(crc32(bytes), 0)
  tail.writeUInt32LE(bytes.length >>> 0, 4)
  return Buffer.concat([...parts, tail])
}
