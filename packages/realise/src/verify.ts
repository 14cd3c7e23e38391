import { compareText, isErrno, type PackageId } from '@polder/spec'
import {
  hasTree,
  readTree,
  readTreeHashes,
  unpackTrees,
  verifyTree,
  type Store,
  type Tree,
  type TreeHashes,
  type TreeId,
} from '@polder/store'
import { hash } from 'node:crypto'
import { lstatSync, readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { join } from 'node:path'

import { isCache, NODE_MODULES_MARKER } from './node-modules.ts'
import { checkoutText, linkText, ownLinks } from './package-files.ts'
import type { LinkedDirectory, Plan, PlannedPackage } from './planned.ts'
import { wantedTree } from './wanted-tree.ts'

/** A file, link or directory that is not as the lock says. */
export interface CheckoutDifference {
  /** Absolute. */
  readonly path: string
  readonly kind: 'differs' | 'missing' | 'added'
  /** The package it belongs to; null for what belongs to none. */
  readonly package: PackageId | null
}

export interface VerifyOptions {
  readonly store: Store
  /** Absolute. */
  readonly checkout: string
  readonly plan: Plan
  /** Null in the self-contained layout. */
  readonly environmentPath: string | null
  /** Called after each package. */
  readonly onProgress?: (progress: { readonly done: number; readonly total: number; readonly label: string }) => void
}

/** What must be at a path. */
type Expected =
  | { readonly kind: 'directory'; readonly package: PackageId | null }
  | {
      readonly kind: 'file'
      readonly package: PackageId
      readonly tree: CheckedTree
      readonly file: string
      readonly executable: boolean
    }
  | { readonly kind: 'link'; readonly package: PackageId | null; readonly text: string }

/** A tree, its hashes, and which of its files are not as they were unpacked: a hard link to the others needs no second look. */
interface CheckedTree {
  readonly tree: Tree
  readonly hashes: TreeHashes
  readonly damaged: ReadonlySet<string>
}

/**
 * Compares the environment, the trees it was made from and the `node_modules` of the checkout with the plan: every
 * file's hash, every link, and that there is nothing else. A damaged file is named at each place where it is. Tools' caches in the checkout's `node_modules` are not looked at.
 * @returns what differs, by path; empty if all is well
 * @throws PolderError `ARTIFACT_MISSING`, `ARTIFACT_CORRUPT` or `PATCH_FAILED` if a collected tree cannot be unpacked to compare with
 */
export async function verifyCheckout({
  store,
  checkout,
  plan,
  environmentPath,
  onProgress,
}: VerifyOptions): Promise<readonly CheckoutDifference[]> {
  const everything = [...plan.environment, ...plan.checkout.packages]
  await unpackTrees(
    store,
    everything
      .filter(({ tree, built }) => built !== true && !hasTree(store, tree))
      .map((planned) => wantedTree(store, planned, checkout)),
  )
  const differences: CheckoutDifference[] = []
  const trees = new Map<TreeId, CheckedTree>()
  for (const [index, { tree, package: label }] of everything.entries()) {
    if (!trees.has(tree)) trees.set(tree, await checkTree(store, tree, label, differences))
    onProgress?.({ done: index + 1, total: everything.length, label })
  }
  const treeOf = ({ tree }: PlannedPackage): CheckedTree => trees.get(tree) as CheckedTree // every package's was put in above

  if (environmentPath !== null) {
    const expected = expect(plan.environment, [], undefined, treeOf)
    for (const top of ['node_modules', 'variants'])
      compareDirectory(environmentPath, top, expected, () => false, differences)
  }
  const expected = expect(plan.checkout.packages, plan.checkout.links, environmentPath ?? undefined, treeOf)
  for (const service of ['.', ...plan.checkout.services]) {
    const nodeModules = service === '.' ? 'node_modules' : `${service}/node_modules`
    if (!expected.has(nodeModules)) expected.set(nodeModules, { kind: 'directory', package: null })
    const isIgnored = (path: string, entry: Entry): boolean =>
      path === `${nodeModules}/${entry.name}` && (isCache(entry) || entry.name === NODE_MODULES_MARKER)
    compareDirectory(checkout, nodeModules, expected, isIgnored, differences)
  }
  return differences.sort((a, b) => compareText(a.path, b.path))
}

async function checkTree(
  store: Store,
  id: TreeId,
  owner: PackageId,
  differences: CheckoutDifference[],
): Promise<CheckedTree> {
  const tree = readTree(store, id)
  const hashes = await readTreeHashes(store, id)
  const found = await verifyTree(store, id, hashes)
  differences.push(...found.map(({ path, kind }) => ({ path: join(tree.path, path), kind, package: owner })))
  return { tree, hashes, damaged: new Set(found.map(({ path }) => path)) }
}

function expect(
  packages: readonly PlannedPackage[],
  linked: readonly LinkedDirectory[],
  environment: string | undefined,
  treeOf: (planned: PlannedPackage) => CheckedTree,
): Map<string, Expected> {
  const expected = new Map<string, Expected>()
  const directory = (path: string, owner: PackageId | null): void => {
    for (
      let at = path;
      at !== '.' && at !== '' && !expected.has(at);
      at = at.slice(0, Math.max(0, at.lastIndexOf('/')))
    ) {
      expected.set(at, { kind: 'directory', package: at === path ? owner : null })
    }
  }
  const link = (path: string, text: string, owner: PackageId | null): void => {
    directory(path.slice(0, path.lastIndexOf('/')), null)
    expected.set(path, { kind: 'link', package: owner, text })
  }
  for (const planned of packages) {
    const checked = treeOf(planned)
    const { directories, files, executable } = checked.tree
    const runs = new Set(executable)
    directory(planned.directory, planned.package)
    for (const path of directories) directory(`${planned.directory}/${path}`, planned.package)
    for (const [index, file] of files.entries()) {
      expected.set(`${planned.directory}/${file}`, {
        kind: 'file',
        package: planned.package,
        tree: checked,
        file,
        executable: runs.has(index),
      })
    }
    for (const own of ownLinks(planned, checked.tree)) link(own.path, linkText(own, environment), planned.package)
  }
  for (const { path, to, names, others } of linked) {
    const all = [...names.map((name) => [name, `${to}/${name}`] as const), ...others]
    for (const [name, text] of all) link(`${path}/${name}`, checkoutText(text, environment), null)
  }
  return expected
}

interface Entry {
  readonly name: string
  isDirectory(): boolean
}

/** Walks `<base>/<top>` and reports, once each, what is not expected, what differs, and what was not met. */
function compareDirectory(
  base: string,
  top: string,
  expected: ReadonlyMap<string, Expected>,
  isIgnored: (path: string, entry: Entry) => boolean,
  differences: CheckoutDifference[],
): void {
  const met = new Set<string>()
  const note = (path: string, kind: CheckoutDifference['kind'], owner: PackageId | null): void => {
    differences.push({ path: join(base, path), kind, package: owner })
  }
  const visit = (path: string, owner: PackageId | null): void => {
    for (const entry of entriesOf(join(base, path))) {
      const inner = `${path}/${entry.name}`
      if (isIgnored(inner, entry)) continue
      const wanted = expected.get(inner)
      met.add(inner)
      if (wanted === undefined) note(inner, 'added', owner)
      else if (!isAsExpected(join(base, inner), wanted)) note(inner, 'differs', wanted.package)
      else if (wanted.kind === 'directory') visit(inner, wanted.package ?? owner)
    }
  }
  const root = lstatSync(join(base, top), { throwIfNoEntry: false })
  if (root?.isDirectory() === true) {
    met.add(top)
    visit(top, null)
  } else if (root !== undefined) {
    met.add(top)
    note(top, 'differs', null)
  }
  // Of a directory that is gone, what should be in it is named.
  const filled = new Set([...expected.keys()].map((path) => path.slice(0, Math.max(0, path.lastIndexOf('/')))))
  for (const [path, wanted] of expected) {
    if (met.has(path) || (path !== top && !path.startsWith(`${top}/`))) continue
    if (wanted.kind !== 'directory' || !filled.has(path)) note(path, 'missing', wanted.package)
  }
}

function isAsExpected(path: string, wanted: Expected): boolean {
  const found = lstatSync(path, { throwIfNoEntry: false })
  if (found === undefined) return false
  if (wanted.kind === 'directory') return found.isDirectory()
  if (wanted.kind === 'link') return found.isSymbolicLink() && readlinkSync(path) === wanted.text
  if (!found.isFile() || ((found.mode & 0o100) !== 0) !== wanted.executable) return false
  const { tree, hashes, damaged } = wanted.tree
  const original = lstatSync(`${tree.path}/${wanted.file}`, { throwIfNoEntry: false })
  if (original !== undefined && original.dev === found.dev && original.ino === found.ino)
    return !damaged.has(wanted.file)
  const expected = hashes.get(wanted.file)
  // Without the artifact, the tree itself is all there is to compare with.
  if (expected === undefined) return original !== undefined && original.size === found.size
  return hash('sha256', readFileSync(path), 'hex') === expected
}

function entriesOf(directory: string): readonly Entry[] {
  try {
    return readdirSync(directory, { withFileTypes: true })
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENOTDIR')) return []
    throw error
  }
}
