import { inflateArchive } from './inflate.ts'
import { type Archive, readTar } from './read-tar.ts'

/**
 * As `openArchive`, for an archive that is used once: its memory, and that of `bytes`, is given back when `use` is done.
 * Left to the collector, a hundred megabytes of archives would make it run every thirty.
 * @param bytes not to be read by anybody else
 * @param use may keep nothing of the archive
 */
export async function useArchive<T>(
  bytes: Buffer,
  label: string,
  use: (archive: Archive) => T | Promise<T>,
): Promise<T> {
  const tar = await inflateArchive(bytes, label)
  try {
    return await use(await readTar(tar, label))
  } finally {
    giveBack(bytes)
    giveBack(tar)
  }
}

/** Frees the memory of a buffer that nobody reads any more. */
export function giveBack({ buffer }: Uint8Array): void {
  // Small buffers are parts of one that Node shares out.
  if (buffer instanceof ArrayBuffer && buffer.byteLength >= LARGE) buffer.transfer(0)
}

const LARGE = 128 * 1024

/** What of an archive is asked for first. */
export interface ArchiveFacts {
  /** The text of its package.json; undefined if it has none. */
  readonly packageJson: string | undefined
  readonly hasBindingGyp: boolean
}

export function factsOf({ files }: Archive): ArchiveFacts {
  return {
    packageJson: files.get('package.json')?.bytes.toString('utf8'),
    hasBindingGyp: files.has('binding.gyp'),
  }
}
