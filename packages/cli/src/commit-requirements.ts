import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'

import { onlyServices } from '@polder/flatten'
import { gather, type Gathered, parseConfig } from '@polder/gather'
import { type PinRequest, readManifest, readPinned } from '@polder/index'
import { isPrepared, type PublishedVersions, rangesOf, resolveRanges } from '@polder/index/build-requirements'
import type { Lock, LockedPackage } from '@polder/lock'
import {
  type Additions,
  compareText,
  type Integrity,
  type Manifest,
  matchesPlatform,
  type PackageId,
  type Platform,
  PolderError,
  splitPackageId,
  unpatchedId,
} from '@polder/spec'
import { RangeCache } from '@polder/spec/semver-ranges'
import { readArtifact, type Store } from '@polder/store'

/** A commit that has to be prepared with what it has for development. */
export interface PreparedCommit {
  readonly id: PackageId
  readonly integrity: Integrity
  readonly manifest: Manifest
}

/** What a commit is to be prepared with. */
export interface CommitPins {
  readonly requests: readonly PinRequest[]
  /** Sentences for the user. */
  readonly warnings: readonly string[]
}

/** A version of a registry, to be pinned for somebody. */
export function registryPin(id: PackageId, integrity: Integrity | null, neededBy: PackageId): PinRequest {
  const { name, reference } = splitPackageId(id)
  const source = { kind: 'registry' } as const
  return { id, name, reference, integrity, hashFromRegistry: true, source, optional: true, neededBy: [neededBy] }
}

/** The commit, if it is one whose scripts have to run before it can be used, and who develops it has more than who uses it. */
export function preparedCommit(store: Store, id: PackageId, lock: Lock): PreparedCommit | undefined {
  const pkg = lock.npm.packages[id]
  const manifest = pkg?.git === undefined ? undefined : readManifest(store, pkg.integrity)?.manifest
  if (manifest === undefined || pkg === undefined || !isPrepared(manifest.scripts)) return undefined
  return Object.keys(manifest.devDependencies).length === 0 ? undefined : { id, integrity: pkg.integrity, manifest }
}

/** The pins of a lock that a commit is prepared with. Sorted. */
export function pinsPreparing(packages: Additions['packages'], commit: PackageId): readonly PackageId[] {
  const entries = Object.entries(packages) as [PackageId, Additions['packages'][PackageId]][]
  return entries.flatMap(([id, { preparing }]) => (preparing?.includes(commit) === true ? [id] : [])).sort(compareText)
}

export interface CommitCircumstances {
  readonly store: Store
  readonly lock: Lock
  /** What the lock that is there pins for builds. */
  readonly before: Additions['packages']
  /** It is for the same platforms. */
  readonly samePlatforms: boolean
  readonly platforms: readonly Platform[]
  /** Undefined if no upstream may be asked. */
  readonly published: PublishedVersions | undefined
  readonly bring: (requests: readonly PinRequest[]) => Promise<ReadonlyMap<PackageId, { readonly manifest: Manifest }>>
}

/**
 * What a commit needs to be prepared: what its own lockfile has for it or, where it has none, versions in the ranges that
 * it asks for. What the lock that is there has for it stays; what the repository has locked anyway comes before anything
 * that would have to be fetched.
 */
export async function commitPins(commit: PreparedCommit, given: CommitCircumstances): Promise<CommitPins> {
  let warnings: readonly string[] = []
  try {
    const locked = await fromOwnLockfile(commit, given)
    if (locked !== undefined) return locked
  } catch (error) {
    if (!(error instanceof PolderError)) throw error
    const why = 'its lockfile cannot be used, so it is prepared with what is in its ranges'
    warnings = [`${commit.id}: ${why}: ${error.message}`]
  }
  const { lock, before, published, platforms } = given
  const request = (id: PackageId): PinRequest =>
    registryPin(id, before[id]?.integrity ?? lock.npm.packages[id]?.integrity ?? null, commit.id)
  const own = pinsPreparing(before, commit.id)
  if (own.length > 0 && (published === undefined || isComplete(commit, own.map(request), given)))
    return { requests: own.map(request), warnings }
  const registrys = (Object.entries(lock.npm.packages) as [PackageId, LockedPackage][]).flatMap(([id, pkg]) =>
    (pkg.tarball ?? pkg.file ?? pkg.git ?? pkg.patch) ? [] : [id],
  )
  const { ids, failures } = await resolveRanges(rangesOf(commit.manifest, commit.id, true), {
    known: [own, registrys],
    published,
    platforms,
    bring: (fresh) => given.bring(fresh.map(request)),
  })
  const missing = failures.map((failure) => `what ${commit.id} is prepared with is not pinned: ${failure}`)
  return { requests: ids.map(request), warnings: [...warnings, ...missing] }
}

/** True if everything that is asked for is among these, and all of them are in the store. */
function isComplete(
  { id, manifest }: PreparedCommit,
  requests: readonly PinRequest[],
  { store, samePlatforms }: CommitCircumstances,
): boolean {
  const { pinned, missing } = readPinned(store, requests)
  if (missing.length > 0 || !samePlatforms) return false
  const ranges = new RangeCache()
  const all = [...pinned].flatMap(([pin, one]) => rangesOf(one.manifest, pin))
  return [...rangesOf(manifest, id, true), ...all].every(({ name, range, optional }) => {
    const versions = requests.filter((request) => request.name === name)
    const fits = versions.some(({ reference }) => ranges.satisfies(reference, range) || !ranges.isRange(range))
    return fits || optional
  })
}

const LOCKFILES = ['package-lock.json', 'npm-shrinkwrap.json', 'pnpm-lock.yaml', 'yarn.lock', 'bun.lock']
/** All that readers of lockfiles look at, anywhere in a repository. */
const READ = [...LOCKFILES, 'package.json', 'pnpm-workspace.yaml', '.yarnrc.yml', '.npmrc']

/** Undefined if the commit has no lockfile. */
async function fromOwnLockfile(
  { id, integrity }: PreparedCommit,
  { store, platforms }: CommitCircumstances,
): Promise<CommitPins | undefined> {
  const { openArchive } = await import('@polder/store/archive')
  const { files } = await openArchive(readArtifact(store, integrity, id), id)
  if (!LOCKFILES.some((name) => files.has(name))) return undefined
  const directory = mkdtempSync(join(tmpdir(), 'polder-commit-'))
  try {
    for (const [path, { bytes }] of files) {
      if (!READ.includes(path.slice(path.lastIndexOf('/') + 1)) && !path.endsWith('.patch')) continue
      mkdirSync(dirname(join(directory, path)), { recursive: true })
      writeFileSync(join(directory, path), bytes)
    }
    const gathered = await gather(directory, { ...parseConfig(''), services: ['.'] })
    return pinsOf(id, onlyServices(gathered, ['.']), platforms)
  } finally {
    rmSync(directory, { recursive: true, force: true })
  }
}

function pinsOf(commit: PackageId, { pins }: Gathered, platforms: readonly Platform[]): CommitPins {
  const requests = new Map<PackageId, PinRequest>()
  const warnings: string[] = []
  for (const pin of pins.values()) {
    const id = unpatchedId(pin.id)
    if (pin.optional && !platforms.some((platform) => matchesPlatform(pin, platform))) continue
    if (pin.source.kind !== 'registry')
      warnings.push(`${commit} is prepared without ${pin.name}, which does not come from a registry`)
    else if (!requests.has(id)) requests.set(id, registryPin(id, pin.integrity, commit))
    if (pin.patch !== undefined)
      warnings.push(`${commit} is prepared with ${id} as published: its patch is not applied`)
  }
  return { requests: [...requests.values()].sort((a, b) => compareText(a.id, b.id)), warnings }
}
