import { isErrno, PolderError } from '@polder/spec'
import { existsSync, mkdirSync, readFileSync } from 'node:fs'
import { userInfo } from 'node:os'
import { dirname, isAbsolute, join, resolve } from 'node:path'

import { atomicWrite } from './durable/atomic-write.ts'
import type { Store } from './content-path.ts'
import { writeFailure } from './durable/write-failure.ts'

const LAYOUT = '1'
const DIRECTORIES = ['artifacts/sha512', 'trees', 'envs', 'roots', 'manifests/sha512', 'quarantine', 'tmp', 'locks']

/**
 * Where the user's store is: `POLDER_HOME`, else `XDG_DATA_HOME/polder`, else `~/.local/share/polder`
 * (XDG Base Directory Specification: a relative XDG_DATA_HOME is ignored).
 */
export function storeHome(env: Readonly<Record<string, string | undefined>>): string {
  if (env['POLDER_HOME']) return resolve(env['POLDER_HOME'])
  if (env['XDG_DATA_HOME'] && isAbsolute(env['XDG_DATA_HOME'])) return join(env['XDG_DATA_HOME'], 'polder')
  // An empty HOME, which homedir() would take, is not a directory.
  return join(env['HOME'] || userInfo().homedir, '.local', 'share', 'polder')
}

/**
 * Opens the store, creating it where it is not there yet. A complete store is opened without writing, so one on a
 * read-only file system can be read.
 * @throws PolderError `STORE_LAYOUT` if another version of polder made it, `STORE_UNWRITABLE`, `DISK_FULL`
 */
export function openStore(home: string): Store {
  const path = join(home, 'layout')
  const found = readLayout(path)
  if (found !== undefined && found !== LAYOUT) {
    throw new PolderError(
      'STORE_LAYOUT',
      `${home} has store layout ${JSON.stringify(found.slice(0, 20))}; this polder knows ${LAYOUT}`,
      {
        path: home,
        found: found.slice(0, 20),
        wanted: LAYOUT,
        hint: 'use the polder that made it, or set POLDER_HOME to another directory',
      },
    )
  }
  createDirectories(home)
  if (found === undefined) atomicWrite(path, `${LAYOUT}\n`)
  return { home }
}

function readLayout(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8').trim()
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return undefined
    if (!isErrno(error, 'ENOTDIR')) throw writeFailure(error, 'opening the store', path)
    throw new PolderError('STORE_LAYOUT', `${path} cannot be: something on its way is a file`, {
      path,
      cause: error,
      hint: 'set POLDER_HOME to a directory',
    })
  }
}

/** Those that are there are not touched, for a store on a read-only file system. */
function createDirectories(home: string): void {
  for (const directory of DIRECTORIES) {
    const path = join(home, directory)
    try {
      makeDirectory(path)
    } catch (error) {
      throw writeFailure(error, 'creating the store', path)
    }
  }
}

/** Node's own recursive mkdir turns the EROFS of a read-only file system into ENOENT. */
function makeDirectory(path: string): void {
  if (existsSync(path)) return
  makeDirectory(dirname(path))
  try {
    mkdirSync(path)
  } catch (error) {
    if (!isErrno(error, 'EEXIST')) throw error
  }
}
