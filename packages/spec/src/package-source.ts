/** Where an artifact comes from. A registry's tarball is found by name and version in the user's own registry. */
export type PackageSource =
  | { readonly kind: 'registry' }
  | { readonly kind: 'tarball'; readonly url: string }
  /** A tarball inside the repository; its path is relative to that, POSIX. */
  | { readonly kind: 'file'; readonly path: string }
  /** `path`, if it is there: the directory of the commit that is the package, without slashes around it. */
  | { readonly kind: 'git'; readonly url: string; readonly commit: string; readonly path?: string }
