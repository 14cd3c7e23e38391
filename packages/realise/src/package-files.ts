import { isErrno, PolderError } from '@polder/spec'
import { linkPool, makeSymbolicLink, makeSymbolicLinks, type LinkPool, type Store, type Tree } from '@polder/store'
import { constants, copyFileSync, linkSync, mkdirSync, statSync, utimesSync } from 'node:fs'
import { posix } from 'node:path'

import type { LinkedDirectory, Place, PlannedLink, PlannedPackage } from './planned.ts'

/** How files and links get to where they are used; one for each directory that is filled. */
export interface Transfer {
  readonly pool: LinkPool
  /** The directories that links were made in, absolute. */
  readonly directories: Set<string>
  /** Set once the file systems turn out not to allow hard links between them, so that it is tried once only. */
  copyOnly: boolean
  linked: number
  copied: number
}

export function newTransfer(store: Store): Transfer {
  return { pool: linkPool(store), directories: new Set(), copyOnly: false, linked: 0, copied: 0 }
}

/**
 * Fills `<base>/<directory>` with the files of a tree and makes the package's links. Hard links, made in one thread:
 * several threads or promises are no faster, and copying takes ten times as long.
 * @param base the directory that stands for the package's place while it is being built
 * @param environment as for {@link makeLink}
 * @throws PolderError `ARCHIVE_REFUSED` if the package has a file where its links must go
 */
export function placePackage(
  planned: PlannedPackage,
  tree: Tree,
  base: string,
  environment: string | undefined,
  transfer: Transfer,
): void {
  const to = `${base}/${planned.directory}`
  mkdirSync(to, { recursive: true })
  for (const directory of tree.directories) mkdirSync(`${to}/${directory}`)
  for (const file of tree.files) transferFile(`${tree.path}/${file}`, `${to}/${file}`, transfer)
  for (const link of ownLinks(planned, tree)) {
    try {
      makeLink(link, base, environment, transfer)
    } catch (error) {
      if (!isErrno(error, 'ENOTDIR', 'EEXIST')) throw error
      throw new PolderError(
        'ARCHIVE_REFUSED',
        `${planned.package} has a file where its dependency ${posix.basename(link.path)} must be`,
        {
          spec: planned.package,
          path: link.path,
          cause: error,
        },
      )
    }
  }
}

/** The links of a package but for those names that it brings along itself, which it finds first and means. */
export function ownLinks(planned: PlannedPackage, tree: Tree): readonly PlannedLink[] {
  const inside = `${planned.directory}/`
  if (!planned.links.some(({ path }) => path.startsWith(inside))) return planned.links
  const bundled = new Set([...tree.directories, ...tree.files])
  return planned.links.filter(({ path }) => !path.startsWith(inside) || !bundled.has(path.slice(inside.length)))
}

/** @param environment where the shared environment is, for links of a checkout; undefined inside the environment itself */
function makeLink(link: PlannedLink, base: string, environment: string | undefined, transfer: Transfer): void {
  const directory = `${base}/${link.path.slice(0, link.path.lastIndexOf('/'))}`
  if (!transfer.directories.has(directory)) {
    mkdirSync(directory, { recursive: true })
    transfer.directories.add(directory)
  }
  makeSymbolicLink(transfer.pool, linkText(link, environment), `${base}/${link.path}`)
}

/** The links of a directory of a checkout; `environment` as for {@link makeLink}. */
export function makeLinks(
  { path, to, names, others }: LinkedDirectory,
  base: string,
  environment: string | undefined,
  { pool }: Transfer,
): void {
  const directory = `${base}/${path}`
  mkdirSync(directory, { recursive: true })
  makeSymbolicLinks(pool, checkoutText(to, environment), names, directory)
  for (const [name, text] of others) makeSymbolicLink(pool, checkoutText(text, environment), `${directory}/${name}`)
}

/** What a link of a {@link LinkedDirectory} says. */
export function checkoutText(text: string, environment: string | undefined): string {
  return text.startsWith('/') ? `${environment ?? ''}${text}` : text
}

/** What a link says: a relative path within one place, an absolute one into the environment. */
export function linkText({ path, target }: PlannedLink, environment: string | undefined): string {
  const from: Place = environment === undefined ? target.place : 'checkout'
  return target.place === from ? relativeText(path, target.path) : `${environment ?? ''}/${target.path}`
}

/** As `posix.relative` from the directory of `path`, which would take as long as making the link; planned paths are in normal form. */
function relativeText(path: string, target: string): string {
  const inside = target === '.' ? '' : target
  let common = 0
  for (let slash = path.indexOf('/'); slash !== -1; slash = path.indexOf('/', slash + 1)) {
    const ends = inside.length === slash || inside[slash] === '/'
    if (!ends || !inside.startsWith(path.slice(common, slash), common)) break
    common = slash + 1
  }
  const up = path.slice(common).split('/').length - 1
  const down = inside.slice(common)
  return up === 0 ? down || '.' : `${'../'.repeat(up)}${down}`.replace(/\/$/, '')
}

function transferFile(from: string, to: string, transfer: Transfer): void {
  if (!transfer.copyOnly) {
    try {
      linkSync(from, to)
      transfer.linked += 1
      return
    } catch (error) {
      // Another file system, one without hard links, or a store of another user (fs.protected_hardlinks).
      if (isErrno(error, 'EXDEV', 'EPERM', 'ENOTSUP', 'ENOSYS')) transfer.copyOnly = true
      // A file has as many links as the file system allows: only this one is copied.
      else if (!isErrno(error, 'EMLINK')) throw error
    }
  }
  copyFileSync(from, to, constants.COPYFILE_EXCL | constants.COPYFILE_FICLONE)
  const { atime, mtime } = statSync(from)
  // Read-only files keep their owner's right to set times.
  utimesSync(to, atime, mtime)
  transfer.copied += 1
}
