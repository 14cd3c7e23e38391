import { compareText, type PackageId, PolderError } from '@polder/spec'
import { RangeCache } from '@polder/spec/semver-ranges'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

import { readAdditions, refuseConflicts } from './additions.ts'
import { type Closure, closureOf } from './closure.ts'
import type { Config } from './config.ts'
import type { Gathered, GatheredService, Input, Pin, Requirement } from './gathered.ts'
import { CONFIG_FILE, digestBytes, digestInput, PINS_FILE } from './inputs.ts'
import type { Stale } from './lockfiles/reader.ts'
import { type Manifests, readManifest, requireManifest } from './manifests.ts'
import { type Draft, mergePins, pinOf, shareHashes } from './merge-pins.ts'
import { type Claim, type Read, readLockfiles } from './read-lockfiles.ts'
import { inDirectory, resolveInRepository } from './repository-path.ts'
import { discover, type LockfileLocation } from './services.ts'
import { declaredRequirements, rangeOf } from './specifier.ts'
import { staleError } from './stale.ts'

/**
 * Reads what a repository locks: its services, their lockfiles, and the candidates in them.
 * The result does not depend on the order of directories or lockfiles. Reads files only.
 * @throws PolderError `NO_SERVICES`, `SERVICE_UNKNOWN`; `MANIFEST_INVALID`; `LOCKFILE_INVALID`, `LOCKFILE_VERSION`,
 * `LOCKFILE_CONFLICT_MARKERS`; `CONFIG_INVALID`; `LOCKFILE_STALE` and `INTEGRITY_MISSING` with all findings; `PIN_CONFLICT`;
 * `SOURCE_UNSUPPORTED`
 */
export async function gather(root: string, config: Config): Promise<Gathered> {
  const manifests: Manifests = { root, byDirectory: new Map() }
  const ranges = new RangeCache()
  const { lockfiles, wanted, members, warnings } = discover(manifests, config)
  const { read, claims, ignored } = await readLockfiles(lockfiles, manifests, ranges)
  throwUnknown(members, claims, lockfiles)
  const drafts = new Map<PackageId, Draft>()
  for (const { location, content } of [...read].sort((a, b) => compareText(a.location.path, b.location.path))) {
    mergePins(drafts, content.pins, location.path)
  }
  shareHashes(drafts)
  const services = new Map<string, GatheredService>()
  const unlocked: string[] = []
  const serviceAt = (path: string, from: string | undefined): GatheredService => {
    let service = services.get(path)
    if (service === undefined) {
      const claim = claims.get(path)
      service = claim === undefined ? linkedDirectory(path, from ?? '', manifests, ranges) : claimed(claim, manifests)
      if (claim === undefined || claim.service.linked) unlocked.push(...openRequirements(service))
      services.set(path, service)
    }
    return service
  }
  const start = [...claims.values()]
    .filter(({ service }) => !service.linked && (wanted === null || wanted(service.path)))
    .map(({ service }) => service.path)
  if (start.length === 0) {
    throw new PolderError('NO_SERVICES', `there is no service in ${root}`, {
      path: root,
      hint: 'a service is a directory with a package.json and a lockfile of pnpm, npm, yarn or bun; see "services" and "exclude" in polder.yaml',
    })
  }
  const closure = closureOf(start.sort(compareText), drafts, serviceAt, false)
  const required = closureOf([...closure.services], drafts, serviceAt, true)
  const used = read.filter(({ location }) =>
    [...closure.services].some((path) => services.get(path)?.lockfile === location.path),
  )
  throwStale(read, closure)
  const pins = new Map<PackageId, Pin>()
  for (const id of [...closure.packages].sort(compareText)) {
    const draft = drafts.get(id)
    if (draft !== undefined) pins.set(id, pinOf(draft, !required.packages.has(id)))
  }
  throwWithoutHash(pins, config)
  const additions = readAdditions(root)
  if (additions !== undefined) refuseConflicts(additions, pins)
  return {
    root,
    config: { ...config, policy: { ...config.policy, engines: enginesOf(config, root, used) } },
    ...(additions === undefined ? {} : { additions }),
    services: [...services.values()].sort((a, b) => compareText(a.path, b.path)),
    pins,
    inputs: inputsOf(used, closure, pins, manifests),
    warnings: [
      ...new Set([
        ...warnings,
        ...ignored,
        ...unlocked,
        ...used.flatMap((one) => [...one.content.warnings, ...gaps(one, closure)]),
      ]),
    ].sort(compareText),
  }
}

function throwUnknown(
  members: ReadonlyMap<string, string>,
  claims: ReadonlyMap<string, Claim>,
  lockfiles: readonly LockfileLocation[],
): void {
  for (const [directory, holder] of members) {
    if (claims.has(directory)) continue
    const lockfile = lockfiles.find((location) => location.directory === holder)?.path ?? holder
    throw new PolderError('SERVICE_UNKNOWN', `${directory} has no lockfile, and ${lockfile} does not know it`, {
      path: directory,
      hint: `install once so that ${lockfile} has it, or remove it from "services" in ${CONFIG_FILE}`,
    })
  }
}

function claimed({ service, lockfile }: Claim, manifests: Manifests): GatheredService {
  const { manifest } = requireManifest(manifests, service.path, `${lockfile} locks it`)
  return { path: service.path, manifest, lockfile, requirements: service.requirements }
}

/** A directory that is linked to but that no lockfile knows: what it requires can be anything that is locked. */
function linkedDirectory(path: string, lockfile: string, manifests: Manifests, ranges: RangeCache): GatheredService {
  const { manifest } = requireManifest(manifests, path, `${lockfile} links to it`)
  const requirements = declaredRequirements({ ...manifest, devDependencies: {} }).map(
    ({ name, kind, specifier }): Requirement => {
      const link = /^(?:link|file):(?!.*\.(?:tgz|tar\.gz|tar)$)(.*)$/i.exec(specifier)?.[1]
      const locked =
        link === undefined
          ? null
          : { workspace: resolveInRepository(path, link, `the dependency "${name}" of ${path}`) }
      return { name, kind, specifier, range: rangeOf(specifier, ranges), locked }
    },
  )
  return { path, manifest, lockfile, requirements }
}

function openRequirements({ path, lockfile, requirements }: GatheredService): string[] {
  const open = requirements.filter(({ kind, locked }) => kind === 'prod' && locked === null).map(({ name }) => name)
  return open.length === 0 ? [] : [`${lockfile} links to ${path} without locking what it requires: ${open.join(', ')}`]
}

/** What a reached candidate requires but its lockfile lacks; whether anything else satisfies it is for flatten to say. */
function gaps({ location, content }: Read, closure: Closure): string[] {
  return content.pins
    .filter(({ id, absent }) => absent.length > 0 && closure.packages.has(id))
    .map(
      ({ id, absent }) =>
        `${location.path} locks ${id} without what it requires: ${[...absent].sort(compareText).join(', ')}`,
    )
}

function throwStale(read: readonly Read[], closure: Closure): void {
  const findings = read.flatMap(({ location, content }) =>
    content.stale
      .filter(({ service }) => closure.services.has(service))
      .map((stale: Stale) => ({ ...stale, lockfile: location.path, kind: location.kind })),
  )
  if (findings.length > 0) throw staleError(findings)
}

function throwWithoutHash(pins: ReadonlyMap<PackageId, Pin>, { index }: Config): void {
  const errors = [...pins.values()]
    .filter(
      ({ integrity, hashFromRegistry, source, name }) =>
        integrity === null &&
        hashFromRegistry !== true &&
        source.kind !== 'file' &&
        source.kind !== 'git' &&
        !index.allowWeakIntegrity.includes(name),
    )
    .map(({ id, name, lockfiles }) => {
      return new PolderError('INTEGRITY_MISSING', `${lockfiles.join(' and ')} has no hash for ${id}`, {
        spec: id,
        ...(lockfiles[0] === undefined ? {} : { path: lockfiles[0] }),
        hint: `make the lockfile again so that it has one, or add "${name}" to "index.allowWeakIntegrity" in ${CONFIG_FILE}`,
      })
    })
  const [first, ...others] = errors
  if (first !== undefined)
    throw new PolderError(first.code, first.message, { ...first.details, ...(others.length === 0 ? {} : { others }) })
}

function inputsOf(
  used: readonly Read[],
  closure: Closure,
  pins: ReadonlyMap<PackageId, Pin>,
  manifests: Manifests,
): Input[] {
  const { root } = manifests
  const digests = new Map([CONFIG_FILE, PINS_FILE].map((path) => [path, digestInput(root, path)]))
  for (const { location, bytes, content } of used) {
    digests.set(location.path, digestBytes(location.path, bytes))
    for (const path of content.inputs) digests.set(path, digestInput(root, path))
  }
  // The directory of a lockfile may hold overrides and the list of workspaces without being a wanted service.
  for (const directory of [...closure.services, ...used.map(({ location }) => location.directory)]) {
    const file = readManifest(manifests, directory)
    const path = inDirectory(directory, 'package.json')
    if (file !== null) digests.set(path, digestBytes(path, file.bytes))
  }
  for (const { integrity, source } of pins.values()) {
    if (integrity === null && source.kind === 'file') digests.set(source.path, digestInput(root, source.path))
  }
  return [...digests]
    .flatMap(([path, digest]) => (digest === null ? [] : [{ path, digest }]))
    .sort((a, b) => compareText(a.path, b.path))
}

/** Whether a client of this repository refuses packages for another Node; by default none does but yarn 1. */
function enginesOf({ policy }: Config, root: string, used: readonly Read[]): 'warn' | 'strict' {
  if (policy.engines !== null) return policy.engines
  const directories = new Set(['.', ...used.map(({ location }) => location.directory)])
  const says = (directory: string, file: string, setting: RegExp): boolean => {
    const path = join(root, directory, file)
    return existsSync(path) && setting.test(readFileSync(path, 'utf8'))
  }
  const isStrict = [...directories].some(
    (directory) =>
      says(directory, '.npmrc', /^[ \t]*engine-strict[ \t]*=[ \t]*true[ \t]*\r?$/m) ||
      says(directory, 'pnpm-workspace.yaml', /^engineStrict:[ \t]*true[ \t]*(?:#.*)?\r?$/m),
  )
  return isStrict ? 'strict' : 'warn'
}
