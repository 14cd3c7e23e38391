/**
 * A candidate: `name@reference`. The reference is a version for packages of a registry
 * (`react@18.3.1`, `@types/node@22.1.0`) and the lockfile's own source otherwise
 * (`left-pad@https://host.example/left-pad.tgz`, `lib@file:vendor/lib.tgz`).
 */
export type PackageId = string & { readonly __brand: 'PackageId' }

export function packageId(name: string, reference: string): PackageId {
  return `${name}@${reference}` as PackageId
}

/** Splits at the first `@` that is not a scope's: `@a/b@1.0.0` is `@a/b` and `1.0.0`. */
export function splitPackageId(id: string): { readonly name: string; readonly reference: string } {
  const at = id.indexOf('@', 1)
  return at < 0 ? { name: id, reference: '' } : { name: id.slice(0, at), reference: id.slice(at + 1) }
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
