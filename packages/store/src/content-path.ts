import { algorithmOf, hexDigest, PolderError, type Integrity } from '@polder/spec'
import { hash } from 'node:crypto'
import { join } from 'node:path'

/** An open store: everything in it is found from its home directory. */
export interface Store {
  readonly home: string
}

/** `artifacts/sha512/ab/cdef…`: two hex digits of directory keep any one directory under a few hundred entries. */
export function artifactPath(store: Store, integrity: Integrity): string {
  const hex = sha512Hex(integrity)
  return join(store.home, 'artifacts', 'sha512', hex.slice(0, 2), hex.slice(2))
}

/** 40 hex digits (160 bits) over everything that a tree was made from: short enough to read, long enough never to collide. */
export type TreeId = string & { readonly __brand: 'TreeId' }

/** The tree of an artifact as it is: the first 40 hex digits of its sha512. */
export function treeId(integrity: Integrity): TreeId {
  return sha512Hex(integrity).slice(0, 40) as TreeId
}

/** The tree of an artifact as a patch leaves it; `patch` is the hash of the patch. */
export function patchedTreeId(integrity: Integrity, patch: string): TreeId {
  return hash('sha256', `patched\0${hexDigest(integrity)}\0${patch}`, 'hex').slice(0, 40) as TreeId
}

/** The tree of a build; `recipe` says what it was built from, and how, as a JSON array. */
export function builtTreeId(recipe: string): TreeId {
  return hash('sha256', recipe, 'hex').slice(0, 40) as TreeId
}

export function treePath(store: Store, id: TreeId): string {
  return join(store.home, 'trees', id)
}

/**
 * Where the environment stands, whether it is there or not.
 * @throws PolderError `STORE_LAYOUT` for an id that is no plain file name
 */
export function environmentPath(store: Store, id: string): string {
  if (!/^[A-Za-z0-9][A-Za-z0-9._-]*$/.test(id)) {
    throw new PolderError('STORE_LAYOUT', `${JSON.stringify(id)} is no environment id`, { found: id })
  }
  return join(store.home, 'envs', id)
}

function sha512Hex(integrity: Integrity): string {
  if (algorithmOf(integrity) !== 'sha512') {
    throw new PolderError('INTEGRITY_MISSING', `the store is addressed by sha512, not by ${integrity}`, {
      found: integrity,
      wanted: 'sha512-<base64>',
    })
  }
  return hexDigest(integrity)
}
