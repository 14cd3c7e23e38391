import { realpathSync } from 'node:fs'
import { homedir } from 'node:os'
import { isAbsolute, relative, resolve, sep } from 'node:path'

import { findRoot, gather, PINS_FILE, readConfig } from '@polder/gather'
import { redirections } from '@polder/index/files'
import { compareText, hexDigest, type Integrity, PolderError } from '@polder/spec'
import { openStore, type Store, storeHome } from '@polder/store'

import { idOf, packService } from '../added-pins.ts'
import { findService } from '../checkout.ts'
import { LOCK_FILE } from '../lock-file.ts'
import { bytes, type Output } from '../output.ts'
import { changePins, type PinsFile } from '../pins-file.ts'
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

/** Where it is kept and told. */
interface Place {
  readonly root: string
  readonly store: Store
  readonly output: Output
  readonly flags: AddFlags
  /** How it is pinned, when all of it is there. */
  readonly changes: ((pins: PinsFile) => void)[]
}

/**
 * `polder index add`: pins what no lockfile has, in polder.pins.yaml and, if there is one, in polder.lock. Only a URL
 * that has to be fetched opens a connection.
 * @throws PolderError `USAGE`, `PIN_CONFLICT`, `INTEGRITY_MISSING`, `CHECKOUT_BUSY`, and what is wrong with a file or an
 *   archive
 */
export async function indexAdd(cwd: string, output: Output, what: readonly string[], flags: AddFlags): Promise<number> {
  refuseMixture(what, flags)
  const store = openStore(storeHome(process.env))
  const place: Place = { root: findRoot(cwd), store, output, flags, changes: [] }
  const added: Added[] = []
  if (flags.workspace) added.push(...(await addWorkspace(place, what)))
  else if (flags.as !== undefined) added.push(await addUrl(place, flags.as, resolve(cwd, what[0] ?? '')))
  else
    for (const one of what)
      added.push(await (isUrl(one) ? addUrl(place, one) : addTarballFile(place, resolve(cwd, one), one)))
  const lock = await changePins(place.root, store, output, (pins) => {
    for (const change of place.changes) change(pins)
  })
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

async function addTarballFile(
  { root, store, output, flags, changes }: Place,
  path: string,
  shown: string,
): Promise<Added> {
  const { addTarball } = await import('@polder/index/additions')
  const { id, integrity, bytes: size } = await addTarball(store, path, shown)
  const file = insideOf(root, path)
  changes.push((pins) => {
    pins.addPackage(id, {
      integrity,
      ...(file === undefined ? {} : { file }),
      ...(flags.private ? { private: true } : {}),
    })
  })
  if (file === undefined) {
    output.note(
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

async function addWorkspace({ root, store, flags, changes }: Place, names: readonly string[]): Promise<Added[]> {
  const gathered = await gather(root, readConfig(root))
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
    const { id, integrity, bytes: size } = await addTarball(store, tarball, service.path)
    changes.push((pins) => {
      pins.addPackage(id, { integrity, workspace: true, ...(flags.private ? { private: true } : {}) })
    })
    added.push({ name: id, integrity, bytes: size })
  }
  return added.sort((a, b) => compareText(a.name, b.name))
}

/** A file that is on no registry, from its URL or, with a path, at hand. */
async function addUrl({ root, store, output, flags, changes }: Place, url: string, path?: string): Promise<Added> {
  redirections(url, flags.for)
  const [{ addFile, parseSha512 }, { readNpmConfig }] = await Promise.all([
    import('@polder/index/additions'),
    import('@polder/index'),
  ])
  const expected = flags.sha512 === undefined ? null : parseSha512(flags.sha512)
  const progress = startProgress(output, 'Fetching')
  const origin =
    path === undefined ? { npm: () => readNpmConfig({ cwd: root, env: process.env, home: homedir() }) } : { path }
  try {
    const { integrity, bytes: size } = await addFile(store, url, expected, origin, (received) => {
      progress.update(0, 1, bytes(received))
    })
    if (path === undefined && expected === null && !flags.trustFirst) throw untrusted(url, integrity, size)
    const entry = { integrity, bytes: size, ...(flags.for === undefined ? {} : { for: flags.for }) }
    changes.push((pins) => pins.addFile(url, entry))
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
