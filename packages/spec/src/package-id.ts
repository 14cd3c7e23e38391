/**
 * A candidate: `name@reference`. The reference is a version for packages of a registry
 * (`react@18.3.1`, `@types/node@22.1.0`) and the lockfile's own source otherwise
 * (`left-pad@https://host.example/left-pad.tgz`, `lib@file:vendor/lib.tgz`). A candidate that its lockfile patches is
 * another one than the package as published: `react@18.3.1(patch=0123456789ab)`.
 */
export type PackageId = string & { readonly __brand: 'PackageId' }

export function packageId(name: string, reference: string): PackageId {
  return `${name}@${reference}` as PackageId
}

/**
 * Splits at the first `@` that is not a scope's: `@a/b@1.0.0` is `@a/b` and `1.0.0`. A patch is no part of the
 * reference: what is patched comes from where everybody has it from.
 */
export function splitPackageId(id: string): { readonly name: string; readonly reference: string } {
  const at = id.indexOf('@', 1)
  return at < 0
    ? { name: id, reference: '' }
    : { name: id.slice(0, at), reference: id.slice(at + 1).replace(PATCH, '') }
}

// 48 bits: no more than what tells the patches of one version apart. The lock has the whole hash beside it.
const PATCH_DIGITS = 12
const PATCH = /\(patch=[0-9a-f]{12}\)$/

/**
 * The id of a package as a patch leaves it.
 * @param hash of the patch, hexadecimal
 */
export function patchedId(id: PackageId, hash: string): PackageId {
  return `${id}(patch=${hash.slice(0, PATCH_DIGITS)})` as PackageId
}

/** The id of the package that a patch was made for; any other id is itself. */
export function unpatchedId(id: PackageId): PackageId {
  return id.replace(PATCH, '') as PackageId
}

/** Code-unit order: the same on every machine and in every locale. Use it wherever output is sorted. */
export function compareText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0
}

/** A copy of the record with its keys in {@link compareText} order. */
export function sortKeys<T>(record: Readonly<Record<string, T>>): Record<string, T> {
  const sorted: Record<string, T> = Object.create(null) as Record<string, T>
  for (const key of Object.keys(record).sort(compareText)) sorted[key] = record[key] as T
  return sorted
}

// npm's rule for names, old and new: one optional scope, no separators, no leading dot, URL-safe; upper case
// exists in old names. `node_modules` and `__proto__` are refused with everything else that is not a directory name.
const NAME = /^(?:@[a-z0-9-~][a-z0-9-._~]*\/)?[a-z0-9-~_][a-z0-9-._~!'()*]*$/i

/** True if `name` can safely be a directory under `node_modules` (and a key of our records). */
export function isPackageName(name: string): boolean {
  return (
    NAME.test(name) &&
    name.length <= 214 &&
    name !== '__proto__' &&
    name !== 'favicon.ico' &&
    !/(?:^|\/)node_modules$/i.test(name)
  )
}
