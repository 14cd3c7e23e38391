import type { InstanceId, LockedPackage, NpmLock, Target } from '@polder/lock'
import { compareText, isPackageName, sortKeys, splitPackageId } from '@polder/spec'
import { patchedTreeId, treeId, type TreeId } from '@polder/store'
import { createHash } from 'node:crypto'

import type { Layout, Place, PlannedLink, PlannedPackage } from './planned.ts'
import { isWorkspace, lockInvalid, lookUp } from './reach.ts'

/** Where everything stands. */
export interface Placement {
  /** The flat root on this platform: install name → instance or workspace package, sorted. */
  readonly root: ReadonlyMap<string, Target>
  readonly spots: ReadonlyMap<InstanceId, Spot>
}

export interface Spot {
  readonly place: Place
  /** The install name. */
  readonly name: string
  /** The `node_modules` that holds it: the flat root's or the variant's own. */
  readonly nodeModules: string
  readonly directory: string
}

const VARIANTS: Readonly<Record<Place, string>> = { environment: 'variants', checkout: 'node_modules/.polder/variants' }

/** @throws PolderError `LOCK_INVALID` */
export function placeInstances(npm: NpmLock, reached: ReadonlySet<InstanceId>, layout: Layout): Placement {
  const root = new Map<string, Target>()
  for (const [name, target] of Object.entries(sortKeys(npm.root))) {
    if (!isDirectoryName(name)) throw lockInvalid(`${JSON.stringify(name)} in the flat root is no package name`, name)
    if (!isWorkspace(target) && installName(target) !== name)
      throw lockInvalid(`${target} stands in the flat root as ${name}`, target)
    if (isWorkspace(target) || reached.has(target)) root.set(name, target)
  }
  const spots = new Map<InstanceId, Spot>()
  for (const id of reached) {
    const name = installName(id)
    const place =
      layout === 'self-contained' || lookUp(npm, id).instance.inCheckout === true ? 'checkout' : 'environment'
    const nodeModules = root.get(name) === id ? 'node_modules' : `${VARIANTS[place]}/${variantKey(id)}/node_modules`
    spots.set(id, { place, name, nodeModules, directory: `${nodeModules}/${name}` })
  }
  return { root, spots }
}

/** The instances as directories, by directory. */
export function planPackages(
  npm: NpmLock,
  placement: Placement,
  place: Place,
  builtTree: (instance: InstanceId) => TreeId | undefined,
): readonly PlannedPackage[] {
  const packages: PlannedPackage[] = []
  for (const [id, spot] of placement.spots) {
    if (spot.place !== place) continue
    const { instance, pkg } = lookUp(npm, id)
    const built = builtTree(id)
    packages.push({
      instance: id,
      package: instance.package,
      integrity: pkg.integrity,
      ...(built === undefined ? treeOf(pkg) : { tree: built, built: true as const }),
      bin: sortKeys(pkg.bin ?? {}),
      directory: spot.directory,
      links: planLinks(id, spot, instance.links ?? {}, placement),
    })
  }
  return packages.sort((a, b) => compareText(a.directory, b.directory))
}

function treeOf({ integrity, patch, patchHash }: LockedPackage): Pick<PlannedPackage, 'tree' | 'patch'> {
  if (patch === undefined || patchHash === undefined) return { tree: treeId(integrity) }
  return { tree: patchedTreeId(integrity, patchHash), patch: { path: patch, hash: patchHash } }
}

/** Where a link to this target leads. */
export function targetPath(target: Target, spots: ReadonlyMap<InstanceId, Spot>): PlannedLink['target'] | undefined {
  if (isWorkspace(target)) return { place: 'checkout', path: target.slice('link:'.length) }
  const spot = spots.get(target)
  return spot === undefined ? undefined : { place: spot.place, path: spot.directory }
}

/**
 * The links for those edges that Node's resolution (a package's own `node_modules`, then those of the directories
 * above its real path) would take elsewhere. An instance at the flat root gets them in its own `node_modules`, a
 * variant beside itself, from where everything else falls through to the flat root:
 *
 *     variants/ink@2.0.0-…/node_modules/ink/          the variant
 *     variants/ink@2.0.0-…/node_modules/pigment  →    an edge that differs from the root
 *     node_modules/paper/                             found above
 */
function planLinks(
  id: InstanceId,
  spot: Spot,
  edges: Readonly<Record<string, Target>>,
  { root, spots }: Placement,
): readonly PlannedLink[] {
  const links: PlannedLink[] = []
  for (const [name, edge] of Object.entries(sortKeys(edges))) {
    if (!isDirectoryName(name))
      throw lockInvalid(`${id} links to ${JSON.stringify(name)}, which is no package name`, id)
    const target = targetPath(edge, spots)
    if (target === undefined) continue
    if (spot.place === 'environment' && target.place === 'checkout') {
      throw lockInvalid(`${id} needs ${edge}, which stands in the checkout, but is not marked inCheckout itself`, id)
    }
    // Below the name of the instance itself, Node finds the instance.
    const found = name === spot.name ? id : root.get(name)
    if (found === edge) continue
    const inside = spot.nodeModules === 'node_modules' || name === spot.name
    links.push({ path: `${inside ? `${spot.directory}/node_modules` : spot.nodeModules}/${name}`, target })
  }
  return links
}

/** The directory name: what stands before the reference, the alias of an alias. */
function installName(id: InstanceId): string {
  const { name } = splitPackageId(id)
  if (!isDirectoryName(name)) throw lockInvalid(`${JSON.stringify(id)} does not begin with a package name`, id)
  return name
}

/** A scoped `@scope/node_modules` would be looked into by the whole scope. */
function isDirectoryName(name: string): boolean {
  return isPackageName(name) && !name.endsWith('/node_modules')
}

/** Readable, unlike any other also where case does not count, and a safe directory name: `@types+node@20.1.0-5f3c9a0b12cd`. */
function variantKey(id: InstanceId): string {
  const readable = id
    .replaceAll('/', '+')
    .replaceAll(/[^A-Za-z0-9@._+-]+/g, '_')
    .slice(0, 80)
  return `${readable}-${createHash('sha256').update(id).digest('hex').slice(0, 12)}`
}
