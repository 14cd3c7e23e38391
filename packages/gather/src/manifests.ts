import { readFileSync } from 'node:fs'
import { join } from 'node:path'

import { isErrno, type Manifest, PolderError } from '@polder/spec'
import { manifestFromJson } from '@polder/spec/manifest'

import { inDirectory } from './repository-path.ts'

/** The `package.json` files of a repository, each read once. */
export interface Manifests {
  readonly root: string
  readonly byDirectory: Map<string, ManifestFile | null>
}

export interface ManifestFile {
  readonly bytes: Buffer
  readonly manifest: Manifest
  /** The document itself, for the fields that only some clients have. */
  readonly json: Readonly<Record<string, unknown>>
}

/**
 * The manifest of a directory (relative to the repository), or null if it has none.
 * @throws PolderError `MANIFEST_INVALID`
 */
export function readManifest(manifests: Manifests, directory: string): ManifestFile | null {
  let file = manifests.byDirectory.get(directory)
  if (file === undefined) {
    file = read(manifests.root, inDirectory(directory, 'package.json'))
    manifests.byDirectory.set(directory, file)
  }
  return file
}

/** As {@link readManifest}, for a directory that has to have one. `because` ends the sentence of the error. */
export function requireManifest(manifests: Manifests, directory: string, because: string): ManifestFile {
  const file = readManifest(manifests, directory)
  if (file !== null) return file
  const path = inDirectory(directory, 'package.json')
  throw new PolderError('MANIFEST_INVALID', `${path} does not exist, but ${because}`, {
    path,
    hint: `restore ${path}, or install again with the client that owns the lockfile so that it forgets the directory`,
  })
}

function read(root: string, path: string): ManifestFile | null {
  let bytes: Buffer
  try {
    bytes = readFileSync(join(root, path))
  } catch (cause) {
    if (isErrno(cause, 'ENOENT', 'ENOTDIR')) return null
    throw new PolderError('MANIFEST_INVALID', `${path} cannot be read: ${(cause as Error).message}`, { path, cause })
  }
  let json: unknown
  try {
    json = JSON.parse(bytes.toString('utf8').replace(/^\uFEFF/, ''))
  } catch (cause) {
    throw new PolderError('MANIFEST_INVALID', `${path} is not JSON: ${(cause as Error).message}`, { path, cause })
  }
  return { bytes, manifest: manifestFromJson(json, path), json: json as Record<string, unknown> }
}
