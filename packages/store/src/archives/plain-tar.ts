import type { TarEntry } from './any-tar.ts'

const BLOCK = 512
const [ZERO, SPACE, FILE, DIRECTORY] = [0, 0x20, 0x30, 0x35]

/** Owner, group, times, device: not used, but a number that is not in digits is a reason to look closer. */
const OTHER_NUMBERS = [108, 116, 136, 329, 337, 476, 488]

/**
 * Reads the plainest kind of tar archive, which nearly all packages are: nothing but files and directories, each with
 * a ustar header (POSIX.1-1988) in which every field is as the standard wants it. Whatever is anything else, such as
 * extended headers, links, other magic, numbers or types, a wrong checksum, a missing end, is not judged here.
 * node-tar reads such an archive the same way, in ten times the time.
 * @returns undefined if it is not of that kind
 */
export function readPlainTar(tar: Buffer): readonly TarEntry[] | undefined {
  const entries: TarEntry[] = []
  let at = 0
  for (; at + BLOCK <= tar.length && tar[at] !== ZERO;) {
    const type = tar[at + 156]
    const size = octal(tar, at + 124, 12)
    const mode = octal(tar, at + 100, 8)
    const path = pathOf(tar, at)
    if (size === undefined || mode === undefined || path === undefined) return undefined
    if (octal(tar, at + 148, 8) !== checksum(tar, at) || OTHER_NUMBERS.some((field) => (tar[at + field] ?? 0) > 0x7f))
      return undefined
    if (text(tar, at + 157, 100) !== '') return undefined
    const endsInSlash = path.endsWith('/')
    // Files whose path ends in a slash, and directories with contents, are a matter of interpretation.
    if (type === FILE ? endsInSlash : type !== DIRECTORY || size !== 0) return undefined
    const end = at + BLOCK + size
    if (end > tar.length) return undefined
    entries.push({
      path,
      type: type === FILE ? 'File' : 'Directory',
      mode: mode & 0o7777,
      bytes: tar.subarray(at + BLOCK, end),
    })
    at += BLOCK + Math.ceil(size / BLOCK) * BLOCK
  }
  return entries.length > 0 && isEnd(tar, at) ? entries : undefined
}

/** Two blocks of zeros, as the standard wants it; what follows them is padding. */
function isEnd(tar: Buffer, at: number): boolean {
  if (at + 2 * BLOCK > tar.length) return false
  for (let index = at; index < at + 2 * BLOCK; index += 1) if (tar[index] !== ZERO) return false
  return true
}

/** Digits, and then nothing but zeros or spaces, at least one; undefined for everything else. */
function octal(tar: Buffer, start: number, length: number): number | undefined {
  let value = 0
  let index = start
  for (; index < start + length; index += 1) {
    const digit = (tar[index] ?? 0) - 0x30
    if (digit < 0 || digit > 7) break
    value = value * 8 + digit
  }
  if (index === start || index === start + length) return undefined
  for (; index < start + length; index += 1) if (tar[index] !== ZERO && tar[index] !== SPACE) return undefined
  return value
}

function checksum(tar: Buffer, at: number): number {
  let sum = 8 * SPACE
  for (let index = at; index < at + 148; index += 1) sum += tar[index] ?? 0
  for (let index = at + 156; index < at + BLOCK; index += 1) sum += tar[index] ?? 0
  return sum
}

/** `<prefix>/<name>`; undefined without ustar's magic, and where writers disagree on how long a prefix may be. */
function pathOf(tar: Buffer, at: number): string | undefined {
  if (tar.toString('latin1', at + 257, at + 265) !== 'ustar\u000000') return undefined
  const name = text(tar, at, 100)
  // Some keep times behind 130 bytes of prefix, others more prefix.
  const prefix = text(tar, at + 345, 131)
  if (name === undefined || name === '' || prefix === undefined || tar[at + 475] !== ZERO) return undefined
  return prefix === '' ? name : `${prefix}/${name}`
}

/** Undefined if something comes after the zero at its end. */
function text(tar: Buffer, start: number, length: number): string | undefined {
  let end = start
  while (end < start + length && tar[end] !== ZERO) end += 1
  for (let index = end; index < start + length; index += 1) if (tar[index] !== ZERO) return undefined
  return tar.toString('utf8', start, end)
}
