import { compareText } from '@polder/spec'
import { hash } from 'node:crypto'
import { closeSync, futimesSync, mkdirSync, openSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

import type { Archive } from '../archives/read-tar.ts'
import { writeAll } from '../durable/write-all.ts'

/** What realising reads of a tree; written last, so where it is, the tree is complete. */
export const TREE_LIST = 'files.json'

/** The sha256 of each file, of trees that are more than what is in an artifact. */
export const TREE_HASHES = 'hashes.json'

/** 1985-10-26T08:15:00Z, in seconds: what npm gives every file it packs. */
const FIXED_TIME = 499162500

/**
 * Writes a checked archive as `<directory>/package`, in a new directory, with its lists beside it.
 * @param hashes false for what is in an artifact byte by byte: the artifact can say at any time what must be in the files
 * @returns the bytes written
 */
export function writeTree(
  directory: string,
  archive: Archive,
  bin: Readonly<Record<string, string>>,
  { hashes = true }: { readonly hashes?: boolean } = {},
): number {
  const root = join(directory, 'package')
  mkdirSync(directory)
  mkdirSync(root)
  const directories = [...archive.directories].sort(compareText)
  for (const path of directories) mkdirSync(`${root}/${path}`)
  const commands = new Set(Object.values(bin))
  const files = [...archive.files.keys()].sort(compareText)
  const executable: number[] = []
  const sizes: number[] = []
  const sha256: string[] = []
  let total = 0
  for (const path of files) {
    const file = archive.files.get(path)
    if (file === undefined) continue
    const isCommand = commands.has(path)
    const bytes = isCommand ? withUnixInterpreterLine(file.bytes) : file.bytes
    const runs = isCommand || file.executable
    writeReadOnly(`${root}/${path}`, bytes, runs ? 0o555 : 0o444)
    if (runs) executable.push(sizes.length)
    sizes.push(bytes.length)
    if (hashes) sha256.push(hash('sha256', bytes, 'hex'))
    total += bytes.length
  }
  const skipped = archive.skipped.length === 0 ? {} : { skipped: archive.skipped }
  if (hashes) writeFileSync(join(directory, TREE_HASHES), JSON.stringify({ format: 1, sha256 }), { mode: 0o444 })
  writeFileSync(
    join(directory, TREE_LIST),
    JSON.stringify({ format: 1, directories, files, executable, sizes, ...skipped }),
    { mode: 0o444 },
  )
  return total
}

function writeReadOnly(path: string, bytes: Buffer, mode: number): void {
  const file = openSync(path, 'wx', mode)
  try {
    writeAll(file, bytes)
    futimesSync(file, FIXED_TIME, FIXED_TIME)
  } finally {
    closeSync(file)
  }
}

/** `#!/usr/bin/env node\r\n` names a program called `node\r`; the rest of the file is the author's. */
export function withUnixInterpreterLine(bytes: Buffer): Buffer {
  if (bytes[0] !== 0x23 || bytes[1] !== 0x21) return bytes
  const end = bytes.indexOf(0x0a)
  if (end < 1 || bytes[end - 1] !== 0x0d) return bytes
  return Buffer.concat([bytes.subarray(0, end - 1), bytes.subarray(end)])
}
