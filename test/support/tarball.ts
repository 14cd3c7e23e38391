import { createHash } from 'node:crypto'
import { gunzipSync, gzipSync } from 'node:zlib'

/** A file of a package: its text or bytes, or with a mode of its own. */
export type FileContent = string | Uint8Array | { readonly content: string | Uint8Array; readonly mode: number }

const BLOCK = 512
// npm gives every entry this time, so that packing twice gives the same bytes.
const MTIME = Date.UTC(1985, 9, 26, 8, 15) / 1000

/** An npm tarball (`package/…`, ustar, gzip) of the files, by path. The same files give the same bytes. */
export function packTarball(files: Readonly<Record<string, FileContent>>): Buffer {
  const blocks: Buffer[] = []
  for (const path of Object.keys(files).sort()) {
    const file = files[path] ?? ''
    const plain = typeof file === 'string' || file instanceof Uint8Array
    const content = Buffer.from((plain ? file : file.content) as string)
    blocks.push(header(`package/${path}`, content.length, plain ? 0o644 : file.mode), content)
    blocks.push(Buffer.alloc((BLOCK - (content.length % BLOCK)) % BLOCK))
  }
  blocks.push(Buffer.alloc(2 * BLOCK))
  const archive = gzipSync(Buffer.concat(blocks), { level: 6 })
  archive[9] = 255 // the operating system in gzip's header: unknown, so the same everywhere
  return archive
}

/** The package.json of a real npm tarball: in whatever directory the archive has first. */
export function readPackageJson(tarball: Uint8Array): Record<string, unknown> {
  const bytes = gunzipSync(tarball)
  let longName: string | undefined
  let next = 0
  for (let at = 0; at + BLOCK <= bytes.length && bytes[at] !== 0; at = next) {
    const size = Number.parseInt(cString(bytes, at + 124, 12).trim(), 8)
    next = at + BLOCK + Math.ceil(size / BLOCK) * BLOCK
    const type = String.fromCharCode(bytes[at + 156] ?? 0)
    const body = bytes.subarray(at + BLOCK, at + BLOCK + size)
    if (type === 'L') longName = cString(body, 0, size)
    else if (type === 'x') longName = /^\d+ path=(.*)$/m.exec(body.toString('utf8'))?.[1]
    else if (type !== 'g') {
      const [prefix, short] = [cString(bytes, at + 345, 155), cString(bytes, at, 100)]
      const name = longName ?? (prefix === '' ? short : `${prefix}/${short}`)
      longName = undefined
      if (!/^[^/]+\/package\.json$/.test(name.replace(/^\.\//, ''))) continue
      return JSON.parse(body.toString('utf8').replace(/^\uFEFF/, '')) as Record<string, unknown>
    }
  }
  throw new Error('the tarball has no package.json')
}

/** `sha512-<base64>`, or of another algorithm. */
export function sri(bytes: Uint8Array, algorithm = 'sha512'): string {
  return `${algorithm}-${createHash(algorithm).update(bytes).digest('base64')}`
}

/** sha1 as hex: npm's `dist.shasum`. */
export function shasum(bytes: Uint8Array): string {
  return createHash('sha1').update(bytes).digest('hex')
}

function header(path: string, size: number, mode: number): Buffer {
  const block = Buffer.alloc(BLOCK)
  const { prefix, name } = splitPath(path)
  block.write(name, 0, 100)
  block.write(`${mode.toString(8).padStart(6, '0')} \0`, 100)
  block.write('000000 \0', 108)
  block.write('000000 \0', 116)
  block.write(`${size.toString(8).padStart(11, '0')} `, 124)
  block.write(`${MTIME.toString(8).padStart(11, '0')} `, 136)
  block.write('        0', 148) // the checksum counts itself as spaces; then the type, a file
  block.write('ustar\0' + '00', 257)
  block.write(prefix, 345, 155)
  const sum = block.reduce((total, byte) => total + byte, 0)
  block.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148)
  return block
}

function splitPath(path: string): { readonly prefix: string; readonly name: string } {
  if (Buffer.byteLength(path) <= 100) return { prefix: '', name: path }
  for (let slash = path.indexOf('/'); slash >= 0; slash = path.indexOf('/', slash + 1)) {
    const [prefix, name] = [path.slice(0, slash), path.slice(slash + 1)]
    if (Buffer.byteLength(prefix) <= 155 && Buffer.byteLength(name) <= 100) return { prefix, name }
  }
  throw new Error(`${path} is too long for a ustar header`)
}

function cString(bytes: Uint8Array, at: number, length: number): string {
  const text = Buffer.from(bytes.subarray(at, at + length)).toString('utf8')
  const end = text.indexOf('\0')
  return end < 0 ? text : text.slice(0, end)
}
