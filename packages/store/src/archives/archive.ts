import type { Manifest } from '@polder/spec'
import { parseManifest } from '@polder/spec/manifest'

import { inflateArchive } from './inflate.ts'
import { type Archive, readTar } from './read-tar.ts'
import { refusal } from './refusal.ts'

/**
 * Reads an npm package's archive: tar (ustar, pax, GNU long names), plain or gzipped. Other threads inflate.
 * @param label the package, for messages
 * @throws PolderError `ARCHIVE_REFUSED`, with the entry and the rule
 */
export async function openArchive(bytes: Buffer, label: string): Promise<Archive> {
  return readTar(await inflateArchive(bytes, label), label)
}

/** A package's manifest, and whether npm would run `node-gyp` for it. */
export interface ArchiveManifest {
  readonly manifest: Manifest
  readonly hasBindingGyp: boolean
}

/**
 * The manifest in a package's archive.
 * @param label the package, for messages
 * @throws PolderError `ARCHIVE_REFUSED`, `MANIFEST_INVALID`
 */
export async function readArchiveManifest(bytes: Buffer, label: string): Promise<ArchiveManifest> {
  return archiveManifest(await openArchive(bytes, label), label)
}

/** As {@link readArchiveManifest}, of an archive that has been read. */
export function archiveManifest({ files }: Archive, label: string): ArchiveManifest {
  return manifestOf(files.get('package.json')?.bytes.toString('utf8'), files.has('binding.gyp'), label)
}

/**
 * As {@link readArchiveManifest}, of what an archive holds.
 * @param text of its package.json, if there is one
 */
export function manifestOf(text: string | undefined, hasBindingGyp: boolean, label: string): ArchiveManifest {
  if (text === undefined) throw refusal(label, 'it holds no package.json')
  return {
    manifest: parseManifest(text, `package.json of ${label}`),
    hasBindingGyp: hasBindingGyp && !refusesGyp(text),
  }
}

/** `"gypfile": false`: npm lets a binding.gyp be then, of a package that brings what it would make. */
function refusesGyp(manifest: string): boolean {
  return (
    manifest.includes('gypfile') &&
    (JSON.parse(manifest.replace(/^\uFEFF/, '')) as { gypfile?: unknown }).gypfile === false
  )
}
