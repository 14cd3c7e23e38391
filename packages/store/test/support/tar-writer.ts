import { gzipSync } from 'node:zlib'

/** One entry, written as it is told: nothing is checked, since most of these archives are evil. */
export interface Entry {
  readonly path: string
  readonly data?: string | Buffer
  /** The type flag: `0` file (default), `1` hard link, `2` symbolic link, `3` device, `5` directory, `6` fifo, … */
  readonly type?: string
  readonly mode?: number
  readonly link?: string
  /** Instead of the length of `data`. */
  readonly size?: number
  readonly checksum?: number
}

/** A ustar archive (POSIX.1-1988) with the two zero blocks at its end. */
export function tar(entries: readonly Entry[]): Buffer {
  return Buffer.concat([...entries.map(block), Buffer.alloc(1024)])
}

export function tgz(entries: readonly Entry[]): Buffer {
  return gzipSync(tar(entries))
}

/** A pax extended header (type `x`) or global header (`g`) for what follows it. */
export function pax(records: Readonly<Record<string, string>>, type: 'x' | 'g' = 'x'): Entry {
  const data = Object.entries(records)
    .map(([key, value]) => paxRecord(` ${key}=${value}\n`))
    .join('')
  return { path: 'PaxHeader/x', type, data }
}

/** A GNU long name (type `L`) for the entry that follows it. */
export function longName(path: string): Entry {
  return { path: '././@LongLink', type: 'L', data: `${path}\0` }
}

export function block(entry: Entry): Buffer {
  const data = Buffer.from(entry.data ?? '')
  const header = Buffer.alloc(512)
  header.write(entry.path, 0, 100, 'utf8')
  header.write(octal(entry.mode ?? (entry.type === '5' ? 0o755 : 0o644), 7), 100)
  header.write(octal(0, 7), 108)
  header.write(octal(0, 7), 116)
  header.write(octal(entry.size ?? data.length, 11), 124)
  header.write(octal(0, 11), 136)
  header.fill(' ', 148, 156)
  header.write(entry.type ?? '0', 156)
  header.write(entry.link ?? '', 157, 100, 'utf8')
  header.write('ustar\u000000', 257)
  const sum = entry.checksum ?? header.reduce((total, byte) => total + byte, 0)
  header.write(`${octal(sum, 6)}\0 `, 148)
  return Buffer.concat([header, data, Buffer.alloc((512 - (data.length % 512)) % 512)])
}

function octal(value: number, digits: number): string {
  return value.toString(8).padStart(digits, '0')
}

/** The length at the front counts itself. */
function paxRecord(rest: string): string {
  const bytes = Buffer.byteLength(rest)
  let length = bytes + 1
  while (bytes + String(length).length !== length) length = bytes + String(length).length
  return `${length}${rest}`
}
