import { compareText, PolderError, splitPackageId, unpatchedId, type PackageId } from '@polder/spec'

import type { LockedPackage, NpmLock } from '../lock.ts'

/** Key of `patchedDependencies` → the file in the repository, and pnpm's own hash of it. */
type PatchedDependencies = Readonly<Record<string, { readonly path: string; readonly hash: string }>>

/**
 * The lock with patched packages as pnpm writes them, `react@18.3.1(patch_hash=<sha256>)` instead of
 * `react@18.3.1(patch=<its beginning>)`, wherever one is named.
 * @throws PolderError `EXPORT_UNSUPPORTED`, with everything that is in the way
 */
export function withPnpmPatches(npm: NpmLock, patchedDependencies: PatchedDependencies): NpmLock {
  const patched = Object.entries(npm.packages as Readonly<Record<string, LockedPackage>>).filter(
    ([, { patch }]) => patch !== undefined,
  ) as [PackageId, LockedPackage][]
  if (patched.length === 0) return npm
  const suffixes = new Map<string, string>()
  const failures: PolderError[] = []
  for (const [id, { patch }] of patched) {
    const plain = unpatchedId(id)
    const { name } = splitPackageId(id)
    const entry = Object.entries(patchedDependencies).find(
      ([key, { path }]) => path === patch && (key === name || key.startsWith(`${name}@`)),
    )?.[1]
    const others = Object.keys(npm.packages).filter(
      (other) => other !== id && unpatchedId(other as PackageId) === plain,
    )
    if (entry === undefined) failures.push(unsupported(`the settings of pnpm have no patch ${patch ?? ''} of ${plain}`))
    else if (others.length > 0) failures.push(unsupported(`${plain} is there as ${id} and as ${others.join(' and ')}`))
    else suffixes.set(id.slice(plain.length), `(patch_hash=${entry.hash})`)
  }
  if (failures.length > 0) {
    throw new PolderError('EXPORT_UNSUPPORTED', 'pnpm patches every package of a version in the same way, or none', {
      others: failures.sort((a, b) => compareText(a.message, b.message)),
      hint: 'have the patches under patchedDependencies in pnpm-workspace.yaml, each for all services',
    })
  }
  const renamed = JSON.stringify(npm).replaceAll(/\(patch=[0-9a-f]{12}\)/g, (suffix) => suffixes.get(suffix) ?? suffix)
  return JSON.parse(renamed) as NpmLock
}

/** The key of `packages`, which has artifacts only. */
export function withoutPnpmPatch(id: string): string {
  return id.replace(/\(patch_hash=[^()]*\)$/, '')
}

function unsupported(message: string): PolderError {
  return new PolderError('EXPORT_UNSUPPORTED', message)
}
