import { type InstanceId, type Lock, parseLock } from '@polder/lock'
import { type PackageId, splitPackageId } from '@polder/spec'
import { hasArtifact, type Store, withLease } from '@polder/store'

import { Arrival } from './bundle-arrival.ts'
import { type Content, contentsOf } from './bundle-contents.ts'
import { bundleInvalid, contentPath, type Member } from './bundle-format.ts'
import { Bundle, type BundleProgress } from './bundle-reader.ts'
import { type CarriedRecords, checkShasums, parseReleases, writeReleases } from './release-records.ts'

export interface ImportReport {
  readonly lock: Lock
  /** Byte by byte as it was exported. */
  readonly lockText: string
  /** The services that it was exported for; absent if it is for all. */
  readonly services?: readonly string[]
  /** Digest of the lock that it was exported against. */
  readonly since?: string
  readonly artifacts: number
  /** What its lock did not choose. */
  readonly candidates: number
  readonly files: number
  /** What packages were built to, where it was exported. */
  readonly trees: number
  /** How many of these were built without a sandbox: who requires one does not take them. */
  readonly unenforced: number
  readonly releases: number
  /** Of the bundle. */
  readonly bytes: number
  /** How many of its artifacts, trees and files the store did not have. */
  readonly added: number
  /** What the lock pins (for those services) and neither the bundle nor the store has: names of packages, URLs. */
  readonly missing: readonly string[]
}

/**
 * Brings a bundle into the store. All of it is verified before anything is visible: the archive has to be, byte by byte,
 * what {@link exportBundle} makes of its list; the list has to be what its lock pins; every hash, every archive in it
 * and every signature by a key of the lock has to be right. Killed before the end it leaves nothing visible but, at
 * most, some of the artifacts, each of them verified; the same import again completes it. Several may run at once.
 * @param path of the bundle, also named in errors
 * @throws PolderError `USAGE` if there is none; `BUNDLE_INVALID` with the member; `ARCHIVE_REFUSED`, `LOCK_INVALID`, `SIGNATURE_INVALID`,
 *   `SIGNING_KEY_UNKNOWN`, `SIGNING_KEY_EXPIRED`; `DISK_FULL`, `STORE_UNWRITABLE`
 */
export async function importBundle(
  store: Store,
  path: string,
  options: { readonly onProgress?: BundleProgress } = {},
): Promise<ImportReport> {
  const bundle = await Bundle.open(path, options.onProgress)
  try {
    return await withLease(store, () => bring(store, bundle))
  } finally {
    await bundle.close()
  }
}

async function bring(store: Store, bundle: Bundle): Promise<ImportReport> {
  const { path, list } = bundle
  const arrival = new Arrival(store, path)
  try {
    let lock: { readonly value: Lock; readonly text: string } | undefined
    let wanted: ReadonlyMap<string, Content> = new Map()
    let records: CarriedRecords = new Map()
    let unenforced = 0
    for (const member of list.members) {
      await bundle.header(member)
      if (member.kind === 'lock') {
        const text = (await bundle.text(member)).toString('utf8')
        lock = { text, value: parseLock(text, `polder.lock in ${path}`) }
        wanted = checkContents(bundle, lock.value)
      } else if (lock === undefined) throw bundleInvalid(path, 'its lock does not come first')
      else if (member.kind === 'tree') {
        const recipe = await arrival.takeTree(member, await bundle.text(member))
        if (checkBuild(bundle, lock.value, member.path, recipe).unenforced) unenforced++
      } else if (member.kind === 'releases') records = parseReleases(await bundle.text(member), lock.value, path)
      else {
        const names = wanted.get(member.path)?.names ?? []
        const { packages } = lock.value.npm
        const isCommit = names.some((id) => packages[id as PackageId]?.git !== undefined)
        await arrival.take(member, bundle.body(member), names[0] ?? member.path, isCommit)
      }
    }
    await bundle.end()
    if (lock === undefined) throw bundleInvalid(path, 'it holds no lock')
    checkShasums(records, lock.value, await arrival.sha1(), path)
    const { added, artifacts } = arrival.publish()
    const countOf = (wantedKind: Member['kind']): number =>
      list.members.filter(({ kind }) => kind === wantedKind).length
    await writeReleases(store, records)
    return {
      lock: lock.value,
      lockText: lock.text,
      ...(list.services === undefined ? {} : { services: list.services }),
      ...(list.since === undefined ? {} : { since: list.since }),
      artifacts: artifacts - countOf('candidate'),
      candidates: countOf('candidate'),
      files: countOf('file'),
      trees: countOf('tree'),
      unenforced,
      releases: records.size,
      bytes: bundle.bytes,
      added,
      missing: [...wanted.values()]
        .filter(({ integrity }) => !hasArtifact(store, integrity))
        .flatMap(({ names }) => names),
    }
  } finally {
    await arrival.discard()
  }
}

/**
 * The list against the lock: nothing that the lock does not pin but candidates, which are no more than their hash says;
 * and, in a bundle that is not made against an older lock, all that it does.
 * @returns what the lock pins, by path
 */
function checkContents({ path, list }: Bundle, lock: Lock): ReadonlyMap<string, Content> {
  for (const service of list.services ?? []) {
    if (!Object.hasOwn(lock.npm.services, service))
      throw bundleInvalid(path, `it is for ${service}, which its lock does not have`, { spec: service })
  }
  const wanted = new Map(
    contentsOf(lock, list.services).map((content) => [contentPath(content.kind, content.integrity), content]),
  )
  const carried = new Set<string>()
  for (const member of list.members) {
    if (member.kind !== 'artifact' && member.kind !== 'file') continue
    carried.add(member.path)
    if (wanted.get(member.path)?.integrity !== member.integrity)
      throw bundleInvalid(path, `it holds ${member.path}, which its lock does not pin`, { spec: member.path })
  }
  if (list.since !== undefined) return wanted
  for (const [name, { names }] of wanted)
    if (!carried.has(name)) throw bundleInvalid(path, `it lacks ${name}, ${names.join(', ')}`, { spec: names[0] })
  return wanted
}

/** A tree has to be of a build that the lock allows. */
function checkBuild({ path }: Bundle, { npm, policy }: Lock, member: string, recipe: string): Recipe {
  const { instance, unenforced } = readRecipe(recipe)
  const built = instance !== undefined && Object.hasOwn(npm.instances, instance) ? npm.instances[instance] : undefined
  const isAllowed = built !== undefined && Object.hasOwn(policy.builds?.allow ?? {}, splitPackageId(built.package).name)
  if (!isAllowed) throw bundleInvalid(path, `it holds ${member}, which is of no build of its lock`, { spec: member })
  return { instance, unenforced }
}

interface Recipe {
  readonly instance: InstanceId | undefined
  readonly unenforced: boolean
}

/** Of the build's format only this is known here: `[number, instance, …]`, and `"unenforced"` at the end. */
function readRecipe(recipe: string): Recipe {
  try {
    const parsed = JSON.parse(recipe) as unknown
    if (Array.isArray(parsed) && typeof parsed[1] === 'string')
      return { instance: parsed[1] as InstanceId, unenforced: parsed.at(-1) === 'unenforced' }
  } catch {
    // Of no build.
  }
  return { instance: undefined, unenforced: false }
}
