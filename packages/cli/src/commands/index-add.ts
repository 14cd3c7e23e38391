import { realpathSync } from 'node:fs'
import { homedir } from 'node:os'
import { isAbsolute, join, relative, resolve, sep } from 'node:path'

import { digestInput, findRoot, gather, PINS_FILE, readAdditions, readConfig, serializeAdditions } from '@polder/gather'
import { companions, filePath, redirections } from '@polder/index/files'
import { parseLock, serializeLock } from '@polder/lock'
import {
  type AddedFile,
  type AddedPackage,
  compareText,
  hexDigest,
  type Integrity,
  type PackageId,
  PolderError,
} from '@polder/spec'
import { atomicWrite, openStore, type Store, storeHome } from '@polder/store'

import { idOf, packService, withAdditions } from '../added-pins.ts'
import { findService } from '../checkout.ts'
import { LOCK_FILE, readLockText } from '../lock-file.ts'
import { bytes, type Output } from '../output.ts'
import { startProgress } from '../progress.ts'

export interface AddFlags {
  readonly workspace: boolean
  /** Names are never asked of a public upstream. */
  readonly private: boolean
  readonly sha512?: string
  /** The URL under which the file at hand is served. */
  readonly as?: string
  readonly for?: string
  /** Whatever a URL gives is what is pinned. */
  readonly trustFirst: boolean
}

/** What was pinned: an id or a URL. */
interface Added {
  readonly name: string
  readonly integrity: Integrity
  readonly bytes: number
}

/**
 * `polder index add`: pins what no lockfile has, in polder.pins.yaml and, if there is one, in polder.lock. Only a URL
 * that has to be fetched opens a connection.
 * @throws PolderError `USAGE`, `PIN_CONFLICT`, `INTEGRITY_MISSING`, and what is wrong with a file or an archive
 */
export async function indexAdd(cwd: string, output: Output, what: readonly string[], flags: AddFlags): Promise<number> {
  refuseMixture(what, flags)
  const root = findRoot(cwd)
  const pins = new Pins(root, openStore(storeHome(process.env)), output)
  const added: Added[] = []
  if (flags.workspace) added.push(...(await addWorkspace(pins, what, flags)))
  else if (flags.as !== undefined) added.push(await addUrl(pins, flags.as, flags, resolve(cwd, what[0] ?? '')))
  else
    for (const one of what)
      added.push(await (isUrl(one) ? addUrl(pins, one, flags) : addTarballFile(pins, resolve(cwd, one), one, flags)))
  const lock = pins.write()
  for (const { name, bytes: size } of added) output.line(`pinned ${name} (${bytes(size)})`)
  if (lock === 'none') output.note(`polder: ${PINS_FILE} is written; \`polder lock\` takes it into ${LOCK_FILE}`)
  output.result({ added, lock })
  return 0
}

function refuseMixture(what: readonly string[], { workspace, as, sha512, for: tool, trustFirst }: AddFlags): void {
  const refuse = (problem: string): never => {
    throw new PolderError('USAGE', problem, { hint: 'see `polder index add --help`' })
  }
  if (what.length === 0 && !workspace) refuse('index add needs a file, a URL, or --workspace')
  const ofUrls = as !== undefined || sha512 !== undefined || tool !== undefined || trustFirst
  if (workspace && ofUrls)
    refuse('--workspace takes names of packages, and none of --as, --sha512, --for, --trust-first')
  if ((as !== undefined || sha512 !== undefined) && what.length > 1) refuse('--as and --sha512 are of a single file')
  if (as !== undefined && (isUrl(what[0] ?? '') || !isUrl(as)))
    refuse('--as is for a file at hand: polder index add FILE --as URL')
  if (as === undefined && ofUrls && !what.every(isUrl)) refuse('--sha512, --for and --trust-first are of URLs')
}

function isUrl(text: string): boolean {
  return /^[a-z][a-z0-9+.-]*:\/\//i.test(text)
}

/** `polder.pins.yaml` and `polder.lock` while something is being added. */
class Pins {
  readonly root: string
  readonly store: Store
  readonly output: Output
  readonly #packages: Record<PackageId, AddedPackage>
  readonly #files: Record<string, AddedFile>
  /** By id, what the lock has from lockfiles. */
  readonly #locked: Readonly<Record<string, { readonly integrity: string }>>

  constructor(root: string, store: Store, output: Output) {
    this.root = root
    this.store = store
    this.output = output
    const known = readAdditions(root)
    this.#packages = { ...known?.packages }
    this.#files = { ...known?.files }
    const text = readLockText(root)
    this.#locked = text === null ? {} : parseLock(text, LOCK_FILE).npm.packages
  }

  /** A version that was pinned means its bytes: only a workspace package, which is being worked on, may change. */
  addPackage(id: PackageId, entry: AddedPackage): void {
    const before = this.#packages[id]
    const changed = before !== undefined && before.integrity !== entry.integrity
    const locked = Object.hasOwn(this.#locked, id) ? this.#locked[id]?.integrity : undefined
    if ((changed && entry.workspace !== true) || (locked !== undefined && locked !== entry.integrity)) {
      const where = changed && entry.workspace !== true ? PINS_FILE : LOCK_FILE
      throw new PolderError('PIN_CONFLICT', `${id} is pinned to other bytes already, in ${where}`, {
        spec: id,
        path: where,
        found: entry.integrity,
        wanted: before?.integrity ?? locked ?? '',
        hint: `give it a version of its own; or remove ${id} from ${PINS_FILE} first, if these bytes are what is meant`,
      })
    }
    if (changed) this.output.note(`warning: ${id} has other bytes than before: whoever locked it has to lock it again`)
    this.#packages[id] = entry
  }

  addFile(url: string, entry: AddedFile): void {
    const before = this.#files[url]
    if (before !== undefined && before.integrity !== entry.integrity) {
      throw new PolderError('PIN_CONFLICT', `${url} is pinned to other bytes already, in ${PINS_FILE}`, {
        spec: url,
        path: PINS_FILE,
        found: entry.integrity,
        wanted: before.integrity,
        hint: `remove it from ${PINS_FILE} first, if these bytes are what is meant`,
      })
    }
    const place = filePath(url)
    const other = Object.keys(this.#files).find((known) => known !== url && filePath(known) === place)
    if (other !== undefined) {
      throw new PolderError('PIN_CONFLICT', `${url} would be served at the same path as ${other}`, {
        spec: url,
        path: PINS_FILE,
      })
    }
    this.#files[url] = entry
    const missing = companions(url, entry.for).filter((companion) => !Object.hasOwn(this.#files, companion))
    if (missing.length > 0) this.output.note(`polder: who asks for it will ask for ${missing.join(' and ')} too`)
    const expected = Object.entries(this.#files).some(([known, file]) => companions(known, file.for).includes(url))
    if (!expected && redirections(url, entry.for).length === 0)
      this.output.note(
        `polder: it fits no tool that polder knows; --for says which one asks for it, or which variable leads there`,
      )
  }

  /**
   * Writes both, the lock only if it is there.
   * @returns what became of the lock
   */
  write(): 'updated' | 'unchanged' | 'none' {
    const additions = { packages: this.#packages, files: this.#files }
    const text = serializeAdditions(additions)
    atomicWrite(join(this.root, PINS_FILE), text)
    const before = readLockText(this.root)
    if (before === null) return 'none'
    const lock = parseLock(before, LOCK_FILE)
    const digest = digestInput(this.root, PINS_FILE) ?? ''
    const after = serializeLock({ ...withAdditions(lock, additions), inputs: { ...lock.inputs, [PINS_FILE]: digest } })
    if (after === before) return 'unchanged'
    atomicWrite(join(this.root, LOCK_FILE), after)
    return 'updated'
  }
}

async function addTarballFile(pins: Pins, path: string, shown: string, flags: AddFlags): Promise<Added> {
  const { addTarball } = await import('@polder/index/additions')
  const { id, integrity, bytes: size } = await addTarball(pins.store, path, shown)
  const file = insideOf(pins.root, path)
  pins.addPackage(id, {
    integrity,
    ...(file === undefined ? {} : { file }),
    ...(flags.private ? { private: true } : {}),
  })
  if (file === undefined) {
    pins.output.note(
      `warning: ${shown} is outside of the repository, so only its hash is pinned: another machine needs a bundle, or the file`,
    )
  }
  return { name: id, integrity, bytes: size }
}

/** The path in the repository, POSIX; undefined outside of it, also by way of a link. */
function insideOf(root: string, path: string): string | undefined {
  const inside = relative(realpathSync(root), realpathSync(path))
  if (inside === '..' || inside.startsWith(`..${sep}`) || isAbsolute(inside)) return undefined
  return inside.split(sep).join('/')
}

async function addWorkspace(pins: Pins, names: readonly string[], flags: AddFlags): Promise<Added[]> {
  const gathered = await gather(pins.root, readConfig(pins.root))
  const services = Object.fromEntries(gathered.services.map(({ path, manifest }) => [path, manifest]))
  const wanted = names.map((name) => findService(services, name))
  const chosen = gathered.services.filter((service) =>
    wanted.length > 0 ? wanted.includes(service.path) : idOf(service) !== undefined,
  )
  if (chosen.length === 0) {
    throw new PolderError('USAGE', 'no workspace package has a name and a version', {
      hint: 'give those that are to be pinned a name and a version in their package.json',
    })
  }
  const { addTarball } = await import('@polder/index/additions')
  const added: Added[] = []
  for (const service of chosen) {
    const tarball = await packService(gathered, service)
    const { id, integrity, bytes: size } = await addTarball(pins.store, tarball, service.path)
    pins.addPackage(id, { integrity, workspace: true, ...(flags.private ? { private: true } : {}) })
    added.push({ name: id, integrity, bytes: size })
  }
  return added.sort((a, b) => compareText(a.name, b.name))
}

/** A file that is on no registry, from its URL or, with a path, at hand. */
async function addUrl(pins: Pins, url: string, flags: AddFlags, path?: string): Promise<Added> {
  redirections(url, flags.for)
  const [{ addFile, parseSha512 }, { readNpmConfig }] = await Promise.all([
    import('@polder/index/additions'),
    import('@polder/index'),
  ])
  const expected = flags.sha512 === undefined ? null : parseSha512(flags.sha512)
  const progress = startProgress(pins.output, 'Fetching')
  const origin =
    path === undefined ? { npm: () => readNpmConfig({ cwd: pins.root, env: process.env, home: homedir() }) } : { path }
  try {
    const { integrity, bytes: size } = await addFile(pins.store, url, expected, origin, (received) => {
      progress.update(0, 1, bytes(received))
    })
    if (path === undefined && expected === null && !flags.trustFirst) throw untrusted(url, integrity, size)
    pins.addFile(url, { integrity, bytes: size, ...(flags.for === undefined ? {} : { for: flags.for }) })
    return { name: url, integrity, bytes: size }
  } finally {
    progress.end()
  }
}

function untrusted(url: string, integrity: Integrity, size: number): PolderError {
  return new PolderError(
    'INTEGRITY_MISSING',
    `${url} was fetched (${bytes(size)}) but not pinned: nothing says what its hash has to be`,
    {
      spec: url,
      found: integrity,
      wanted: '--sha512',
      hint: `compare it with what the publisher says, then: polder index add ${url} --sha512 ${hexDigest(integrity)}`,
    },
  )
}
