import type { BuildScript } from '@polder/build'
import { readManifest } from '@polder/index'
import type { Lock, LockedPackage } from '@polder/lock'
import { type Integrity, type PackageId, PolderError, splitPackageId } from '@polder/spec'
import { readArtifact, type Store } from '@polder/store'

const EVENTS = ['preinstall', 'install', 'postinstall'] as const

// What clients run before they pack a commit; packages of a registry were packed after it.
const COMMIT_EVENTS = [...EVENTS, 'prepublish', 'prepare', 'prepack'] as const

// What says that a script compiles, if it does not call the compiler's own name.
const COMPILES = /gyp|prebuild|cmake|make\b|cargo|gcc|g\+\+|clang|napi/

/** What runs when a package is installed. */
export interface InstallScripts {
  readonly scripts: readonly BuildScript[]
  /** Which compiler there is makes a difference to what comes out. */
  readonly compiles: boolean
}

/**
 * The install scripts of one package, in order. As npm does it: what has a `binding.gyp`, no script of its own to compile
 * it, and does not say `"gypfile": false`, is compiled by node-gyp; and a commit is prepared.
 * @throws PolderError `ARTIFACT_MISSING` if the package is not in the index
 */
export async function installScripts(
  store: Store,
  { integrity, git }: LockedPackage,
  id: PackageId,
): Promise<InstallScripts> {
  const known = readManifest(store, integrity)
  if (known === undefined) {
    throw new PolderError('ARTIFACT_MISSING', `what ${id} runs when it is installed is not in the index`, {
      spec: id,
      hint: 'run `polder index sync`',
    })
  }
  const { scripts } = known.manifest
  const declared = (git === undefined ? EVENTS : COMMIT_EVENTS).flatMap((event): BuildScript[] => {
    const command = Object.hasOwn(scripts, event) ? scripts[event] : undefined
    return command === undefined || command.trim() === '' ? [] : [{ event, command }]
  })
  const own = declared.some(({ event }) => event === 'preinstall' || event === 'install')
  const implicit: readonly BuildScript[] =
    !own && (await isGypPackage(store, integrity, id)) ? [{ event: 'install', command: 'node-gyp rebuild' }] : []
  const all = [...implicit, ...declared]
  return { scripts: all, compiles: all.some(({ command }) => COMPILES.test(command)) }
}

/** Those of all packages that the lock's policy names, whatever their version. */
export async function allowedScripts(store: Store, lock: Lock): Promise<ReadonlyMap<Integrity, InstallScripts>> {
  const { allow = {} } = lock.policy.builds ?? {}
  const found = new Map<Integrity, InstallScripts>()
  for (const [id, pkg] of Object.entries(lock.npm.packages)) {
    if (pkg.needsBuild === true && Object.hasOwn(allow, splitPackageId(id).name))
      found.set(pkg.integrity, await installScripts(store, pkg, id as PackageId))
  }
  return found
}

async function isGypPackage(store: Store, integrity: Integrity, id: PackageId): Promise<boolean> {
  const { readArchiveManifest } = await import('@polder/store/archive')
  return (await readArchiveManifest(readArtifact(store, integrity, id), id)).hasBindingGyp
}
