import { type AddedPackage, type Additions, type Integrity, type PackageId, PolderError } from '@polder/spec'
import { installScripts } from '@polder/spec/manifest'
import { hasArtifact, readArtifact, type Store, writeArtifact } from '@polder/store'
import { readArchiveManifest } from '@polder/store/archive'

import { addFile, MAX_TARBALL_BYTES, once } from './additions.ts'
import { fromFile } from '../upstream/artifact-source.ts'
import { readManifest, writeManifest } from './manifests.ts'
import { type NpmConfig, redactUrl } from '../upstream/npm-config.ts'

export interface AdditionSync {
  /** How many came, and their bytes. */
  readonly fetched: number
  readonly bytes: number
  /** One for each that is missing still. */
  readonly failures: readonly PolderError[]
}

export interface AdditionSources {
  /** The repository, absolute. */
  readonly root: string
  /** Null if no upstream may be asked. */
  readonly npm: (() => Promise<NpmConfig>) | null
  /** Packs a workspace package again; undefined if the repository has none of that name and version. */
  readonly pack: (id: PackageId) => Promise<Uint8Array | undefined>
}

/**
 * Brings what was pinned by hand and is not in the store: vendored tarballs from the repository, workspace packages by
 * packing them again, files from their URLs. What has other bytes than were pinned is a failure, never a new pin.
 * @throws PolderError only for what ends everything: `NPMRC_INVALID`, `DISK_FULL`, `STORE_UNWRITABLE`
 */
export async function syncAdditions(
  store: Store,
  { packages, files }: Additions,
  { root, npm, pack }: AdditionSources,
): Promise<AdditionSync> {
  let fetched = 0
  let bytes = 0
  const failures: PolderError[] = []
  const bring = async (spec: string, integrity: Integrity, run: () => Promise<number>): Promise<void> => {
    try {
      bytes += await run()
      fetched += 1
    } catch (error) {
      if (!(error instanceof PolderError) || FATAL.has(error.code)) throw error
      failures.push(new PolderError(error.code, error.message, { ...error.details, spec, wanted: integrity }))
    }
  }
  for (const [key, entry] of Object.entries(packages)) {
    const id = key as PackageId
    if (hasArtifact(store, entry.integrity) && readManifest(store, entry.integrity) !== undefined) continue
    await bring(id, entry.integrity, () => bringPackage(store, id, entry, root, pack))
  }
  for (const [url, { integrity }] of Object.entries(files)) {
    if (hasArtifact(store, integrity)) continue
    await bring(url, integrity, async () => {
      if (npm === null)
        throw missing(redactUrl(url), 'where there is a network, `polder index sync`; or `polder index import`')
      return (await addFile(store, url, integrity, { npm })).bytes
    })
  }
  return { fetched, bytes, failures }
}

const FATAL: ReadonlySet<string> = new Set(['NPMRC_INVALID', 'DISK_FULL', 'STORE_UNWRITABLE'])

async function bringPackage(
  store: Store,
  id: PackageId,
  { integrity, file, workspace }: AddedPackage,
  root: string,
  pack: AdditionSources['pack'],
): Promise<number> {
  const take = async (chunks: AsyncIterable<Uint8Array>): Promise<number> => {
    const { bytes } = await writeArtifact(store, chunks, {
      expected: integrity,
      maxBytes: MAX_TARBALL_BYTES,
      label: id,
    })
    await describe(store, id, integrity)
    return bytes
  }
  if (hasArtifact(store, integrity)) {
    await describe(store, id, integrity)
    return 0
  }
  if (file !== undefined) return fromFile(root, file, take)
  const packed = workspace === true ? await pack(id) : undefined
  if (packed === undefined)
    throw missing(id, `\`polder index add\` the file, or \`polder index import\` a bundle that has it`)
  try {
    return await take(once(packed))
  } catch (error) {
    if (!(error instanceof PolderError) || error.code !== 'INTEGRITY_MISMATCH') throw error
    throw new PolderError(error.code, `the workspace package ${id} is not what it was when it was pinned`, {
      ...error.details,
      hint: `\`polder index add --workspace\` pins it as it is; a bundle has it as it was`,
    })
  }
}

async function describe(store: Store, id: PackageId, integrity: Integrity): Promise<void> {
  const { manifest, hasBindingGyp } = await readArchiveManifest(readArtifact(store, integrity, id), id)
  writeManifest(store, { integrity, manifest, needsBuild: installScripts(manifest, hasBindingGyp).length > 0 })
}

function missing(spec: string, hint: string): PolderError {
  return new PolderError('ARTIFACT_MISSING', `${spec} was added by hand and is not in the store`, { spec, hint })
}
