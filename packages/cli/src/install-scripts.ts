import type { BuildScript } from '@polder/build'
import { readManifest } from '@polder/index'
import type { Lock, LockedPackage } from '@polder/lock'
import { readPatch } from '@polder/realise'
import { type Manifest, type PackageId, PolderError, splitPackageId } from '@polder/spec'
import { readArtifact, type Store } from '@polder/store'

const EVENTS = ['preinstall', 'install', 'postinstall'] as const

// What clients run before they pack a commit; packages of a registry were packed after it.
const COMMIT_EVENTS = [...EVENTS, 'prepublish', 'preprepare', 'prepare', 'postprepare', 'prepack'] as const

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
 * it, and does not say `"gypfile": false`, is compiled by node-gyp; and a commit is prepared. Of a patched package it is
 * the patched manifest that counts.
 * @param root where the patches are
 * @throws PolderError `ARTIFACT_MISSING` if the package is not in the index; `PATCH_FAILED`
 */
export async function installScripts(
  store: Store,
  root: string,
  pkg: LockedPackage,
  id: PackageId,
): Promise<InstallScripts> {
  const { scripts, hasBindingGyp } = await manifestOf(store, root, pkg, id)
  const declared = (pkg.git === undefined ? EVENTS : COMMIT_EVENTS).flatMap((event): BuildScript[] => {
    const command = Object.hasOwn(scripts, event) ? scripts[event] : undefined
    return command === undefined || command.trim() === '' ? [] : [{ event, command }]
  })
  const own = declared.some(({ event }) => event === 'preinstall' || event === 'install')
  const implicit: readonly BuildScript[] =
    !own && (await hasBindingGyp()) ? [{ event: 'install', command: 'node-gyp rebuild' }] : []
  const all = [...implicit, ...declared]
  return { scripts: all, compiles: all.some(({ command }) => COMPILES.test(command)) }
}

/** Those of all packages that the lock's policy names, whatever their version. */
export async function allowedScripts(
  store: Store,
  root: string,
  lock: Lock,
): Promise<ReadonlyMap<PackageId, InstallScripts>> {
  const { allow = {} } = lock.policy.builds ?? {}
  const found = new Map<PackageId, InstallScripts>()
  for (const [key, pkg] of Object.entries(lock.npm.packages)) {
    const id = key as PackageId
    if (pkg.needsBuild === true && Object.hasOwn(allow, splitPackageId(id).name))
      found.set(id, await installScripts(store, root, pkg, id))
  }
  return found
}

interface ScriptsManifest extends Pick<Manifest, 'scripts'> {
  readonly hasBindingGyp: () => Promise<boolean>
}

/** The archive is only read where that cannot be helped: a patch may change anything. */
async function manifestOf(store: Store, root: string, pkg: LockedPackage, id: PackageId): Promise<ScriptsManifest> {
  const { integrity } = pkg
  const known = readManifest(store, integrity)
  if (known === undefined) {
    throw new PolderError('ARTIFACT_MISSING', `what ${id} runs when it is installed is not in the index`, {
      spec: id,
      hint: 'run `polder index sync`',
    })
  }
  const { archiveManifest, openArchive } = await import('@polder/store/archive')
  const archive = (): ReturnType<typeof openArchive> => openArchive(readArtifact(store, integrity, id), id)
  if (pkg.patch === undefined || pkg.patchHash === undefined) {
    const { scripts } = known.manifest
    return { scripts, hasBindingGyp: async () => archiveManifest(await archive(), id).hasBindingGyp }
  }
  const patch = { path: pkg.patch, hash: pkg.patchHash }
  const { applyPackagePatch } = await import('@polder/store/patch')
  const patched = archiveManifest(applyPackagePatch(await archive(), readPatch(id, patch, root), id), id)
  return { scripts: patched.manifest.scripts, hasBindingGyp: () => Promise.resolve(patched.hasBindingGyp) }
}
