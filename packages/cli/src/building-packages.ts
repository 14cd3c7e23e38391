import { readManifest } from '@polder/index'
import type { BuildingPackage } from '@polder/index/build-requirements'
import type { Lock, LockedPackage } from '@polder/lock'
import { mayRunScripts } from '@polder/lock/allowed-scripts'
import { type PackageId, splitPackageId } from '@polder/spec'
import { RangeCache } from '@polder/spec/semver-ranges'
import { hasArtifact, readArtifact, type Store } from '@polder/store'

/** The packages of a lock whose install scripts are allowed, and what tells what these will need. */
export async function buildingPackages(store: Store, lock: Lock): Promise<readonly BuildingPackage[]> {
  const { env = {} } = lock.policy.builds ?? {}
  const ranges = new RangeCache()
  const building: BuildingPackage[] = []
  for (const [id, pkg] of Object.entries(lock.npm.packages) as [PackageId, LockedPackage][]) {
    const { name, reference } = splitPackageId(id)
    if (!mayRunScripts(lock, id, ranges)) continue
    building.push({
      id,
      name,
      version: pkg.version ?? reference,
      optionalDependencies: pkg.optionalDependencies ?? {},
      env: Object.hasOwn(env, name) ? (env[name] ?? {}) : {},
      ...(await scriptsOf(store, pkg, id)),
    })
  }
  return building
}

async function scriptsOf(
  store: Store,
  { integrity }: LockedPackage,
  id: PackageId,
): Promise<Pick<BuildingPackage, 'script' | 'manifest'>> {
  const scripts = readManifest(store, integrity)?.manifest.scripts ?? {}
  const script = ['preinstall', 'install', 'postinstall'].map((event) => scripts[event] ?? '').join('\n')
  const { fetchesPrebuilt } = await import('@polder/index/build-requirements')
  if (!fetchesPrebuilt(script) || !hasArtifact(store, integrity)) return { script }
  const { openArchive } = await import('@polder/store/archive')
  const { files } = await openArchive(readArtifact(store, integrity, id), id)
  const text = files.get('package.json')?.bytes.toString('utf8') ?? '{}'
  return { script, manifest: JSON.parse(text.replace(/^\uFEFF/, '')) as Record<string, unknown> }
}
