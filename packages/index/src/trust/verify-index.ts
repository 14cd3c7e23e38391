import { hash } from 'node:crypto'
import { isDeepStrictEqual } from 'node:util'

import type { Lock } from '@polder/lock'
import { requirementsOf } from '@polder/lock/requirements'
import { compareText, hexDigest, type Integrity, type PackageId, PolderError } from '@polder/spec'
import {
  hasTree,
  listArtifacts,
  listTrees,
  readArtifact,
  type Store,
  treeId,
  type TreeId,
  verifyTree,
} from '@polder/store'
import { readArchiveManifest } from '@polder/store/archive'

import { contentsOf } from '../bundle/bundle-contents.ts'
import { pinnedHash } from './drift.ts'
import { readManifest, removeManifest } from '../pins/manifests.ts'
import { needsBuild } from '../pins/needs-build.ts'
import { hasReleaseFile, readRelease } from './releases.ts'
import type { SigningKeys } from './remembered-keys.ts'
import { verifySignatures } from './signatures.ts'

/** Something in the store that is not what it should be. */
export interface Damage {
  readonly kind: 'artifact' | 'manifest' | 'release' | 'tree'
  /** A package id, the URL of a file, or the hash of what no lock names. */
  readonly subject: string
  /** A sentence without its subject. */
  readonly message: string
  /** Services first. */
  readonly neededBy: readonly string[]
  readonly tree?: TreeId
}

export interface IndexReport {
  readonly artifacts: number
  readonly manifests: number
  readonly releases: number
  readonly trees: number
  /** Sorted by subject. */
  readonly damage: readonly Damage[]
}

type Progress = (progress: { readonly done: number; readonly total: number; readonly label: string }) => void

/**
 * Hashes everything again that a lock pins, and compares what was derived from it: manifests with the archives, release
 * records with the pins and their signatures with the lock's keys, unpacked trees with the artifacts. A damaged artifact
 * is moved to quarantine and a wrong manifest removed, so that nobody uses them and the next sync brings them again.
 * @param all of the store, and not only what the lock pins
 */
export async function verifyIndex(
  store: Store,
  lock: Lock,
  { all, onProgress }: { readonly all: boolean; readonly onProgress?: Progress },
): Promise<IndexReport> {
  const users = usersOf(lock)
  const keys = lock.index?.keys ?? {}
  const counts = { artifacts: 0, manifests: 0, releases: 0, trees: 0 }
  const damage: Damage[] = []
  const contents = contentsOf(lock)
  const known = new Set(contents.map(({ integrity }) => integrity))
  const others = all ? listArtifacts(store).filter((integrity) => !known.has(integrity)) : []
  const trees = new Map<TreeId, string>((all ? listTrees(store) : []).map((id) => [id, id]))
  for (const { kind, integrity, names } of contents) if (kind === 'artifact') trees.set(treeId(integrity), names[0])
  const total = contents.length + others.length + trees.size
  let done = 0
  const step = async (label: string): Promise<void> => {
    onProgress?.({ done: (done += 1), total, label })
    await new Promise((resolve) => setImmediate(resolve))
  }
  for (const { kind, integrity, names } of contents) {
    const note = (what: Damage['kind'], message: string): void => {
      damage.push({
        kind: what,
        subject: names.join(', '),
        message,
        neededBy: names.flatMap((name) => users.get(name) ?? []),
      })
    }
    counts.artifacts += 1
    const bytes = readSound(store, integrity, names[0], (message) => note('artifact', message))
    if (kind === 'artifact') {
      const isCommit = names.some((id) => lock.npm.packages[id as PackageId]?.git !== undefined)
      if (bytes !== undefined && (await checkManifest(store, integrity, bytes, names[0], isCommit, note)))
        counts.manifests += 1
      for (const id of names as readonly string[] as readonly PackageId[])
        if (checkRelease(store, id, integrity, keys, note)) counts.releases += 1
    }
    await step(names[0])
  }
  for (const integrity of others) {
    counts.artifacts += 1
    const subject = hexDigest(integrity).slice(0, 16)
    readSound(store, integrity, subject, (message) => damage.push({ kind: 'artifact', subject, message, neededBy: [] }))
    await step(subject)
  }
  for (const [tree, label] of trees) {
    if (hasTree(store, tree)) {
      counts.trees += 1
      const problem = await treeProblem(store, tree)
      if (problem !== undefined)
        damage.push({ kind: 'tree', subject: label, message: problem, neededBy: users.get(label) ?? [], tree })
    }
    await step(label)
  }
  return { ...counts, damage: damage.sort((a, b) => compareText(a.subject, b.subject) || compareText(a.kind, b.kind)) }
}

type Note = (kind: Damage['kind'], message: string) => void

/** The bytes, if they are what their hash says; otherwise they are in quarantine now. */
function readSound(
  store: Store,
  integrity: Integrity,
  label: string,
  note: (message: string) => void,
): Buffer | undefined {
  try {
    return readArtifact(store, integrity, label)
  } catch (error) {
    if (!(error instanceof PolderError)) throw error
    if (error.code === 'ARTIFACT_MISSING') note('is not in the store')
    else if (error.code === 'ARTIFACT_CORRUPT') note(`was damaged, and is in quarantine: ${error.details.path ?? ''}`)
    else throw error
    return undefined
  }
}

/** True if there is a manifest. One that is not what the archive says is removed. */
async function checkManifest(
  store: Store,
  integrity: Integrity,
  bytes: Buffer,
  label: string,
  isCommit: boolean,
  note: Note,
): Promise<boolean> {
  const recorded = readManifest(store, integrity)
  if (recorded === undefined) return false
  const read = await readArchiveManifest(bytes, label)
  const isSame =
    recorded.needsBuild === needsBuild(read, isCommit) &&
    [undefined, hash('sha1', bytes)].includes(recorded.shasum) &&
    isDeepStrictEqual(plain(recorded.manifest), plain(read.manifest))
  if (!isSame) {
    removeManifest(store, integrity)
    note('manifest', 'its recorded manifest was not the one in its archive, and was removed')
  }
  return true
}

/** True if there is a record, whatever it is worth. */
function checkRelease(store: Store, id: PackageId, integrity: Integrity, keys: SigningKeys, note: Note): boolean {
  const release = readRelease(store, id)
  if (release === undefined) {
    if (!hasReleaseFile(store, id)) return false
    note('release', 'what its registry said of it cannot be read any more')
    return true
  }
  if (
    release.integrity !== undefined &&
    ![undefined, release.integrity].includes(pinnedHash(release.integrity, integrity, () => undefined))
  )
    note('release', 'what its registry said is of other bytes')
  else if (Object.keys(keys).length > 0) {
    try {
      verifySignatures(id, release, keys)
    } catch (error) {
      if (!(error instanceof PolderError)) throw error
      note('release', error.message)
    }
  }
  return true
}

async function treeProblem(store: Store, tree: TreeId): Promise<string | undefined> {
  try {
    const [first, ...more] = await verifyTree(store, tree)
    if (first === undefined) return undefined
    return `its unpacked files are not as they were: ${first.path} ${first.kind}${more.length === 0 ? '' : ` and ${more.length} more`}`
  } catch (error) {
    if (!(error instanceof PolderError) && !(error instanceof SyntaxError)) throw error
    return `its unpacked files cannot be listed: ${error.message}`
  }
}

/** Package id → who has it: services, then packages. */
function usersOf({ npm }: Lock): ReadonlyMap<string, readonly string[]> {
  const users = new Map<string, Set<string>>()
  const packageOf = (target: string): string | undefined =>
    Object.hasOwn(npm.instances, target) ? npm.instances[target as keyof typeof npm.instances]?.package : undefined
  const add = (target: string | undefined, user: string): void => {
    const id = target === undefined ? undefined : packageOf(target)
    if (id === undefined) return
    const list = users.get(id) ?? new Set()
    users.set(id, list.add(user))
  }
  for (const [path, service] of Object.entries(npm.services))
    for (const { use } of Object.values(requirementsOf(service))) add(use, path)
  for (const instance of Object.values(npm.instances) as readonly {
    readonly package: string
    readonly links?: Readonly<Record<string, string>>
  }[])
    for (const target of Object.values(instance.links ?? {})) add(target, instance.package)
  return new Map([...users].map(([id, list]) => [id, [...list]]))
}

/** Without prototypes and what is undefined, which a record on disk has not. */
function plain(value: unknown): unknown {
  return JSON.parse(JSON.stringify(value)) as unknown
}
